"""Sharded equals unsharded, any layout holds the same numbers, and the one table places every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from codegym_jax.models import sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer

VOCABULARY = 64
SHAPE = {"width": 32, "layers": 2, "query_heads": 4, "head_width": 8, "ffn_width": 64}
LLAMA = ModelConfig(**SHAPE, kv_heads=1)
QWEN2 = ModelConfig(**SHAPE, kv_heads=2, qkv_bias=True, tied_head=False)
QWEN3 = ModelConfig(**SHAPE, kv_heads=2, qk_norm=True)
MESHES = [{"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 4, "tensor": 2}]
TOKENS_BT = jax.random.randint(jax.random.key(1), (8, 16), 0, VOCABULARY, jnp.int32)


def parameters(config, compute=None, **axes):
    model = Transformer(config, VOCABULARY, compute or Compute())
    count = int(np.prod(list(axes.values())))
    mesh = sharding.make_mesh(**axes, devices=jax.devices()[:count])
    return model, mesh, sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))


def logits(model, params, tokens_BT):
    return jax.jit(lambda params, tokens: model.apply({"params": params}, tokens))(params, tokens_BT)


@pytest.mark.parametrize(
    ("config", "compute"),
    [(LLAMA, Compute()), (QWEN2, Compute()), (QWEN3, Compute(scan_layers=True))],
    ids=["llama", "qwen2", "qwen3"],
)
def test_sharded_equals_unsharded(config, compute):
    """Same initial numbers and same logits on eight devices as on one."""
    model, _, one = parameters(config, compute, data=1, fsdp=1, tensor=1)
    expected = logits(model, one, TOKENS_BT)
    for axes in MESHES:
        _, mesh, many = parameters(config, compute, **axes)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(many))
        got = logits(model, many, jax.device_put(TOKENS_BT, sharding.place(mesh, "rows")))
        np.testing.assert_allclose(got, expected, atol=1e-5, err_msg=str(axes))


@pytest.mark.parametrize("axes", [MESHES[0], {"data": 1, "fsdp": 8, "tensor": 1}])
def test_sharded_gradients_equal_unsharded(axes):
    def loss(params, tokens):
        return jax.nn.logsumexp(model.apply({"params": params}, tokens), axis=-1).mean()

    model, _, one = parameters(LLAMA, data=1, fsdp=1, tensor=1)
    _, mesh, many = parameters(LLAMA, **axes)
    sharded_BT = jax.device_put(TOKENS_BT, sharding.place(mesh, "rows"))
    expected, got = (jax.jit(jax.grad(loss))(p, t) for p, t in ((one, TOKENS_BT), (many, sharded_BT)))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *jax.device_get((expected, got)))


def test_no_device_sees_the_rows_of_others():
    """Width is divided over fsdp in the parameters; the activations keep their rows apart all the same."""
    _, mesh, params = parameters(QWEN2, data=1, fsdp=4, tensor=2)
    model = Transformer(QWEN2, VOCABULARY)
    rows_BT = jax.device_put(TOKENS_BT, sharding.place(mesh, "rows"))
    program = jax.jit(lambda p, t: model.apply({"params": p}, t, method="hidden")).lower(params, rows_BT)
    text = program.compile().as_text()
    assert "f32[2,16,32]" in text, "8 rows over 4 devices"
    assert "f32[8,16,32]" not in text, "all 8 rows on one device"


def test_parameters_are_divided_as_the_table_says():
    _, _, params = parameters(LLAMA, data=2, fsdp=2, tensor=2)
    gate = params["blocks_0"]["gate"]
    assert gate.shape == (32, 64)
    assert gate.addressable_shards[0].data.shape == (16, 32), "embed over fsdp, ffn over tensor"
    assert params["blocks_0"]["k"].addressable_shards[0].data.shape == (16, 8), (
        "one key-value head stays whole"
    )
    assert params["norm"]["scale"].sharding.is_fully_replicated


def test_key_value_heads_are_divided_where_they_can_be():
    mesh = sharding.make_abstract_mesh(2, 2, 2, 8)
    shapes = sharding.parameter_shapes(Transformer(QWEN2, VOCABULARY), mesh)
    assert shapes["blocks_0"]["k"].sharding.shard_shape((32, 16)) == (16, 8)
    assert shapes["blocks_0"]["k_bias"].sharding.shard_shape((16,)) == (8,)
    assert sharding.cache_sharding(mesh, kv_heads=2).spec == PartitionSpec(("data", "fsdp"), "tensor")
    assert sharding.cache_sharding(mesh, kv_heads=3).spec == PartitionSpec(("data", "fsdp"), None)


@pytest.mark.parametrize("scan_layers", [False, True])
def test_another_layout_holds_the_same_numbers(scan_layers):
    model, _, params = parameters(QWEN2, Compute(scan_layers=scan_layers), data=1, fsdp=8, tensor=1)
    expected = jax.device_get(params)
    for axes in ((4, 1, 2), (2, 2, 2), (1, 8, 1)):
        shardings = sharding.parameter_shardings(model, sharding.make_mesh(*axes))
        moved = sharding.reshard(params, shardings)
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(moved), expected)
        assert jax.tree.all(jax.tree.map(lambda leaf, wanted: leaf.sharding == wanted, moved, shardings))
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(params), expected)  # still there


def test_a_narrow_copy_computes_the_same_bits():
    """The model casts where it uses, so casting beforehand changes no logit."""
    compute = Compute(compute_dtype="bfloat16")
    model, mesh, params = parameters(QWEN3, compute, data=1, fsdp=1, tensor=1)
    narrowed = sharding.narrowed(params, "bfloat16")
    copy = sharding.reshard(narrowed, sharding.parameter_shardings(model, mesh))
    assert {leaf.dtype for leaf in jax.tree.leaves(copy)} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(logits(model, copy, TOKENS_BT), logits(model, params, TOKENS_BT))


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="= 3, but there are 8 devices"):
        sharding.make_mesh(data=3)
    with pytest.raises(ValueError, match="only one axis may be -1"):
        sharding.make_mesh(data=-1, fsdp=-1)
    with pytest.raises(ValueError, match="= 0, but there are 4 devices"):
        sharding.make_abstract_mesh(-1, 8, 1, device_count=4)
