"""What `codegym top` shows: where runs stand, their curves as sparklines, where the time of a step goes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from codegym_jax.metrics import series
from codegym_jax.report.live.facts import Facts
from codegym_jax.report.live.status import COLORS, pace, rates, where
from codegym_jax.report.live.wording import printable, seconds

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 48
_CURVES = {
    "train": (
        "reward",
        "success",
        "entropy",
        "calls_per_episode",
        "signal_share",
        "grad_norm",
        "tokens_per_second",
    ),
    "sft": ("loss", "tokens_per_second"),
    "control": ("loss", "tokens_per_second"),
}
_PARTS = {"rollout_s": "episodes", "score_s": "scoring", "update_s": "updates", "checkpoint_s": "checkpoint"}
_RECENT = 20


def frame(runs: Sequence[tuple[Facts, Sequence[Mapping[str, Any]]]]) -> RenderableType:
    """One frame: facts and rows of metrics of each run."""
    return Group(*(_panel(facts, rows) for facts, rows in runs))


def _panel(facts: Facts, rows: Sequence[Mapping[str, Any]]) -> Panel:
    place, life = facts.place, facts.life
    head = Text.assemble(
        (life.state, COLORS[life.state]), f"  {where(facts)}  ", (printable(life.because), "dim")
    )
    parts: list[RenderableType] = [head]
    if place.steps:
        bar = Table.grid(expand=True)  # the bar by itself does not end its line
        bar.add_row(ProgressBar(total=place.steps, completed=place.step))
        parts.append(bar)
    if pace(facts):
        parts.append(Text(pace(facts), style="dim"))
    parts += [_curves(rows), *_times(rows)]
    parts += [Text(f"{split}: {told}") for split, told in rates(facts)]
    parts += [Text(f"! {text}", style="red") for text in facts.alarms]
    return Panel(Group(*parts), title=Text(printable(facts.name), style="bold"), title_align="left")


def _curves(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Of the stage that wrote last."""
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(justify="right", no_wrap=True)
    stage = rows[-1]["stage"] if rows else ""
    for name in _CURVES.get(stage, ()):
        values = [value for value in series(rows, stage, name)[1] if math.isfinite(value)]
        if values:
            table.add_row(name.replace("_", " "), sparkline(values, _WIDTH), f"{values[-1]:.4g}")
    return table


def _times(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Where the time of the last steps of reinforcement learning went."""
    last = [row for row in rows if row["stage"] == "train"][-_RECENT:]
    if not last or rows[-1]["stage"] != "train":
        return []
    means = {label: sum(row.get(name) or 0.0 for row in last) / len(last) for name, label in _PARTS.items()}
    told = ", ".join(f"{label} {seconds(mean_s)}" for label, mean_s in means.items() if mean_s)
    return [Text(f"a step: {told}", style="dim")] if told else []


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as a row of bars, the lowest to the highest; each bar is the mean of its share of them."""
    count = min(width, len(values))
    cuts = [round(at * len(values) / count) for at in range(count + 1)] if count else [0]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    low, high = (min(means), max(means)) if means else (0.0, 0.0)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((mean - low) * scale)] for mean in means)
