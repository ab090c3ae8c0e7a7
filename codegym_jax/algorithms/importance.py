"""Weights that make tokens of the sampler stand for tokens of the learner.

Sampler and learner are two programs with one set of parameters, at best: they differ by rounding, by
temperature and truncation of the sampled distribution, and by age. With l = old_logp - sampler_logp, the
learner's own log-probability before the step's first update less the sampler's, the weight exp(l) corrects
all three, and the surrogate's ratio, measured from `old_logp`, is left to what the updates of the step did.
Weights are data: they carry no gradient.

Source: the split of one ratio into these two: Hilton et al. 2022, https://arxiv.org/abs/2110.00641.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Weighting = Callable[[Array, float], Array]
"""`(log_ratio_BT, cap) -> weight_BT`."""


def truncated(log_ratio_BT: Float[Array, "B T"], cap: float) -> Float[Array, "B T"]:
    """min(exp(l), cap): no token counts for more than `cap`, which biases and bounds the variance.

    Args:
      log_ratio_BT: l, in nats.
      cap: the largest weight, at least 1.

    Source: Ionides 2008, Truncated Importance Sampling; between sampler and learner: Yao et al. 2025, "Your
    Efficient RL Framework Secretly Brings You Off-Policy RL Training".
    """
    return jnp.exp(jnp.minimum(log_ratio_BT, jnp.log(jnp.float32(cap))))


def masked(log_ratio_BT: Float[Array, "B T"], cap: float) -> Float[Array, "B T"]:
    """exp(l) where it lies in [1 / cap, cap], else 0: what the two programs disagree on teaches nothing.

    Args:
      log_ratio_BT: l, in nats.
      cap: where a token is dropped, at least 1.

    Source: IcePop, Ling Team 2025, https://arxiv.org/abs/2510.18855 (whose interval need not be symmetric).
    """
    return jnp.where(jnp.abs(log_ratio_BT) <= jnp.log(jnp.float32(cap)), jnp.exp(log_ratio_BT), 0.0)


WEIGHTINGS: dict[str, Weighting] = {"truncated": truncated, "masked": masked}
