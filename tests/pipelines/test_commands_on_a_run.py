"""Commands on a small run, as a user calls them: metrics elsewhere, splits without tasks, the control."""

import dataclasses
import json
import shutil

import pytest

from codegym_jax.cli import main
from codegym_jax.config import MeshConfig, SamplingMeshConfig
from codegym_jax.metrics import read_metrics
from tests.metrics.test_sinks import shown
from tests.pipelines.test_preemption import Pair, write_experiment


def test_metrics_are_shown_to_tensorboard_and_an_empty_split_has_no_rate(
    tiny_config, tiny_task_set, tmp_path, capfd
):
    run, sft = tmp_path / "run", dataclasses.replace(tiny_config.sft, steps=2, warmup_steps=1)
    experiment = write_experiment(tmp_path / "tiny.py", dataclasses.replace(tiny_config, sft=sft))
    shutil.copytree(tiny_task_set, run / "task_set")
    arguments = [str(experiment), "--run", str(run)]
    assert main(["sft", *arguments, "--log", "tensorboard"]) == 0
    rows = read_metrics(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2]
    losses = {
        step: value for (step, name), value in shown(run / "tensorboard" / "sft").items() if name == "loss"
    }
    assert losses == {row["step"]: pytest.approx(row["loss"]) for row in rows}

    capfd.readouterr()
    assert main(["eval", *arguments, "--split", "test_env", "test_config"]) == 0
    printed, said = capfd.readouterr()
    assert json.loads(printed[printed.index("{") :])["greedy"]["test_env"]["n"] == 0
    lines = [line for line in (printed + said).splitlines() if line.startswith("eval sft_")]
    assert [line.endswith("no rate: no task was played") for line in lines] == [True, False] * 2


@pytest.mark.slow
def test_the_control_of_a_run_of_two_processes(tiny_config, tiny_task_set, tmp_path):
    """By both of them: the parameters of the run stay, what more supervised learning gives is beside them."""
    meshes = {
        "mesh": MeshConfig(data=1, fsdp=2),
        "sampling_mesh": SamplingMeshConfig(data=-1, fsdp=1, tensor=1),
    }
    pair = Pair(dataclasses.replace(tiny_config, **meshes), tiny_task_set, tmp_path / "run")
    parameters = pair.finish()
    assert pair.finish("control") == parameters
    steps = json.loads((pair.folder / "control.json").read_text())["steps"]
    rows = [row for row in read_metrics(pair.folder / "metrics.jsonl") if row["stage"] == "control"]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    assert "heldout_config_control" in json.loads((pair.folder / "result.json").read_text())
