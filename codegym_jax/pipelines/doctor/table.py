"""The findings as a table for people, and as JSON for programs."""

import json
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from codegym_jax.pipelines.doctor.finding import Row, Status

_COLORS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "bold red", Status.NOT_CHECKED: "dim"}
_WIDTH = 140
"""Where the output is no terminal."""


def show(rows: Sequence[Row]) -> None:
    """Prints the table, and what it comes to."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    table = Table(box=None, pad_edge=False)
    for name in ("check", "", "found", "fix"):
        table.add_column(name, overflow="fold")
    for row in rows:
        finding = row.finding
        table.add_row(
            Text(finding.check + _whose(row)),
            Text(finding.status.value, _COLORS[finding.status]),
            Text(finding.found),
            Text(finding.fix),
        )
    console.print(table)
    console.print(Text(conclusion(rows)))


def as_json(rows: Sequence[Row]) -> str:
    """The same."""
    return json.dumps({"ok": passed(rows), "checks": [row.to_dict() for row in rows]}, indent=2)


def passed(rows: Sequence[Row]) -> bool:
    """Whether nothing failed."""
    return not any(row.finding.status is Status.FAIL for row in rows)


def conclusion(rows: Sequence[Row]) -> str:
    """How many checks ended how."""
    counts = [(sum(row.finding.status is status for row in rows), status.value) for status in Status]
    told = ", ".join(f"{count} {name}" for count, name in counts if count)
    return f"{told}: {'nothing stands in the way of a run' if passed(rows) else 'a run would not work'}"


def _whose(row: Row) -> str:
    return f" [process {_ranges(row.processes)}]" if row.processes else ""


def _ranges(indices: Sequence[int]) -> str:
    """`0-3, 7` of 0, 1, 2, 3, 7."""
    spans: list[list[int]] = []
    for index in indices:
        if spans and index == spans[-1][1] + 1:
            spans[-1][1] = index
        else:
            spans.append([index, index])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)
