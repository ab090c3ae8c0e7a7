"""A plan says what XLA says: of the real update, compiled for eight fake devices."""

import dataclasses
import functools
import math
import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

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
    apply_overrides,
)
from codegym_jax.models import sharding
from codegym_jax.models.devices import parse_devices
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.pipelines import plan_bytes
from codegym_jax.pipelines.learner import find_algorithm, objective_of
from codegym_jax.pipelines.plan import HEADROOM, make_plan, render
from codegym_jax.pipelines.plan_collectives import transfers
from codegym_jax.pipelines.plan_shapes import Shapes, bytes_per_device, resolve
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.packing import Lesson, pack, pack_in_order
from codegym_jax.trainer.update import make_policy_update, make_scorer

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
    rollout=RolloutConfig(tasks_per_step=8, attempts_per_task=4, slots=16, max_tokens=256),
    train=TrainConfig(episodes_per_update=32, rows_per_batch=16),
    mesh=MeshConfig(data=1, fsdp=4, tensor=2),
)
"""One update of two batches."""
ADAPTERS = ["lora.rank=8"]
CRITIC = ["algorithm.name=ppo", "algorithm.kl=k3", "algorithm.kl_coefficient=0.1"]
SHORT = ["rollout.max_tokens=16", "train.chunk_tokens=4"]
"""Rows so short that the parameters take most."""


def shapes_of(
    *overrides: str, run: RunConfig = RUN, widths: ModelConfig = WIDTHS, devices: str = "cpu-8"
) -> Shapes:
    """The plan's shapes, with a smaller model than any preset of its kind."""
    shapes = resolve(apply_overrides(run, overrides), parse_devices(devices))
    model = Transformer(widths, widths.vocabulary, shapes.compute)
    return dataclasses.replace(shapes, trainable=dataclasses.replace(shapes.trainable, model=model))


def on_devices(shapes: Shapes, tree):
    """The arrays on a mesh of real devices."""
    mesh = sharding.make_mesh(*shapes.mesh.axis_sizes)

    def put(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, leaf.sharding.spec))

    return jax.tree.map(put, tree)


# Machine code of level 0 compiles faster; programs and buffers are the same.
QUICK = {"xla_backend_optimization_level": 0}


@functools.cache
def compiled_update(*overrides: str):
    """The plan's shapes and the update as the learner makes it, compiled from them."""
    shapes, settings = shapes_of(*overrides), apply_overrides(RUN, overrides).algorithm
    score_fn = shapes.trainable.score_fn(chunk_tokens=shapes.chunk_tokens)
    objective = objective_of(find_algorithm(settings.name), settings)
    program = make_policy_update(score_fn, objective, shapes.optimizer)
    arguments = on_devices(shapes, (shapes.state, shapes.frozen, shapes.update))
    return shapes, program.lower(*arguments).compile(QUICK)


def compiled_scoring(*overrides: str):
    """The same of the pass that scores a step's episodes."""
    shapes = shapes_of(*overrides)
    score = make_scorer(shapes.trainable.score_fn(chunk_tokens=shapes.chunk_tokens))
    params, frozen, update = on_devices(shapes, (shapes.learned, shapes.frozen, shapes.scored))
    program = jax.jit(lambda params, frozen, batches: score(params, frozen, update._replace(batches=batches)))
    return shapes, program.lower(params, frozen, update.batches).compile(QUICK)


def total(items) -> int:
    return sum(item.bytes for item in items if item.name != "batches")


slow = functools.partial(pytest.param, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    "overrides",
    [(), slow((*ADAPTERS, *CRITIC)), slow(("train.optimizer=muon",)), slow(("train.optimizer=adafactor",))],
    ids=["plain", "adapters", "muon", "adafactor"],
)
def test_what_stays_is_what_xla_takes_as_arguments(overrides):
    """Parameters, moments, counters and batches, byte for byte; and the counts of batches and of tokens."""
    shapes, compiled = compiled_update(*overrides)
    planned = bytes_per_device((shapes.state, shapes.frozen, shapes.update.batches)) + 4 + 4
    assert compiled.memory_analysis().argument_size_in_bytes == planned
    assert compiled.memory_analysis().alias_size_in_bytes == bytes_per_device(shapes.state)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        slow(("train.episodes_per_update=16",)),
        slow(("train.episodes_per_update=16", *SHORT)),
        slow(("policy.remat=dots",)),
        slow(("policy.remat=none",)),
        slow(("policy.remat=none", "policy.scan_layers=false")),
        slow((*ADAPTERS, *CRITIC)),
        slow((*CRITIC, *SHORT)),
        slow((*ADAPTERS, *SHORT)),
        slow(("train.optimizer=lion", *SHORT)),
        slow(("train.optimizer=muon", *SHORT)),
        slow(("train.optimizer=muon", "policy.scan_layers=false", *SHORT)),
        slow(("train.optimizer=adafactor", *SHORT)),
    ],
    ids=lambda overrides: ",".join(one.partition(".")[2] for one in overrides) or "plain",
)
def test_what_learning_takes_is_what_xla_sets_aside(overrides):
    """Gradients and temporary arrays, or the optimizer's: 15% below XLA's own figure to 35% above."""
    shapes, compiled = compiled_update(*overrides)
    planned = max(total(plan_bytes.learning(shapes)), total(plan_bytes.stepping(shapes)))
    ratio = planned / compiled.memory_analysis().temp_size_in_bytes
    assert 0.85 < ratio < 1.35, ratio


