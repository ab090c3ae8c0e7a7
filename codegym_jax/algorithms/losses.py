"""Policy-gradient losses: log-probabilities, per-token advantages and a mask in, a scalar and metrics out.

A loss is a sum over tokens divided by a *denominator that the caller gives*. So neither padding rows nor the
split of an update into several batches changes it: call it on each batch with the token count of the whole
update and add up. Metrics add up the same way, except those named `*_max`, of which the largest counts.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from codegym_jax.algorithms.masked import max_over_tokens, sum_over_tokens

MAX_LOG_RATIO = 20.0
"""Past e^20 a ratio is a sign of broken inputs; bounding it keeps the loss and its gradient finite."""


def clipped_ratio_loss(
    policy_logp_BT: Float[Array, "B T"],
    sampler_logp_BT: Float[Array, "B T"],
    advantage_BT: Float[Array, "B T"],
    mask_BT: Float[Array, "B T"],
    *,
    denominator: Array,
    clip_low: float,
    clip_high: float,
) -> tuple[Array, dict[str, Array]]:
    """The clipped surrogate of PPO, on tokens, as GRPO and its kin use it.

    With the ratio w = exp(policy_logp - sampler_logp) of each token:

        loss = -sum(mask * min(w A, clip(w, 1 - clip_low, 1 + clip_high) A)) / denominator

    With the number of policy tokens as the denominator every token has the same weight, whatever the length
    of its episode.

    Args:
      policy_logp_BT: of the policy that learns; the only input with a gradient.
      sampler_logp_BT: of the distribution that the tokens were drawn from.
      advantage_BT: how much better than expected the token's episode went.
      mask_BT: 1 where the token is the policy's own and may teach, else 0. What the others hold is ignored.
      denominator: of the sum; positive, usually the policy tokens in all batches of the update.
      clip_low: how far below 1 a ratio may fall before it earns nothing more, in [0, 1].
      clip_high: how far above 1 it may rise, at least 0.

    Returns:
      The loss, and metrics: `ratio_max`, `clip_fraction` (the share of tokens whose gradient the clip
      removed) and `mismatch_kl` (sampler to policy in nats a token, the estimator w - 1 - log w).

    Source: Schulman et al. 2017, PPO, https://arxiv.org/abs/1707.06347, equation 7; separate bounds and the
    token mean: Yu et al. 2025, DAPO, https://arxiv.org/abs/2503.14476, equation 8; the estimator: Schulman
    2020, http://joschu.net/blog/kl-approx.html (k3).
    """
    log_ratio_BT = jnp.where(mask_BT > 0.0, policy_logp_BT - sampler_logp_BT, 0.0)
    log_ratio_BT = jnp.clip(log_ratio_BT, -MAX_LOG_RATIO, MAX_LOG_RATIO)
    ratio_BT = jnp.exp(log_ratio_BT)
    free_BT = ratio_BT * advantage_BT
    clipped_BT = jnp.clip(ratio_BT, 1.0 - clip_low, 1.0 + clip_high) * advantage_BT
    loss = -sum_over_tokens(jnp.minimum(free_BT, clipped_BT), mask_BT) / denominator

    is_clipped_BT = (clipped_BT < free_BT).astype(ratio_BT.dtype)
    metrics = {
        "ratio_max": max_over_tokens(ratio_BT, mask_BT),
        "clip_fraction": sum_over_tokens(is_clipped_BT, mask_BT) / denominator,
        "mismatch_kl": sum_over_tokens(ratio_BT - 1.0 - log_ratio_BT, mask_BT) / denominator,
    }
    return loss, jax.lax.stop_gradient(metrics)
