"""The loss of a critic, and how much it explains."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def clipped_square_error(
    value_BT: Float[Array, "B T"],
    old_value_BT: Float[Array, "B T"],
    return_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    *,
    clip: float,
) -> tuple[Float[Array, "B T"], Bool[Array, "B T"]]:
    """The square error of a value that earns nothing for moving far in one step.

        error = max((v - R)^2, (v_old + clip(v - v_old, -clip, clip) - R)^2)

    Args:
      value_BT: of the critic that learns, in reward units; the only input with a gradient.
      old_value_BT: of the critic before the step's first update.
      return_BT: what it should have said.
      is_policy_BT: 1 for the policy's own tokens; the others are ignored, NaN included, and get 0.
      clip: how far a value may move before it earns nothing more, in reward units; 0: any distance.

    Returns:
      The error at each token, and where the bound decided.

    Source: Engstrom et al. 2020, Implementation Matters in Deep Policy Gradients,
    https://arxiv.org/abs/2005.12729, section 3 ("Value function clipping").
    """
    takes_part_BT = is_policy_BT > 0.0
    value_BT, old_value_BT, return_BT = (
        jnp.where(takes_part_BT, array_BT, 0.0) for array_BT in (value_BT, old_value_BT, return_BT)
    )
    free_BT = jnp.square(value_BT - return_BT)
    if not clip:
        return free_BT, jnp.zeros(free_BT.shape, bool)
    near_BT = old_value_BT + jnp.clip(value_BT - old_value_BT, -clip, clip)
    bounded_BT = jnp.square(near_BT - return_BT)
    return jnp.maximum(free_BT, bounded_BT), bounded_BT > free_BT


def explained_variance(
    value_BT: Float[Array, "B T"], return_BT: Float[Array, "B T"], is_policy_BT: Float[Array, "B T"]
) -> Array:
    """The share of the returns' variance that the critic foresaw, over policy tokens.

        1 - Var(R - V) / Var(R)

    1 is perfect, 0 no better than a constant, below 0 worse. A ratio of means, so it does not add up over
    batches: compute it over all tokens of a step.

    Args:
      value_BT: of the critic before the step's first update, in reward units.
      return_BT: what it should have said.
      is_policy_BT: 1 for the policy's own tokens; the others are ignored, NaN included.

    Returns:
      0 where all returns are the same.
    """
    count = jnp.maximum(is_policy_BT.sum(), 1.0)

    def variance(values_BT: Array) -> Array:
        values_BT = jnp.where(is_policy_BT > 0.0, values_BT, 0.0)
        centered_BT = jnp.where(is_policy_BT > 0.0, values_BT - values_BT.sum() / count, 0.0)
        return jnp.square(centered_BT).sum() / count

    of_returns = variance(return_BT)
    unexplained = variance(return_BT - value_BT) / jnp.where(of_returns > 0.0, of_returns, 1.0)
    return jnp.where(of_returns > 0.0, 1.0 - unexplained, 0.0)
