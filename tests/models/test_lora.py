"""Adapters start as nothing, act as their product, learn alone, and lie as their matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from codegym_jax.models import layers_layout, lora, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer

CONFIG = ModelConfig(width=16, layers=2, query_heads=2, kv_heads=1, head_width=8, ffn_width=32)
MODEL = Transformer(CONFIG, 32)
MESH = sharding.make_mesh(2, 2, 2)
RANK, ALPHA = 3, 6.0
MIXED = ("q", "v", "down")


def parameters(dtype="float32"):
    """Unrolled parameters of normal numbers, also where the model would begin with zeros or ones."""
    shapes = sharding.parameter_shapes(Transformer(CONFIG, 32, Compute(param_dtype=dtype)), MESH)
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.standard_normal(leaf.shape), leaf.dtype), shapes)


def adapters(params, *, targets=lora.MATRICES, key=0):
    return lora.init(params, rank=RANK, targets=targets, key=jax.random.key(key))


def trained(tree):
    """Adapters as after some learning: B is no longer zero."""
    return jax.tree.map(lambda leaf: leaf + 0.1 * jnp.cos(jnp.arange(leaf.size)).reshape(leaf.shape), tree)


def apart(stacked):
    """Adapters of a stack, layer by layer."""
    return {
        layers_layout.block_name(layer): layers_layout.take(stacked["blocks"], layer)
        for layer in range(CONFIG.layers)
    }


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("layout", [dict, layers_layout.stack], ids=["unrolled", "stacked"])
def test_fresh_adapters_change_no_byte(layout, dtype):
    params = layout(parameters(dtype))
    merged = lora.merge(params, adapters(params), alpha=ALPHA)
    jax.tree.map(np.testing.assert_array_equal, merged, params)
    assert {leaf.dtype for leaf in jax.tree.leaves(merged)} == {jnp.dtype(dtype)}


def test_a_merged_matrix_is_the_matrix_plus_the_scaled_product():
    params = parameters()
    pairs = trained(adapters(params, targets=MIXED))
    merged = lora.merge(params, pairs, alpha=ALPHA)
    for block, matrices in pairs.items():
        for name in lora.MATRICES:
            expected = np.asarray(params[block][name], np.float64)
            if name in MIXED:
                a, b = (np.asarray(matrices[name][side], np.float64) for side in "ab")
                expected = expected + ALPHA / RANK * a @ b
            np.testing.assert_allclose(merged[block][name], expected, atol=1e-5, err_msg=name)
    same = [name for name in params if not name.startswith("blocks")] + ["attention_norm"]
    for name in same:
        of = (merged["blocks_1"], params["blocks_1"]) if name == "attention_norm" else (merged, params)
        jax.tree.map(np.testing.assert_array_equal, of[0][name], of[1][name])


def test_both_layouts_hold_the_same_numbers():
    """And a target's adapters are the same whatever else is a target."""
    params = parameters()
    stacked = layers_layout.stack(params)
    fresh, fresh_stacked, few = adapters(params), adapters(stacked), adapters(params, targets=MIXED)
    for block, pairs in apart(fresh_stacked).items():
        jax.tree.map(np.testing.assert_array_equal, pairs, fresh[block])
        jax.tree.map(np.testing.assert_array_equal, few[block], {name: pairs[name] for name in MIXED})
    assert not np.array_equal(fresh["blocks_0"]["q"]["a"], fresh["blocks_1"]["q"]["a"])
    assert not np.array_equal(fresh["blocks_0"]["gate"]["a"], fresh["blocks_0"]["up"]["a"])

    pairs = trained(fresh_stacked)
    merged = layers_layout.unstack(lora.merge(stacked, pairs, alpha=ALPHA))
    expected = lora.merge(params, apart(pairs), alpha=ALPHA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), merged, expected)


def test_a_narrow_random_half_and_nothing_else_is_saved():
    """rank (rows + columns) numbers a matrix; A has deviation 1 / sqrt(rows), B is zero."""
    params = parameters()
    pairs = adapters(params)
    expected = sum(RANK * sum(params[block][name].shape) for block in pairs for name in lora.MATRICES)
    assert sum(leaf.size for leaf in jax.tree.leaves(pairs)) == expected
    wide = lora.init({"blocks_0": {"q": jnp.zeros((400, 8))}}, rank=64, targets=["q"], key=jax.random.key(0))
    np.testing.assert_allclose(np.std(wide["blocks_0"]["q"]["a"]), 400**-0.5, rtol=0.02)
    assert not wide["blocks_0"]["q"]["b"].any()


def test_gradients_of_a_product():
    """With s = alpha / rank and C the matrix's: s C B^T for A, which is 0 at first, and s A^T C for B."""
    params = {"blocks_0": {"q": jnp.ones((6, 4))}}
    pairs = lora.init(params, rank=RANK, targets=["q"], key=jax.random.key(0))
    c = jnp.sin(jnp.arange(24.0)).reshape(6, 4)

    def loss(pairs):
        return (lora.merge(params, pairs, alpha=ALPHA)["blocks_0"]["q"] * c).sum()

    for tree in (pairs, trained(pairs)):
        a, b = (tree["blocks_0"]["q"][side] for side in "ab")
        got = jax.grad(loss)(tree)["blocks_0"]["q"]
        np.testing.assert_allclose(got["a"], ALPHA / RANK * c @ b.T, atol=1e-5)
        np.testing.assert_allclose(got["b"], ALPHA / RANK * a.T @ c, atol=1e-5)


@pytest.mark.parametrize("layout", [dict, layers_layout.stack], ids=["unrolled", "stacked"])
def test_on_a_mesh_adapters_lie_as_their_matrices(layout):
    """A's rows with those of its matrix, B's columns with its columns; what is merged stays in place."""
    stacked = layout is layers_layout.stack
    model = Transformer(CONFIG, 32, Compute(scan_layers=stacked))
    places = sharding.parameter_shardings(model, MESH)
    params = layout(parameters())
    of_adapters = lora.shardings(places, targets=lora.MATRICES)
    pairs = trained(adapters(params))
    block, front = ("blocks", (None,)) if stacked else ("blocks_1", ())
    assert of_adapters[block]["gate"]["a"].spec == PartitionSpec(*front, "fsdp", None)
    assert of_adapters[block]["gate"]["b"].spec == PartitionSpec(*front, None, "tensor")
    merge = jax.jit(lambda params, pairs: lora.merge(params, pairs, alpha=ALPHA))
    placed = jax.device_put((params, pairs), (places, of_adapters))
    program = merge.lower(*placed).compile()
    merged, expected = program(*placed), lora.merge(params, pairs, alpha=ALPHA)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), merged, expected)
    assert merged[block]["gate"].sharding.is_equivalent_to(places[block]["gate"], 3 if stacked else 2)
    assert "all-gather" not in program.as_text() and "all-reduce" not in program.as_text()


@pytest.mark.parametrize("targets", [("q", "embedding"), ()])
def test_impossible_adapters_are_refused(targets):
    params = parameters()
    with pytest.raises(ValueError, match="adapters go to q, k, v"):
        lora.init(params, rank=1, targets=targets, key=jax.random.key(0))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        lora.init(params, rank=0, targets=["q"], key=jax.random.key(0))
