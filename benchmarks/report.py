"""From the values of rounds to lines, ratios, goals, and the Markdown table of the README."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.variants import CONTROL, OURS

Values = dict[tuple[str, str], dict[int, float]]
"""(measure, variant) -> round -> value."""

_NAME = "env_runtime"
_MORE_IS_BETTER = ("steps/s", "episodes/s", "tasks/s", "x")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a measure must reach.

    Attributes:
      of: for a ratio, the measure whose peer is compared with ours.
    """

    text: str
    measure: str
    variant: str
    bound: float
    of: str = ""


GOALS = (
    Goal("step, p50", "step_p50", OURS, 30.0),
    Goal("step, p99", "step_p99", OURS, 200.0),
    Goal("step in a batch", "step_many", OURS, 20.0),
    Goal("steps per second of one core", "steps_per_cpu_s", OURS, 20_000.0),
    Goal("cold episode", "cold_episode", OURS, 6.0),
    Goal("memory per live environment, 100 live", "memory_100", OURS, 3.0),
    Goal("memory per live environment, 1,000 live", "memory_1000", OURS, 3.0),
    Goal("step, against the snapshot server", "ratio", "snapshot_server", 1_000.0, "step_p50"),
    Goal("step, against a plain HTTP server", "ratio", "http", 25.0, "step_p50"),
    Goal("verification, against a spawned process per test", "ratio", "process_spawned", 50.0, "verify"),
    Goal("verification, against a forked process per test", "ratio", "process_forked", 15.0, "verify"),
    Goal("two workers, against one", "workers_gain", OURS, 1.8),
)


COLUMNS = (
    ("step_p50", "step_p99", "step_many", "steps_per_cpu_s", "cold_episode", "memory"),
    ("verify", "verify_cpu"),
    ("fork", "fork_cpu"),
    ("workers_1", "workers_2", "workers_gain"),
)
TITLES = {
    "step_p50": "step, p50",
    "step_p99": "p99",
    "step_many": "in a batch",
    "steps_per_cpu_s": "of one core",
    "cold_episode": "cold episode",
    "memory": "private memory",
    "verify": "verification",
    "verify_cpu": "CPU",
    "fork": "fork",
    "fork_cpu": "CPU",
    "workers_1": "1 worker",
    "workers_2": "2 workers",
    "workers_gain": "gain",
}
"""Column of a table -> its head."""


def lines(values: Values, units: dict[str, str]) -> list[dict[str, Any]]:
    """A line for each measure of each variant, then one for each ratio of a peer to us.

    A ratio says how many times better ours is: the median of the rounds in which both were measured.

    Args:
      units: of every measure in `values`.
    """
    found = [
        _line(measure, variant, rounds.values(), units[measure])
        for (measure, variant), rounds in values.items()
    ]
    for (measure, variant), rounds in values.items():
        ours = values.get((measure, ours_for(measure)), {})
        shared = [number for number in rounds if number in ours]
        if variant != ours_for(measure) and shared and variant != CONTROL:
            if units[measure] in _MORE_IS_BETTER:
                ratios = [ours[number] / rounds[number] for number in shared]
            else:
                ratios = [rounds[number] / ours[number] for number in shared]
            found.append(_line("ratio", variant, ratios, "x", of=measure))
    for line in found:
        for goal in GOALS:
            if (goal.measure, goal.variant, goal.of) == (
                line["measure"],
                line["variant"],
                line.get("of", ""),
            ):
                line |= {"goal": goal.bound, "met": _met(goal, line)}
    return found


def ours_for(measure: str) -> str:
    """The variant that stands for this project in a measure."""
    return "oracle" if measure.startswith("verify") else OURS


def table(found: Iterable[dict[str, Any]]) -> str:
    """Markdown tables: the goals, then every variant, with how many times better ours is in brackets.

    Args:
      found: the lines of a run, of several, or of a file.
    """
    by_key = {
        (line["measure"], line["variant"], line.get("of", "")): line for line in found if "variant" in line
    }
    rows = []
    for goal in GOALS:
        line = by_key.get((goal.measure, goal.variant, goal.of))
        if line is not None:
            sign = "≥" if line["unit"] in _MORE_IS_BETTER else "≤"
            value, bound = _shown(line["value"], line["unit"]), _shown(goal.bound, line["unit"])
            rows.append([goal.text, value, f"{sign} {bound}", "yes" if _met(goal, line) else "no"])
    tables = [_markdown(["", "median", "goal", "met"], rows)]
    for columns in COLUMNS:
        variants = [variant for measure, variant, of in by_key if not of and _column(measure) in columns]
        rows = [
            [f"`{variant}`", *(_cell(by_key, variant, column) for column in columns)]
            for variant in dict.fromkeys(variants)
        ]
        if rows:
            tables.append(_markdown(["", *(TITLES[column] for column in columns)], rows))
    return "\n".join(tables)


def _line(measure: str, variant: str, values: Iterable[float], unit: str, **more: str) -> dict[str, Any]:
    values = [float(f"{value:.5g}") for value in values]
    return {
        "benchmark": _NAME,
        "measure": measure,
        "variant": variant,
        **more,
        "value": statistics.median(values),
        "unit": unit,
        "runs": len(values),
        "values": values,
    }


def _key(line: dict[str, Any]) -> tuple[str, str, str]:
    return line["measure"], line["variant"], line.get("of", "")


def _met(goal: Goal, line: dict[str, Any]) -> bool:
    more = line["unit"] in _MORE_IS_BETTER
    return line["value"] >= goal.bound if more else line["value"] <= goal.bound


def _column(measure: str) -> str:
    return "memory" if measure.startswith("memory_") else measure


def _cell(by_key: dict[tuple[str, str, str], dict[str, Any]], variant: str, column: str) -> str:
    """A value and its ratio; of several numbers of live environments, the largest that has one."""
    found = [
        measure for measure, name, of in by_key if not of and name == variant and _column(measure) == column
    ]
    compared = [measure for measure in found if ("ratio", variant, measure) in by_key]
    if not found:
        return ""
    measure = (compared or found)[-1]
    line = by_key[measure, variant, ""]
    shown = _shown(line["value"], line["unit"])
    return f"{shown} ({_shown(by_key['ratio', variant, measure]['value'], 'x')})" if compared else shown


def _shown(value: float, unit: str) -> str:
    number = f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{number}x" if unit == "x" else f"{number} {unit}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)
