"""Shaped rewards: what an episode earns besides the reward of its task.

Small terms for conduct: messages in the right form, calls without an error, an answer given, no budget
overrun. They shape the advantages and nothing else. Whether a group of attempts has a signal, whether a task
is learnable and every success rate are judged by the raw reward, which is returned to nobody here: the caller
keeps it, and gets a new array.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int


class Conduct(NamedTuple):
    """How attempts went about their tasks, apart from solving them."""

    well_formed_PG: Bool[np.ndarray, "P G"]
    """True where every message of the policy held one call."""
    valid_call_share_PG: Float[np.ndarray, "P G"]
    """Share of the calls without an error, in [0, 1]; 0 where there was no call."""
    answered_PG: Bool[np.ndarray, "P G"]
    """True where the policy called `Done`, whatever the answer."""
    overlong_PG: Float[np.ndarray, "P G"]
    """As `overlong_penalty`, in [-1, 0]; zeros where overlong episodes are not punished."""


def shaped_rewards(
    rewards_PG: Float[np.ndarray, "P G"],
    conduct: Conduct,
    *,
    format_reward: float,
    valid_call_reward: float,
    done_reward: float,
) -> Float[np.ndarray, "P G"]:
    """The task's reward plus the terms of conduct.

        shaped = raw + format_reward * well_formed + valid_call_reward * valid_call_share
                     + done_reward * answered + overlong

    Args:
      rewards_PG: raw, of the task; left as it is.
      conduct: of the same attempts.
      format_reward: reward units, like the two others; 0 is off.
      valid_call_reward: for an episode without a failed call; less in proportion.
      done_reward: for an answer, right or wrong.

    Returns:
      A new array, float32. With all three at 0 and no overlong episode it equals the raw rewards.
    """
    shaped_PG = (
        rewards_PG
        + format_reward * conduct.well_formed_PG
        + valid_call_reward * conduct.valid_call_share_PG
        + done_reward * conduct.answered_PG
        + conduct.overlong_PG
    )
    return shaped_PG.astype(np.float32)


def valid_call_share(
    call_count_PG: Int[np.ndarray, "P G"], error_count_PG: Int[np.ndarray, "P G"]
) -> Float[np.ndarray, "P G"]:
    """(calls - failed calls) / calls; 0 where there was no call."""
    return ((call_count_PG - error_count_PG) / np.maximum(call_count_PG, 1)).astype(np.float32)


def overlong_penalty(
    length_PG: Int[np.ndarray, "P G"],
    cut_off_PG: Bool[np.ndarray, "P G"],
    *,
    max_tokens: int,
    buffer_tokens: int,
) -> Float[np.ndarray, "P G"]:
    """A soft punishment that warns before the budget ends: 0 up to the buffer, then down to -1 at its end.

        penalty = -clip((length - (max_tokens - buffer_tokens)) / buffer_tokens, 0, 1)

    Args:
      length_PG: tokens of the episode that count against the budget.
      cut_off_PG: True where the token budget ended the episode. It gets -1 even if shorter than the budget:
        its next message or tool result did not fit.
      max_tokens: the budget.
      buffer_tokens: how many of its last tokens are punished, in [1, max_tokens].

    Raises:
      ValueError: when `buffer_tokens` is outside [1, max_tokens].

    Source: Yu et al. 2025, DAPO, https://arxiv.org/abs/2503.14476, equation 13.
    """
    if not 1 <= buffer_tokens <= max_tokens:
        raise ValueError(f"buffer_tokens must be in [1, max_tokens={max_tokens}], got {buffer_tokens}")
    used_PG = np.clip((length_PG - (max_tokens - buffer_tokens)) / buffer_tokens, 0.0, 1.0)
    return np.where(cut_off_PG, -1.0, -used_PG).astype(np.float32)
