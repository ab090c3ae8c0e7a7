"""From the episodes of a step to lessons: which of them teach, and how much credit each token gets."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from codegym_jax.algorithms.credit import at_last_token, gae, reward_to_go, turn_discounts, whiten
from codegym_jax.algorithms.kl import ESTIMATORS
from codegym_jax.algorithms.recipes import Algorithm
from codegym_jax.algorithms.shaping import Conduct, overlong_penalty, shaped_rewards, valid_call_share
from codegym_jax.config import AlgorithmConfig
from codegym_jax.records import CallError, Episode, StopReason
from codegym_jax.rollout.groups import group_rewards
from codegym_jax.rollout.packing import Lesson

CUT_OFF = (StopReason.MAX_TOKENS, StopReason.TURN_TOO_LONG)
"""How an episode ends whose tokens ran out."""


class Judged(NamedTuple):
    """What models say about the tokens of one episode before the step's first update; None: not asked."""

    old_logp: Float[np.ndarray, " T"] | None = None
    """Of the policy that learns."""
    reference_logp: Float[np.ndarray, " T"] | None = None
    """Of the policy that it started from."""
    value: Float[np.ndarray, " T"] | None = None
    """Of the critic."""


def make_lessons(
    episodes: Sequence[Episode],
    judged: Sequence[Judged],
    algorithm: Algorithm,
    settings: AlgorithmConfig,
    *,
    attempts_per_task: int,
    max_tokens: int,
) -> list[Lesson]:
    """The lessons of a step's episodes.

    Left out are invalid episodes, those that a token budget cut off where `overlong` is "mask", those without
    a token of the policy, and, unless the objective has terms of its own (`teaches_without_advantage`), those
    whose advantage is 0 everywhere. The first three still count, or not, in the baseline of their group as
    the algorithm's advantages have it: an invalid attempt never, a masked one as any other.

    Args:
      episodes: of whole groups, a group's attempts beside each other.
      judged: of each episode.
      algorithm: by name, with its advantages.
      settings: its numbers.
      attempts_per_task: G.
      max_tokens: the token budget of an episode.
    """
    earned_PG, valid_PG = _filled(*earned_rewards(episodes, settings, attempts_per_task, max_tokens))
    advantage_E = np.asarray(algorithm.advantages(jnp.asarray(earned_PG), jnp.asarray(valid_PG))).ravel()
    teaches_E = _teaches(episodes, settings)
    rows = _rows(episodes, teaches_E, len(advantage_E), max_tokens)
    if algorithm.critic:
        advantage_ET, return_ET = _with_critic(rows, judged, advantage_E, settings)
    else:
        advantage_ET, return_ET = _without_critic(rows, judged, advantage_E, settings), None
    keeps_all = algorithm.critic or teaches_without_advantage(settings)
    return [
        Lesson(
            token_ids=episode.token_ids,
            is_policy=episode.is_policy,
            sampler_logp=episode.sampler_logp,
            advantage=advantage_ET[index, : len(episode.token_ids)],
            old_logp=judged[index].old_logp,
            reference_logp=judged[index].reference_logp,
            old_value=judged[index].value,
            returns=None if return_ET is None else return_ET[index, : len(episode.token_ids)],
        )
        for index, episode in enumerate(episodes)
        if teaches_E[index] and (keeps_all or advantage_ET[index].any())
    ]


def earned_rewards(
    episodes: Sequence[Episode], settings: AlgorithmConfig, attempts_per_task: int, max_tokens: int
) -> tuple[Float[np.ndarray, "P G"], Bool[np.ndarray, "P G"]]:
    """What advantages are made of, the tasks' rewards plus the shaped terms, and which attempts are valid."""
    raw_PG, valid_PG = group_rewards(episodes, attempts_per_task)
    earned_PG = shaped_rewards(
        raw_PG,
        _conduct(episodes, attempts_per_task, settings, max_tokens),
        format_reward=settings.format_reward,
        valid_call_reward=settings.valid_call_reward,
        done_reward=settings.done_reward,
    )
    return earned_PG, valid_PG


def teaches_without_advantage(settings: AlgorithmConfig) -> bool:
    """Whether an episode moves the policy even where its advantage is 0."""
    return settings.entropy_coefficient > 0 or (settings.kl != "none" and not settings.kl_in_reward)


def _filled(
    earned_PG: Float[np.ndarray, "P G"], valid_PG: Bool[np.ndarray, "P G"]
) -> tuple[Float[np.ndarray, "_ G"], Bool[np.ndarray, "_ G"]]:
    """Groups without a valid attempt behind the others, up to a power of two: by the law of all advantages
    they change nothing, and steps with other numbers of groups find their programs compiled."""
    count = len(earned_PG)
    missing = (1 << (max(count, 1) - 1).bit_length()) - count
    return np.pad(earned_PG, ((0, missing), (0, 0))), np.pad(valid_PG, ((0, missing), (0, 0)))


class _Rows(NamedTuple):
    """Episodes as rows of one width; those that do not teach are empty, as are rows behind them."""

    is_policy_ET: Float[np.ndarray, "E T"]
    segment_ET: np.ndarray


