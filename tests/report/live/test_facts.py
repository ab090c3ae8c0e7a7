"""Where a run stands, by its files alone."""

import json
import os
from pathlib import Path

import jax.numpy as jnp
import pytest
from live_run import CONFIG, add_rows, save, save_evaluation, spread, start

from codegym_jax.config import ExitCode, UserError
from codegym_jax.report.live.disk import newest_checkpoint, newest_write_s
from codegym_jax.report.live.facts import Place, gather, life, require_run, usual_step_s
from codegym_jax.report.live.metrics_feed import MetricsFeed
from codegym_jax.report.live.wording import file_size, printable, seconds
from codegym_jax.trainer.checkpoint import Checkpointer

SFT, TRAIN = CONFIG.sft.steps, CONFIG.train.steps
RATE = {"success": 0.25, "ci95": [0.1, 0.4], "n": 20, "by_env": {}}


def facts_of(run, *, later_s=1.0):
    """As seen so many seconds after the run last wrote something."""
    return gather(run, MetricsFeed(run / "metrics.jsonl").all(), now_s=newest_write_s(run) + later_s)


def evaluate(run, phase):
    (run / "evaluations").mkdir(exist_ok=True)
    (run / "evaluations" / f"{phase}.json").write_text(json.dumps({"sampled": {"test_config": RATE}}))


def stage(run):
    place = facts_of(run).place
    return place.stage, place.step, place.steps


def test_the_stage_is_the_first_that_is_not_done(tmp_path):
    run = start(tmp_path / "run")
    assert stage(run) == ("synth", 0, 0)
    (run / "task_set").mkdir()
    assert stage(run) == ("sft", 0, SFT)
    add_rows(run, range(1, SFT + 1), stage="sft")
    assert stage(run) == ("eval_before", 0, 4)
    save_evaluation(run, "eval_before/test_env_greedy", spread(2))
    assert stage(run) == ("eval_before", 1, 4)
    evaluate(run, "before")
    assert stage(run) == ("train", 0, TRAIN)
    add_rows(run, range(1, 4))
    assert stage(run) == ("train", 3, TRAIN)
    add_rows(run, range(4, TRAIN + 1))
    assert stage(run) == ("eval_after", 0, 4)
    evaluate(run, "after")
    assert stage(run) == ("reverify", 0, 0)
    (run / "result.json").write_text("{}")
    assert stage(run) == ("complete", TRAIN, TRAIN)
    (run / "control.json").write_text('{"steps": 50}')
    assert stage(run) == ("control", 0, 50)


def test_a_run_of_training_alone_is_not_waiting_for_an_evaluation(tmp_path):
    run = start(tmp_path / "run")
    add_rows(run, range(1, SFT + 1), stage="sft")
    add_rows(run, [1])
    assert stage(run)[0] == "train"


def test_pace_and_time_left(tmp_path):
    """Rows stand 2 s apart; a resume sets the clock back, which is no step."""
    run = start(tmp_path / "run")
    add_rows(run, range(1, SFT + 1), stage="sft")
    evaluate(run, "before")
    add_rows(run, range(1, 6))
    add_rows(run, range(6, 9))
    facts = facts_of(run)
    assert (facts.step_s, facts.left_s) == (2.0, 2.0 * (TRAIN - 8))
    assert facts.rewards == [0.04, 0.05, 0.06, 0.07, 0.08]
    assert usual_step_s([], "train") is None


@pytest.mark.parametrize(
    ("name", "age_s", "step_s", "state"),
    [
        ("train", 5, 2, "running"),
        ("train", 59, 2, "running"),
        ("train", 61, 2, "stopped"),
        ("train", 900, 100, "running"),  # ten of its steps
        ("train", 1100, 100, "stopped"),
        ("synth", 1000, None, "unknown"),
        ("synth", 4000, None, "stopped"),
        ("complete", 10**6, None, "complete"),
    ],
)
def test_whether_a_process_seems_to_be_at_work(name, age_s, step_s, state):
    usual_s = None if step_s is None else float(step_s)
    found = life(Place(stage=name, step=1, steps=9), age_s=float(age_s), step_s=usual_s)
    assert found.state == state and found.because


