"""Reductions over the entries that a mask admits; what stands elsewhere never matters, NaN included."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def sum_over_attempts(values_PG: Float[Array, "P G"], valid_PG: Bool[Array, "P G"]) -> Float[Array, "P 1"]:
    """The sum over a task's valid attempts; 0 where it has none."""
    return jnp.where(valid_PG, values_PG, 0.0).sum(axis=1, keepdims=True)


def sum_over_tokens(values_BT: Float[Array, "B T"], mask_BT: Float[Array, "B T"]) -> Array:
    """The sum over the tokens whose mask is not 0, each weighted by its mask.

    A masked value is replaced before it is multiplied, so that neither it nor its gradient can turn
    the sum into NaN.
    """
    return (jnp.where(mask_BT > 0.0, values_BT, 0.0) * mask_BT).sum()


def max_over_tokens(values_BT: Float[Array, "B T"], mask_BT: Float[Array, "B T"]) -> Array:
    """The largest value where the mask is not 0; 0 where there is none or all are negative."""
    return jnp.where(mask_BT > 0.0, values_BT, 0.0).max()
