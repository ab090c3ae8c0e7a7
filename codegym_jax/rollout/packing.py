"""From lessons of any length to updates of few shapes: several behind one another in rows of one width.

Nothing is shifted here or in a batch: every field belongs to `tokens_BT[b, t]` itself. The one shift, from a
position to the token it predicts, is inside `algorithms.log_probs`. A lesson's first token has no context, so
no loss acts on it.

All rows have one width, all batches one number of rows, and the batches of an update are filled up to a power
of two: an update costs a compilation for each power of two that occurs, and nothing else does. How lessons
share rows changes no result: a token sees its own lesson alone, and weighs what it would weigh anywhere.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from codegym_jax.records import PackedBatch, Update

Mean = Literal["token", "episode", "fixed"]
"""What an objective is a mean over: see `pack`."""


class Lesson(NamedTuple):
    """One episode, or one demonstration, as a loss sees it."""

    token_ids: Int[np.ndarray, " T"]
    is_policy: Bool[np.ndarray, " T"]
    """True where a loss may act."""
    sampler_logp: Float[np.ndarray, " T"] | None
    """None where nothing was sampled."""
    advantage: Float[np.ndarray, " T"]
    """Of each token; what it holds off the policy's tokens is ignored."""
    old_logp: Float[np.ndarray, " T"] | None = None
    """These four as in `PackedBatch`. All lessons of an update have a field, or none has."""
    reference_logp: Float[np.ndarray, " T"] | None = None
    old_value: Float[np.ndarray, " T"] | None = None
    returns: Float[np.ndarray, " T"] | None = None


class Place(NamedTuple):
    """Where a lesson lies in an update."""

    batch: int
    row: int
    columns: slice


def pack(
    lessons: Sequence[Lesson],
    *,
    episodes_per_update: int,
    rows_per_batch: int,
    row_tokens: int,
    mean: Mean,
    fixed_tokens: int = 0,
    rng: np.random.Generator,
) -> list[Update]:
    """Deals lessons into updates of about equal size, and packs each update's into rows.

    Lessons are shuffled and dealt into `round(count / episodes_per_update)` updates, at least one; so an
    update may have up to half as many lessons again, but never only a remainder, whose few would move the
    policy as far as a full update.

    With n policy tokens in a lesson, E lessons in the update and N policy tokens in all of them, a policy
    token weighs

        1 / N                      mean="token"      every token alike, as DAPO
        1 / (E n)                  mean="episode"    every lesson alike, as GRPO
        1 / (E fixed_tokens)       mean="fixed"      every token alike, whatever is in the update, as Dr. GRPO

    Args:
      lessons: in any order; each with a policy token after its first.
      episodes_per_update: about so many lessons an update.
      rows_per_batch: rows of each batch; what one forward and backward pass can hold.
      row_tokens: width of each row.
      mean: see above.
      fixed_tokens: of "fixed": the length that all lessons are taken to have, usually the longest possible.
      rng: shuffles; the same generator state gives the same updates.

    Returns:
      One entry per update, none without lessons. Arrays are NumPy's.

    Raises:
      ValueError: when a lesson is longer than a row or has no token to learn from, naming it; when "fixed"
        comes without a length.

    Source: Shao et al. 2024, DeepSeekMath, https://arxiv.org/abs/2402.03300, equation 3; Yu et al. 2025,
    DAPO, https://arxiv.org/abs/2503.14476, equation 8; Liu et al. 2025, Understanding R1-Zero-Like Training,
    https://arxiv.org/abs/2503.20783 (Dr. GRPO). First-fit decreasing: Johnson 1973, Near-optimal bin packing
    algorithms (at most 11/9 of the fewest rows, and a few).
    """
    _require_packable(lessons, row_tokens)
    if mean == "fixed" and fixed_tokens < 1:
        raise ValueError(f"a mean of fixed length needs fixed_tokens of at least 1, got {fixed_tokens}")
    if not lessons:
        return []
    update_count = max(1, round(len(lessons) / episodes_per_update))
    order = rng.permutation(len(lessons))
    shares = ([lessons[index] for index in share] for share in np.array_split(order, update_count))
    return [_update(share, rows_per_batch, row_tokens, mean, fixed_tokens)[0] for share in shares]


def pack_in_order(
    lessons: Sequence[Lesson], *, rows_per_batch: int, row_tokens: int
) -> tuple[Update, list[Place]]:
    """All lessons as one update, to be scored and not learned, and where each of them lies.

    Raises:
      ValueError: as `pack`, and when there are no lessons.
    """
    _require_packable(lessons, row_tokens)
    if not lessons:
        raise ValueError("there are no lessons to pack")
    return _update(list(lessons), rows_per_batch, row_tokens, "token", 0)


