"""A plan says what XLA says: of the real update, compiled for eight fake devices."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import jax
import pytest
from jax.sharding import NamedSharding

from codegym_jax.algorithms.log_probs import make_log_prob_fn
from codegym_jax.algorithms.presets import ALGORITHMS
from codegym_jax.cli import main
from codegym_jax.config import (
    ConfigError,
    DataConfig,
    MeshConfig,
    PolicyConfig,
    RolloutConfig,
    RunConfig,
    SamplingMeshConfig,
    TrainConfig,
)
from codegym_jax.models import sharding
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.pipelines import plan_bytes
from codegym_jax.pipelines.plan import HEADROOM, make_plan
from codegym_jax.trainer.step import make_policy_gradient_step

CONFIGS = Path(__file__).parents[2] / "configs"
WIDTHS = ModelConfig(
    width=256,
    layers=4,
    query_heads=8,
    kv_heads=2,
    head_width=32,
    ffn_width=768,
    qkv_bias=True,
    tied_head=False,
    vocabulary=2048,
)
RUN = RunConfig(
    policy=PolicyConfig(preset="qwen2.5-0.5b", scan_layers=True, remat="full"),
    rollout=RolloutConfig(tasks_per_step=4, attempts_per_task=4, slots=16, max_tokens=256),
    train=TrainConfig(episodes_per_update=16, rows_per_batch=16),
    mesh=MeshConfig(data=1, fsdp=4, tensor=2),
)


def shapes_of(run: RunConfig, widths: ModelConfig = WIDTHS) -> plan_bytes.Shapes:
    """The plan's shapes, with a smaller model than any preset of its kind."""
    shapes = plan_bytes.resolve(dataclasses.replace(run, policy=run.policy), 8, "cpu")
    model = Transformer(widths, widths.vocabulary, shapes.compute)
    return dataclasses.replace(shapes, model=model, vocabulary=widths.vocabulary)


def compile_update(shapes: plan_bytes.Shapes):
    """The update as the trainer makes it, compiled from shapes."""
    model, mesh = shapes.model, sharding.make_mesh(*shapes.mesh.axis_sizes)

    def on_devices(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, leaf.sharding.spec))

    state, batch = jax.tree.map(on_devices, (shapes.state, shapes.batch))
    update = make_policy_gradient_step(
        make_log_prob_fn(
            lambda params, tokens_BT: model.apply({"params": params}, tokens_BT, method="hidden"),
            lambda params: model.apply({"params": params}, method="head"),
            chunk_tokens=shapes.chunk_tokens,
        ),
        functools.partial(ALGORITHMS["grpo"].loss, clip_low=0.2, clip_high=0.2),
        shapes.optimizer,
        state_sharding=jax.tree.map(lambda leaf: leaf.sharding, state),
    )
    step = jax.jit(lambda state, batch: update(state, [batch], 1.0), donate_argnums=0)
    return step.lower(state, batch).compile()


@pytest.fixture(scope="module")
def scanned():
    shapes = shapes_of(RUN)
    return shapes, compile_update(shapes)


def test_what_stays_is_what_xla_takes_as_arguments(scanned):
    """Parameters, moments, counters and the batch, byte for byte."""
    shapes, compiled = scanned
    planned = plan_bytes.bytes_per_device((shapes.state, shapes.batch))
    assert compiled.memory_analysis().argument_size_in_bytes == planned
    assert compiled.memory_analysis().alias_size_in_bytes == plan_bytes.bytes_per_device(shapes.state)


@pytest.mark.parametrize(
    "policy",
    [
        {},
        pytest.param({"remat": "dots"}, marks=pytest.mark.slow),
        pytest.param({"remat": "none"}, marks=pytest.mark.slow),
        pytest.param({"remat": "none", "scan_layers": False}, marks=pytest.mark.slow),
    ],
    ids=["full", "dots", "none", "unrolled"],
)
def test_what_learning_takes_is_what_xla_sets_aside(scanned, policy):
    """Gradients and temporary arrays: at most 10% below and 35% above XLA's own figure (1% to 29% above)."""
    if policy:
        shapes = shapes_of(dataclasses.replace(RUN, policy=dataclasses.replace(RUN.policy, **policy)))
        compiled = compile_update(shapes)
    else:
        shapes, compiled = scanned
    planned = sum(item.bytes for item in plan_bytes.learning(shapes) if item.name != "batch")
    ratio = planned / compiled.memory_analysis().temp_size_in_bytes
    assert 0.9 < ratio < 1.35


def collectives(text: str, layers: int) -> dict[str, int]:
    """Bytes of the results of collective operations; those of the loops over layers count once for each."""
    found = {"weights": 0, "head": 0, "activations": 0}
    loop = False
    for line in text.splitlines():
        if line and not line.startswith(" "):
            loop = not line.startswith("ENTRY")
        match = re.search(r"= (.*?) (all-gather|all-reduce)\(", line)
        for dimensions in re.findall(r"f32\[([\d,]+)\]", match[1]) if match else []:
            shape = tuple(map(int, dimensions.split(",")))
            if match[2] == "all-gather" and len(shape) == 2:
                found["weights" if loop else "head"] += 4 * math.prod(shape) * (layers if loop else 1)
            if match[2] == "all-reduce" and shape == (4, 256, 256):
                found["activations"] += 4 * math.prod(shape) * layers
    return found


