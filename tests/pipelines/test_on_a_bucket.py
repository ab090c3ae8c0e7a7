"""A run on a bucket is the same run as on a disk, whatever machine it goes on on."""

import dataclasses
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import jax
import pytest

from codegym_jax.config import MeshConfig, SamplingMeshConfig, from_dict, to_json
from codegym_jax.data.store import Store
from codegym_jax.data.working_copy import run_path
from codegym_jax.metrics import read_metrics, without_clock
from tests.pipelines.on_a_bucket import live

ROOT = pathlib.Path(__file__).parents[2]
KILLS = (("push", 2), ("commit", 3), ("row", 4), ("commit", 2), ("push", 1))
"""Places of lives one after the other, each begun where the one before left the bucket: SFT and RL save their
first state and then each second step of RL."""


@pytest.fixture(scope="module")
def settings(tiny_config, tmp_path_factory):
    """A run that samples ahead, so that a checkpoint refers to episodes."""
    train = dataclasses.replace(tiny_config.train, steps=6, max_off_policy_steps=1)
    sft = dataclasses.replace(tiny_config.sft, steps=10)
    file = tmp_path_factory.mktemp("settings") / "settings.json"
    file.write_text(to_json(dataclasses.replace(tiny_config, train=train, sft=sft)))
    return file


@pytest.fixture(scope="module")
def local(settings, tiny_task_set, tmp_path_factory):
    """The folder of the run on a disk, and the hash of its parameters."""
    folder = tmp_path_factory.mktemp("local") / "run"
    return folder, live(settings, tiny_task_set, str(folder), folder.parent)


def require_same(store, local):
    """What is on the bucket equals the local run, but for the clock."""
    names = [name for name in store.names() if not name.startswith("checkpoints/")]
    expected = {path.relative_to(local).as_posix(): path for path in local.rglob("*") if path.is_file()}
    kept = {name for name in expected if not name.startswith("checkpoints/")}
    assert set(names) - {"owner.json"} == kept
    for name in kept - {"metrics.jsonl", "timing.json"}:
        assert store.read(name) == expected[name].read_bytes(), name


def rows(file):
    return [without_clock(row) for row in read_metrics(file)]


def test_it_equals_the_run_on_a_disk_and_is_there_for_another_machine(
    bucket, settings, tiny_task_set, local, tmp_path
):
    """Checkpoints, metrics, episodes, evaluations; then a fresh machine finds it finished."""
    url, (folder, parameters) = f"{bucket}/equal", local
    assert live(settings, tiny_task_set, url, tmp_path / "one") == parameters
    store = Store(url)
    require_same(store, folder)
    store.download("metrics.jsonl", tmp_path / "metrics.jsonl")
    assert rows(tmp_path / "metrics.jsonl") == rows(folder / "metrics.jsonl")
    other = run_path(url, tmp_path / "two")
    assert (
        not (other / "checkpoints").exists()
        and not (run_path(url, tmp_path / "one") / "checkpoints").exists()
    )
    assert live(settings, tiny_task_set, url, tmp_path / "two") == parameters
    assert not (other / "episodes").exists(), "nothing was left to do, so none was needed"


@pytest.mark.slow
def test_killed_on_one_machine_after_the_other_it_ends_the_same(
    bucket, settings, tiny_task_set, local, tmp_path
):
    """With the files of a checkpoint there but not itself, with all but its manifest, and between; most lives
    on a machine that has never seen the run, one on a machine that knows an older state of it."""
    url, (folder, parameters) = f"{bucket}/killed", local
    machines = ["a", "b", "c", "a", "d"]
    for (place, count), machine in zip(KILLS, machines, strict=True):
        ended = start(settings, tiny_task_set, url, tmp_path / machine, "--die", place, str(count))
        assert ended.returncode == -signal.SIGKILL, f"{place} {count} was not reached: {ended.stdout}"
    ended = start(settings, tiny_task_set, url, tmp_path / "e")
    assert ended.returncode == 0, ended.stdout
    assert f"PARAMETERS {parameters}" in ended.stdout
    require_same(Store(url), folder)
    Store(url).download("metrics.jsonl", tmp_path / "metrics.jsonl")
    assert rows(tmp_path / "metrics.jsonl") == rows(folder / "metrics.jsonl")