@pytest.mark.slow
@pytest.mark.parametrize("overrides", [CRITIC, CRITIC + ADAPTERS, CRITIC + ADAPTERS + SHORT])
def test_what_scoring_takes_is_what_xla_sets_aside(overrides):
    """Up to 45% above: it is never the most that there is."""
    shapes, compiled = compiled_scoring(*overrides)
    ratio = total(plan_bytes.scoring(shapes)) / compiled.memory_analysis().temp_size_in_bytes
    assert 0.9 < ratio < 1.45, ratio


def collectives(text: str, shapes: Shapes) -> dict[str, int]:
    """Bytes of the results of collective operations in one batch; those of a layer count once for each."""
    found = {"weights": 0, "head": 0, "activations": 0}
    layers, head = shapes.shape.layers, (shapes.shape.width, shapes.vocabulary // 2)
    activations = (shapes.rows // 4, shapes.tokens, shapes.shape.width)
    for result, kind in re.findall(r"= (.*?) (all-gather|all-reduce)\(", text):
        for dimensions in re.findall(r"f32\[([\d,]+)\]", result):
            shape = tuple(map(int, dimensions.split(",")))
            if kind == "all-gather" and len(shape) == 2:
                of_head = shape == head
                found["head" if of_head else "weights"] += 4 * math.prod(shape) * (1 if of_head else layers)
            if kind == "all-reduce" and shape == activations:
                found["activations"] += 4 * math.prod(shape) * layers
    return found


def test_what_moves_is_what_xla_moves():
    """Weights are gathered twice, the head once, and activations are added up eight times a layer."""
    shapes, compiled = compiled_update()
    found = collectives(compiled.as_text(), shapes)
    planned = {item.name: item.bytes for item in transfers(shapes) if item.per == "batch"}
    assert (found["weights"] + found["head"]) * 3 // 4 == planned["all-gather over fsdp"]
    assert found["activations"] == planned["all-reduce over tensor"]


def laid_out(tree) -> dict[str, object]:
    """Name -> shape, type and what of it one device holds, of each leaf."""
    return {
        jax.tree_util.keystr(path): (leaf.shape, str(leaf.dtype), leaf.sharding.shard_shape(leaf.shape))
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


@pytest.fixture(scope="module")
def small():
    """A model of few parameters, and one of its kind that is made of arrays."""
    widths = dataclasses.replace(WIDTHS, width=128, layers=2, head_width=16, ffn_width=256, vocabulary=256)
    shapes = shapes_of(widths=widths)
    mesh = sharding.make_mesh(*shapes.mesh.axis_sizes)
    return widths, mesh, sharding.init_parameters(shapes.model, mesh, 0, jnp.zeros((1, 2), jnp.int32))


@pytest.mark.parametrize("optimizer", ["adamw", "lion", "muon", "adafactor"])
@pytest.mark.parametrize("learns", [(), (*ADAPTERS, *CRITIC)], ids=["all", "adapters and a critic"])
def test_the_learners_state_is_the_planned_one(tmp_path, small, optimizer, learns):
    """Every array of it: parameters, adapters, the critic, moments and counters."""
    widths, mesh, params = small
    overrides = (f"train.optimizer={optimizer}", *learns)
    shapes = shapes_of(*overrides, widths=widths)
    bench = Workbench(config=apply_overrides(RUN, overrides), folder=tmp_path, cache=tmp_path)
    split = shapes.trainable.split(params, mesh, 0)
    assert laid_out(bench.init_state(split.params, shapes.optimizer)) == laid_out(shapes.state)
    assert laid_out(split.frozen) == laid_out(shapes.frozen)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("rollout.tasks_per_step=30", "train.episodes_per_update=32"),  # 120 episodes: four updates of 30
        ("train.row_tokens=600", "train.rows_per_batch=4"),  # two episodes a row, four batches
        ("rollout.tasks_per_step=9", *CRITIC),
        ("algorithm.importance=truncated", "algorithm.kl=k3", "algorithm.kl_coefficient=0.1"),
    ],
)
def test_packed_batches_are_the_planned_ones(tmp_path, overrides):
    """Of episodes of the greatest length, for an update and for the pass that scores a step."""
    shapes, config = shapes_of(*overrides), apply_overrides(RUN, overrides)
    length, numbers = config.rollout.max_tokens, np.zeros(config.rollout.max_tokens, np.float32)
    fields = {"old_logp", "reference_logp", "old_value", "returns"}
    there = {
        "old_logp": shapes.asks_itself,
        "reference_logp": shapes.asks_reference,
        "old_value": shapes.trainable.critic,
        "returns": shapes.trainable.critic,
    }
    read = Lesson(np.zeros(length, np.int32), np.ones(length, bool), None, numbers)
    lesson = read._replace(**{name: numbers for name in fields if there[name]})
    rows = {"rows_per_batch": config.train.rows_per_batch, "row_tokens": config.train.row_tokens or length}
    updates = pack(
        [lesson] * shapes.episodes,
        episodes_per_update=config.train.episodes_per_update,
        mean="token",
        rng=np.random.default_rng(0),
        **rows,
    )
    bench = Workbench(config=config, folder=tmp_path, cache=tmp_path)
    assert len(updates) == shapes.updates
    largest = max(updates, key=lambda update: update.batch_count)
    assert largest.batch_count == shapes.batches
    assert laid_out(bench.place(largest.batches)) == laid_out(shapes.update.batches)
    if shapes.scored is not None:
        scored, _ = pack_in_order([read] * shapes.episodes, **rows)
        assert laid_out(bench.place(scored.batches)) == laid_out(shapes.scored.batches)


def test_more_devices_hold_less_each():
    """Eight times as many shards, an eighth of the bytes; counters apart."""
    whole = shapes_of("mesh.data=8", "mesh.fsdp=1", "mesh.tensor=1")
    shared = shapes_of("mesh.fsdp=8", "mesh.tensor=1")
    matrices = [leaf for leaf in jax.tree.leaves(whole.params) if leaf.ndim > 2]
    divided = [leaf for leaf in jax.tree.leaves(shared.params) if leaf.ndim > 2]
    assert bytes_per_device(matrices) == 8 * bytes_per_device(divided)


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
        resolve(dataclasses.replace(RUN, **change), parse_devices("cpu-8"))


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


def of_name(items) -> dict[str, int]:
    return {item.name: item.bytes for item in items}


ONE = RunConfig(
    policy=PolicyConfig(preset="qwen2.5-0.5b"),
    rollout=RolloutConfig(slots=4, max_tokens=100, tasks_per_step=1, attempts_per_task=2),
    train=TrainConfig(rows_per_batch=1, episodes_per_update=2),
)
"""One device; one update of two batches of a row."""
on_one = functools.partial(shapes_of, run=ONE, devices="cpu-1")
PARAMETERS = 4_067_072
"""Of `WIDTHS`: 4 x (256 x (256 + 64 + 64 + 256 + 3 x 768) + 256 + 2 x 64 + 2 x 256), 2 x 2,048 x 256, 256."""


def test_adapters_by_hand():
    """Rank 8 of q and v, 256 wide, to 256 and 64: 4 x 8 x (2 x 256 + 256 + 64) numbers. What is under them is
    frozen, is the reference too, and is copied to add them before it is sampled."""
    shapes = on_one("lora.rank=8", 'lora.targets=["q","v"]', "algorithm.kl=k3", "algorithm.kl_coefficient=1")
    stays, numbers = of_name(plan_bytes.resident(shapes)), 4 * 8 * (2 * 256 + 256 + 64)
    assert stays["parameters"] == 4 * PARAMETERS
    assert stays["adapters"] == 4 * numbers
    assert stays["optimizer"] == 2 * 4 * numbers + 2 * 4  # and two counters
    assert "reference policy" not in stays
    learning = of_name(plan_bytes.learning(shapes))
    assert learning["gradients"] == 2 * 4 * numbers  # one batch's and the sum
    assert learning["matrices with adapters"] == 2 * 4 * 4 * (256 * 256 + 256 * 64)
    assert of_name(plan_bytes.sampling(shapes))["parameters, merged"] == 4 * PARAMETERS
    assert of_name(plan_bytes.sampling(shapes))["parameters to sample"] == 0


def test_a_reference_and_a_critic_by_hand():
    shapes = on_one(*CRITIC)
    stays = of_name(plan_bytes.resident(shapes))
    assert stays["reference policy"] == 4 * PARAMETERS
    assert stays["critic"] == 4 * 256
    assert stays["optimizer"] == 2 * 4 * (PARAMETERS + 256) + 2 * 4
    # Two rows of 100 tokens, fields of 4 B. Of each token the learner says three things, the reference two.
    assert of_name(plan_bytes.scoring(shapes))["batches"] == 2 * 100 * (6 + 5) * 4
    assert of_name(plan_bytes.learning(shapes))["batches"] == 2 * 100 * (6 + 4) * 4


@pytest.mark.parametrize(
    ("optimizer", "numbers"),
    [
        ("adamw", 2 * PARAMETERS),
        ("lion", PARAMETERS),
        ("muon", PARAMETERS + 2 * 2048 * 256 + 9 * 256 + 4 * (256 + 2 * 64)),
    ],
)
def test_moments_by_hand(optimizer, numbers):
    """Muon has second moments of the embedding, the head, gains and biases alone."""
    shapes = on_one(f"train.optimizer={optimizer}")
    counters = of_name(plan_bytes.resident(shapes))["optimizer"] - 4 * numbers
    assert 4 <= counters <= 10 * 4


def test_narrow_parameters_have_a_wide_sum():
    """Gradients of two batches: one batch's in bfloat16, and their sum in float32. Of one batch: no sum."""
    narrow = ["policy.param_dtype=bfloat16", "policy.compute_dtype=bfloat16"]
    assert of_name(plan_bytes.learning(on_one(*narrow)))["gradients"] == (2 + 4) * PARAMETERS
    one_batch = on_one(*narrow, "train.rows_per_batch=2")
    assert of_name(plan_bytes.learning(one_batch))["gradients"] == 2 * PARAMETERS


def test_cudnn_takes_the_mask_of_packed_rows_as_an_array():
    """2 B a pair of positions, and as much for its gradient. A TPU's kernel takes the segments' numbers."""
    long = ["policy.compute_dtype=bfloat16", "rollout.max_tokens=1000"]
    on_gpu, on_tpu = (
        of_name(plan_bytes.learning(on_one(*long, devices=devices))) for devices in ("h100-1", "v5p-2")
    )
    assert (on_gpu["attention mask"], on_tpu["attention mask"]) == (2 * 2 * 1000**2, 0)


def test_a_step_sampled_ahead_needs_a_copy_and_room_beside_learning():
    run = dataclasses.replace(ONE, policy=PolicyConfig(preset="nano"))
    plan, ahead = (
        make_plan(apply_overrides(run, [f"train.max_off_policy_steps={steps}"]), "cpu-1") for steps in (0, 1)
    )
    [parameters, *_] = plan.resident
    assert of_name(plan.sampling)["parameters to sample"] == 0
    assert of_name(ahead.sampling)["parameters to sample"] == parameters.bytes
    stays, sampling = (sum(of_name(items).values()) for items in (ahead.resident, ahead.sampling))
    learning = max(sum(of_name(items).values()) for items in ahead.learning.values())
    assert ahead.peak_bytes == stays + learning + sampling
    assert "the next step is sampled meanwhile" in render(ahead)


def test_each_process_samples_on_its_own_devices():
    """v5p-64: eight machines of four chips, which share the slots. Where no mesh to sample is named, it has
    the learner's tensor axis."""
    run = dataclasses.replace(
        RUN,
        policy=dataclasses.replace(RUN.policy, preset="qwen2.5-7b"),
        rollout=dataclasses.replace(RUN.rollout, slots=64),
        train=dataclasses.replace(RUN.train, rows_per_batch=32),
        mesh=MeshConfig(data=1, fsdp=8, tensor=4),
    )
    shapes = resolve(run, parse_devices("v5p-64"))
    assert (shapes.processes, shapes.slots, shapes.sampling_mesh.axis_sizes) == (8, 8, (1, 1, 4))
    with pytest.raises(ConfigError, match=r"sampling_mesh: .*, but there are 4 devices"):
        resolve(apply_overrides(run, ["mesh.fsdp=4", "mesh.tensor=8"]), parse_devices("v5p-64"))
    with pytest.raises(ConfigError, match="x 8 processes = 1 x 1 x 8 = 8, got 20"):
        resolve(apply_overrides(run, ["rollout.slots=20"]), parse_devices("v5p-64"))


def test_the_verdict_is_about_the_peak_and_the_headroom():
    plan = make_plan(RUN, "h100-8")
    stays, sampling = (sum(item.bytes for item in items) for items in (plan.resident, plan.sampling))
    learning = [sum(item.bytes for item in items) for items in plan.learning.values()]
    assert plan.peak_bytes == stays + max(*learning, sampling)
    assert plan.fits == (plan.peak_bytes <= (1 - HEADROOM) * 80e9)
