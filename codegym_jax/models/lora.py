"""Low-rank adapters: a matrix learns as W + (alpha / rank) A B, with A and B as narrow as the rank.

Adapters are a tree of their own, of the layers' names, in either layout of `layers_layout`:

    unrolled: {"blocks_0": {"q": {"a": [D, rank], "b": [rank, NH]}, ...}, "blocks_1": ...}
    stacked:  {"blocks":   {"q": {"a": [L, D, rank], "b": [L, rank, NH]}, ...}}

They are float32 whatever the matrices are, since they are small and their updates smaller. `merge` gives
the parameters that the model takes: differentiate through it with respect to the adapters alone.

Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from codegym_jax.models import layers_layout

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
"""The matrices of a layer, all of which can have adapters."""

Adapters = dict[str, dict[str, dict[str, Any]]]
"""Layer -> matrix -> "a" or "b" -> leaf."""


def init(params: Mapping[str, Any], *, rank: int, targets: Collection[str], key: Array) -> Adapters:
    """Adapters that change nothing yet: A normal, of deviation 1 / sqrt(rows of W), and B zero.

    A layer's numbers depend on the key, the layer and the matrix alone, not on the layout or the targets.

    Args:
      params: the model's; arrays or their shapes.
      rank: columns of A and rows of B.
      targets: which of `MATRICES`.
      key: of the normal numbers.

    Raises:
      ValueError: when the rank or a target is impossible.
    """
    if rank < 1:
        raise ValueError(f"the rank of adapters must be at least 1, got {rank}")
    unknown = sorted(set(targets) - set(MATRICES))
    if unknown or not targets:
        raise ValueError(f"adapters go to {', '.join(MATRICES)}, got {', '.join(unknown) or 'none'}")

    def pair(matrix: Any, key: Array) -> dict[str, Array]:
        rows, columns = matrix.shape[-2:]
        a = jax.random.normal(key, (rows, rank), jnp.float32) * rows**-0.5
        return {"a": a, "b": jnp.zeros((rank, columns), jnp.float32)}

    def layer(matrices: Mapping[str, Any], index: int) -> dict[str, dict[str, Array]]:
        keys = jax.random.split(jax.random.fold_in(key, index), len(MATRICES))
        return {
            name: pair(matrices[name], keys[number])
            for number, name in enumerate(MATRICES)
            if name in targets
        }

    if not layers_layout.is_stacked(params):
        names = [layers_layout.block_name(index) for index in range(layers_layout.layer_count(params))]
        return {name: layer(params[name], index) for index, name in enumerate(names)}
    layers = [layer(params[layers_layout.STACKED], i) for i in range(layers_layout.layer_count(params))]
    return {layers_layout.STACKED: jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)}


def merge(params: Mapping[str, Any], adapters: Adapters, *, alpha: float) -> dict[str, Any]:
    """The parameters with W + (alpha / rank) A B in place of each W that has adapters.

    Each leaf has the type of the one it replaces; computed in float32. Under `jit` on a mesh, a product lies
    as its matrix where the adapters lie as `shardings` says.
    """

    def merged(matrix: Array, pair: Mapping[str, Array]) -> Array:
        a, b = pair["a"], pair["b"]
        change = (alpha / a.shape[-1]) * jnp.matmul(a, b, preferred_element_type=jnp.float32)
        return (matrix.astype(jnp.float32) + change).astype(matrix.dtype)

    blocks = {
        block: {**params[block], **{name: merged(params[block][name], pair) for name, pair in pairs.items()}}
        for block, pairs in adapters.items()
    }
    return {**params, **blocks}


def shardings(
    params: PyTree[NamedSharding], *, targets: Collection[str]
) -> dict[str, dict[str, dict[str, NamedSharding]]]:
    """Where adapters live: A's rows as those of its matrix, B's columns as its columns, the rank whole.

    Args:
      params: shardings of the model's parameters, as of `sharding.parameter_shardings`.
      targets: as of `init`.
    """

    def pair(place: NamedSharding, stacked: bool) -> dict[str, NamedSharding]:
        axes = 3 if stacked else 2
        spec = (*place.spec, *[None] * axes)[:axes]
        layers, rows, columns = spec[:-2], spec[-2], spec[-1]
        return {
            "a": NamedSharding(place.mesh, PartitionSpec(*layers, rows, None)),
            "b": NamedSharding(place.mesh, PartitionSpec(*layers, None, columns)),
        }

    return {
        block: {
            name: pair(params[block][name], block == layers_layout.STACKED)
            for name in MATRICES
            if name in targets
        }
        for block in params
        if block.startswith(layers_layout.STACKED)
    }
