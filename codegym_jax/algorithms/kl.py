"""Estimators of the KL divergence between two policies from tokens that one of them chose.

All are functions of l = log p(x) - log q(x) alone, for tokens x drawn from p, and estimate
KL(p || q) = E_p[l] in nats a token:

| name | estimate         | value                     | expected gradient, p learning, x drawn from p       |
|------|------------------|---------------------------|-----------------------------------------------------|
| k1   | l                | unbiased, may be negative | 0: as a loss it is noise; put it into the reward    |
| k2   | l^2 / 2          | biased, low variance      | that of KL(p || q), per token                       |
| k3   | exp(-l) - 1 + l  | unbiased, never negative  | that of KL(q || p), per token: covers q's support   |

"Per token" means: with the context fixed. That earlier tokens choose the later contexts is seen by a penalty
in the reward only (`credit.reward_to_go`). For tokens drawn from an older policy all of this holds to first
order.

Source: Schulman 2020, http://joschu.net/blog/kl-approx.html (the three and their names); gradients: Tang and
Munos 2025, https://arxiv.org/abs/2506.09477, and Liu et al. 2025, https://arxiv.org/abs/2510.01555.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

Estimator = Callable[[Array], Array]
"""From the log-ratio of each token to the estimate at each token."""


def k1(log_ratio_BT: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """The log-ratio itself, l. What a penalty in the reward is made of."""
    return log_ratio_BT


def k2(log_ratio_BT: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """Half the square, l^2 / 2; to second order in l equal to the others, and the right one in a loss."""
    return 0.5 * jnp.square(log_ratio_BT)


def k3(log_ratio_BT: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """exp(-l) - 1 + l: k1 plus a control variate of mean 0, q(x)/p(x) - 1. The best for a metric; GRPO's
    choice in the loss (Shao et al. 2024, https://arxiv.org/abs/2402.03300, equation 4)."""
    return jnp.expm1(-log_ratio_BT) + log_ratio_BT


ESTIMATORS: dict[str, Estimator] = {"k1": k1, "k2": k2, "k3": k3}
