"""How far two policies differ on the tokens that one of them chose."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from codegym_jax.algorithms.segments import mean_over_episode

MAX_LOG_RATIO = 20.0
"""Past e^20 a ratio is a sign of broken inputs; bounding it keeps the loss and its gradient finite."""


def token_log_ratio(
    logp_BT: Float[Array, "B T"], base_logp_BT: Float[Array, "B T"], is_policy_BT: Float[Array, "B T"]
) -> Float[Array, "B T"]:
    """The log of the ratio of two probabilities of each token, in nats.

        l = clip(logp - base_logp, -20, 20)

    Args:
      logp_BT: of the policy above the fraction line; its gradient is 1, and 0 past the bound.
      base_logp_BT: of the one below.
      is_policy_BT: 1 for the policy's own tokens. What the others hold is ignored, NaN included: they get 0.
    """
    log_ratio_BT = jnp.where(is_policy_BT > 0.0, logp_BT - base_logp_BT, 0.0)
    return jnp.clip(log_ratio_BT, -MAX_LOG_RATIO, MAX_LOG_RATIO)


def episode_log_ratio(
    logp_BT: Float[Array, "B T"],
    base_logp_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    segment_BT: Int[Array, "B T"],
) -> Float[Array, "B T"]:
    """The log of an episode's length-normalized ratio, at each of its tokens, in nats a token.

    The value is the mean of `token_log_ratio` over the policy tokens M of the episode, so its exponential is
    the geometric mean of their ratios; the gradient at a token is that of its own log-probability, whatever
    the others do (sg: stop gradient):

        l[t] = sg[mean_{u in M} token_log_ratio[u]] + logp[t] - sg[logp[t]]

    Args:
      logp_BT: of the policy above the fraction line.
      base_logp_BT: of the one below.
      is_policy_BT: 1 for the policy's own tokens; the others get 0, whatever they hold.
      segment_BT: number of the episode within its row, 0 for padding.

    Source: GSPO-token, Zheng et al. 2025, https://arxiv.org/abs/2507.18071, equations 7 and 14.
    """
    token_BT = token_log_ratio(logp_BT, base_logp_BT, is_policy_BT)
    mean_BT = jax.lax.stop_gradient(mean_over_episode(token_BT, is_policy_BT, segment_BT))
    own_BT = jnp.where(is_policy_BT > 0.0, logp_BT, 0.0)
    return jnp.where(is_policy_BT > 0.0, mean_BT, 0.0) + own_BT - jax.lax.stop_gradient(own_BT)
