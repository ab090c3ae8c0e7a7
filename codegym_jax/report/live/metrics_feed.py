"""The rows of `metrics.jsonl` as they come, also where a resumed run takes some back."""

import json
import secrets
import threading
from pathlib import Path
from typing import Any, NamedTuple

from codegym_jax.report.live.tail import Mark, read_on


class Rows(NamedTuple):
    """The rows behind those that a reader has."""

    generation: str
    """Another one than the reader's means: forget all rows, these are all there are."""
    first: int
    """How many rows stand before these."""
    rows: list[dict[str, Any]]


class MetricsFeed:
    """Follows one file; several threads may ask."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet; the file may come later."""
        self._path, self._mark, self._lock = path, Mark(), threading.Lock()
        self._rows: list[dict[str, Any]] = []
        self._process, self._times_anew = secrets.token_hex(4), 0

    def all(self) -> list[dict[str, Any]]:
        """All rows that are there now."""
        return self.since("", 0).rows

    def since(self, generation: str, count: int) -> Rows:
        """The rows behind the first `count` of a generation."""
        with self._lock:
            self._look()
            now = f"{self._process}-{self._times_anew}"
            first = min(count, len(self._rows)) if generation == now else 0
            return Rows(now, first, self._rows[first:])

    def _look(self) -> None:
        try:
            look = read_on(self._path, self._mark)
        except FileNotFoundError:
            return
        if look is None:
            return
        if look.anew:
            self._rows, self._times_anew = [], self._times_anew + 1
        self._mark = look.mark
        self._rows += [row for line in look.lines if (row := _row(line.text)) is not None]


def _row(text: bytes) -> dict[str, Any] | None:
    """A row; None for a line that is none, such as one that a full disk has cut."""
    try:
        row = json.loads(text)
    except ValueError:
        return None
    return row if isinstance(row, dict) and {"stage", "step", "wall_s"} <= row.keys() else None
