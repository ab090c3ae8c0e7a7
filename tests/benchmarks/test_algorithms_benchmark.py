"""Arms hold what their presets say and the smoke run's sizes; runs are not made twice; figures are right."""

import dataclasses
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from benchmarks import algorithms, algorithms_page
from benchmarks.algorithms import ARMS, BASE, SIZES, WARM
from codegym_jax.config import PRESETS, RunConfig, load
from codegym_jax.records import Episode, StopReason
from codegym_jax.rollout.episode_log import step_path, write_episodes

CONFIG = Path(__file__).parents[2] / "configs" / "smoke_cpu.py"
STEPS = 4


def flat(config: RunConfig) -> dict[str, object]:
    """`section.field` -> value, lists of a preset's form as text."""
    values = dataclasses.asdict(config)
    sections = {name: value for name, value in values.items() if isinstance(value, dict)}
    return {f"{name}.{field}": value for name, fields in sections.items() for field, value in fields.items()}


def result(name: str, seed: int, successes: int) -> dict[str, object]:
    """A run of 4 steps that solved so many of 10 tasks in the end."""
    low_high = [0.0, 1.0]
    rate = {"success": successes / 10, "ci95": low_high, "n": 10, "by_env": {"A": [successes, 10]}}
    after = {"sampled": rate, "greedy": rate}
    if name == WARM:
        return {"after": after}
    return {
        "steps_asked": STEPS,
        "steps": STEPS,
        "after": after,
        "gain": [0.0, -0.1, 0.1 * seed, successes / 10],
        "entropy": [0.2, None, 0.2, 0.1],
        "groups": [2, 2, 2, 4],
        "signal": [0.5, 0.5, 0.0, 1.0],
        "updates": [1, 0, 1, 2],
        "clipped": 0.01,
        "step_s": 1.5,
        "cpu_step_s": None if seed else 1.0,
    }


def write_results(folder: Path) -> None:
    """Those of a benchmark that is over."""
    (folder / "results").mkdir()
    for seed in (0, 1, 2):
        for number, name in enumerate([WARM, *ARMS]):
            row = result(name, seed, (number + seed) % 10)
            (folder / "results" / f"{name}-{seed}.json").write_text(json.dumps(row))


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_is_its_preset_at_the_sizes_of_the_smoke_run(name):
    smoke, arm = load(str(CONFIG)), ARMS[name]
    found = algorithms.settings(smoke, arm, seed=7, steps=5)
    assert found.seed == 7 and (found.train.steps, found.train.checkpoint_every) == (5, 5)
    assert {size: flat(found)[size] for size in SIZES} == {size: flat(smoke)[size] for size in SIZES}
    told = dict(line.split("=", 1) for line in (*PRESETS[arm.preset], *arm.settings))
    for key in told.keys() - set(SIZES):
        value = flat(found)[key]
        assert (value if isinstance(value, str) else json.loads(told[key])) == (
            told[key] if isinstance(value, str) else value
        )
    own = told.keys() | {"train.steps", "train.checkpoint_every"}
    changed = {key for key, value in flat(found).items() if value != flat(smoke)[key]}
    assert changed - own <= {"algorithm.clip_high"}, "the smoke run's own clip belongs to no preset"


def test_steps_are_matched_where_the_totals_are_nearest():
    assert algorithms.matched_steps([3, 3, 3, 3], 6) == 2
    assert algorithms.matched_steps([3, 3, 3, 3], 7) == 2
    assert algorithms.matched_steps([3, 3, 3, 3], 8) == 3
    assert algorithms.matched_steps([3, 3], 99) == 2
    assert algorithms.matched_steps([3, 3], 0) == 1


