"""Reads a run folder as far as it has got: every part may be missing while the run is in progress."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegym_jax.metrics import read_metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFile:
    """The episodes that one step of one stage wrote."""

    stage: str
    step: int
    rows: list[dict[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What a run has written so far."""

    name: str
    """The folder's own name, without the path to it."""
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]
    """Empty until the run is complete."""
    manifest: dict[str, Any]
    """Of the task set."""
    episodes: list[EpisodeFile]
    """The first and the last file of every stage, by stage and step."""

    @property
    def complete(self) -> bool:
        return bool(self.result)


def read_run(folder: Path) -> RunFolder:
    """Reads what there is.

    Raises:
      ValueError: there is no such folder, or one of its JSON files is damaged; names the file.
    """
    if not folder.is_dir():
        raise ValueError(f"run folder not found: {folder}")
    return RunFolder(
        name=folder.resolve().name,
        config=_read_object(folder / "config.json"),
        metrics=read_metrics(folder / "metrics.jsonl"),
        result=_read_object(folder / "result.json"),
        manifest=_read_object(folder / "task_set" / "manifest.json"),
        episodes=list(_episode_files(folder / "episodes")),
    )


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def _episode_files(folder: Path) -> Iterator[EpisodeFile]:
    stages = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    for stage in stages:
        files = sorted(stage.glob("step_*.jsonl"), key=_step_of)
        for path in dict.fromkeys(files[:1] + files[-1:]):
            yield EpisodeFile(stage=stage.name, step=_step_of(path), rows=list(_rows(path)))


def _step_of(path: Path) -> int:
    digits = path.stem.removeprefix("step_")
    return int(digits) if digits.isdecimal() else 0


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict) or not {"task_id", "turns", "reward", "stop_reason"} <= row.keys():
                raise ValueError(f"{path}:{number}: not an episode")
            yield row