def unpack(values_NBT: Shaped[np.ndarray, "N B T"], places: Sequence[Place]) -> list[np.ndarray]:
    """The values of each lesson, from those of the update that it lies in."""
    return [values_NBT[place] for place in places]


def first_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows of indices into `lengths`: the longest first, each into the first row that still has room.

    Args:
      lengths: each from 1 to `capacity`.
      capacity: of a row, in the unit of the lengths.
    """
    rows: list[list[int]] = []
    room = np.full(len(lengths), capacity)
    for index in np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist():
        row = int(np.argmax(room >= lengths[index]))
        if row == len(rows):
            rows.append([])
        rows[row].append(index)
        room[row] -= lengths[index]
    return rows


def _require_packable(lessons: Sequence[Lesson], row_tokens: int) -> None:
    for index, lesson in enumerate(lessons):
        if len(lesson.token_ids) > row_tokens:
            raise ValueError(
                f"lesson {index} has {len(lesson.token_ids)} tokens, and a packed row holds {row_tokens};"
                " widen train.row_tokens, or drop the lesson"
            )
        if not lesson.is_policy[1:].any():
            raise ValueError(f"lesson {index} has no token of the policy after its first; drop it")


def _update(
    lessons: list[Lesson], rows_per_batch: int, row_tokens: int, mean: Mean, fixed_tokens: int
) -> tuple[Update, list[Place]]:
    counts = [int(lesson.is_policy[1:].sum()) for lesson in lessons]
    weights = _weights(counts, mean, fixed_tokens)
    rows = first_fit_decreasing([len(lesson.token_ids) for lesson in lessons], row_tokens)
    batch_count = -(-len(rows) // rows_per_batch)
    stacked = 1 << (batch_count - 1).bit_length()
    batches = _empty(lessons[0], stacked, rows_per_batch, row_tokens)
    places: list[Any] = [None] * len(lessons)
    for row, members in enumerate(rows):
        start = 0
        for segment, index in enumerate(members, start=1):
            end = start + len(lessons[index].token_ids)
            places[index] = Place(*divmod(row, rows_per_batch), slice(start, end))
            _write(batches, places[index], segment, lessons[index], weights[index])
            start = end
    return Update(batches, batch_count, sum(counts), len(lessons)), places


def _weights(counts: list[int], mean: Mean, fixed_tokens: int) -> list[float]:
    """The weight of each policy token of each lesson."""
    if mean == "token":
        return [1 / sum(counts)] * len(counts)
    return [1 / (len(counts) * (count if mean == "episode" else fixed_tokens)) for count in counts]


def _empty(lesson: Lesson, *shape: int) -> PackedBatch:
    """Batches of padding, with the optional fields that the lesson has."""

    def optional(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else np.zeros(shape, np.float32)

    return PackedBatch(
        tokens_BT=np.zeros(shape, np.int32),
        segment_BT=np.zeros(shape, np.int32),
        is_policy_BT=np.zeros(shape, np.float32),
        weight_BT=np.zeros(shape, np.float32),
        sampler_logp_BT=np.zeros(shape, np.float32),
        advantage_BT=np.zeros(shape, np.float32),
        old_logp_BT=optional(lesson.old_logp),
        reference_logp_BT=optional(lesson.reference_logp),
        old_value_BT=optional(lesson.old_value),
        return_BT=optional(lesson.returns),
    )


def _write(batches: PackedBatch, place: Place, segment: int, lesson: Lesson, weight: float) -> None:
    """Puts a lesson into its place."""
    is_policy = np.array(lesson.is_policy, bool)
    is_policy[0] = False
    batches.tokens_BT[place] = lesson.token_ids
    batches.segment_BT[place] = segment
    batches.is_policy_BT[place] = is_policy
    batches.weight_BT[place] = np.where(is_policy, weight, 0.0)
    for field_BT, values in (
        (batches.advantage_BT, lesson.advantage),
        (batches.sampler_logp_BT, lesson.sampler_logp),
        (batches.old_logp_BT, lesson.old_logp),
        (batches.reference_logp_BT, lesson.reference_logp),
        (batches.old_value_BT, lesson.old_value),
        (batches.return_BT, lesson.returns),
    ):
        if field_BT is not None and values is not None:
            field_BT[place] = np.where(is_policy, values, 0.0)
