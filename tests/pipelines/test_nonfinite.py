"""A gradient that is not finite ends the run, loses nothing, and can be looked at afterwards."""

import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.cli import main
from codegym_jax.config import CannotGoOn, ExitCode, UserError, apply_overrides
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.metrics import read_metrics
from codegym_jax.pipelines.learner import Learner
from codegym_jax.pipelines.nonfinite import FILE, Kept, read_kept, write_kept
from codegym_jax.pipelines.replay import run_replay
from codegym_jax.pipelines.sft import Pupil, run_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.records import PackedBatch, Update

FAR_TOO_FAST = ("train.learning_rate=1e30", "train.episodes_per_update=2", "train.checkpoint_every=1")
"""After one update of Adam every parameter is as large as this, and the squares of their products are not
finite in float32."""


@pytest.fixture
def make_bench(tiny_task_set, tiny_config, tmp_path):
    def make(name: str, *overrides: str) -> Workbench:
        config = apply_overrides(tiny_config, overrides)
        open_run(config, tmp_path / name)
        bench = Workbench(config, tmp_path / name, tmp_path / "cache")
        bench.__dict__["sandbox"] = Sandbox(config.sandbox)
        bench.adopt_task_set(tiny_task_set)
        return bench

    return make


@pytest.fixture
def ended(make_bench):
    """A run whose second update, of the first step, failed."""
    bench = make_bench("run", *FAR_TOO_FAST)
    with pytest.raises(CannotGoOn, match=r"train step \d, update \d of \d: the gradient is not finite"):
        run_train(bench, run_sft(bench))
    return bench


def test_a_run_ends_at_the_update_that_was_not_made(ended, make_bench, capsys):
    """The checkpoint of the step before stays the newest; the same command ends in the same way, with the
    same bytes of the batch; and a replay finds the same failure, in the tokens of an episode of that step."""
    kept = read_kept(ended.folder / FILE)
    rows = [row["step"] for row in read_metrics(ended.folder / "metrics.jsonl") if row["stage"] == "train"]
    assert (kept.stage, kept.step, kept.number, kept.of, rows) == ("train", 1, 2, 4, [])
    assert ended.checkpoints("train").latest().name == "0001_step_00000000"

    again = make_bench("run", *FAR_TOO_FAST)
    with pytest.raises(CannotGoOn):
        run_train(again, run_sft(again))
    assert_same(read_kept(again.folder / FILE), kept)

    replay = run_replay(make_bench("run", *FAR_TOO_FAST))
    assert not replay.finite
    text = "\n".join(replay.lines)
    assert f"train step {kept.step}, update {kept.number} of {kept.of}" in text
    assert "the gradient is not finite in" in text
    capsys.readouterr()
    assert main(["replay", str(ended.folder)]) == ExitCode.WRONG
    assert capsys.readouterr().out == text + "\n"


def test_the_command_says_so_in_one_line_and_exits_with_1(tmp_path, tiny_task_set, capsys):
    """From the command line, in the warm start."""
    experiment = tmp_path / "far_too_fast.py"
    experiment.write_text(
        "from codegym_jax.config import *\n\n\n"
        "def config() -> RunConfig:\n"
        "    return RunConfig(\n"
        "        policy=PolicyConfig(preset='nano'),\n"
        "        data=DataConfig(max_vocabulary=300),\n"
        "        sft=SftConfig(demonstrations_per_environment=6, steps=9, rows=8, warmup_steps=1,\n"
        "                      learning_rate=1e30),\n"
        "        rollout=RolloutConfig(tasks_per_step=2, attempts_per_task=4, slots=8, max_tokens=96),\n"
        "    )\n"
    )
    run = tmp_path / "run"
    shutil.copytree(tiny_task_set, run / "task_set")
    assert main(["sft", str(experiment), "--run", str(run)]) == ExitCode.WRONG
    assert "codegym sft: sft step" in (told := capsys.readouterr().err) and "Traceback" not in told
    assert main(["replay", str(run)]) == ExitCode.WRONG
    told = capsys.readouterr().out
    assert "parameters: finite, none larger than 1" in told and "is the first (loss " in told


def test_a_run_without_such_an_update_has_nothing_to_replay(make_bench):
    with pytest.raises(UserError, match="no update of this run"):
        run_replay(make_bench("whole"))


def test_the_same_batch_on_a_sound_state_is_finite(ended, make_bench):
    """So a replay tells a batch from a state that is wrong."""
    kept = read_kept(ended.folder / FILE)
    sound = make_bench("sound")
    learner = Learner(sound, sound.init_params())
    write_kept(sound.folder / FILE, kept)
    params = sound.init_params()
    with sound.checkpoints("sft") as warm, sound.checkpoints("nonfinite") as checkpoints:
        warm.save(1, Pupil(sound, params, 1).state, {})
        checkpoints.save(kept.step, learner.state, {})
    replay = run_replay(sound)
    assert replay.finite and any(
        "log-probabilities of all tokens are finite" in line for line in replay.lines
    )


def assert_same(one: Kept, other: Kept) -> None:
    assert one[1:] == other[1:] and one.update[1:] == other.update[1:]
    for a, b in zip(one.update.batches, other.update.batches, strict=True):
        assert (a is None and b is None) or (a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True))


@given(data=st.data(), value=st.sampled_from([np.nan, np.inf, -np.inf, 1e-45, 3.0]))
def test_an_update_comes_back_to_the_bit(tmp_path_factory, data, value):
    """With whatever optional fields it has, and values that are not finite."""
    shape = (2, 1, 3)
    some = {
        name: np.full(shape, value, np.float32)
        for name in PackedBatch._fields
        if name not in PackedBatch._field_defaults or data.draw(st.booleans())
    }
    batches = PackedBatch(**some)._replace(tokens_BT=np.arange(6, dtype=np.int32).reshape(shape))
    kept = Kept(Update(batches, 2, 5, 1), "train", 7, 3, 8)
    path = tmp_path_factory.mktemp("kept") / FILE
    write_kept(path, kept)
    assert_same(read_kept(path), kept)
