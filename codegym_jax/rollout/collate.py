"""From episodes of any length to batches of few shapes.

Nothing is shifted here or in a batch: `sampler_logp_BT[b, t]`, like every other field, belongs to
`tokens_BT[b, t]` itself. The one shift, from a position to the token it predicts, is inside
`algorithms.log_probs`. The first token of a row has no context, so its mask is 0.

Every batch has the same number of rows and a width that is a multiple of `width_multiple`; so the number of
shapes, each of which costs a compilation, is bounded by the longest episode. What fills a batch up has a mask
of 0.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from codegym_jax.records import Episode, TrainBatch

Mean = Literal["token", "episode"]


class UpdateBatches(NamedTuple):
    """The rows of one optimizer update, in batches of equal row count, shortest first."""

    batches: tuple[TrainBatch, ...]
    policy_token_count: int
    """Policy tokens in all of them: the denominator of a mean over tokens."""
    episode_count: int


class _Row(NamedTuple):
    token_ids: Int[np.ndarray, " T"]
    is_policy: Bool[np.ndarray, " T"]
    sampler_logp: Float[np.ndarray, " T"] | None
    advantage: float


def collate(
    episodes: Sequence[Episode],
    advantages_E: Float[np.ndarray, " E"],
    *,
    rows_per_update: int,
    rows_per_batch: int,
    width_multiple: int,
    rng: np.random.Generator,
    mean: Mean = "token",
) -> list[UpdateBatches]:
    """Deals the episodes that teach something into updates of about equal size.

    Episodes that are invalid, have an advantage of 0 or hold no token of the policy are dropped: they would
    only add zeros. The rest is shuffled and dealt into `round(count / rows_per_update)` updates, at least
    one; so an update may have up to half as many rows again, but never only a remainder, whose few rows would
    move the policy as far as a full update. Within an update rows are sorted by length and cut into batches,
    so that little is padded.

    Args:
      episodes: in any order.
      advantages_E: of each episode; every policy token of it gets this advantage.
      rows_per_update: about so many episodes an update.
      rows_per_batch: rows of each batch; what one forward and backward pass can hold.
      width_multiple: widths are rounded up to a multiple of this many tokens.
      rng: shuffles; the same generator state gives the same updates.
      mean: "token" gives every token of an update the same weight; "episode" every episode, whatever its
        length, as equation 3 of DeepSeekMath (Shao et al. 2024, https://arxiv.org/abs/2402.03300). Both are
        sums over tokens divided by `policy_token_count`: for "episode" an advantage is scaled by the
        update's mean length over the episode's, which the clipped loss, being positively homogeneous in
        the advantage, passes on unchanged.

    Returns:
      One entry per update, empty when no episode teaches anything.
    """
    rows = [
        _Row(episode.token_ids, episode.is_policy, episode.sampler_logp, float(advantage))
        for episode, advantage in zip(episodes, advantages_E, strict=True)
        if episode.valid and advantage != 0.0 and episode.is_policy[1:].any()
    ]
    if not rows:
        return []
    update_count = max(1, round(len(rows) / rows_per_update))
    order = rng.permutation(len(rows))
    shares = ([rows[index] for index in share] for share in np.array_split(order, update_count))
    weigh = _equal_episodes if mean == "episode" else list
    return [_update(weigh(share), rows_per_batch, width_multiple) for share in shares]


def demonstration_batches(
    demonstrations: Sequence[tuple[Int[np.ndarray, " T"], Bool[np.ndarray, " T"]]],
    *,
    rows_per_batch: int,
    width_multiple: int,
) -> UpdateBatches:
    """One supervised update from pairs of token ids and a mask of the tokens to imitate.

    Sampler log-probabilities and advantages are 0: maximum likelihood uses neither.
    """
    rows = [_Row(token_ids, is_policy, None, 0.0) for token_ids, is_policy in demonstrations]
    return _update(rows, rows_per_batch, width_multiple)


def _equal_episodes(rows: list[_Row]) -> list[_Row]:
    """The rows with advantages scaled so that a mean over tokens becomes a mean over episodes."""
    lengths = [int(row.is_policy[1:].sum()) for row in rows]
    mean_length = sum(lengths) / len(lengths)
    return [
        row._replace(advantage=row.advantage * mean_length / length)
        for row, length in zip(rows, lengths, strict=True)
    ]


def _update(rows: list[_Row], rows_per_batch: int, width_multiple: int) -> UpdateBatches:
    rows = sorted(rows, key=lambda row: len(row.token_ids))
    batches = tuple(
        _batch(rows[start : start + rows_per_batch], rows_per_batch, width_multiple)
        for start in range(0, len(rows), rows_per_batch)
    )
    policy_token_count = sum(int(row.is_policy[1:].sum()) for row in rows)
    return UpdateBatches(batches, policy_token_count, len(rows))


def _batch(rows: list[_Row], row_count: int, width_multiple: int) -> TrainBatch:
    longest = max(len(row.token_ids) for row in rows)
    shape = (row_count, -(-longest // width_multiple) * width_multiple)
    batch = TrainBatch(
        tokens_BT=np.zeros(shape, np.int32),
        is_policy_BT=np.zeros(shape, np.float32),
        sampler_logp_BT=np.zeros(shape, np.float32),
        advantage_BT=np.zeros(shape, np.float32),
    )
    for index, row in enumerate(rows):
        columns = slice(1, len(row.token_ids))
        batch.tokens_BT[index, : len(row.token_ids)] = row.token_ids
        batch.is_policy_BT[index, columns] = row.is_policy[1:]
        if row.sampler_logp is not None:
            batch.sampler_logp_BT[index, columns] = np.where(row.is_policy[1:], row.sampler_logp[1:], 0.0)
        batch.advantage_BT[index, columns] = np.where(row.is_policy[1:], row.advantage, 0.0)
    return batch
