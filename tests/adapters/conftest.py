"""A small task set, which every adapter is tested on."""

import dataclasses
import json
import pathlib

import pytest

from codegym_jax.data.splits import TEST_ENV, TRAIN
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.check import verify_task
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Task

PUBLISHED = pathlib.Path(__file__).parents[1] / "fixtures" / "published"
STATEMENTS = {
    "Own_01_I__LargestGapEnv": "Which gap between neighbors is the largest?",
    "Own_08_I__LetterCensusEnv": "How often does each letter occur? – Zähle sie.",
}


@pytest.fixture(scope="session")
def sandbox():
    return Sandbox()


@pytest.fixture(scope="session")
def specs():
    """Environment id -> environment."""
    return {
        env_id: dataclasses.replace(load_environment(PUBLISHED / f"{env_id}.py"), statement=statement)
        for env_id, statement in STATEMENTS.items()
    }


@pytest.fixture(scope="session")
def tasks(specs, sandbox):
    """Three verified tasks of each environment."""
    rows = [json.loads(line) for line in (PUBLISHED / "rows.jsonl").read_text().splitlines()]
    found = []
    for env_id, spec in specs.items():
        for row in rows:
            _, of, config_json = row["ability"].split("@", 2)
            if of == env_id:
                task = verify_task(
                    sandbox, spec, config_json, min_calls=1, max_calls=512, max_answer_chars=100
                )
                assert isinstance(task, Task)
                found.append(task)
    return found


@pytest.fixture(scope="session")
def task_set(specs, tasks, sandbox, tmp_path_factory):
    """Its folder: five tasks to train on, and the last one held out."""
    split_of = {task.task_id: TRAIN for task in tasks} | {tasks[-1].task_id: TEST_ENV}
    folder = tmp_path_factory.mktemp("adapters") / "task_set"
    write_task_set(folder, list(specs.values()), tasks, {}, split_of, {"guest_hash": sandbox.guest_hash})
    return folder
