"""What a run measures: every name with its unit and meaning, and the file `metrics.jsonl` that holds it.

One line is one JSON object: `stage`, `step`, `wall_s`, then the values. Metrics of the group `clock`
depend on the machine's speed; every other field of a killed and resumed run equals that of a run that was
never interrupted.
"""

import json
import math
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple


class Metric(NamedTuple):
    """What a metric's number means."""

    unit: str
    meaning: str
    group: str


METRICS: dict[str, Metric] = {
    "reward": Metric("1", "mean reward of the valid episodes of a step", "outcome"),
    "success": Metric("1", "share of episodes that earned reward 1", "outcome"),
    "ci_low": Metric("1", "lower end of the success rate's 95% interval", "outcome"),
    "ci_high": Metric("1", "upper end of the success rate's 95% interval", "outcome"),
    "n": Metric("episodes", "episodes behind the success rate", "outcome"),
    "success/<split>": Metric("1", "share of a split's episodes that earned reward 1", "outcome"),
    "ci_low/<split>": Metric("1", "lower end of its 95% interval", "outcome"),
    "ci_high/<split>": Metric("1", "upper end of its 95% interval", "outcome"),
    "n/<split>": Metric("episodes", "episodes behind it", "outcome"),
    "valid_fraction": Metric("1", "share of episodes in which the host did not fail", "outcome"),
    "calls_per_episode": Metric("calls", "mean tool calls of an episode, `Done` included", "episode"),
    "tokens_per_episode": Metric("tokens", "mean length of an episode, prompt included", "episode"),
    "policy_tokens": Metric("tokens", "tokens that the policy produced in a step", "episode"),
    "stop/<reason>": Metric("1", "share of episodes that ended so (`records.StopReason`)", "episode"),
    "call_error/<kind>": Metric("1", "share of calls that failed so (`records.CallError`)", "episode"),
    "used_episodes": Metric("episodes", "episodes with an advantage other than 0", "learning"),
    "loss": Metric("1", "what the optimizer lowers; for SFT the nats per policy token", "learning"),
    "entropy": Metric("nats", "mean entropy of the policy at its own tokens", "learning"),
    "ratio_max": Metric("1", "largest ratio of the learner's token probability to the sampler's", "learning"),
    "clip_fraction": Metric("1", "share of policy tokens whose gradient the clip removed", "learning"),
    "mismatch_kl": Metric(
        "nats", "estimated KL from the sampler's distribution to the learner's", "learning"
    ),
    "grad_norm": Metric("1", "global gradient norm before clipping", "learning"),
    "learning_rate": Metric("1", "of this update", "learning"),
    "tokens": Metric("tokens", "tokens that the loss counted in a step", "learning"),
    "tokens_per_second": Metric("tokens/s", "of training, padding excluded", "clock"),
    "rollout_s": Metric("s", "time a step spent sampling episodes", "clock"),
    "update_s": Metric("s", "time a step spent on updates", "clock"),
    "wall_s": Metric("s", "time since this process opened the file", "clock"),
}
"""A name that ends in `/<word>` stands for every name with that beginning."""

_HEAD = ("stage", "step", "wall_s")
_PATTERN = re.compile("|".join(re.sub(r"<\w+>", r"[a-z0-9_]+", name) for name in METRICS))
_CLOCK = frozenset(name for name, metric in METRICS.items() if metric.group == "clock")


class MetricsWriter:
    """Appends rows to `metrics.jsonl`; a row is on the disk when `write` returns."""

    def __init__(self, path: Path, *, cursor: int | None = None, clock: Callable[[], float] = time.monotonic):
        """Opens the file, which is made where it is missing.

        Args:
          path: the file.
          cursor: bytes to keep, as a checkpoint saved them: what a killed process wrote after its last
            checkpoint is dropped, and will be written again. 0 starts afresh. None appends, after dropping a
            last line that a kill has cut.
          clock: seconds, for `wall_s`.

        Raises:
          ValueError: the file is shorter than `cursor`, so it is not the checkpoint's.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        size = path.stat().st_size
        keep = _end_of_last_line(path) if cursor is None else cursor
        if keep > size:
            raise ValueError(f"{path}: the checkpoint has seen {keep} bytes of it, but it holds {size}")
        self._file: BinaryIO = path.open("r+b")
        self._file.truncate(keep)
        self._file.seek(keep)
        self._clock = clock
        self._start_s = clock()

    @property
    def cursor(self) -> int:
        """The file's length in bytes; goes into a checkpoint."""
        return self._file.tell()

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Appends one row.

        Args:
          stage: `sft`, `train`, `control`, or another stage's name.
          step: counts from 1 within a stage.
          values: name -> number; kept to 7 significant digits, a number that is not finite as null.

        Raises:
          ValueError: a name is not in `METRICS`, or is one of the row's own fields.
        """
        for name in values:
            if name in _HEAD or not _PATTERN.fullmatch(name):
                raise ValueError(f"metric {name!r} is not declared in codegym_jax.metrics.METRICS")
        wall_s = round(self._clock() - self._start_s, 3)
        row = {"stage": stage, "step": int(step), "wall_s": wall_s}
        row |= {name: _number(value) for name, value in values.items()}
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file; may be called twice."""
        self._file.close()

    def __enter__(self) -> "MetricsWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Reads all whole rows; a last line that a kill has cut is left out, a missing file has no rows.

    Raises:
      ValueError: a line before the last is not a row.
    """
    if not path.is_file():
        return []
    lines = path.read_bytes()[: _end_of_last_line(path)].splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}:{number}: not a row of metrics: {error}") from error
        if not isinstance(row, dict) or not {"stage", "step"} <= row.keys():
            raise ValueError(f"{path}:{number}: a row of metrics is an object with stage and step")
        rows.append(row)
    return rows


def series(rows: Sequence[Mapping[str, Any]], stage: str, name: str) -> tuple[list[int], list[float]]:
    """The steps and values of one metric in one stage; null reads as NaN, rows without it are left out."""
    picked = [row for row in rows if row["stage"] == stage and name in row]
    values = [math.nan if row[name] is None else float(row[name]) for row in picked]
    return [row["step"] for row in picked], values


def without_clock(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row less its wall-clock fields: what two runs with one seed must agree on."""
    return {name: value for name, value in row.items() if name not in _CLOCK}


def _number(value: Any) -> int | float | None:
    if isinstance(value, int):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else float(f"{number:.7g}")


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
