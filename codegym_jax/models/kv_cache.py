"""The key-value cache: static shapes, per-row lengths, writes that never clamp."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from codegym_jax.models.presets import ModelConfig


class KVCache(NamedTuple):
    """Keys (already rotated) and values of every layer; cache slot c of row b holds position c."""

    keys: tuple[Float[Array, "B K C H"], ...]
    values: tuple[Float[Array, "B K C H"], ...]


def empty(config: ModelConfig, rows: int, slots: int, dtype: Any = jnp.float32) -> KVCache:
    """A cache of zeros for `rows` sequences of at most `slots` positions, in the model's compute type."""
    shape = (rows, config.kv_heads, slots, config.head_width)
    return KVCache(
        keys=tuple(jnp.zeros(shape, dtype) for _ in range(config.layers)),
        values=tuple(jnp.zeros(shape, dtype) for _ in range(config.layers)),
    )


def write(
    cache_BKCH: Float[Array, "B K C H"],
    entries_BKTH: Float[Array, "B K T H"],
    positions_BT: Int[Array, "B T"],
) -> Float[Array, "B K C H"]:
    """Writes each entry at its row's position; positions outside [0, C) are dropped.

    `dynamic_update_slice` would clamp such positions and overwrite live entries.
    """
    rows_B1 = jnp.arange(positions_BT.shape[0])[:, None]
    return cache_BKCH.at[rows_B1, :, positions_BT].set(entries_BKTH.swapaxes(1, 2), mode="drop")


def take_rows(cache: KVCache, rows_R: Int[Array, " R"]) -> KVCache:
    """The cache of some rows; out-of-range rows read as zeros."""
    return jax.tree.map(lambda leaf: leaf.at[rows_R].get(mode="fill", fill_value=0), cache)


def put_rows(cache: KVCache, rows_R: Int[Array, " R"], part: KVCache) -> KVCache:
    """Writes back what `take_rows` took; out-of-range rows are dropped."""
    return jax.tree.map(lambda leaf, new: leaf.at[rows_R].set(new, mode="drop"), cache, part)
