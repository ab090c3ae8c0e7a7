"""A small real task set of many environments: one class under several names."""

import dataclasses
import json
import pathlib

import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.check import verify_task
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Task

SPEC = load_environment(pathlib.Path(__file__).parents[2] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
ENVIRONMENTS, TASKS = 8, 5


@pytest.fixture(scope="session")
def many_environments(tmp_path_factory):
    """Eight environments of five tasks, the first two of one family, all in the split `general`."""
    sandbox = Sandbox(SandboxConfig())
    specs = [dataclasses.replace(SPEC, code_id=f"Test_{number}") for number in range(ENVIRONMENTS)]
    tasks = []
    for number, spec in enumerate(specs):
        for n in range(TASKS):
            config_json = json.dumps({"xs": [n, (n * number) % 5, (n + number) % 9]}, separators=(",", ":"))
            task = verify_task(sandbox, spec, config_json, min_calls=3, max_calls=9, max_answer_chars=9)
            assert isinstance(task, Task)
            tasks.append(task)
    folder = tmp_path_factory.mktemp("many") / "task_set"
    families = {
        spec.env_id: {"family": "one" if place < 2 else spec.env_id} for place, spec in enumerate(specs)
    }
    split_of = {task.task_id: "general" for task in tasks}
    split_of[tasks[0].task_id] = "train"  # a task set without any is refused
    write_task_set(folder, specs, tasks, families, split_of, {"guest_hash": find_artefact().wasm_sha256})
    return folder
