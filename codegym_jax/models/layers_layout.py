"""The two trees that hold the same parameters: a subtree for each layer, or all layers stacked for a loop.

    unrolled: {"blocks_0": {"q": [D, NH], ...}, "blocks_1": ..., "norm": ...}
    stacked:  {"blocks":   {"q": [L, D, NH], ...},               "norm": ...}

Works on arrays, inside and outside of `jit`, and on `jax.ShapeDtypeStruct`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

STACKED = "blocks"


def block_name(layer: int) -> str:
    """The unrolled tree's name of a layer."""
    return f"{STACKED}_{layer}"


def is_stacked(params: Mapping[str, Any]) -> bool:
    """True for the tree of a scanned model."""
    return STACKED in params


def layer_count(params: Mapping[str, Any]) -> int:
    """Layers of either tree."""
    if is_stacked(params):
        return jax.tree.leaves(params[STACKED])[0].shape[0]
    return sum(name.startswith(STACKED + "_") for name in params)


def stack(params: Mapping[str, Any]) -> dict[str, Any]:
    """Unrolled to stacked; a stacked tree stays as it is."""
    if is_stacked(params):
        return dict(params)
    names = [block_name(layer) for layer in range(layer_count(params))]
    stacked = jax.tree.map(lambda *leaves: _stack(leaves), *(params[name] for name in names))
    return {name: leaf for name, leaf in params.items() if name not in names} | {STACKED: stacked}


def unstack(params: Mapping[str, Any]) -> dict[str, Any]:
    """Stacked to unrolled; an unrolled tree stays as it is."""
    if not is_stacked(params):
        return dict(params)
    layers = {block_name(layer): take(params[STACKED], layer) for layer in range(layer_count(params))}
    return {name: leaf for name, leaf in params.items() if name != STACKED} | layers


def take(stacked: Mapping[str, Any], layer: int) -> Any:
    """One layer's parameters out of a stack of all."""
    return jax.tree.map(lambda leaf: _take(leaf, layer), stacked)


def _stack(leaves: tuple[Any, ...]) -> Any:
    if isinstance(leaves[0], jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct((len(leaves), *leaves[0].shape), leaves[0].dtype)
    return jnp.stack(leaves)


def _take(leaf: Any, layer: int) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
        return jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype)
    return leaf[layer]