@pytest.mark.parametrize(
    ("code", "state"),
    [
        (ExitCode.DONE, "stopped"),
        (ExitCode.RESUMABLE, "stopped"),
        (ExitCode.INTERRUPTED, "stopped"),
        (ExitCode.WRONG, "failed"),
        (ExitCode.USER, "failed"),
    ],
)
def test_the_last_word_of_a_process_tells_how_it_ended(tmp_path, code, state):
    """At once, and for as long as no other one works on the run; a complete run needs none."""
    run = start(tmp_path / "run")
    add_rows(run, range(1, SFT + 1), stage="sft")
    ended_s = newest_write_s(run)
    word = {"command": "run", "code": code, "why": "stopped: the same command resumes", "at_s": ended_s}
    (run / "ended.json").write_text(json.dumps(word))
    for later_s, ago in ((1, "1 s ago"), (90_000, "1 d 1 h ago")):
        facts = gather(run, MetricsFeed(run / "metrics.jsonl").all(), now_s=ended_s + later_s)
        assert facts.life.state == state
        assert facts.life.because == f"{ago}, codegym run: stopped: the same command resumes"
        assert facts.left_s is None
    (run / "ended.json").unlink()
    assert facts_of(run).life.state == "running"
    (run / "ended.json").write_text(json.dumps(word))
    (run / "result.json").write_text("{}")
    assert facts_of(run).life.state == "complete"


def test_invalid_attempts_are_counted_from_their_shares(tmp_path):
    """Two steps of P x G attempts, a quarter and none of them spoiled."""
    run = start(tmp_path / "run")
    rows = [
        {"stage": "train", "step": step, "wall_s": 1.0, "valid_fraction": share}
        for step, share in ((1, 0.75), (2, 1.0))
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rollout = CONFIG.rollout
    attempts = rollout.tasks_per_step * rollout.attempts_per_task
    facts = facts_of(run)
    assert (facts.invalid, facts.played) == (attempts // 4, 2 * attempts)
    assert [text.partition(" at ")[0] for text in facts.alarms] == ["host failures"]


def test_success_rates_by_split_and_phase(tmp_path):
    run = start(tmp_path / "run")
    evaluate(run, "before")
    assert facts_of(run).success == {
        "test_config": {"before": {"success": 0.25, "ci95": [0.1, 0.4], "n": 20}}
    }


def test_the_newest_checkpoint_and_what_is_wrong_with_it(tmp_path):
    """A folder without its manifest is none: it is being written, or a kill has cut it."""
    folder = tmp_path / "checkpoints"
    assert newest_checkpoint(folder, 0.0) is None
    with Checkpointer(folder / "train") as checkpointer:
        checkpointer.save(7, {"weights": jnp.arange(4.0)}, {})
        checkpointer.wait()
        path = Path(checkpointer.save(8, {"weights": jnp.arange(4.0)}, {}))
    written_s = (path / "manifest.json").stat().st_mtime
    found = newest_checkpoint(folder, written_s + 5)
    assert (found.step, found.intact, found.damage) == (8, True, "")
    assert found.age_s == pytest.approx(5.0)
    assert found.bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    (path / "leaves.json").write_text("{}")
    os.utime(path / "manifest.json", (written_s + 9, written_s + 9))
    found = newest_checkpoint(folder, written_s + 9)
    assert (found.intact, found.damage) == (False, "leaves.json is not what was written")
    (path / "manifest.json").unlink()
    assert newest_checkpoint(folder, written_s).step == 7


def test_bytes_by_part(tmp_path):
    run = start(tmp_path / "run")
    path = save(run, 1, spread(5))
    facts = facts_of(run)
    assert facts.disk["episodes"] == path.stat().st_size
    assert sum(facts.disk.values()) == sum(file.stat().st_size for file in run.rglob("*") if file.is_file())


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        require_run(tmp_path / "none")
    with pytest.raises(UserError, match="is not a run folder"):
        require_run(tmp_path)


def test_wording():
    told = {
        0.423: "0.42 s",
        12.2: "12 s",
        200: "3 min 20 s",
        7500: "2 h 5 min",
        273600: "3 d 4 h",
        59.7: "1 min 0 s",
    }
    assert {value: seconds(float(value)) for value in told} == told
    sizes = {0: "0 B", 812: "812 B", 4200: "4.2 kB", 51_200_000: "51 MB", 999_600: "1.0 MB"}
    assert {value: file_size(value) for value in sizes} == sizes
    assert printable("a\x1b[2Jb\u202e") == "a\\x1b[2Jb\\u202e"
