"""Episodes as groups: the attempts at one task beside each other, and whether they differ in reward."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from codegym_jax.records import Episode


def group_rewards(
    episodes: Sequence[Episode], attempts_per_task: int
) -> tuple[Float[np.ndarray, "P G"], Bool[np.ndarray, "P G"]]:
    """Raw rewards, and which attempts are valid, of episodes in the order of their groups."""
    rewards_PG = np.array([episode.reward for episode in episodes], np.float32)
    valid_PG = np.array([episode.valid for episode in episodes], bool)
    return rewards_PG.reshape(-1, attempts_per_task), valid_PG.reshape(-1, attempts_per_task)


def has_signal(
    rewards_PG: Float[np.ndarray, "P G"], valid_PG: Bool[np.ndarray, "P G"]
) -> Bool[np.ndarray, " P"]:
    """True where the valid attempts of a group did not all earn the same, so that a baseline parts them.

    Source: dynamic sampling as in DAPO (Yu et al. 2025, arXiv 2503.14476, sec. 3.2), for rewards of 0 and 1.
    """
    highest_P = np.where(valid_PG, rewards_PG, -np.inf).max(axis=1)
    lowest_P = np.where(valid_PG, rewards_PG, np.inf).min(axis=1)
    return highest_P > lowest_P
