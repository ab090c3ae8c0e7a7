"""Tiny models of every architecture that checkpoints describe, with parameters of any bits."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh

from codegym_jax.models import sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer

VOCABULARY = 48


def tiny_config(**changes: Any) -> ModelConfig:
    """No two axes are equal, so that a wrong transposition shows as a wrong shape."""
    shape = dict(width=32, layers=2, query_heads=4, kv_heads=2, head_width=10, ffn_width=24)
    return ModelConfig(**(shape | dict(vocabulary=VOCABULARY, max_positions=64) | changes))


ARCHITECTURES = {
    "llama": tiny_config(),
    "llama-untied": tiny_config(tied_head=False),
    "qwen2": tiny_config(qkv_bias=True),
    "qwen3-untied": tiny_config(qk_norm=True, tied_head=False),
}


def policy(config: ModelConfig, **compute: Any) -> Transformer:
    return Transformer(config, VOCABULARY, Compute(**compute))


def one_device() -> Mesh:
    return sharding.make_mesh(1, 1, 1, devices=jax.devices()[:1])


def any_bits(model: Transformer, seed: int = 0) -> Any:
    """Parameters whose bytes are random: NaNs of every payload and denormal numbers among them."""
    shapes = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    rng = np.random.default_rng(seed)

    def draw(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        bits = rng.integers(0, 256, (*leaf.shape, leaf.dtype.itemsize), np.uint8)
        return bits.view(leaf.dtype)[..., 0]

    return jax.tree.map(draw, shapes["params"])


def numbers(model: Transformer, seed: int = 0) -> Any:
    """Parameters that are exact in every type of float: eighths from -8 to 8."""
    shapes = nn.meta.unbox(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 1), jnp.int32)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: (rng.integers(-64, 65, leaf.shape) / 8).astype(leaf.dtype), shapes["params"]
    )


def assert_same_bits(expected: Any, got: Any) -> None:
    """Same tree, types and bytes; a NaN equals itself."""

    def same(a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert a.tobytes() == b.tobytes()

    jax.tree.map(same, expected, got)


BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