def test_what_moves_is_what_xla_moves(scanned):
    """Weights are gathered twice, the head once, and activations are added up eight times a layer."""
    shapes, compiled = scanned
    found = collectives(compiled.as_text(), WIDTHS.layers)
    planned = {item.name: item.bytes for item in plan_bytes.transfers(shapes) if item.per == "batch"}
    assert (found["weights"] + found["head"]) * 3 // 4 == planned["all-gather over fsdp"]
    assert found["activations"] == planned["all-reduce over tensor"]


def test_more_devices_hold_less_each():
    """Eight times as many shards, an eighth of the bytes; counters apart."""
    run = dataclasses.replace(RUN, mesh=MeshConfig(data=8), sampling_mesh=SamplingMeshConfig())
    whole, shared = shapes_of(run), shapes_of(dataclasses.replace(RUN, mesh=MeshConfig(data=1, fsdp=8)))
    matrices = [leaf for leaf in jax.tree.leaves(whole.params) if leaf.ndim > 2]
    divided = [leaf for leaf in jax.tree.leaves(shared.params) if leaf.ndim > 2]
    assert plan_bytes.bytes_per_device(matrices) == 8 * plan_bytes.bytes_per_device(divided)


def test_parameters_and_cache_by_hand():
    """Qwen2.5-0.5B: 494,032,768 parameters, 24 layers x 2 heads x 64 x keys and values x 4 B a token."""
    run = RunConfig(
        policy=PolicyConfig(preset="qwen2.5-0.5b"),
        rollout=RolloutConfig(slots=4, max_tokens=1000),
        train=TrainConfig(rows_per_batch=1),
    )
    plan = make_plan(run, "cpu-1")
    by_name = {item.name: item.bytes for item in plan.resident}
    assert by_name["parameters"] == 4 * 494_032_768
    assert by_name["optimizer"] == 2 * 4 * 494_032_768 + 2 * 4  # and two counters
    assert by_name["key-value cache"] == 4 * 1000 * (24 * 2 * 64 * 2 * 4 + 4)  # and the token itself


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"mesh": MeshConfig(data=3)}, "mesh: data x fsdp x tensor = 3, but there are 8 devices"),
        (
            {
                "mesh": MeshConfig(data=1, fsdp=1, tensor=8),
                "policy": PolicyConfig(preset="nano"),
                "data": DataConfig(max_vocabulary=300),
            },
            r"mesh.tensor = 8 does not divide the model's vocabulary \(300\)",
        ),
        (
            {"sampling_mesh": SamplingMeshConfig(data=5, fsdp=1, tensor=1)},
            "sampling_mesh: data x fsdp x tensor = 5",
        ),
        (
            {"train": TrainConfig(rows_per_batch=6)},
            r"train.rows_per_batch must be a multiple of mesh.data x mesh.fsdp = 1 x 4 = 4, got 6",
        ),
        (
            {"rollout": RolloutConfig(slots=15)},
            r"rollout.slots must be a multiple of sampling_mesh.data x sampling_mesh.fsdp = .* got 15",
        ),
        ({"policy": PolicyConfig(preset="qwen2.5")}, "policy.preset must be one of nano"),
        ({"policy": PolicyConfig(preset="nano", remat="some")}, "policy.remat must be one of"),
    ],
)
def test_what_does_not_divide_is_named(change, expected):
    with pytest.raises(ConfigError, match=expected):
        plan_bytes.resolve(dataclasses.replace(RUN, **change), 8, "cpu")


def test_heads_that_do_not_divide_are_told_of():
    """Qwen2.5-0.5B has 14 query heads and 2 key-value heads: both stay whole on 4 devices."""
    run = dataclasses.replace(RUN, mesh=MeshConfig(data=1, fsdp=2, tensor=4))
    notes = " ".join(make_plan(run, "h100-8").notes)
    assert "14 query heads do not divide by mesh.tensor = 4" in notes
    assert "2 key-value heads do not divide by mesh.tensor = 4" in notes


def test_the_command_fails_when_a_run_does_not_fit_and_says_what_to_change(capsys):
    arguments = ["plan", str(CONFIGS / "qwen2_5_7b_8xh100.py"), "--devices", "h100-8"]
    assert main(arguments) == 0
    assert "fits" in capsys.readouterr().out
    assert main([*arguments, "--set", "rollout.slots=1024"]) == 1
    printed = capsys.readouterr().out
    assert "DOES NOT FIT" in printed
    assert printed.splitlines()[-3].startswith("  key-value cache")
    assert "rollout.slots" in printed.splitlines()[-3]
    assert main([*arguments[:-1], "h100-7"]) == 2
    assert "but there are 7 devices" in capsys.readouterr().err


def test_the_verdict_is_about_the_peak_and_the_headroom():
    plan = make_plan(RUN, "h100-8")
    stays, learning, sampling = (
        sum(item.bytes for item in items) for items in (plan.resident, plan.learning, plan.sampling)
    )
    assert plan.peak_bytes == stays + max(learning, sampling)
    assert plan.fits == (plan.peak_bytes <= (1 - HEADROOM) * 80e9)
