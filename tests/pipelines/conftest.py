"""A small real task set, and a run small enough for tests."""

import json
import pathlib

import pytest

from codegym_jax.config import (
    DataConfig,
    EvalConfig,
    MeshConfig,
    PolicyConfig,
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
from codegym_jax.records import Task

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
CONFIG = RunConfig(
    policy=PolicyConfig(preset="nano"),
    mesh=MeshConfig(),
    data=DataConfig(max_vocabulary=300),
    sft=SftConfig(demonstrations_per_environment=6, steps=60, rows=8, warmup_steps=5),
    rollout=RolloutConfig(tasks_per_step=2, attempts_per_task=4, slots=8, max_tokens=96, max_turns=8),
    train=TrainConfig(steps=4, episodes_per_update=8, rows_per_batch=8, checkpoint_every=2),
    evaluation=EvalConfig(max_tasks=5),
)


@pytest.fixture(scope="session")
def tiny_task_set(tmp_path_factory):
    """Twelve verified tasks of one environment."""
    sandbox = Sandbox(CONFIG.sandbox)
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


@pytest.fixture(scope="session")
def tiny_config() -> RunConfig:
    """Long enough that some episodes succeed, so that RL has something to learn from."""
    return CONFIG
