"""Episodes on disk: one JSON object a line, enough to replay, to re-derive every reward, and to read."""

import hashlib
import json
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from codegym_jax.records import CallError, Episode, StopReason, Turn

_STEP_NAME = re.compile(r"step_([0-9]{6,})")


def step_name(step: int) -> str:
    """What the episodes of a training step are called: the stem of their file."""
    return f"step_{step:06d}"


def step_path(folder: pathlib.Path, step: int) -> pathlib.Path:
    """The file of a step's episodes."""
    return folder / f"{step_name(step)}.jsonl"


def logged_step(name: str) -> int | None:
    """The inverse of `step_name`; None for any other name."""
    match = _STEP_NAME.fullmatch(name)
    return int(match[1]) if match else None


def logged_steps(folder: pathlib.Path) -> list[int]:
    """The steps whose episodes are in `folder`, in order; none where there is no such folder."""
    found = (logged_step(path.stem) for path in folder.glob("step_*.jsonl"))
    return sorted(step for step in found if step is not None)


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


def digest(episodes: Sequence[Episode]) -> str:
    """A hash of everything in the episodes, to the last bit; their texts as JSON holds them."""
    sha256 = hashlib.sha256()
    for episode in episodes:
        sha256.update(json.dumps(to_row(episode, "")).encode() + b"\n")
    return sha256.hexdigest()


def _line(row: dict[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # a tool's result may hold lone surrogates: only their escapes can be written
        text = json.dumps(row)
    return text + "\n"


def write_episodes(
    path: pathlib.Path, episodes: Sequence[Episode], prompt_of: Callable[[Episode], str]
) -> None:
    """Writes the episodes to `path`, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        for episode in episodes:
            file.write(_line(to_row(episode, prompt_of(episode))))
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
