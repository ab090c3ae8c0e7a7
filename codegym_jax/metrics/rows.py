"""The file `metrics.jsonl`: written row by row, and read.

One line is one JSON object: `stage`, `step`, `wall_s`, then the values. Every field of a killed and resumed
run but those of the group `clock` equals that of a run that was never interrupted.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from codegym_jax.metrics.sinks import Sink
from codegym_jax.metrics.table import CLOCK, declared

_HEAD = ("stage", "step", "wall_s")


class MetricsWriter:
    """Appends rows to `metrics.jsonl`; a row is on the disk when `write` returns."""

    def __init__(
        self,
        path: Path,
        *,
        cursor: int | None = None,
        sinks: Sequence[Sink] = (),
        clock: Callable[[], float] = time.monotonic,
    ):
        """Opens the file, which is made where it is missing.

        Args:
          path: the file.
          cursor: bytes to keep, as a checkpoint saved them: what a killed process wrote after its last
            checkpoint is dropped, and will be written again. 0 starts afresh. None appends, after dropping a
            last line that a kill has cut.
          sinks: are shown every row too. They stay open when the writer closes: several writers share them.
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
        self._sinks, self._clock = tuple(sinks), clock
        self._start_s = clock()

    @property
    def cursor(self) -> int:
        """The file's length in bytes; goes into a checkpoint."""
        return self._file.tell()

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Appends one row, and returns it as it will be read back.

        Args:
          stage: `sft`, `train`, `control`, or another stage's name.
          step: counts from 1 within a stage.
          values: name -> number; kept to 7 significant digits, a number that is not finite as null.

        Raises:
          ValueError: a name is not in `METRICS`, or is one of the row's own fields.
        """
        for name in values:
            if name in _HEAD or not declared(name):
                raise ValueError(f"metric {name!r} is not declared in codegym_jax.metrics.METRICS")
        wall_s = round(self._clock() - self._start_s, 3)
        row = {"stage": stage, "step": int(step), "wall_s": wall_s}
        row |= {name: _number(value) for name, value in values.items()}
        self._file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        for sink in self._sinks:
            sink.write(row)
        return row

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


class StageRows(NamedTuple):
    """Where a stage's rows stand in the file."""

    begin: int
    """Bytes before the first of them; before what comes next where there are none."""
    end: int
    """Bytes up to the last of them."""
    followed: bool
    """Whether rows of another stage stand behind them."""


def stage_rows(path: Path, stage: str) -> StageRows:
    """Finds a stage's rows, which stand behind one another; a last line that a kill has cut is left out."""
    begin = end = size = 0
    lines = path.read_bytes()[: _end_of_last_line(path)].splitlines(keepends=True) if path.is_file() else []
    for line in lines:
        begins, size = size, size + len(line)
        if json.loads(line)["stage"] == stage:
            begin, end = begin if end else begins, size
    return StageRows(begin, end, followed=end < size) if end else StageRows(size, size, followed=False)


def series(rows: Sequence[Mapping[str, Any]], stage: str, name: str) -> tuple[list[int], list[float]]:
    """The steps and values of one metric in one stage; null reads as NaN, rows without it are left out."""
    picked = [row for row in rows if row["stage"] == stage and name in row]
    values = [math.nan if row[name] is None else float(row[name]) for row in picked]
    return [row["step"] for row in picked], values


def without_clock(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row less its wall-clock fields: what two runs with one seed must agree on."""
    return {name: value for name, value in row.items() if name not in CLOCK}


def _number(value: Any) -> int | float | None:
    if isinstance(value, int):
        return int(value)
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else float(f"{number:.7g}")


def _end_of_last_line(path: Path) -> int:
    return path.read_bytes().rfind(b"\n") + 1