def test_a_gain_is_over_the_warm_start_on_the_same_tasks(tmp_path):
    """First step: 1 of 2 solved where the warm start solves 0 and 0.75; second, with easier tasks: 2 of 2
    where it solves 0.75 and 1. What the host spoiled does not count."""

    def episode(task_id: str, reward: float, *, invalid: bool = False) -> Episode:
        return Episode(
            task_id=task_id,
            attempt=0,
            policy_version=0,
            token_ids=np.zeros(1, np.int32),
            is_policy=np.zeros(1, bool),
            sampler_logp=np.zeros(1, np.float32),
            policy_logp=np.zeros(1, np.float32),
            turns=(),
            reward=reward,
            stop_reason=StopReason.HOST_FAILURE if invalid else StopReason.DONE,
        )

    rates = {"e@E@a": 0.0, "e@E@b": 0.75, "e@E@c": 1.0}
    first = [episode("e@E@a", 0.0), episode("e@E@b", 1.0), episode("e@E@c", 0.0, invalid=True)]
    second = [episode("e@E@b", 1.0), episode("e@E@c", 1.0)]
    for step, played in enumerate((first, second), start=1):
        write_episodes(step_path(tmp_path, step), played, lambda _: "")
    assert algorithms.gains(tmp_path, rates) == pytest.approx([0.5 - 0.375, 1.0 - 0.875])


def test_what_was_measured_is_not_measured_again(tmp_path, capsys):
    write_results(tmp_path)
    command = ["--folder", str(tmp_path), "--steps", str(STEPS)]
    assert algorithms.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    arms = algorithms_page.read(lines)
    assert len(lines) == 1 + 3 * (1 + len(ARMS)) and arms.keys() == {WARM, *ARMS}
    assert not (tmp_path / "runs").exists()
    assert algorithms.main([*command, "--steps", "9", "--only", BASE, "--seeds", "1"]) == 1
    assert "measured with --steps 4" in json.loads(capsys.readouterr().out.splitlines()[-1])["error"]


def test_a_failed_run_is_told_and_left_out(tmp_path, capsys):
    command = ["--folder", str(tmp_path), "--config", "no/such.py", "--only", BASE, "--seeds", "0"]
    assert algorithms.main(command) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "ended with code 1" in json.loads(lines[-1])["error"]
    assert algorithms_page.read(lines) == {}


def test_runs_spread_as_in_a_two_way_layout():
    """Means .15 and .45, of seeds .2 and .4, of all .3; every residual is .05 in size, so the deviation is .1
    with one degree of freedom; t(.975; 1) = 12.706, and sqrt(2 / 2) = 1."""
    values = {"a": [0.1, 0.2], "b": [0.3, 0.6]}
    found = algorithms_page.spread(values)
    assert found.deviation == pytest.approx(0.1) and found.freedom == 1
    assert found.reach == pytest.approx(1.2706, abs=1e-4)
    assert found.reach_of_all(2) == pytest.approx(found.reach, rel=1e-3), "of one pair both are the t test"
    raised = {name: [one[0] + 0.3, one[1] - 0.1] for name, one in values.items()}
    assert algorithms_page.spread(raised) == pytest.approx(found), "a seed's level drops out"


def test_the_page_pools_seeds_and_draws_every_preset(tmp_path, capsys):
    write_results(tmp_path)
    algorithms.main(["--folder", str(tmp_path), "--steps", str(STEPS)])
    (tmp_path / "results.jsonl").write_text(capsys.readouterr().out)
    assert algorithms_page.main([str(tmp_path / "results.jsonl"), "--out", str(tmp_path)]) == 0
    tables = capsys.readouterr().out
    # grpo is the third: 2, 3 and 4 of 10 solved; Wilson's interval of 9 of 30.
    line = next(line for line in tables.splitlines() if line.startswith("| `grpo` | mean over"))
    assert "| 0.300 [0.167, 0.479] | 0.200, 0.300, 0.400 |" in line
    # 10 tasks played a run, of which 1 + 1 + 0 + 4 had a signal.
    effort = next(line for line in tables.splitlines() if line.startswith("| `grpo` | 4 |"))
    assert effort == "| `grpo` | 4 | 10 | 4 | 1.0 | 0.60 | 0.167 | 0.0100 |"
    root = ElementTree.fromstring((tmp_path / "algorithms.svg").read_text())
    names = [one.text for one in root.iter("{http://www.w3.org/2000/svg}text") if one.get("class") == "name"]
    assert names == list(PRESETS)
