"""`launch/local.sh`: one process or several, logs, signals, exit codes; several learn what one does."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from codegym_jax import config
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.metrics import read_metrics, without_clock
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.workbench import Workbench

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "configs/smoke_cpu.py"
WAITS = """#!/bin/bash
# In place of codegym: waits for a signal, and ends with the exit code of the contract.
while [ "$1" != --process-id ]; do shift; done
trap 'echo "process $2 heard TERM"; exit 42' TERM
trap 'echo "process $2 heard INT"; exit 130' INT
echo "process $2 is ready"
while :; do sleep 0.05; done
"""
ENDS = """#!/bin/bash
# In place of codegym: process I ends with the code I of CODES.
codes=($CODES)
while [ "$1" != --process-id ]; do shift; done
echo "process $2 ends"
exit "${codes[$2]}"
"""


@pytest.fixture
def settings(laptop):
    return {**laptop.environment({"PORT": "4321"}), "PATH": os.environ["PATH"]}


def local(laptop, settings, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(laptop.checkout / "launch" / "local.sh"), *words]
    return subprocess.run(command, env={**settings, **more}, capture_output=True, text=True, timeout=100)


def install(laptop, codegym: str) -> pathlib.Path:
    """A command in place of codegym, and the run folder to give it."""
    (laptop.checkout / "codegym").write_text(codegym)
    return laptop.place / "run"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("one", [CONFIG, "runs/mine", "--set", "train.steps=5"]),
        ("devices", ["--devices", "8", CONFIG, "runs/mine"]),
        ("processes", ["--devices", "4", "--processes", "3", CONFIG, "runs/mine", "--set", "seed=1"]),
    ],
)
def test_the_plan(laptop, settings, hold_to_plan, name, words):
    planned = local(laptop, settings, "--dry-run", *words)
    assert (planned.returncode, planned.stderr) == (0, "")
    hold_to_plan(f"local_{name}", planned.stdout)


@pytest.mark.parametrize(
    ("codes", "given"),
    [("0 0 0", 0), ("0 42 0", 42), ("42 1 42", 1), ("1 42 2", 2), ("42 139 42", 139), ("42 130 42", 130)],
)
def test_the_gravest_exit_code_is_given(laptop, settings, codes, given):
    folder = install(laptop, ENDS)
    done = local(laptop, settings, "--processes", "3", CONFIG, str(folder), CODES=codes)
    assert done.returncode == given
    assert done.stdout.splitlines()[-1] == "process 0 ends", "only the first process is shown"
    logs = {path.name: path.read_text() for path in (folder / "logs").iterdir()}
    assert logs == {f"process-{index}.log": f"process {index} ends\n" for index in range(3)}
    told = [f"process {n} ended with exit code {code}" in done.stderr for n, code in enumerate(codes.split())]
    assert all(told) == (given != 0)


@pytest.mark.parametrize(("name", "given"), [("TERM", 42), ("INT", 130)])
def test_signals_reach_every_process(laptop, settings, name, given):
    folder = install(laptop, WAITS)
    command = [laptop.checkout / "launch" / "local.sh", "--processes", "2", CONFIG, folder]
    with subprocess.Popen(command, env=settings, stdout=subprocess.PIPE, text=True) as started:
        logs = [folder / "logs" / f"process-{index}.log" for index in range(2)]
        while not all(log.exists() and "is ready" in log.read_text() for log in logs):
            assert started.poll() is None
            time.sleep(0.05)
        started.send_signal(signal.Signals[f"SIG{name}"])
        said, _ = started.communicate(timeout=60)
    assert started.returncode == given
    assert [log.read_text().splitlines()[-1] for log in logs] == [
        f"process {index} heard {name}" for index in range(2)
    ]
    assert f"process 0 heard {name}" in said


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--processes", "none", CONFIG, "runs/a"], "--processes needs a number from 1, got none"),
        (["--devices"], "--devices needs a value; --help says which"),
        (["--gpus", "2", CONFIG, "runs/a"], "unknown option --gpus; --help lists them"),
        (["configs/none.py", "runs/a"], "config file not found: configs/none.py"),
        (
            ["--dry-run", "--processes", "2", CONFIG, "gs://bucket/a"],
            "with --processes the run folder must be one of this machine, got gs://bucket/a",
        ),
    ],
)
def test_mistakes_are_answered(laptop, settings, words, complaint):
    refused = local(laptop, settings, *words)
    assert (refused.returncode, refused.stderr) == (2, f"launch/local.sh: {complaint}\n")


SMALL = {
    "synthesis.problems_per_source": 60,
    "synthesis.learnable_environments": 3,
    "synthesis.tasks_per_learnable_environment": 24,
    "synthesis.tasks_per_environment": 10,
    "data.heldout_environments": 1,
    "data.validation_configs": 2,
    "data.test_configs": 4,
    "sft.steps": 6,
    "sft.demonstrations_per_environment": 4,
    "train.steps": 2,
    "train.episodes_per_update": 8,
    "train.rows_per_batch": 4,
    "rollout.slots": 8,
    "evaluation.max_tasks": 5,
}
TOLERANCE = 1e-6
"""As in tests/pipelines/test_two_processes.py: two processes add up gradients in another order."""


def train(folder: pathlib.Path, *how: str, **settings: object) -> None:
    command = [str(ROOT / "launch" / "local.sh"), *how, CONFIG, str(folder)]
    for name, value in {**SMALL, **settings}.items():
        command += ["--set", f"{name}={value}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def episodes_of(folder: pathlib.Path) -> dict[str, bytes]:
    paths = sorted((folder / "episodes").rglob("*.jsonl"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
def test_two_processes_run_the_smoke_config_to_the_result_of_one(tmp_path):
    """Short, but every stage: episodes are the same bytes, metrics and parameters the same up to rounding."""
    one, two = tmp_path / "one", tmp_path / "two"
    train(one, "--devices", "2")
    train(two, "--devices", "1", "--processes", "2", **{"data.task_set": one / "task_set"})
    assert episodes_of(one) == episodes_of(two)
    rows = [[without_clock(row) for row in read_metrics(folder / "metrics.jsonl")] for folder in (one, two)]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for row, other in zip(*rows, strict=True):
        for name in row:
            assert row[name] == pytest.approx(other[name], abs=1e-4), name
    params = []
    for folder in (one, two):
        run = config.from_dict(json.loads((folder / "config.json").read_text()))
        params.append(stage_params(Workbench(run, folder, default_cache_dir()), "train"))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE), *params)
    assert (two / "report.html").exists()
    assert sys.getsizeof((two / "logs" / "process-1.log").read_bytes()) > 0
