"""The two trees hold the same parameters, and the two models compute the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from codegym_jax.models import kv_cache, layers_layout
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.trainer.optimizer import decays

VOCABULARY = 23
CONFIG = ModelConfig(
    width=16,
    layers=3,
    query_heads=4,
    kv_heads=2,
    head_width=4,
    ffn_width=24,
    qkv_bias=True,
    qk_norm=True,
    tied_head=False,
    token_shift=True,
)


@pytest.fixture(scope="module")
def params():
    """Unrolled parameters, no two layers alike; biases and norms too are random."""
    shapes = jax.eval_shape(Transformer(CONFIG, VOCABULARY).init, jax.random.key(0), tokens())
    leaves, structure = jax.tree.flatten(nn.meta.unbox(shapes)["params"])
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return structure.unflatten(
        [jax.random.normal(key, leaf.shape) * 0.3 for key, leaf in zip(keys, leaves, strict=True)]
    )


def tokens():
    return jax.random.randint(jax.random.key(2), (2, 9), 0, VOCABULARY, jnp.int32)


def model(scan_layers: bool) -> Transformer:
    return Transformer(CONFIG, VOCABULARY, Compute(scan_layers=scan_layers))


def test_unstack_undoes_stack(params):
    stacked = jax.jit(layers_layout.stack)(params)
    assert layers_layout.is_stacked(stacked) and not layers_layout.is_stacked(params)
    assert layers_layout.layer_count(stacked) == layers_layout.layer_count(params) == 3
    jax.tree.map(np.testing.assert_array_equal, jax.jit(layers_layout.unstack)(stacked), params)
    jax.tree.map(np.testing.assert_array_equal, layers_layout.stack(stacked), stacked)


def test_layers_keep_their_order_past_nine():
    """Names sort as text, layers do not: blocks_10 is the eleventh."""
    params = {layers_layout.block_name(i): {"q": jnp.full((2,), i)} for i in range(12)} | {
        "norm": jnp.ones(3)
    }
    stacked = layers_layout.stack(params)
    np.testing.assert_array_equal(stacked["blocks"]["q"][:, 0], np.arange(12))
    np.testing.assert_array_equal(stacked["norm"], np.ones(3))


@pytest.mark.parametrize("scan_layers", [False, True])
def test_shapes_convert_as_arrays_do(params, scan_layers):
    """The shapes of either model's own parameters, stacked or unstacked, are those of the arrays."""
    shapes = nn.meta.unbox(jax.eval_shape(model(scan_layers).init, jax.random.key(0), tokens()))["params"]
    of = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert of(layers_layout.unstack(shapes)) == of(params)
    assert of(layers_layout.stack(shapes)) == of(layers_layout.stack(params))


def test_scanned_equals_unrolled(params):
    """Same hidden states, same gradients, same cache and appended states."""
    stacked = layers_layout.stack(params)

    def loss(params, scan_layers):
        logits_BTV = model(scan_layers).apply({"params": params}, tokens())
        return jax.nn.logsumexp(logits_BTV, axis=-1).mean(), logits_BTV

    def learn(params, scan_layers):
        return jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)(params, scan_layers)

    def append(params, scan_layers):
        cache, at_B = kv_cache.empty(CONFIG, 2, 12), jnp.array([2, 0])
        inputs = (cache, tokens(), tokens(), at_B, jnp.array([5, 9]))
        return jax.jit(lambda p: model(scan_layers).apply({"params": p}, *inputs, method="extend"))(params)

    (value, logits), gradient = learn(params, False)
    (scanned_value, scanned_logits), scanned_gradient = learn(stacked, True)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)  # noqa: E731
    close(value, scanned_value)
    close(logits, scanned_logits)
    jax.tree.map(close, gradient, layers_layout.unstack(scanned_gradient))
    jax.tree.map(close, append(params, False), append(stacked, True))


def test_a_tree_shows_its_layers_to_weight_decay(params):
    """Stacking gives gains and biases a second axis; they still do not decay, in either tree."""
    unrolled = decays(params)
    assert not any(unrolled["blocks_0"][name] for name in ("q_bias", "k_bias", "v_bias"))
    stacked = decays(layers_layout.stack(params))
    assert stacked["blocks"] == unrolled["blocks_0"]
