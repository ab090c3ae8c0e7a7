"""What `benchmarks.algorithms` measured, as one picture and as Markdown tables.

    python -m benchmarks.algorithms_page results.jsonl --out docs > tables.md

Writes `algorithms.svg` into the folder and prints the tables, of arms that have a run for every seed. Arms
are compared in blocks: every arm begins with each seed's one warm start, so that what a seed has for all arms
drops out of their differences. What is left of all runs together says how far two arms must be apart.
"""

import argparse
import json
import math
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from markupsafe import escape
from scipy import stats

from benchmarks.algorithms import ARMS, BASE, FEW_TASKS, WARM
from codegym_jax.config import PRESETS
from codegym_jax.data.atomic import write_atomically
from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.report.charts import moving_mean, ticks

Runs = Mapping[int, Mapping[str, Any]]
"""Of one arm: seed -> what was measured."""

ABOUT = {
    "codegym-paper": "the base: GRPO, mean over tokens, clip 0.2, no KL ([2509.17325])",
    "grpo": "mean over each episode first, KL of 0.04 to the warm start in the loss ([2402.03300])",
    "dapo": "upper clip 0.28, dynamic sampling, soft penalty for long episodes ([2503.14476])",
    "dr-grpo": "no division by the group's deviation nor by length ([2503.20783])",
    "gspo": "one ratio an episode, clip 3e-4 and 4e-4 ([2507.18071])",
    "cispo": "the ratio is a bounded weight, no token loses its gradient ([2506.13585])",
    "rloo": "the mean of the other attempts as baseline, no deviation ([2402.14740])",
    "reinforce-pp": "normalized over the whole step, no baseline of the task ([2501.03262])",
    "ppo": "a critic and GAE in place of the group ([1707.06347])",
    "grpo-no-kl": "the preset `grpo` without its KL",
    "easy-first": "tasks of few oracle calls first, all of them from step 16 on",
    "dynamic-same-episodes": "dynamic sampling, stopped where it has played as many episodes",
    "dynamic-same-updates": "dynamic sampling, stopped where it has made as many updates",
    "few-tasks": "the base on 96 of the 1,363 training tasks",
    "few-tasks-prefer": "the same with `prefer_learnable=1`",
}
"""How an arm differs from the base."""

_COLUMNS, _WIDTH, _HEIGHT = 3, 312, 190
_LEFT, _RIGHT, _TOP, _BOTTOM, _HEAD = 40, 40, 30, 26, 46
_LAST = 8  # steps behind the number beside a curve
_STYLE = """
svg{font:12px system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
text{fill:#5c5850}.name{fill:#1d1c1a;font-weight:600;font-size:13px}.end{fill:#1f67a8;font-weight:600}
.rule{stroke:#e6e2d8}.axis{stroke:#8a857a}
.band{fill:#1f67a8;fill-opacity:.2}.line{stroke:#1f67a8;stroke-width:2;fill:none}
.base{stroke:#8a857a;stroke-width:1.4;stroke-dasharray:4 3;fill:none}
"""


class Spread(NamedTuple):
    """How much runs differ beyond what their arm and their seed have for all."""

    deviation: float
    freedom: int
    seeds: int

    @property
    def reach(self) -> float:
        """Half of the 95% interval of the difference of two arms, each the mean of its seeds."""
        return float(stats.t.ppf(0.975, self.freedom)) * self.deviation * math.sqrt(2 / self.seeds)

    def reach_of_all(self, arms: int) -> float:
        """Beyond which a difference between any two of so many arms is told apart, all pairs together."""
        quantile = float(stats.studentized_range.ppf(0.95, arms, self.freedom))
        return quantile * self.deviation / math.sqrt(self.seeds)


