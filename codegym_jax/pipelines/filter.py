"""A task set without the tasks that a policy solves too often, or too rarely.

The attempts lie in `<out>.filter` (`pass_rates`), so a killed command goes on where it was, and other bounds
cost none.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from codegym_jax.config import ConfigError, digest, require
from codegym_jax.data.splits import SPLITS
from codegym_jax.data.task_set import TaskSet, write_task_set
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.pipelines.console import CONSOLE, say
from codegym_jax.pipelines.pass_rates import PassRate, forget_policy, pass_rates
from codegym_jax.records import Task
from codegym_jax.report.card import card
from codegym_jax.report.funnel import funnel_table

STAGE = "policy_pass_rate"
_COUNTED = ("version", "counts", "files")  # of a manifest; `write_task_set` makes them anew


@dataclass(frozen=True, kw_only=True, slots=True)
class PassRateBounds:
    """Which tasks are kept, and how their pass rates are found out."""

    tries: int = 4
    """Attempts at each task."""
    min_pass_rate: float = 0.0
    max_pass_rate: float = 0.25
    """Of the valid attempts, those that earned the reward; both bounds are kept."""
    seed: int = 0
    """Names the random streams of the attempts."""
    splits: tuple[str, ...] = SPLITS
    """Whose tasks are attempted; those of the others are kept as they are."""

    def __post_init__(self) -> None:
        require(self.tries >= 1, "--tries", self.tries, "at least 1")
        require(0 <= self.min_pass_rate <= 1, "--min-pass-rate", self.min_pass_rate, "in [0, 1]")
        low = self.min_pass_rate
        require(low <= self.max_pass_rate <= 1, "--max-pass-rate", self.max_pass_rate, f"in [{low}, 1]")
        unknown = [split for split in self.splits if split not in SPLITS]
        require(not unknown, "--split", unknown, f"among {', '.join(SPLITS)}")


def filter_task_set(
    source: Path, run: Path, out: Path, bounds: PassRateBounds, cache: Path, *, stage: str = ""
) -> Path:
    """Attempts every task of a task set with a run's policy and writes those within the bounds.

    Args:
      source: the task set.
      run: the run folder of the policy, finished or under way.
      out: the new task set; what is known of the policy lies beside it.
      bounds: of the pass rate.
      cache: where compiled guests are kept.
      stage: whose newest parameters; one of `pass_rates.POLICY_STAGES`, or the first of them that saved any.

    Returns:
      `out`.

    Raises:
      ConfigError: when the run has no such policy, `out` or what lies beside it belongs to something else, or
        no task is kept.
      TaskSetError: when there is no whole task set.
    """
    task_set = TaskSet.open(source)
    wanted = {"task_set": task_set.digest, "tries": bounds.tries, "seed": bounds.seed, "stage": stage}
    made_with = wanted | {
        "min_pass_rate": bounds.min_pass_rate,
        "max_pass_rate": bounds.max_pass_rate,
        "splits": list(bounds.splits),
    }
    if out.exists():
        _require_same_result(out, made_with)
        say(f"task set: {out} (made before)")
        return out
    split_of = {task.task_id: split for split in SPLITS for task in task_set.source(split)}
    tasks = {task.task_id: task for split in SPLITS for task in task_set.source(split)}
    attempted = {name: task for name, task in tasks.items() if split_of[name] in bounds.splits}
    work = out.with_name(f"{out.name}.filter")
    rates = pass_rates(work, run, cache, wanted, task_set.specs, attempted)
    left = {name: reason for name in attempted if (reason := _fault(rates.get(name), bounds))}
    kept = [task for name, task in tasks.items() if name not in left]
    for line in _summary(rates):
        say(line)
    if not kept:
        raise ConfigError(
            f"no task has a pass rate from {bounds.min_pass_rate} to {bounds.max_pass_rate}; give other"
            f" bounds (the attempts are kept in {work})"
        )
    row = {
        "stage": STAGE,
        "things": "tasks",
        "entered": len(tasks),
        "left": dict(sorted(Counter(left.values()).items())),
        "passed": len(kept),
    }
    _write(out, task_set, kept, split_of, rates, row, made_with)
    forget_policy(work)
    CONSOLE.print(funnel_table([row]))
    say(f"task set: {out}")
    return out


def _require_same_result(out: Path, made_with: Mapping[str, Any]) -> None:
    manifest = out / "manifest.json"
    there = json.loads(manifest.read_text()).get("filter", {}) if manifest.is_file() else {}
    if {key: there.get(key) for key in made_with} != made_with:
        raise ConfigError(f"--out must name a new folder, but {out} holds something else")


def _fault(rate: PassRate | None, bounds: PassRateBounds) -> str:
    """Why a task is left out; "" where it is kept."""
    if rate is None:
        return "host_failure"
    if rate.rate > bounds.max_pass_rate:
        return "passed_too_often"
    return "passed_too_rarely" if rate.rate < bounds.min_pass_rate else ""


def _summary(rates: Mapping[str, PassRate]) -> list[str]:
    """What the policy can do, for people."""
    solved = Counter(round(rate.rate, 3) for rate in rates.values())
    stops: Counter[str] = Counter()
    for rate in rates.values():
        stops.update(rate.stops)
    told = ", ".join(f"{reason.replace('_', ' ')} {count}" for reason, count in stops.most_common())
    return [
        *(f"pass rate {rate:.3g}: {count} tasks" for rate, count in sorted(solved.items())),
        f"attempts ended by: {told}",
    ]


def _write(
    out: Path,
    task_set: TaskSet,
    tasks: Sequence[Task],
    split_of: Mapping[str, str],
    rates: Mapping[str, PassRate],
    row: Mapping[str, Any],
    made_with: Mapping[str, Any],
) -> None:
    """Writes the task set that is left, with its source's notes on what is in it."""
    rates_of: defaultdict[str, list[float]] = defaultdict(list)
    for task in tasks:
        if task.task_id in rates:
            rates_of[task.env_id].append(rates[task.task_id].rate)
    used = {task.env_id for task in tasks}
    specs = {env_id: spec for env_id, spec in task_set.specs.items() if env_id in used}
    before = {key: value for key, value in task_set.manifest.items() if key not in _COUNTED}
    manifest = before | {
        "digest": digest(task_set.digest, dict(made_with)),
        "environments": len(specs),
        "tasks": len(tasks),
        "learnable": [env_id for env_id in before.get("learnable", []) if env_id in used],
        "environments_by_origin": dict(sorted(Counter(spec.origin for spec in specs.values()).items())),
        "filter": dict(made_with),
        "funnel": [*before.get("funnel", []), row],
        "command": "codegym filter",
    }
    notes = {
        env_id: task_set.features[env_id]
        | ({"pass_rate": round(fmean(rates_of[env_id]), 4)} if rates_of[env_id] else {})
        for env_id in specs
    }
    write_task_set(
        out,
        list(specs.values()),
        tasks,
        notes,
        split_of,
        manifest,
        rows=(task_row(specs[task.env_id], task, index) for index, task in enumerate(tasks)),
        card=card,
    )
