"""Surrogates: what a policy earns for making a token more or less likely, token by token.

A surrogate is to be *raised*. It neither sums nor averages: `objective` weighs its tokens, so the same
functions serve a mean over tokens, over episodes or over a fixed length. At a ratio of 1 all of them have the
same gradient, `advantage * d logp`: that of the policy gradient. They differ in what happens further away.

All share one signature, so that a recipe can name any of them:
`(logp_BT, old_logp_BT, advantage_BT, is_policy_BT, segment_BT, clip) -> TokenObjective`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from codegym_jax.algorithms.ratios import episode_log_ratio, token_log_ratio


class Clip(NamedTuple):
    """How far a ratio may go before moving it further earns nothing."""

    low: float
    """Below 1, in [0, 1]: no gain under 1 - low."""
    high: float
    """Above 1, at least 0: no gain over 1 + high."""
    dual: float = 0.0
    """Where the advantage is negative, the ratio past which a token is left alone; above 1 + high, such as 3.
    0: no such bound."""


class TokenObjective(NamedTuple):
    """A surrogate at each token. Off the policy's tokens the values mean nothing."""

    objective_BT: Float[Array, "B T"]
    """To be raised; in the unit of the advantage."""
    ratio_BT: Float[Array, "B T"]
    """Learner over old policy; of the token or of its episode, as the surrogate has it."""
    clipped_low_BT: Bool[Array, "B T"]
    """True where the lower bound decided."""
    clipped_high_BT: Bool[Array, "B T"]
    """True where the upper bound or the dual one decided."""


Surrogate = Callable[[Array, Array, Array, Array, Array, Clip], TokenObjective]
"""`(logp_BT, old_logp_BT, advantage_BT, is_policy_BT, segment_BT, clip) -> TokenObjective`."""


def clipped_ratio(
    logp_BT: Float[Array, "B T"],
    old_logp_BT: Float[Array, "B T"],
    advantage_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    segment_BT: Int[Array, "B T"],
    clip: Clip,
) -> TokenObjective:
    """PPO's clipped surrogate, with one ratio a token.

    With w = exp(logp - old_logp):

        objective = min(w A, clip(w, 1 - low, 1 + high) A)                 A >= 0, or no dual bound
        objective = max(min(w A, clip(w, 1 - low, 1 + high) A), dual * A)  A < 0

    The first form lets a ratio of any size weigh in where A < 0, because less likely is where it should go;
    the dual bound keeps a few tokens of a stale sampler from ruling the update.

    Args:
      logp_BT: of the policy that learns; the only input with a gradient.
      old_logp_BT: of the policy that the ratio is measured from.
      advantage_BT: how much better than expected it went from this token on.
      is_policy_BT: 1 for the policy's own tokens; the others are ignored, NaN included.
      segment_BT: not used: tokens stand alone.
      clip: the bounds.

    Source: Schulman et al. 2017, PPO, https://arxiv.org/abs/1707.06347, equation 7; separate bounds: Yu et
    al. 2025, DAPO, https://arxiv.org/abs/2503.14476, equation 8; the dual bound: Ye et al. 2020, Mastering
    Complex Control in MOBA Games, https://arxiv.org/abs/1912.09729, section "Dual-clip PPO".
    """
    del segment_BT
    return _clipped(token_log_ratio(logp_BT, old_logp_BT, is_policy_BT), advantage_BT, clip)


