"""Laws of the loops on a small real task set: resume equals uninterrupted, replay equals original."""

import dataclasses
import json
import pathlib

import pytest

from codegym_jax.config import (
    ConfigError,
    DataConfig,
    EvalConfig,
    MeshConfig,
    RolloutConfig,
    RunConfig,
    SftConfig,
    TrainConfig,
)
from codegym_jax.data.splits import split_tasks
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.check import verify_task
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.metrics import read_metrics, without_clock
from codegym_jax.pipelines.evaluate import run_evaluation, spread
from codegym_jax.pipelines.replay import run_replay
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.train import average, groups, run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.records import Task
from codegym_jax.rollout.episode_log import read_episodes
from codegym_jax.trainer.state import params_hash

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
CONFIG = RunConfig(
    model="nano",
    mesh=MeshConfig(data=8),
    data=DataConfig(max_vocabulary=300),
    sft=SftConfig(demonstrations_per_environment=4, steps=4, rows=8, warmup_steps=1),
    rollout=RolloutConfig(tasks_per_step=2, attempts_per_task=4, slots=8, max_tokens=96, max_turns=4),
    train=TrainConfig(steps=4, rows_per_update=8, rows_per_batch=8, checkpoint_every=2),
    evaluation=EvalConfig(max_tasks=5),
)


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox(CONFIG.sandbox)


@pytest.fixture(scope="module")
def task_set(sandbox, tmp_path_factory):
    """Twelve verified tasks of one environment."""
    tasks = []
    for n in range(12):
        config_json = json.dumps({"xs": [n % 5, n // 5, (n * 7) % 9]}, separators=(",", ":"))
        task = verify_task(sandbox, SPEC, config_json, min_calls=3, max_calls=9, max_answer_chars=9)
        assert isinstance(task, Task)
        tasks.append(task)
    split_of = split_tasks(
        {task.task_id: task.env_id for task in tasks},
        learnable_env_ids=[SPEC.env_id],
        seed=0,
        heldout_environments=0,
        validation_configs=2,
        test_configs=3,
    )
    folder = tmp_path_factory.mktemp("set") / "task_set"
    write_task_set(folder, [SPEC], tasks, {SPEC.env_id: {}}, split_of, {"rejections": {}})
    return folder


@pytest.fixture
def make_bench(task_set, tmp_path):
    """Opens a run folder of this test by name."""

    def make(name: str, kind: type[Workbench] = Workbench, config: RunConfig = CONFIG) -> Workbench:
        open_run(config, tmp_path / name)
        bench = kind(config, tmp_path / name, tmp_path / "cache")
        bench.__dict__["sandbox"] = Sandbox(CONFIG.sandbox)  # the user's compiled guest, not a new one
        bench.adopt_task_set(task_set)
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
    assert params_hash(learn(make_bench("cut"))) == expected
    rows, resumed = (
        [without_clock(row) for row in read_metrics(bench.folder / "metrics.jsonl")] for bench in (whole, cut)
    )
    assert rows == resumed
    assert [row["step"] for row in rows if row["stage"] == "train"] == [1, 2, 3, 4]
    files = [sorted((bench.folder / "episodes").rglob("*.jsonl")) for bench in (whole, cut)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert len(files[0]) == 4


def test_a_finished_run_is_not_run_again(make_bench):
    bench = make_bench("run")
    first = params_hash(learn(bench))
    size = (bench.folder / "metrics.jsonl").stat().st_size
    assert params_hash(learn(make_bench("run"))) == first
    assert (bench.folder / "metrics.jsonl").stat().st_size == size
    assert params_hash(make_bench("run").stage_params("train")) == first


def test_replay_finds_nothing_then_finds_what_was_changed(make_bench):
    bench = make_bench("run")
    result = run_evaluation(bench, run_sft(bench), "before", ["test_config", "train"])
    assert result["greedy"]["test_config"]["n"] == 3
    assert result["sampled"]["train"]["n"] == 5, "evaluation.max_tasks"
    report = run_replay(bench.folder, CONFIG.sandbox, None, workers=1)
    assert report.identical
    assert report.replayed == 16
    path = bench.folder / "episodes" / "eval_before" / "train_sampled.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert rows[0]["turns"], "an episode without turns would hide the change"
    rows[0]["turns"][0]["observation"] += "!"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run_replay(bench.folder, CONFIG.sandbox, None, workers=1)
    assert (report.identical, report.different) == (False, 1)
    assert "train_sampled.jsonl:1: call 1 returned" in report.differences[0]


def test_a_run_folder_refuses_another_config(make_bench):
    make_bench("run")
    other = dataclasses.replace(CONFIG, seed=3, sft=dataclasses.replace(CONFIG.sft, rows=2))
    with pytest.raises(ConfigError, match=r"seed: 0 there, 3 given, sft.rows: 8 there, 2 given"):
        make_bench("run", config=other)


def test_nothing_to_demonstrate_is_said_so(make_bench):
    config = dataclasses.replace(CONFIG, sft=dataclasses.replace(CONFIG.sft, max_demonstration_calls=2))
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


def test_metrics_of_updates_are_averaged_except_maxima():
    assert average([{"loss": 1.0, "ratio_max": 2.0}, {"loss": 3.0, "ratio_max": 5.0}]) == {
        "loss": 2.0,
        "ratio_max": 5.0,
    }
    assert average([]) == {}


def test_groups_keep_the_order_of_requests(make_bench):
    bench = make_bench("run")
    run_evaluation(bench, run_sft(bench), "before", ["train"])
    episodes = list(read_episodes(bench.folder / "episodes" / "eval_before" / "train_greedy.jsonl"))[:4]
    rewards = [episode.reward for episode in episodes]
    rewards_PG, valid_PG = groups(episodes, 2)
    assert rewards_PG.tolist() == [rewards[:2], rewards[2:]]
    assert valid_PG.all()
