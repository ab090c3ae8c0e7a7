"""The update that ended a run, made again: what in it is not finite, and whose tokens these are."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from codegym_jax.config import UserError
from codegym_jax.data.working_copy import origin_of
from codegym_jax.pipelines.learner import Learner
from codegym_jax.pipelines.nonfinite import FILE, Kept, read_kept, restore_state
from codegym_jax.pipelines.sft import STAGE as SFT
from codegym_jax.pipelines.sft import Pupil
from codegym_jax.pipelines.stages import TRAIN, stage_params
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.episode_log import read_episodes, step_path
from codegym_jax.trainer.update import Findings

_SHOWN = 5
"""Sequences that are described; all are counted."""


class Replay(NamedTuple):
    """What came of it."""

    lines: list[str]
    """For people."""
    finite: bool
    """Whether all gradients are finite now."""


class _Sequence(NamedTuple):
    """One episode or demonstration in the update."""

    where: str
    token_ids: np.ndarray
    is_policy: np.ndarray
    logp: np.ndarray
    sampler_logp: np.ndarray


def run_replay(bench: Workbench) -> Replay:
    """Makes the update again that `pipelines.nonfinite` kept; changes nothing.

    Raises:
      UserError: when the run kept none.
      CannotGoOn: when the state that it failed on is gone.
    """
    path = bench.folder / FILE
    if not path.exists():
        shown = origin_of(bench.folder) or bench.folder
        raise UserError(f"{shown} has no {FILE}: no update of this run had a gradient that is not finite")
    kept = read_kept(path)
    learns = _learns(bench, kept.stage)
    learns.state = restore_state(bench, learns.state)
    findings, scores = learns.examine(kept.update)
    return Replay(
        lines=[
            f"{kept.stage} step {kept.step}, update {kept.number} of {kept.of}:"
            f" {kept.update.episode_count} sequences, {kept.update.token_count} tokens of the policy",
            _of_parameters(learns.state.params),
            *map(_of_batch, range(len(findings)), findings),
            *_of_fields(kept),
            *_of_tokens(bench, kept, list(_sequences(kept, np.asarray(scores.logp_BT)))),
        ],
        finite=not any(found.nonfinite for found in findings),
    )


def _learns(bench: Workbench, stage: str) -> Learner | Pupil:
    """What was learning, as it began."""
    if stage == TRAIN:
        return Learner(bench, stage_params(bench, SFT))
    return Pupil(bench, bench.init_params() if stage == SFT else stage_params(bench, SFT), 1)


def _of_parameters(params: Any) -> str:
    largest, lost = 0.0, []
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        size = float(abs(leaf.astype(np.float32)).max())
        if not np.isfinite(size):
            lost.append(jax.tree_util.keystr(path))
        largest = max(largest, size)
    if lost:
        return f"parameters: {len(lost)} arrays are not finite, {lost[0]} is the first"
    return f"parameters: finite, none larger than {largest:.3g}"


def _of_batch(index: int, found: Findings) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in found.metrics.items())
    if not found.nonfinite:
        return f"batch {index}: the gradient is finite ({metrics})"
    return (
        f"batch {index}: the gradient is not finite in {len(found.nonfinite)} of {found.leaves} arrays,"
        f" {found.nonfinite[0]} is the first ({metrics})"
    )


def _of_fields(kept: Kept) -> Iterator[str]:
    """What the update was given that is not finite."""
    for name, values in kept.update.batches._asdict().items():
        lost = 0 if values is None else int((~np.isfinite(values)).sum())
        if lost:
            yield f"{name}: {lost} values that the update was given are not finite"


def _of_tokens(bench: Workbench, kept: Kept, sequences: list[_Sequence]) -> Iterator[str]:
    lost = [one for one in sequences if not np.isfinite(one.logp[one.is_policy]).all()]
    if lost:
        yield f"sequences with a log-probability that is not finite: {len(lost)} of {len(sequences)}"
        yield from (_described(bench, kept, one, ~np.isfinite(one.logp)) for one in lost[:_SHOWN])
        return
    yield "the log-probabilities of all tokens are finite"
    if kept.stage == TRAIN and sequences:
        gaps = [np.abs(one.logp - one.sampler_logp) * one.is_policy for one in sequences]
        farthest = max(range(len(gaps)), key=lambda index: gaps[index].max())
        gap = gaps[farthest]
        yield f"farthest from the sampler's, by {gap.max():.3g} nats:"
        yield _described(bench, kept, sequences[farthest], gap == gap.max())


def _described(bench: Workbench, kept: Kept, one: _Sequence, wrong: np.ndarray) -> str:
    """A sequence, and the first of its policy's tokens for which `wrong` holds."""
    at = int(np.flatnonzero(wrong & one.is_policy)[0])
    before = bench.renderer.decode(one.token_ids[max(at - 12, 0) : at].tolist())
    token = bench.renderer.decode([int(one.token_ids[at])])
    return f"  {_name(bench, kept, one)}, token {at} of {len(one.token_ids)}: {token!r} after {before!r}"


def _name(bench: Workbench, kept: Kept, one: _Sequence) -> str:
    """Which episode it is; of a demonstration, where in the update it lies."""
    path = step_path(bench.folder / "episodes" / TRAIN, kept.step)
    if kept.stage == TRAIN and path.exists():
        for episode in read_episodes(bench.fetch(path)):
            if np.array_equal(episode.token_ids, one.token_ids):
                return f"attempt {episode.attempt} at {episode.task_id}"
    return one.where


def _sequences(kept: Kept, logp_NBT: np.ndarray) -> Iterator[_Sequence]:
    batches = kept.update.batches
    for batch in range(kept.update.batch_count):
        for row, segment_T in enumerate(batches.segment_BT[batch]):
            for segment in range(1, int(segment_T.max(initial=0)) + 1):
                at = (batch, row, segment_T == segment)
                yield _Sequence(
                    where=f"batch {batch}, row {row}, sequence {segment}",
                    token_ids=batches.tokens_BT[at],
                    is_policy=batches.is_policy_BT[at] > 0,
                    logp=logp_NBT[at],
                    sampler_logp=batches.sampler_logp_BT[at],
                )