def _rows(
    episodes: Sequence[Episode], teaches_E: Bool[np.ndarray, " E"], count: int, max_tokens: int
) -> _Rows:
    is_policy_ET = np.zeros((count, max_tokens), np.float32)
    segment_ET = np.zeros(is_policy_ET.shape, np.int32)
    for index, episode in enumerate(episodes):
        if teaches_E[index]:
            length = len(episode.token_ids)
            is_policy_ET[index, 1:length] = episode.is_policy[1:]
            segment_ET[index, :length] = 1
    return _Rows(is_policy_ET, segment_ET)


def _teaches(episodes: Sequence[Episode], settings: AlgorithmConfig) -> Bool[np.ndarray, " E"]:
    masks = settings.overlong == "mask"
    return np.array(
        [
            episode.valid
            and bool(episode.is_policy[1:].any())
            and not (masks and episode.stop_reason in CUT_OFF)
            for episode in episodes
        ],
        bool,
    )


def _without_critic(
    rows: _Rows, judged: Sequence[Judged], advantage_E: np.ndarray, settings: AlgorithmConfig
) -> Float[np.ndarray, "E T"]:
    """The episode's advantage at each of its policy tokens, less with every turn still to come; and the
    charge for drifting from the reference, where that is in the reward."""
    advantage_ET = rows.is_policy_ET * advantage_E[:, None]
    if settings.turn_discount < 1:
        factors = [turn_discounts(row > 0, discount=settings.turn_discount) for row in rows.is_policy_ET]
        advantage_ET = advantage_ET * np.stack(factors)
    charge_ET = _kl_charge(rows, judged, settings)
    if charge_ET is None:
        return advantage_ET
    return advantage_ET + np.asarray(reward_to_go(jnp.asarray(charge_ET), *map(jnp.asarray, rows)))


def _with_critic(
    rows: _Rows, judged: Sequence[Judged], reward_E: np.ndarray, settings: AlgorithmConfig
) -> tuple[Float[np.ndarray, "E T"], Float[np.ndarray, "E T"]]:
    """Advantages and returns by generalized advantage estimation, the advantages whitened over the step."""
    reward_ET = np.stack(
        [
            at_last_token(float(reward), row > 0)
            for reward, row in zip(reward_E, rows.is_policy_ET, strict=True)
        ]
    )
    charge_ET = _kl_charge(rows, judged, settings)
    value_ET = _stacked(judged, rows, lambda one: one.value)
    is_policy_ET, segment_ET = map(jnp.asarray, rows)
    advantage_ET, return_ET = gae(
        jnp.asarray(reward_ET if charge_ET is None else reward_ET + charge_ET),
        jnp.asarray(value_ET),
        is_policy_ET,
        segment_ET,
        discount=settings.gae_discount,
        lambda_=settings.gae_lambda,
    )
    return np.asarray(whiten(advantage_ET, is_policy_ET)), np.asarray(return_ET)


def _kl_charge(
    rows: _Rows, judged: Sequence[Judged], settings: AlgorithmConfig
) -> Float[np.ndarray, "E T"] | None:
    """What each token is charged for its distance to the reference, in reward units; None: nothing is."""
    if settings.kl == "none" or not settings.kl_in_reward:
        return None
    old_ET = _stacked(judged, rows, lambda one: one.old_logp)
    reference_ET = _stacked(judged, rows, lambda one: one.reference_logp)
    drift_ET = np.asarray(ESTIMATORS[settings.kl](jnp.asarray(old_ET - reference_ET)))
    return -settings.kl_coefficient * drift_ET * rows.is_policy_ET


def _stacked(
    judged: Sequence[Judged], rows: _Rows, field: Callable[[Judged], np.ndarray | None]
) -> Float[np.ndarray, "E T"]:
    stacked_ET = np.zeros(rows.is_policy_ET.shape, np.float32)
    for index, one in enumerate(judged):
        values = field(one)
        if values is not None:
            stacked_ET[index, : len(values)] = values
    return stacked_ET


def _conduct(
    episodes: Sequence[Episode], attempts_per_task: int, settings: AlgorithmConfig, max_tokens: int
) -> Conduct:
    def grouped(values: list[int] | list[bool], kind: type) -> np.ndarray:
        return np.array(values, kind).reshape(-1, attempts_per_task)

    errors = [[turn.error for turn in episode.turns] for episode in episodes]
    cut_off_PG = grouped([episode.stop_reason in CUT_OFF for episode in episodes], bool)
    length_PG = grouped([len(episode.token_ids) for episode in episodes], int)
    calls_PG = grouped([len(of_one) for of_one in errors], int)
    failed_PG = grouped([sum(error is not None for error in of_one) for of_one in errors], int)
    unreadable_PG = grouped([CallError.NOT_JSON in of_one for of_one in errors], bool)
    too_long_PG = grouped([episode.stop_reason is StopReason.TURN_TOO_LONG for episode in episodes], bool)
    overlong_PG = np.zeros(length_PG.shape, np.float32)
    if settings.overlong == "penalty":
        buffer_tokens = max(1, round(settings.overlong_buffer * max_tokens))
        overlong_PG = overlong_penalty(
            length_PG, cut_off_PG, max_tokens=max_tokens, buffer_tokens=buffer_tokens
        )
    return Conduct(
        well_formed_PG=(calls_PG > 0) & ~unreadable_PG & ~too_long_PG,
        valid_call_share_PG=valid_call_share(calls_PG, failed_PG),
        answered_PG=grouped([episode.stop_reason is StopReason.DONE for episode in episodes], bool),
        overlong_PG=overlong_PG,
    )