@pytest.mark.slow
def test_a_damaged_checkpoint_costs_two_steps_and_nothing_else(
    bucket, settings, tiny_task_set, local, tmp_path
):
    url, (folder, parameters) = f"{bucket}/damaged", local
    assert (
        start(settings, tiny_task_set, url, tmp_path / "a", "--die", "row", "5").returncode == -signal.SIGKILL
    )
    store = Store(f"{url}/checkpoints/train")
    newest = [name for name in store.folders() if f"{name}/manifest.json" in store.names(name)][-1]
    file = max(store.names(newest), key=lambda name: len(store.read(name)))
    store.write(file, store.read(file)[:-1] + b"x")
    ended = start(settings, tiny_task_set, url, tmp_path / "b")
    assert f"{url}/checkpoints/train/{newest} is damaged ({file.partition('/')[2]}" in ended.stdout
    assert f"PARAMETERS {parameters}" in ended.stdout
    require_same(Store(url), folder)


@pytest.mark.slow
def test_of_two_starters_the_first_stops_with_a_word(bucket, settings, tiny_task_set, local, tmp_path):
    """And the run ends as if there had been one."""
    url, (folder, parameters) = f"{bucket}/two", local
    first = begin(settings, tiny_task_set, url, tmp_path / "a")
    store = Store(url)
    while first.poll() is None and "checkpoints/sft/0001_step_00000000/manifest.json" not in store.names():
        pass
    second = begin(settings, tiny_task_set, url, tmp_path / "b")
    outputs = [process.communicate()[0] for process in (first, second)]
    assert first.returncode == 1 and second.returncode == 0, outputs
    assert re.search(
        rf"RunTaken: {url} was taken over by process {second.pid} of .*; this process stops", outputs[0]
    )
    assert f"{url} was process {first.pid} of" in outputs[1]
    assert f"PARAMETERS {parameters}" in outputs[1]
    require_same(store, folder)


@pytest.mark.slow
def test_processes_need_no_path_that_all_see(bucket, settings, tiny_task_set, tmp_path):
    """Two processes, each on a machine of its own; killed, and begun again on another; and two that share a
    folder: the same parameters, the same files."""
    run = from_dict(json.loads(settings.read_text()))
    meshes = {
        "mesh": MeshConfig(data=1, fsdp=2),
        "sampling_mesh": SamplingMeshConfig(data=-1, fsdp=1, tensor=1),
    }
    settings = tmp_path / "settings.json"
    settings.write_text(to_json(dataclasses.replace(run, **meshes)))

    def both(run, machines, *fault):
        with socket.create_server(("localhost", 0)) as free:
            address = f"localhost:{free.getsockname()[1]}"
        processes = [
            begin(
                settings,
                tiny_task_set,
                run,
                tmp_path / machine,
                "--of",
                address,
                rank,
                "2",
                *fault,
                devices=1,
            )
            for rank, machine in zip("01", machines, strict=True)
        ]
        outputs = [process.communicate()[0] for process in processes]
        return outputs, [process.returncode for process in processes]

    outputs, codes = both(str(tmp_path / "shared"), ("a", "a"))
    assert codes == [0, 0], outputs
    [parameters] = {re.search(r"PARAMETERS (\w+)", output)[1] for output in outputs}
    url = f"{bucket}/processes"
    outputs, codes = both(url, ("b", "c"), "--die", "row", "4")
    assert codes[0] == -signal.SIGKILL and codes[1] > 0, outputs
    outputs, codes = both(url, ("d", "d"))
    assert codes == [0, 0], outputs
    assert {re.search(r"PARAMETERS (\w+)", output)[1] for output in outputs} == {parameters}
    require_same(Store(url), tmp_path / "shared")


def begin(settings, task_set, url, machine, *told, devices=8):
    """A machine's process; see `on_a_bucket`."""
    environment = {
        "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "JAX_NUM_CPU_DEVICES": str(devices),
    }
    program = [sys.executable, "-m", "tests.pipelines.on_a_bucket"]
    program += [str(settings), str(task_set), url, str(machine), *told]
    return subprocess.Popen(
        program,
        cwd=ROOT,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start(settings, task_set, url, machine, *told):
    process = begin(settings, task_set, url, machine, *told)
    output, _ = process.communicate()
    return subprocess.CompletedProcess((), process.returncode, output)
