"""What a long run holds on to: private memory of the parent and of its workers, open files, children."""

import multiprocessing
import os
import pathlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import machine

MEMORY_ALLOWANCE_BYTES = 16 * 2**20
"""By so much may a process have grown over the run; caches that fill and a heap that settles stay below."""
FILES_ALLOWANCE = 8
"""A pipe more or less at the moment of the look, never more with time."""

_SETTLED = 0.1  # of the run is left out of the comparison: it is when caches fill
_EDGE = 0.2  # of the rest is "first", and as much is "last"


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the processes."""

    time_s: float
    parent_bytes: int
    worker_bytes: int
    """Of the worker that has lived longest."""
    files: int
    children: int


@dataclass(slots=True)
class Watch:
    """The looks of a run."""

    looks: list[Look] = field(default_factory=list)
    most_children: int = 0

    def look(self, oldest_worker: int) -> Look:
        """Notes how things stand; a worker that has just died counts as empty."""
        try:
            worker_bytes = machine.private_bytes(oldest_worker)
        except (OSError, StopIteration):
            worker_bytes = 0
        look = Look(
            time_s=time.monotonic(),
            parent_bytes=machine.private_bytes(),
            worker_bytes=worker_bytes,
            files=len(list(pathlib.Path(f"/proc/{os.getpid()}/fd").iterdir())),
            children=len(multiprocessing.active_children()),
        )
        self.looks.append(look)
        self.most_children = max(self.most_children, look.children)
        return look

    def summary(self) -> dict[str, Any]:
        """First, last and slope of what was seen, and what has grown beyond its allowance."""
        looks = self.looks[int(_SETTLED * len(self.looks)) :]
        parent = _trend(looks, [look.parent_bytes for look in looks])
        worker = _trend(looks, [look.worker_bytes for look in looks])
        files = _trend(looks, [look.files for look in looks])
        grown = [
            name
            for name, trend, allowance in (
                ("parent", parent, MEMORY_ALLOWANCE_BYTES),
                ("worker", worker, MEMORY_ALLOWANCE_BYTES),
                ("files", files, FILES_ALLOWANCE),
            )
            if trend["last"] - trend["first"] > allowance
        ]
        return {
            "parent_mib": _in_mib(parent),
            "oldest_worker_mib": _in_mib(worker),
            "files": files,
            "most_children": self.most_children,
            "allowance_mib": MEMORY_ALLOWANCE_BYTES / 2**20,
            "grown": grown,
        }


def _trend(looks: Sequence[Look], values: Sequence[float]) -> dict[str, float]:
    """Medians of the first and of the last looks, and the slope of a straight line through all, per hour."""
    edge = max(1, int(_EDGE * len(values)))
    trend = {"first": statistics.median(values[:edge]), "last": statistics.median(values[-edge:])}
    hours = [look.time_s / 3600 for look in looks]
    slope = statistics.linear_regression(hours, values).slope if len(set(hours)) > 1 else 0.0
    return {**trend, "per_hour": round(slope, 3)}


def _in_mib(trend: dict[str, float]) -> dict[str, float]:
    return {name: round(value / 2**20, 2) for name, value in trend.items()}
