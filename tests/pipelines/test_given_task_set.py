"""Training on a task set that somebody else made: what is checked before, and the way to the first update."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codegym_jax.config import ConfigError, RunConfig, SftConfig
from codegym_jax.data.task_set import TaskSet, write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.pipelines.experiment import prepare
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.synth import synthesize
from codegym_jax.trainer.state import params_hash

GUEST = {"guest_hash": find_artefact().wasm_sha256}


@pytest.fixture
def given(tiny_task_set: Path, tmp_path: Path):
    """Writes the tasks of the tiny set again, all of them in the splits told."""

    def write(manifest: dict = GUEST, split: str = "") -> Path:
        tiny = TaskSet.open(tiny_task_set)
        split_of = {task.task_id: split or name for name in tiny.counts for task in tiny.source(name)}
        tasks = [task for name in tiny.counts for task in tiny.source(name)]
        write_task_set(tmp_path / "mine", list(tiny.specs.values()), tasks, {}, split_of, manifest)
        return tmp_path / "mine"

    return write


def settings(tiny_config: RunConfig, folder: Path) -> RunConfig:
    return replace(
        tiny_config,
        data=replace(tiny_config.data, task_set=str(folder)),
        sft=SftConfig(demonstrations_per_environment=6, steps=2, rows=8, warmup_steps=1),
    )


def test_a_run_trains_on_the_task_set_that_it_was_given(given, tiny_config, tmp_path):
    folder = given()
    config = settings(tiny_config, folder)
    bench = prepare(config, tmp_path / "run", tmp_path / "cache")
    assert bench.task_set.digest == TaskSet.open(folder).digest
    assert not (tmp_path / "cache").exists()
    assert len(params_hash(run_sft(bench))) == 64

    shutil.rmtree(folder)  # the run has its own copy
    again = prepare(config, tmp_path / "run", tmp_path / "cache")
    assert again.task_set.digest == bench.task_set.digest


@pytest.mark.parametrize(
    ("manifest", "split", "message"),
    [
        ({}, "", "was verified on the guest unknown, and this is"),
        ({"guest_hash": "f" * 64}, "", "was verified on the guest ffffffffffff, and this is"),
        (GUEST, "test_env", r"has no tasks to train on \(0 in train, 0 in validation_config"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_anything_is_made(
    given, tiny_config, tmp_path, manifest, split, message
):
    config = settings(tiny_config, given(manifest, split))
    with pytest.raises(ConfigError, match=message):
        prepare(config, tmp_path / "run", tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_a_missing_or_damaged_folder_is_named(given, tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=r"data\.task_set: no/such: no such task set folder"):
        prepare(settings(tiny_config, Path("no/such")), tmp_path / "run", tmp_path / "cache")
    folder = given()
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / next(iter(manifest["files"]))).write_text("")
    with pytest.raises(ConfigError, match=r"data\.task_set: .* damaged"):
        prepare(settings(tiny_config, folder), tmp_path / "run", tmp_path / "cache")


def test_synthesis_does_not_run_over_a_task_set_that_is_given(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="leave it out"):
        synthesize(settings(tiny_config, tmp_path), tmp_path / "cache")