_TABLES = (
    tuple(PRESETS),
    (BASE, "dynamic-same-episodes", "dynamic-same-updates", "easy-first"),
    (FEW_TASKS, f"{FEW_TASKS}-prefer"),
    ("grpo", "grpo-no-kl", BASE),
)
"""Arms that are held against the first of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("results", type=Path, help="what benchmarks.algorithms printed")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the picture")
    options = parser.parse_args(arguments)
    arms = read(options.results.read_text().splitlines())
    arms = {name: runs for name, runs in arms.items() if len(runs) == len(arms[BASE])}
    found = spread({name: _successes(arms[name]) for name in ABOUT if name in arms})
    presets = [name for name in PRESETS if name in arms]
    write_atomically(options.out / "algorithms.svg", picture({name: arms[name] for name in presets}))
    for names in _TABLES:
        measured = [name for name in names if name in arms]
        if len(measured) > 1:
            print(success_table(arms, measured, found))
    print(effort_table(arms, [name for name in ABOUT if name in arms]))
    return 0


def read(lines: Iterable[str]) -> dict[str, dict[int, dict[str, Any]]]:
    """Arm -> its runs, of the printed lines; those that failed are left out."""
    arms: dict[str, dict[int, dict[str, Any]]] = {}
    for row in map(json.loads, lines):
        if "after" in row:
            arms.setdefault(row["arm"], {})[row["seed"]] = row
    return {name: dict(sorted(runs.items())) for name, runs in arms.items()}


def spread(values: Mapping[str, Sequence[float]]) -> Spread:
    """The residual deviation of a two-way layout without replication (randomized blocks).

        y[arm, seed] = arm + seed + e        deviation^2 = sum e^2 / f,   f = (A - 1) (S - 1)

    Args:
      values: arm -> a value for each seed, in one order of seeds; at least two arms and two seeds.

    Source: Fisher 1935, The Design of Experiments, chapter 4. The reach of all pairs is that of Tukey 1949,
    https://doi.org/10.2307/3001913.
    """
    of_seed = [statistics.fmean(column) for column in zip(*values.values(), strict=True)]
    overall = statistics.fmean(of_seed)
    squares = sum(
        (value - statistics.fmean(of_arm) - level + overall) ** 2
        for of_arm in values.values()
        for value, level in zip(of_arm, of_seed, strict=True)
    )
    freedom = (len(values) - 1) * (len(of_seed) - 1)
    return Spread(math.sqrt(squares / freedom), freedom, len(of_seed))


def success_table(arms: Mapping[str, Runs], names: Sequence[str], found: Spread) -> str:
    """Success on `test_config` by arm; the first arm is the one that the others are held against."""
    base = statistics.fmean(_successes(arms[names[0]]))
    lines = [_row("warm start", "", arms[WARM], "")]
    for name in names:
        more = 100 * (statistics.fmean(_successes(arms[name])) - base)
        points = "" if name == names[0] else f"{more:+.1f} ± {100 * found.reach:.1f}"
        lines.append(_row(f"`{name}`", ABOUT[name], arms[name], points))
    head = ["", "what differs", "sampled [95%]", f"by seed ({', '.join(map(str, arms[names[0]]))})"]
    head += ["greedy [95%]", f"points over `{names[0]}`"]
    told = f"All pairs of these together: {100 * found.reach_of_all(len(names)):.1f} points."
    return "\n".join([*_table(head, lines), "", told, ""])


def effort_table(arms: Mapping[str, Runs], names: Sequence[str]) -> str:
    """What an arm spent, and what its steps were like: means over its seeds."""
    head = ["", "steps", "tasks played", "updates", "CPU s a step", "groups with a signal"]
    head += ["entropy, last 5 steps", "tokens clipped"]
    return "\n".join([*_table(head, [_effort(name, arms[name]) for name in names]), ""])


def _row(name: str, about: str, runs: Runs, points: str) -> list[str]:
    by_seed = ", ".join(f"{value:.3f}" for value in _successes(runs))
    return [name, about, _rate(runs, "sampled"), by_seed, _rate(runs, "greedy"), points]


def _effort(name: str, runs: Runs) -> list[str]:
    rows = list(runs.values())

    def mean(value_of: Any) -> float:
        return statistics.fmean(value_of(row) for row in rows)

    cpu = [row["cpu_step_s"] for row in rows if row["cpu_step_s"] is not None and not ARMS[name].record]
    return [
        f"`{name}`",
        f"{mean(lambda row: row['steps']):.0f}",
        f"{mean(lambda row: sum(row['groups'])):,.0f}",
        f"{mean(lambda row: sum(row['updates'])):.0f}",
        f"{statistics.fmean(cpu):.1f}" if cpu else "",
        f"{mean(_signal_share):.2f}",
        f"{mean(lambda row: _last(row['entropy'])):.3f}",
        f"{mean(lambda row: row['clipped'] or 0.0):.4f}",
    ]


def _table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *lines)]


def _successes(runs: Runs) -> list[float]:
    return [row["after"]["sampled"]["success"] for row in runs.values()]


def _rate(runs: Runs, mode: str) -> str:
    """All seeds together."""
    counts = [count for row in runs.values() for count in row["after"][mode]["by_env"].values()]
    successes, n = (sum(column) for column in zip(*counts, strict=True))
    low, high = wilson_interval(successes, n)
    return f"{successes / n:.3f} [{low:.3f}, {high:.3f}]"


def _signal_share(row: Mapping[str, Any]) -> float:
    """Of all groups that were drawn."""
    informative = sum(share * count for share, count in zip(row["signal"], row["groups"], strict=True))
    return informative / sum(row["groups"])


def _last(values: Sequence[float | None], count: int = 5) -> float:
    return statistics.fmean(value for value in values[-count:] if value is not None)


def picture(presets: Mapping[str, Runs]) -> str:
    """Small multiples as SVG: for each preset what the episodes of training gained over the warm start,
    as the mean of its seeds, with a band from the least to the most, and the base's mean behind it. All are
    moving means over steps."""
    curves = {name: [moving_mean(row["gain"]) for row in runs.values()] for name, runs in presets.items()}
    values = [value for found in curves.values() for curve in found for value in curve]
    marks = ticks(min(0.0, *values), max(values), 6)
    width, height = _COLUMNS * _WIDTH, _HEAD + math.ceil(len(curves) / _COLUMNS) * _HEIGHT
    told = [
        "Success of the episodes of training, in points above the warm start on the same tasks, by step.",
        f"Line: mean of {len(curves[BASE])} seeds; band: least to most; dashed: {BASE};"
        f" number: mean of the last {_LAST} steps.",
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="{" ".join(told)}"><style>{_STYLE}</style>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        *(f'<text x="12" y="{18 + 16 * line}">{text}</text>' for line, text in enumerate(told)),
    ]
    for index, (name, runs) in enumerate(presets.items()):
        x, y = index % _COLUMNS * _WIDTH, _HEAD + index // _COLUMNS * _HEIGHT
        behind = [] if name == BASE else _means(curves[BASE])
        last = statistics.fmean(statistics.fmean(row["gain"][-_LAST:]) for row in runs.values())
        panel = _panel(name, curves[name], behind, marks, last)
        parts.append(f'<g transform="translate({x},{y})">{panel}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(
    name: str,
    curves: Sequence[Sequence[float]],
    behind: Sequence[float],
    marks: Sequence[float],
    last: float,
) -> str:
    steps, floor, right = len(curves[0]), _HEIGHT - _BOTTOM, _WIDTH - _RIGHT

    def x(step: float) -> float:
        return round(_LEFT + (step - 1) / max(steps - 1, 1) * (right - _LEFT), 1)

    def y(value: float) -> float:
        return round(floor - (value - marks[0]) / (marks[-1] - marks[0]) * (floor - _TOP), 1)

    def points(values: Iterable[float]) -> list[str]:
        return [f"{x(step):g},{y(value):g}" for step, value in enumerate(values, start=1)]

    parts = [f'<text class="name" x="{_LEFT}" y="18">{escape(name)}</text>']
    for mark in marks:
        kind, at, told = "rule" if mark else "axis", y(mark), _points(mark, 0)
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{at:g}" y2="{at:g}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:g}" text-anchor="end">{told}</text>')
    for step in sorted({1, *(int(mark) for mark in ticks(1.0, float(steps), 4) if 1 < mark <= steps)}):
        parts.append(f'<text x="{x(step):g}" y="{floor + 16}" text-anchor="middle">{step}</text>')
    columns = list(zip(*curves, strict=True))
    band = points(map(max, columns)) + points(map(min, columns))[::-1]
    parts.append(f'<path class="band" d="M{"L".join(band)}Z"/>')
    if behind:
        parts.append(f'<path class="base" d="M{"L".join(points(behind))}"/>')
    mean = _means(curves)
    parts.append(f'<path class="line" d="M{"L".join(points(mean))}"/>')
    place = f'x="{right + 5}" y="{y(mean[-1]) + 4:g}"'
    parts.append(f'<text class="end" {place}>{_points(last, 1)}</text>')
    return "".join(parts)


def _points(share: float, digits: int) -> str:
    """In hundredths, with a sign."""
    return f"{100 * share:+.{digits}f}".replace("-", "−") if round(100 * share, digits) else "0"


def _means(curves: Sequence[Sequence[float]]) -> list[float]:
    return [statistics.fmean(column) for column in zip(*curves, strict=True)]


if __name__ == "__main__":
    sys.exit(main())
