"""Two real processes on one run folder: they learn what one process learns, and end together."""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import numpy as np
import pytest

from codegym_jax.config import (
    ExitCode,
    MeshConfig,
    RunConfig,
    SamplingMeshConfig,
    apply_overrides,
    to_json,
)
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.metrics import read_metrics, without_clock
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.trainer.state import params_hash

ROOT = pathlib.Path(__file__).parents[2]
TOLERANCE = 1e-6
"""Largest difference of a parameter after the whole run; two processes add up gradients in another order."""


class Started(NamedTuple):
    """A process, and the file with all that it said."""

    process: subprocess.Popen[bytes]
    output: pathlib.Path

    def end(self, timeout_s: float | None = None) -> str:
        """What it said until its end."""
        self.process.wait(timeout_s)
        return self.output.read_text()


class Runs:
    """Starts the processes of a run in a folder."""

    def __init__(self, config: RunConfig, task_set: pathlib.Path, folder: pathlib.Path) -> None:
        self.task_set, self.folder = task_set, folder
        self.started: list[Started] = []
        (folder / "settings.json").write_text(to_json(config))

    def start(
        self, name: str, count: int, settings: tuple[str, ...] = ("settings.json",) * 2
    ) -> list[Started]:
        """So many processes, with two devices together."""
        with socket.create_server(("localhost", 0)) as free:
            address = f"localhost:{free.getsockname()[1]}"
        devices = str(2 // count)
        for rank in range(count):
            program = [sys.executable, "-m", "tests.pipelines.one_of_two_processes"]
            program += [
                str(self.folder / settings[rank]),
                str(self.folder / name),
                str(self.task_set),
                devices,
            ]
            program += [address, str(rank), str(count)] if count > 1 else []
            self.started.append(self._run(program))
        return self.started[-count:]

    def _run(self, program: list[str]) -> Started:
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
        output = self.folder / f"{len(self.started)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(program, cwd=ROOT, env=environment, stdout=file, stderr=file)
        return Started(process, output)

    def finish(self, name: str, count: int) -> list[str]:
        """What each printed as the hash of its parameters."""
        hashes = []
        for one in self.start(name, count):
            said = one.end()
            assert one.process.returncode == 0, said
            hashes += re.findall(r"PARAMETERS (\w+)", said)
        return hashes


@pytest.fixture(scope="module")
def config(tiny_config) -> RunConfig:
    """Every matrix is divided between the two devices, and each of them samples by itself."""
    return dataclasses.replace(
        tiny_config,
        mesh=MeshConfig(data=1, fsdp=2),
        sampling_mesh=SamplingMeshConfig(data=-1, fsdp=1, tensor=1),
    )


@contextlib.contextmanager
def started_in(config, task_set, folder):
    runs = Runs(config, task_set, folder)
    try:
        yield runs
    finally:
        for one in runs.started:
            one.process.kill()
            one.process.wait()


@pytest.fixture(scope="module")
def runs(config, tiny_task_set, tmp_path_factory):
    with started_in(config, tiny_task_set, tmp_path_factory.mktemp("runs")) as runs:
        yield runs


@pytest.fixture(scope="module")
def two_hashes(runs):
    """Of a run of two processes, in the folder `two`."""
    return runs.finish("two", 2)


def episodes_of(folder):
    paths = sorted((folder / "episodes").rglob("*.jsonl"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def require_one_run(folder, config):
    """The runs `one` and `two` in a folder are the same: episodes and metrics are the same bytes, parameters
    the same within `TOLERANCE`.

    The checkpoints of both are restored here, by one process and onto another mesh.

    Returns:
      The restored parameters of both.
    """
    one, two = folder / "one", folder / "two"
    assert episodes_of(one) == episodes_of(two)
    assert len(episodes_of(one)) == config.train.steps + 2
    rows = [[without_clock(row) for row in read_metrics(run / "metrics.jsonl")] for run in (one, two)]
    assert [row.keys() for row in rows[0]] == [row.keys() for row in rows[1]]
    for row, other in zip(*rows, strict=True):
        for name in row:
            assert row[name] == pytest.approx(other[name], abs=1e-4), name
    here = dataclasses.replace(config, mesh=MeshConfig(data=2, fsdp=2, tensor=2))
    benches = [Workbench(here, run, default_cache_dir()) for run in (one, two)]
    params = [stage_params(bench, "train") for bench in benches]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=TOLERANCE), *params)
    return params


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(runs, two_hashes, config):
    assert len(two_hashes) == 2 and len(set(two_hashes)) == 1
    hashes = [*runs.finish("one", 1), two_hashes[0]]
    assert [params_hash(params) for params in require_one_run(runs.folder, config)] == hashes


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(
            ["algorithm.name=ppo", "algorithm.kl=k3", "algorithm.kl_coefficient=0.01"],
            id="critic and reference",
        ),
        pytest.param(["train.max_off_policy_steps=1", "lora.rank=2"], id="ahead, adapters"),
        pytest.param(
            ["curriculum.dynamic_sampling=true", "curriculum.order=easy_first"],
            id="curriculum",
        ),
    ],
)
def test_so_they_do_with_whatever_else_learns_or_chooses(config, tiny_task_set, tmp_path, settings):
    config = apply_overrides(config, settings)
    with started_in(config, tiny_task_set, tmp_path) as runs:
        assert len(set(runs.finish("two", 2))) == 1
        runs.finish("one", 1)
    require_one_run(tmp_path, config)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_is_killed_the_other_says_who_and_the_same_command_resumes(runs, two_hashes, config, victim):
    name = f"killed {victim}"
    started = runs.start(name, 2)
    metrics = runs.folder / name / "metrics.jsonl"
    while len(read_metrics(metrics)) < config.sft.steps + 1:  # until a step of reinforcement learning is over
        assert [one.process.poll() for one in started] == [None, None], "too late to kill one"
        time.sleep(0.01)
    started[victim].process.kill()
    said = started[1 - victim].end(timeout_s=60)
    assert started[victim].process.wait() == -signal.SIGKILL
    assert started[1 - victim].process.returncode == ExitCode.RESUMABLE, said
    pid = started[victim].process.pid
    assert re.search(rf"process {victim} of 2 \(process id {pid} on .*\) is gone.*the same command", said), (
        said
    )
    assert runs.finish(name, 2) == two_hashes
    assert episodes_of(runs.folder / name) == episodes_of(runs.folder / "two")


@pytest.mark.slow
def test_processes_with_different_configs_end_and_say_so(runs, config):
    (runs.folder / "other.json").write_text(to_json(dataclasses.replace(config, seed=5)))
    for one in runs.start("odd", 2, settings=("settings.json", "other.json")):
        said = one.end(timeout_s=60)
        assert one.process.returncode == ExitCode.WRONG, "by itself, or told by the other"
        assert "the config is " in said and said.count(" on process ") >= 2, said
    assert not (runs.folder / "odd").exists()
