"""Reads a run folder as far as it has got: every part may be missing while the run is in progress."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegym_jax.config import UserError
from codegym_jax.metrics import read_metrics

MODES = ("sampled", "greedy")
SPLITS = {"test_config": "heldout_config", "test_env": "heldout_env"}
"""Split of the task set -> its name in `result.json`."""
PHASES = ("before", "after", "control")


class ReportError(UserError):
    """A run folder that cannot be shown; the message names the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeFile:
    """The episodes of one step of training, or of one split and mode of an evaluation."""

    stage: str
    """The folder's name: `train`, `eval_before`, ..."""
    name: str
    """The file's: `step_000010`, `test_config_greedy`, ..."""
    rows: list[dict[str, Any]]

    @property
    def step(self) -> int:
        """0 unless the file is a step of training."""
        digits = self.name.removeprefix("step_")
        return int(digits) if digits.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFolder:
    """What a run has written so far."""

    name: str
    """The folder's own name, without the path to it."""
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    result: dict[str, Any]
    """Empty until the run is complete."""
    timing: dict[str, Any]
    """Stage -> seconds, of the stages that have ended."""
    manifest: dict[str, Any]
    """Of the task set."""
    evaluations: dict[str, dict[str, Any]]
    """Phase -> mode -> split -> success rate as JSON, with its counts by environment."""
    suites: dict[str, Any]
    """The table of suites made elsewhere; empty before any was played."""
    episodes: list[EpisodeFile]
    """All files of the evaluations before and after, the first and the last one of training."""

    @property
    def complete(self) -> bool:
        return bool(self.result)

    def rate(self, mode: str, split: str, phase: str) -> dict[str, Any]:
        """One success rate: from the evaluation itself, else from `result.json`; {} while there is none."""
        evaluated = self.evaluations.get(phase, {}).get(mode, {}).get(split)
        told = self.result if mode == "sampled" else self.result.get(mode, {})
        rate = evaluated or told.get(f"{SPLITS[split]}_{phase}", {})
        return rate if rate.get("n") != 0 else {}  # of an empty split

    @property
    def counts(self) -> dict[str, int]:
        """Environments and tasks: as `result.json` tells, else as the task set does."""
        counted = dict(self.manifest.get("counts", {}))
        if isinstance(counted.get("tasks"), dict):
            counted["tasks"] = sum(counted["tasks"].values())
        names = ("environments", "tasks", "learnable_environments")
        return {name: (counted | self.result)[name] for name in names if name in counted | self.result}


def read_run(folder: Path) -> RunFolder:
    """Reads what there is.

    Raises:
      ReportError: there is no such folder, or one of its files is damaged.
    """
    if not folder.is_dir():
        raise ReportError(f"run folder not found: {folder}")
    return RunFolder(
        name=folder.resolve().name,
        config=read_object(folder / "config.json"),
        metrics=_read_rows(folder / "metrics.jsonl"),
        result=read_object(folder / "result.json"),
        timing=read_object(folder / "timing.json"),
        manifest=read_object(folder / "task_set" / "manifest.json"),
        evaluations={phase: read_object(folder / "evaluations" / f"{phase}.json") for phase in PHASES},
        suites=read_object(folder / "suites" / "table.json"),
        episodes=list(_episode_files(folder / "episodes")),
    )


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object of a run; {} where the file is not there.

    Raises:
      ReportError: the file holds something else.
    """
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ReportError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ReportError(f"{path}: must be a JSON object, got {type(value).__name__}")
    return value


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return read_metrics(path)
    except ValueError as error:
        raise ReportError(str(error)) from error


def _episode_files(folder: Path) -> Iterator[EpisodeFile]:
    for stage in ("eval_before", "train", "eval_after"):
        paths = sorted((folder / stage).glob("*.jsonl"))
        for path in dict.fromkeys(paths[:1] + paths[-1:]) if stage == "train" else paths:
            yield EpisodeFile(stage=stage, name=path.stem, rows=list(_rows(path)))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ReportError(f"{path}:{number}: not JSON: {error}") from error
            if not isinstance(row, dict) or not {"task_id", "turns", "reward", "stop_reason"} <= row.keys():
                raise ReportError(f"{path}:{number}: not an episode")
            yield row
