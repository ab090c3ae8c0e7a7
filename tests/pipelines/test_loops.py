"""Laws of the loops on a small real task set: resume equals uninterrupted, reverified equals stored."""

import dataclasses
import json

import pytest

from codegym_jax.config import (
    ConfigError,
    MeshConfig,
    RunConfig,
)
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.metrics import read_metrics, without_clock
from codegym_jax.pipelines.evaluate import run_evaluation, spread
from codegym_jax.pipelines.reverify import run_reverify
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.training_episodes import save_rollouts
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.records import Task
from codegym_jax.rollout.episode_log import logged_steps, step_path
from codegym_jax.trainer.state import params_hash


@pytest.fixture
def make_bench(tiny_task_set, tiny_config, tmp_path):
    """Opens a run folder of this test by name."""

    def make(name: str, kind: type[Workbench] = Workbench, config: RunConfig = tiny_config) -> Workbench:
        open_run(config, tmp_path / name)
        bench = kind(config, tmp_path / name, tmp_path / "cache")
        bench.__dict__["sandbox"] = Sandbox(config.sandbox)  # the user's compiled guest, not a new one
        bench.adopt_task_set(tiny_task_set)
        return bench

    return make


class PowerCut(Exception):
    pass


class FailingBench(Workbench):
    """Loses power while the episodes of a step are written."""

    def save_episodes(self, name, episodes):
        if name.endswith("step_000004"):
            raise PowerCut
        super().save_episodes(name, episodes)


def learn(bench: Workbench):
    return run_train(bench, run_sft(bench))


def test_a_resumed_run_ends_with_the_bytes_of_an_uninterrupted_one(make_bench):
    """Parameters, metrics and episodes; the interrupted run had saved step 2 and lost step 3."""
    whole, cut = make_bench("whole"), make_bench("cut", FailingBench)
    expected = params_hash(learn(whole))
    with pytest.raises(PowerCut):
        learn(cut)
    resumed = make_bench("cut")
    assert params_hash(learn(resumed)) == expected
    assert resumed.sampler.compiled_programs == whole.sampler.compiled_programs == 4
    rows, resumed_rows = (
        [without_clock(row) for row in read_metrics(bench.folder / "metrics.jsonl")] for bench in (whole, cut)
    )
    assert rows == resumed_rows
    steps = [row for row in rows if row["stage"] == "train"]
    assert [row["step"] for row in steps] == [1, 2, 3, 4]
    assert steps[-1]["used_episodes"] > 0, "else nothing was learned after the cut, and nothing is shown"
    files = [sorted((bench.folder / "episodes").rglob("*.jsonl")) for bench in (whole, cut)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert len(files[0]) == 4


def test_learning_from_a_record_is_learning_from_the_episodes(make_bench):
    """The record of a run teaches what the run learned, without sampling. What one policy plays for a record
    begins with the episodes that a learner plays before its first update."""
    played, recorded, taught = make_bench("played"), make_bench("recorded"), make_bench("taught")
    expected = params_hash(learn(played))
    assert params_hash(run_train(taught, run_sft(taught), record=played.folder)) == expected
    assert "sampler" not in taught.__dict__ or taught.sampler.compiled_programs == 0
    folder = recorded.folder / "record"
    save_rollouts(recorded, run_sft(recorded), folder)
    steps = [
        [row["token_ids"] for row in read_rows(step_path(place, 1))]
        for place in (folder, played.folder / "episodes/train")
    ]
    assert steps[0] == steps[1]
    assert logged_steps(folder) == [1, 2, 3, 4]


def read_rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_finished_run_is_not_run_again(make_bench):
    bench = make_bench("run")
    first = params_hash(learn(bench))
    size = (bench.folder / "metrics.jsonl").stat().st_size
    assert params_hash(learn(make_bench("run"))) == first
    assert (bench.folder / "metrics.jsonl").stat().st_size == size
    assert params_hash(stage_params(make_bench("run"), "train")) == first


def test_reverification_finds_nothing_then_finds_what_was_changed(make_bench, tiny_config):
    bench = make_bench("run")
    result = run_evaluation(bench, run_sft(bench), "before", ["test_config", "train"])
    assert result["greedy"]["test_config"]["n"] == 3
    assert result["sampled"]["train"]["n"] == 5, "evaluation.max_tasks"
    report = run_reverify(bench.folder, tiny_config, None, workers=1)
    assert report.identical
    assert report.episodes == 16
    path = bench.folder / "episodes" / "eval_before" / "train_sampled.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["turns"], "an episode without turns would hide the change"
    rows[0]["turns"][0]["observation"] += "!"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run_reverify(bench.folder, tiny_config, None, workers=1)
    assert (report.identical, report.different) == (False, 1)
    assert "train_sampled.jsonl:1: call 1: observation " in report.differences[0]


def test_a_run_folder_refuses_another_config(make_bench, tiny_config):
    make_bench("run")
    other = dataclasses.replace(tiny_config, seed=3, sft=dataclasses.replace(tiny_config.sft, rows=2))
    with pytest.raises(ConfigError, match=r"seed: 0 there, 3 given, sft.rows: 8 there, 2 given"):
        make_bench("run", config=other)


def test_a_run_folder_takes_another_layout_of_devices(make_bench, tiny_config):
    bench = make_bench("run")
    other = dataclasses.replace(tiny_config, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    make_bench("run", config=other)
    assert json.loads((bench.folder / "config.json").read_text())["mesh"] == dataclasses.asdict(other.mesh)


def test_nothing_to_demonstrate_is_said_so(make_bench, tiny_config):
    short = dataclasses.replace(tiny_config.sft, max_demonstration_calls=2)
    config = dataclasses.replace(tiny_config, sft=short)
    with pytest.raises(ConfigError, match=r"sft\.max_demonstration_calls leaves no training task"):
        run_sft(make_bench("run", config=config))


def test_evaluation_spreads_its_tasks_over_environments():
    """Of three environments with 1, 2 and 5 tasks, six tasks are 1 + 2 + 3, whatever their order."""
    tasks = [
        Task(env_id=f"C__{name}Env", config_json=f'{{"n":{i}}}')
        for name, count in (("A", 1), ("B", 2), ("C", 5))
        for i in range(count)
    ]
    chosen = spread(tasks, 6)
    assert chosen == spread(tasks[::-1], 6)
    assert sorted(task.env_id[3] for task in chosen) == ["A", "B", "B", "C", "C", "C"]
