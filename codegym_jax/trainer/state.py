"""What training carries from one update to the next."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils


class TrainState(NamedTuple):
    """A pytree, donated to each update: keep no reference to an older one or to its arrays."""

    step: jax.Array
    """Updates made so far; int32."""
    params: optax.Params
    opt_state: optax.OptState


def init_state(params: optax.Params, optimizer: optax.GradientTransformation) -> TrainState:
    """The state before the first update. It owns `params`, which the first update donates."""
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def params_hash(params: optax.Params) -> str:
    """The sha256, in hex, of every leaf's path, type, shape and bytes, in the order of the paths.

    Two trees hash alike exactly when they hold the same numbers under the same names, however they are
    sharded. Of several processes each must call this.
    """
    leaves: list[tuple[Any, Any]] = jax.tree_util.tree_leaves_with_path(params)
    digest = hashlib.sha256()
    for name, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in leaves):
        array = on_host(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def on_host(leaf: jax.Array | np.ndarray) -> np.ndarray:
    """The whole array, also where a part lies with other processes: then each of them must call this."""
    if isinstance(leaf, np.ndarray) or leaf.is_fully_addressable or leaf.is_fully_replicated:
        return np.asarray(leaf)
    return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