def episode_ratio(
    logp_BT: Float[Array, "B T"],
    old_logp_BT: Float[Array, "B T"],
    advantage_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    segment_BT: Int[Array, "B T"],
    clip: Clip,
) -> TokenObjective:
    """GSPO's surrogate: `clipped_ratio` with one ratio an episode, the geometric mean of its tokens' ratios.

    An episode's tokens are kept or left alone together. The ratio is a mean over tokens, hence its bounds
    are far narrower than those of a token: the paper's are 3e-4 below and 4e-4 above.

    Args:
      logp_BT: of the policy that learns; the only input with a gradient.
      old_logp_BT: of the policy that the ratio is measured from.
      advantage_BT: of the token; GSPO has one an episode, its token form allows more.
      is_policy_BT: 1 for the policy's own tokens; the others are ignored, NaN included.
      segment_BT: number of the episode within its row, 0 for padding.
      clip: the bounds.

    Source: Zheng et al. 2025, https://arxiv.org/abs/2507.18071, equations 5, 7, 13 and 14; with weights that
    average over episodes and equal advantages its gradient is that of equation 5.
    """
    log_ratio_BT = episode_log_ratio(logp_BT, old_logp_BT, is_policy_BT, segment_BT)
    return _clipped(log_ratio_BT, advantage_BT, clip)


def clipped_weight(
    logp_BT: Float[Array, "B T"],
    old_logp_BT: Float[Array, "B T"],
    advantage_BT: Float[Array, "B T"],
    is_policy_BT: Float[Array, "B T"],
    segment_BT: Int[Array, "B T"],
    clip: Clip,
) -> TokenObjective:
    """CISPO's surrogate: the ratio is clipped as a weight, and no token loses its gradient.

        objective = sg[clip(exp(logp - old_logp), 1 - low, 1 + high)] * A * logp

    Where `clipped_ratio` leaves a token alone, this one goes on with a bounded weight. The paper bounds
    the weight only from above; `low=1` is that.

    Args:
      logp_BT: of the policy that learns; the only input with a gradient.
      old_logp_BT: of the policy that the weight is measured from.
      advantage_BT: how much better than expected it went from this token on.
      is_policy_BT: 1 for the policy's own tokens; the others are ignored, NaN included.
      segment_BT: not used: tokens stand alone.
      clip: the bounds of the weight.

    Raises:
      ValueError: when a dual bound is given: there is no unbounded weight that it could bound.

    Source: MiniMax 2025, MiniMax-M1, https://arxiv.org/abs/2506.13585, section 3.1 (equations 4 and 5).
    """
    del segment_BT
    if clip.dual:
        raise ValueError(f"a clipped weight has no dual bound; it must be 0, got {clip.dual}")
    ratio_BT = jnp.exp(token_log_ratio(logp_BT, old_logp_BT, is_policy_BT))
    weight_BT = jax.lax.stop_gradient(jnp.clip(ratio_BT, 1.0 - clip.low, 1.0 + clip.high))
    own_BT = jnp.where(is_policy_BT > 0.0, logp_BT, 0.0)
    return TokenObjective(
        objective_BT=weight_BT * advantage_BT * own_BT,
        ratio_BT=ratio_BT,
        clipped_low_BT=ratio_BT < 1.0 - clip.low,
        clipped_high_BT=ratio_BT > 1.0 + clip.high,
    )


def _clipped(
    log_ratio_BT: Float[Array, "B T"], advantage_BT: Float[Array, "B T"], clip: Clip
) -> TokenObjective:
    ratio_BT = jnp.exp(log_ratio_BT)
    free_BT = ratio_BT * advantage_BT
    bounded_BT = jnp.clip(ratio_BT, 1.0 - clip.low, 1.0 + clip.high) * advantage_BT
    objective_BT = jnp.minimum(free_BT, bounded_BT)
    decided_BT = bounded_BT < free_BT
    clipped_low_BT, clipped_high_BT = decided_BT & (ratio_BT < 1.0), decided_BT & (ratio_BT > 1.0)
    if clip.dual:
        floor_BT = clip.dual * advantage_BT
        raised_BT = (advantage_BT < 0.0) & (floor_BT > objective_BT)
        objective_BT = jnp.where(raised_BT, floor_BT, objective_BT)
        clipped_high_BT = clipped_high_BT | raised_BT
    return TokenObjective(objective_BT, ratio_BT, clipped_low_BT, clipped_high_BT)
