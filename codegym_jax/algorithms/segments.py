"""Means over the episodes of packed rows.

Several episodes may stand behind one another in a row. `segment_BT` numbers them from 1 within their row; 0
is padding. Nothing here depends on where in a row, or in which row, an episode stands.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def mean_over_episode(
    values_BT: Float[Array, "B T"], is_policy_BT: Float[Array, "B T"], segment_BT: Int[Array, "B T"]
) -> Float[Array, "B T"]:
    """Each token's value replaced by the mean over the policy tokens of its episode.

    With M(b, t) the policy tokens of row b in the episode of token t:

        mean[b, t] = sum_{u in M(b, t)} values[b, u] / |M(b, t)|

    Args:
      values_BT: anything; only policy tokens are read.
      is_policy_BT: 1 for the policy's own tokens, else 0.
      segment_BT: number of the episode within its row, at most T; 0 for padding.

    Returns:
      The mean at every token of the episode; 0 where the episode has no policy token.
    """
    segment_count = segment_BT.shape[1] + 1

    def total(values_T: Array, segment_T: Array) -> Array:
        return jax.ops.segment_sum(values_T, segment_T, segment_count)[segment_T]

    total_BT = jax.vmap(total)(jnp.where(is_policy_BT > 0.0, values_BT, 0.0), segment_BT)
    count_BT = jax.vmap(total)(is_policy_BT, segment_BT)
    return total_BT / jnp.maximum(count_BT, 1.0)
