"""The algorithms by name: how rewards become advantages, and advantages a loss.

A preset holds what makes an algorithm itself; numbers that a user may set (clip bounds, learning rate) are in
`TrainConfig`. The trainer never learns which algorithm it runs: it is given the loss, and advantages as data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Array

from codegym_jax.algorithms.advantages import group_relative, leave_one_out
from codegym_jax.algorithms.losses import clipped_ratio_loss


@dataclass(frozen=True, kw_only=True, slots=True)
class Algorithm:
    """A way to learn from groups of attempts."""

    advantages: Callable[[Array, Array], Array]
    """`(rewards_PG, valid_PG) -> advantages_PG`, as the functions in `advantages`."""
    loss: Callable[..., tuple[Array, dict[str, Array]]]
    """As `losses.clipped_ratio_loss`, whose clip bounds are still to be given."""


ALGORITHMS: dict[str, Algorithm] = {
    # The paper's choice (appendix E.1); like most implementations with the mean over tokens, not over
    # episodes.
    "grpo": Algorithm(advantages=partial(group_relative, normalize=True), loss=clipped_ratio_loss),
    # No deviation; its constant denominator instead of a token count is left to the caller, who gives it.
    "dr_grpo": Algorithm(advantages=partial(group_relative, normalize=False), loss=clipped_ratio_loss),
    # Unbiased baseline; clipped, because one set of episodes serves several updates.
    "rloo": Algorithm(advantages=leave_one_out, loss=clipped_ratio_loss),
}
