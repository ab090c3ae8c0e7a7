"""Shapes the scores of suites for the page: a row for each subset, a column for each line that was played."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.report.run_folder import RunFolder


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreCell:
    """A score in percent, with its interval; both empty where it was not played."""

    text: str = ""
    interval: str = ""
    note: str = ""
    """What a reader should know before trusting it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRow:
    """One subset of a suite."""

    suite: str
    subset: str
    cells: list[ScoreCell]
    size: str
    """Tasks, and runs of the policies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreTable:
    """The whole table; `labels` are those of the columns of `cells`."""

    labels: list[str]
    rows: list[ScoreRow]
    doubted: list[str]
    """Subsets whose oracle is not right everywhere."""


def out_of_domain(run: RunFolder) -> ScoreTable | None:
    """The table of the suites that a run has played; None before any."""
    table = run.suites
    if not table.get("columns"):
        return None
    lines, changes = table["rows"], table["differences"]
    rows = []
    doubted = []
    for place, column in enumerate(table["columns"]):
        cells = [line["cells"][place] for line in lines]
        shown = [_score(cell) for cell in cells] + [_change(change["cells"][place]) for change in changes]
        rows.append(ScoreRow(**column, cells=shown, size=_size(cells)))
        oracle = [cell for line, cell in zip(lines, cells, strict=True) if line["line"] == "oracle"]
        if any(cell is None or cell["mean"] < 1.0 or cell["invalid"] for cell in oracle):
            doubted.append(f"{column['suite']} {column['subset']}")
    labels = [str(line["label"]) for line in (*lines, *changes)]
    return ScoreTable(labels=labels, rows=rows, doubted=doubted)


def _score(cell: Mapping[str, Any] | None) -> ScoreCell:
    if cell is None:
        return ScoreCell()
    notes = [f"{cell['invalid']} invalid"] if cell["invalid"] else []
    short = cell["stops"].get("prompt_too_long", 0)
    notes += [f"{short} of {cell['attempts']} did not fit"] if short else []
    return ScoreCell(text=_percent(cell["mean"]), interval=_interval(cell["ci95"]), note=", ".join(notes))


def _change(cell: Mapping[str, Any] | None) -> ScoreCell:
    if cell is None:
        return ScoreCell()
    interval = "" if cell["ci95"] is None else _interval(cell["ci95"], "+")
    return ScoreCell(text=_percent(cell["mean"], "+"), interval=interval)


def _size(cells: Sequence[Mapping[str, Any] | None]) -> str:
    """Of the line with most attempts."""
    played = [cell for cell in cells if cell is not None]
    most = max(played, key=lambda cell: cell["attempts"])
    return f"{most['tasks']:,}" + (f" × {most['runs']}" if most["runs"] > 1 else "")


def _percent(share: float, sign: str = "") -> str:
    return f"{100 * share:{sign}.1f}".replace("-", "−")


def _interval(bounds: Sequence[float], sign: str = "") -> str:
    return f"[{', '.join(_percent(bound, sign) for bound in bounds)}]"
