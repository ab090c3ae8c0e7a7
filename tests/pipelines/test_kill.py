"""A real process, killed with SIGKILL at the worst moments: the same command ends with the same bytes."""

import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from codegym_jax.config import RunConfig, to_json

PROGRAM = """
import pathlib, sys
from codegym_jax import config
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.trainer.state import params_hash
import json

settings, folder, task_set = map(pathlib.Path, sys.argv[1:])
run = config.from_dict(json.loads(settings.read_text()))
open_run(run, folder)
bench = Workbench(run, folder, default_cache_dir())
bench.adopt_task_set(task_set)
print(params_hash(run_train(bench, run_sft(bench))))
"""


def rows_of(folder: pathlib.Path, stage: str) -> int:
    path = folder / "metrics.jsonl"
    return path.read_text().count(f'"stage": "{stage}"') if path.exists() else 0


def writing(folder: pathlib.Path, stage: str) -> bool:
    begun = (folder / "checkpoints" / stage).glob("[0-9]*")
    return rows_of(folder, stage) > 0 and any(not (path / "manifest.json").exists() for path in begun)


MOMENTS: dict[str, Callable[[pathlib.Path], bool]] = {
    "during SFT": lambda folder: rows_of(folder, "sft") >= 3,
    "while SFT writes a checkpoint": lambda folder: writing(folder, "sft"),
    "during RL": lambda folder: rows_of(folder, "train") >= 3,
    "while RL writes a checkpoint": lambda folder: writing(folder, "train"),
}


@pytest.mark.slow
def test_a_killed_run_ends_with_the_bytes_of_an_uninterrupted_one(tiny_task_set, tiny_config, tmp_path):
    settings = tmp_path / "settings.json"
    config: RunConfig = tiny_config
    settings.write_text(to_json(config))

    def start(folder: pathlib.Path) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", PROGRAM, str(settings), str(folder), str(tiny_task_set)]
        return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)

    def finish(folder: pathlib.Path) -> str:
        printed, _ = start(folder).communicate()
        return printed.splitlines()[-1]

    expected = finish(tmp_path / "whole")
    assert len(expected) == 64
    for name, moment in MOMENTS.items():
        folder = tmp_path / name.replace(" ", "_")
        process = start(folder)
        while process.poll() is None and not moment(folder):
            time.sleep(0.002)
        assert process.poll() is None, f"the run ended before it could be killed {name}"
        process.kill()
        process.communicate()
        assert finish(folder) == expected, name
        saved = json.loads((folder / "config.json").read_text())
        assert saved["seed"] == config.seed
