"""The algorithms by name: how rewards become advantages, advantages an objective, and tokens a mean.

A recipe holds what makes an algorithm itself. Numbers that a user may set are arguments of `make_objective`;
the clip bounds of a paper, where they are part of its idea, stand beside its name. The trainer never learns
which algorithm it runs: it is given the objective, and everything else as data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Array

from codegym_jax.algorithms.advantages import (
    globally_normalized,
    group_relative,
    leave_one_out,
    no_baseline,
)
from codegym_jax.algorithms.importance import WEIGHTINGS
from codegym_jax.algorithms.kl import ESTIMATORS
from codegym_jax.algorithms.objective import Objective
from codegym_jax.algorithms.surrogates import Clip, Surrogate, clipped_ratio, clipped_weight, episode_ratio


@dataclass(frozen=True, kw_only=True, slots=True)
class Algorithm:
    """A way to learn from groups of attempts."""

    advantages: Callable[[Array, Array], Array]
    """`(rewards_PG, valid_PG) -> advantages_PG`, any function of `advantages`."""
    surrogate: Surrogate
    mean: str
    """What the objective is a mean over: "token", "episode", or "fixed" (as if all were of full length)."""
    critic: bool = False
    """The advantages are rewards still, and `credit.gae` makes advantages of them, token by token; so an
    episode without a reward teaches, too."""


ALGORITHMS: dict[str, Algorithm] = {
    # Shao et al. 2024, https://arxiv.org/abs/2402.03300. With the mean over tokens, as in most
    # implementations; its equation 3 has the mean over episodes.
    "grpo": Algorithm(
        advantages=partial(group_relative, normalize=True), surrogate=clipped_ratio, mean="token"
    ),
    # Liu et al. 2025, https://arxiv.org/abs/2503.20783: neither deviation nor length in a denominator.
    "dr_grpo": Algorithm(
        advantages=partial(group_relative, normalize=False), surrogate=clipped_ratio, mean="fixed"
    ),
    # Ahmadian et al. 2024, https://arxiv.org/abs/2402.14740. Every token weighs the same, as in the sum of
    # an episode; clipped, because one set of episodes serves several updates.
    "rloo": Algorithm(advantages=leave_one_out, surrogate=clipped_ratio, mean="token"),
    # Hu et al. 2025, https://arxiv.org/abs/2501.03262, and its variant with a baseline per task.
    "reinforce_pp": Algorithm(
        advantages=partial(globally_normalized, group_baseline=False), surrogate=clipped_ratio, mean="token"
    ),
    "reinforce_pp_baseline": Algorithm(
        advantages=partial(globally_normalized, group_baseline=True), surrogate=clipped_ratio, mean="token"
    ),
    # Yu et al. 2025, https://arxiv.org/abs/2503.14476: bounds 0.2 and 0.28, groups without a signal sampled
    # anew, overlong episodes punished softly; these are settings of the run.
    "dapo": Algorithm(
        advantages=partial(group_relative, normalize=True), surrogate=clipped_ratio, mean="token"
    ),
    # Zheng et al. 2025, https://arxiv.org/abs/2507.18071: bounds 3e-4 and 4e-4 of the mean ratio.
    "gspo": Algorithm(
        advantages=partial(group_relative, normalize=True), surrogate=episode_ratio, mean="episode"
    ),
    # MiniMax 2025, https://arxiv.org/abs/2506.13585: no lower bound (1).
    "cispo": Algorithm(
        advantages=partial(group_relative, normalize=True), surrogate=clipped_weight, mean="token"
    ),
    # Schulman et al. 2017, https://arxiv.org/abs/1707.06347, with a critic over tokens.
    "ppo": Algorithm(advantages=no_baseline, surrogate=clipped_ratio, mean="token", critic=True),
}


def make_objective(
    algorithm: Algorithm,
    *,
    clip_low: float,
    clip_high: float,
    dual_clip: float = 0.0,
    kl: str = "none",
    kl_coefficient: float = 0.0,
    entropy_coefficient: float = 0.0,
    importance: str = "none",
    importance_cap: float = 2.0,
    value_coefficient: float = 0.0,
    value_clip: float = 0.0,
) -> Objective:
    """The objective of an algorithm with its settings, by name.

    Args:
      algorithm: a recipe.
      clip_low: as `surrogates.Clip`, like the next two.
      clip_high: see there.
      dual_clip: see there.
      kl: estimator in the *loss*, a key of `kl.ESTIMATORS`, or "none", which a KL in the reward is here.
      kl_coefficient: of that.
      entropy_coefficient: of the bonus.
      importance: a key of `importance.WEIGHTINGS`, or "none".
      importance_cap: as there.
      value_coefficient: of the critic's error; ignored without a critic.
      value_clip: as `critic.clipped_square_error`.

    Raises:
      ValueError: for "k1" in the loss, whose gradient is 0 on average.
      KeyError: for a name that is not known.
    """
    if kl == "k1":
        raise ValueError("kl 'k1' has no gradient in a loss; take 'k2' or 'k3', or put it into the reward")
    return Objective(
        surrogate=algorithm.surrogate,
        clip=Clip(clip_low, clip_high, dual_clip),
        kl=None if kl == "none" else ESTIMATORS[kl],
        kl_coefficient=kl_coefficient,
        entropy_coefficient=entropy_coefficient,
        weighting=None if importance == "none" else WEIGHTINGS[importance],
        importance_cap=importance_cap,
        value_coefficient=value_coefficient if algorithm.critic else 0.0,
        value_clip=value_clip,
    )
