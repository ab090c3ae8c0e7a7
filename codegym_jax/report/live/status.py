"""What `codegym status` prints: the facts of one run as lines, of several as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from codegym_jax.report.live.disk import Checkpoint
from codegym_jax.report.live.facts import STAGES, Facts
from codegym_jax.report.live.wording import file_size, printable, seconds

COLORS = {"running": "green", "complete": "green", "unknown": "yellow", "stopped": "red", "failed": "red"}
_SPLITS = {"test_config": "unseen configs", "test_env": "unseen environments"}


def report(facts: Sequence[Facts]) -> RenderableType:
    """The facts of one run in full, or one line for each of several."""
    return _whole(facts[0]) if len(facts) == 1 else _table(facts)


def where(facts: Facts) -> str:
    """The stage, and the step of how many."""
    place = facts.place
    return f"{STAGES[place.stage]}, {place.step} of {place.steps}" if place.steps else STAGES[place.stage]


def pace(facts: Facts) -> str:
    """The time per step and the time left; "" where nothing is known or nothing is left."""
    if facts.step_s is None:
        return ""
    if facts.left_s:
        return f"{seconds(facts.step_s)} a step, {seconds(facts.left_s)} left of this stage"
    return f"{seconds(facts.step_s)} a step"


def rates(facts: Facts) -> Iterator[tuple[str, str]]:
    """Split -> its success rates by phase, with intervals."""
    for split, phases in facts.success.items():
        told = "  ".join(f"{_rate(rate)} {phase}" for phase, rate in phases.items())
        yield _SPLITS.get(split, split), told


def _rate(rate: Mapping[str, Any]) -> str:
    low, high = rate["ci95"]
    return f"{rate['success']:.3f} [{low:.3f}, {high:.3f}]" if rate["n"] else "no tasks"


def _whole(facts: Facts) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    life = Text(facts.life.state, style=COLORS[facts.life.state]) + Text(f"  {printable(facts.life.because)}")
    table.add_row("run", Text(printable(facts.folder), style="bold"))
    table.add_row("process", life)
    table.add_row("stage", where(facts))
    for name, value in _lines(facts):
        table.add_row(name, Text(value))
    return Group(table, *(Text(f"! {text}", style="red") for text in facts.alarms))


def _lines(facts: Facts) -> Iterator[tuple[str, str]]:
    if pace(facts):
        yield "pace", pace(facts)
    if facts.rewards:
        yield "last rewards", "  ".join(f"{reward:.3f}" for reward in facts.rewards)
    yield from rates(facts)
    if facts.played:
        share = facts.invalid / facts.played
        yield "invalid attempts", f"{facts.invalid} of {facts.played} ({share:.2%})"
    yield "checkpoint", _checkpoint(facts.checkpoint)
    parts = ", ".join(f"{name} {file_size(count)}" for name, count in facts.disk.items())
    yield "disk", f"{file_size(sum(facts.disk.values()))} ({parts}); {file_size(facts.free_bytes)} free"
    if not facts.alarms:
        yield "alarms", "none"


def _checkpoint(found: Checkpoint | None) -> str:
    if found is None:
        return "none yet"
    state = {True: "intact", False: f"DAMAGED: {found.damage}", None: "all files there, digests not read"}[
        found.intact
    ]
    return f"{found.name}, {file_size(found.bytes)}, {seconds(found.age_s)} old, {state}"


def _table(facts: Sequence[Facts]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("run", "process", "stage", "step", "left", "reward", "success", "alarms"):
        table.add_column(name, justify="right" if name in ("step", "left", "reward", "alarms") else "left")
    for one in facts:
        place = one.place
        table.add_row(
            Text(printable(one.name), style="bold"),
            Text(one.life.state, style=COLORS[one.life.state]),
            STAGES[place.stage],
            f"{place.step}/{place.steps}" if place.steps else "",
            seconds(one.left_s) if one.left_s and one.life.state == "running" else "",
            f"{one.rewards[-1]:.3f}" if one.rewards else "",
            _short_rates(one),
            str(len(one.alarms)) if one.alarms else "",
        )
    return table


def _short_rates(facts: Facts) -> str:
    """Of the first split that was evaluated."""
    phases = next(iter(facts.success.values()), {})
    return " -> ".join(f"{rate['success']:.3f}" if rate["n"] else "no tasks" for rate in phases.values())
