"""Rows of a study to points: means over seeds, and how sure they are."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.evals.suites.statistics import Interval, mean, t_interval
from codegym_jax.pipelines.study.conduct import RESULTS

Rows = Mapping[int, Mapping[str, Any]]
"""Of one arm: seed -> what came of its run."""


class Results(NamedTuple):
    """What a study has so far."""

    head: Mapping[str, Any]
    """The pool and the budget."""
    arms: Mapping[str, Rows]
    """Of arms and warm starts, by name."""


class Point(NamedTuple):
    """A success rate over the seeds that there are."""

    mean: float
    """Of the seeds' rates."""
    interval: Interval | None
    """95%, by Student's t over seeds: of environments and chance as the seeds draw them. None of one seed."""
    pooled: Interval
    """95%, Wilson's, of the tasks of all seeds together as if they were independent."""
    by_seed: Sequence[float]
    tasks: int


class Gap(NamedTuple):
    """How far an arm is above another, by pairs of the same seed."""

    mean: float
    interval: Interval | None
    seeds: int


def read_results(folder: Path) -> Results:
    """What `results.jsonl` of a study holds."""
    head, *rows = map(json.loads, (folder / RESULTS).read_text(encoding="utf-8").splitlines())
    arms: dict[str, dict[int, Any]] = defaultdict(dict)
    for row in rows:
        arms[row["arm"]][row["seed"]] = row
    return Results(head, dict(arms))


def point(rows: Rows, mode: str, name: str) -> Point:
    """Success of an arm.

    Args:
      rows: at least one.
      mode: `sampled` or `greedy`.
      name: of the set of tasks (`measure.SETS`).
    """
    rates = [row["success"][mode][name] for _, row in sorted(rows.items())]
    tasks = sum(rate["n"] for rate in rates)
    successes = min(float(tasks), sum(rate["success"] * rate["n"] for rate in rates))
    by_seed = [rate["success"] for rate in rates]
    return Point(mean(by_seed), t_interval(by_seed), wilson_interval(successes, tasks), by_seed, tasks)


def gap(rows: Rows, base: Rows, mode: str, name: str) -> Gap | None:
    """An arm against another; None where they have no seed in common."""
    seeds = sorted(rows.keys() & base.keys())
    if not seeds:
        return None
    pairs = [_success(rows[seed], mode, name) - _success(base[seed], mode, name) for seed in seeds]
    return Gap(mean(pairs), t_interval(pairs, -1.0, 1.0), len(seeds))


def _success(row: Mapping[str, Any], mode: str, name: str) -> float:
    return row["success"][mode][name]["success"]
