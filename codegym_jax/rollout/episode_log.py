"""Episodes on disk: one JSON object a line, enough to replay, to re-derive every reward, and to read."""

import json
import os
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from codegym_jax.records import CallError, Episode, StopReason, Turn


def to_row(episode: Episode, prompt: str) -> dict[str, Any]:
    """An episode as JSON-able data; log-probabilities keep every bit (float32 as the shortest decimal)."""
    return {
        "task_id": episode.task_id,
        "attempt": episode.attempt,
        "policy_version": episode.policy_version,
        "reward": episode.reward,
        "stop_reason": episode.stop_reason.value,
        "prompt": prompt,
        "turns": [
            {
                "message": turn.message,
                "action": turn.action,
                "observation": turn.observation,
                "error": turn.error.value if turn.error else None,
                "fault": turn.fault,
            }
            for turn in episode.turns
        ],
        "token_ids": episode.token_ids.tolist(),
        "is_policy": episode.is_policy.astype(int).tolist(),
        "sampler_logp": [float(str(value)) for value in episode.sampler_logp],
        "policy_logp": [float(str(value)) for value in episode.policy_logp],
    }


def from_row(row: dict[str, Any]) -> Episode:
    """The inverse of `to_row`."""
    return Episode(
        task_id=row["task_id"],
        attempt=row["attempt"],
        policy_version=row["policy_version"],
        token_ids=np.asarray(row["token_ids"], np.int32),
        is_policy=np.asarray(row["is_policy"], bool),
        sampler_logp=np.asarray(row["sampler_logp"], np.float32),
        policy_logp=np.asarray(row["policy_logp"], np.float32),
        turns=tuple(
            Turn(
                message=turn["message"],
                action=turn["action"],
                observation=turn["observation"],
                error=CallError(turn["error"]) if turn["error"] else None,
                fault=turn["fault"],
            )
            for turn in row["turns"]
        ),
        reward=row["reward"],
        stop_reason=StopReason(row["stop_reason"]),
    )


def write_episodes(
    path: pathlib.Path, episodes: Sequence[Episode], prompt_of: Callable[[Episode], str]
) -> None:
    """Writes the episodes to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for episode in episodes:
            file.write(json.dumps(to_row(episode, prompt_of(episode)), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_episodes(path: pathlib.Path) -> Iterator[Episode]:
    """Reads what `write_episodes` wrote.

    Raises:
      ValueError: on a line that is not an episode, naming file and line.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield from_row(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path}:{number}: not an episode: {error!r}") from error
