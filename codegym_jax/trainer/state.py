"""What training carries from one update to the next."""

import hashlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax


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
    sharded. All shards must be addressable from this process.
    """
    leaves: list[tuple[Any, Any]] = jax.tree_util.tree_leaves_with_path(params)
    digest = hashlib.sha256()
    for name, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in leaves):
        array = np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
