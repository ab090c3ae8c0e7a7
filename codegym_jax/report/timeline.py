"""Where a run's time went: by stage, by part of a step, and step by step. Numbers in, rows and a chart out.

Stages are told by `timing.json`, steps by the times in `metrics.jsonl` (`metrics.table`, group "clock").
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from codegym_jax.report import charts
from codegym_jax.report.run_folder import RunFolder

_STAGES = {
    "synth": "synthesis",
    "sft": "warm start",
    "eval": "evaluation",
    "train": "reinforcement learning",
    "control": "control",
    "reverify": "reverification",
}
_COLORS = {
    "sampling": "var(--c1)",
    "tools": "var(--c2)",
    "waiting for episodes": "var(--c6)",
    "scoring": "var(--c4)",
    "updates": "var(--c3)",
    "checkpoint": "var(--c5)",
    "the rest": "var(--c8)",
}
"""Parts of a step, from the bottom of a bar up."""
_MAX_BARS = 120
_SLOW = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTime:
    """One stage of the run."""

    label: str
    text: str
    """Its time."""
    share: float
    """Of all stages, in percent."""
    color: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartTime:
    """One part of the steps of reinforcement learning; seconds as text."""

    label: str
    color: str
    total: str
    share: float
    """Of all steps' time, in percent."""
    median: str
    """Of a step."""
    slow: str
    """95 of 100 steps spent no more on it."""
    slowest: str
    slowest_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """The steps of reinforcement learning, one bar each, or a bar for several where there are many."""

    chart: Markup
    legend: list[tuple[str, str]]
    """(color, label)"""
    parts: list[PartTime]
    steps: int
    steps_a_bar: int


def stage_times(run: RunFolder) -> list[StageTime]:
    """The stages in the order in which the run came to them; empty before the first has ended."""
    told = run.timing or run.result.get("wall_s", {})
    seconds = {stage: _number(value) for stage, value in told.items() if stage != "total"}
    total_s = math.fsum(seconds.values()) or 1.0
    return [
        StageTime(
            label=_STAGES.get(stage, stage),
            text=duration(stage_s),
            share=100 * stage_s / total_s,
            color=f"var(--c{1 + index % 8})",
        )
        for index, (stage, stage_s) in enumerate(seconds.items())
    ]


def timeline(run: RunFolder) -> Timeline | None:
    """The steps' times; None before the first step."""
    rows = [row for row in run.metrics if row["stage"] == "train" and "rollout_s" in row]
    if not rows:
        return None
    steps = [row["step"] for row in rows]
    spent = [parts_of(row) for row in rows]
    found = [label for label in _COLORS if any(one[label] for one in spent)]
    size = math.ceil(len(rows) / _MAX_BARS)
    stacks = [_stack(steps[i : i + size], spent[i : i + size], found) for i in range(0, len(rows), size)]
    return Timeline(
        chart=charts.stacked_bars(
            stacks, [_COLORS[label] for label in found], title="Seconds of each step, by part"
        ),
        legend=[(_COLORS[label], label) for label in found],
        parts=[_part(label, steps, [one[label] for one in spent], spent) for label in found],
        steps=len(rows),
        steps_a_bar=size,
    )


def parts_of(row: Mapping[str, Any]) -> dict[str, float]:
    """A step's seconds by part; they add up to `step_s`, or to what is known of it where that is more.

    Sampling and its tools are parts of the step where it waited for all of them. Where its episodes were
    played ahead, or read from a record, it only waited.
    """
    rollout_s, sampling_s, score_s, update_s, checkpoint_s, step_s = (
        _number(row.get(name))
        for name in ("rollout_s", "sampling_s", "score_s", "update_s", "checkpoint_s", "step_s")
    )
    here = 0 < sampling_s <= rollout_s
    tools_s = min(_number(row.get("tools_s")), sampling_s) if here else 0.0
    known_s = rollout_s + score_s + update_s + checkpoint_s
    return {
        "sampling": rollout_s - tools_s if here else 0.0,
        "tools": tools_s,
        "waiting for episodes": 0.0 if here else rollout_s,
        "scoring": score_s,
        "updates": update_s,
        "checkpoint": checkpoint_s,
        "the rest": max(0.0, step_s - known_s),
    }


def duration(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds) // 60} min {int(seconds) % 60} s"
    return f"{int(seconds) // 3600} h {int(seconds) % 3600 // 60} min"


def _stack(steps: Sequence[int], spent: Sequence[Mapping[str, float]], found: Sequence[str]) -> charts.Stack:
    """The mean of some steps."""
    means = [math.fsum(one[label] for one in spent) / len(spent) for label in found]
    whole = [math.fsum(one.values()) for one in spent]
    lines = [f"{label}: {charts.number(mean)} s" for label, mean in zip(found, means, strict=True)]
    if len(steps) == 1:
        title = f"step {steps[0]}: {charts.number(whole[0])} s"
    else:
        title = (
            f"steps {steps[0]} to {steps[-1]}: {charts.number(math.fsum(whole) / len(whole))} s on average"
        )
        slowest = max(range(len(steps)), key=whole.__getitem__)
        lines.append(f"slowest: step {steps[slowest]}, {charts.number(whole[slowest])} s")
    return charts.Stack(steps[0], steps[-1], means, "\n".join([title, *lines]))


def _part(
    label: str, steps: Sequence[int], seconds: Sequence[float], spent: Sequence[Mapping[str, float]]
) -> PartTime:
    all_s = math.fsum(value for one in spent for value in one.values())
    total_s = math.fsum(seconds)
    slowest = max(range(len(steps)), key=seconds.__getitem__)
    return PartTime(
        label=label,
        color=_COLORS[label],
        total=duration(total_s),
        share=100 * total_s / (all_s or 1.0),
        median=charts.number(statistics.median(seconds)),
        slow=charts.number(sorted(seconds)[math.ceil(_SLOW * len(seconds)) - 1]),
        slowest=charts.number(seconds[slowest]),
        slowest_step=steps[slowest],
    )


def _number(value: Any) -> float:
    """A metric, which is null where it was not finite; anything else that is no time counts as none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) and value > 0 else 0.0
