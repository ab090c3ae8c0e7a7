"""The table of scores: a column for each subset of a suite, rows for the oracle, the no-op and each policy.

Takes the summaries of lines (`summary`), gives JSON for the report and Markdown for people.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from codegym_jax.evals.suites import statistics
from codegym_jax.evals.suites.play import NO_OP, ORACLE, Attempt

LABELS = {
    ORACLE: "oracle",
    NO_OP: "no-op",
    "start": "base",
    "sft": "after the warm start",
    "train": "after RL",
    "control": "control, more SFT",
}
"""Of lines, in the order of the rows."""
BASE = "start"
_MINUS = "−"


def summary(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """The figures of one line: the attempts of one speaker at the tasks of one subset."""
    scores: dict[str, list[float]] = defaultdict(list)
    runs: dict[int, list[float]] = defaultdict(list)
    valid = [attempt for attempt in attempts if attempt.valid]
    for attempt in valid:
        scores[attempt.task].append(attempt.score)
        runs[attempt.run].append(attempt.score)
    mean, interval = statistics.mean_score(scores)
    run_means = [statistics.mean(runs[run]) for run in sorted(runs)]
    return {
        "mean": mean,
        "ci95": list(interval),
        "tasks": len(scores),
        "runs": len(runs),
        "run_means": run_means,
        "runs_ci95": statistics.t_interval(run_means),
        "attempts": len(valid),
        "invalid": len(attempts) - len(valid),
        "stops": dict(sorted(Counter(attempt.stop for attempt in attempts).items())),
        "turns": statistics.mean([float(attempt.turns) for attempt in valid]),
        "calls": statistics.mean([float(attempt.calls) for attempt in valid]),
        "tokens": statistics.mean([float(attempt.tokens) for attempt in valid]),
        "by_task": {task: statistics.mean(of_task) for task, of_task in scores.items()},
    }


def build_table(summaries: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The table of summaries, which also name their `suite`, `subset` and `line`.

    Returns:
      `columns`, each a suite and a subset; `rows`, each a line with a cell for every column, or None where it
      was not played, and the mean of its cells where it has them all; `differences`, policies against the
      base, on the tasks that both played.
    """
    found = {(one["suite"], one["subset"], one["line"]): one for one in summaries}
    columns = sorted({(suite, subset) for suite, subset, _ in found})
    lines = sorted({line for *_, line in found}, key=_rank)
    rows = []
    for line in lines:
        cells = [_cell(found.get((*column, line))) for column in columns]
        whole = [cell["mean"] for cell in cells if cell]
        average = statistics.mean(whole) if len(whole) == len(columns) else None
        rows.append({"line": line, "label": LABELS.get(line, line), "cells": cells, "average": average})
    return {
        "columns": [{"suite": suite, "subset": subset} for suite, subset in columns],
        "rows": rows,
        "differences": [
            {"line": line, "label": f"{LABELS.get(line, line)} {_MINUS} base", "cells": cells}
            for line in lines
            if line not in (ORACLE, NO_OP, BASE)
            and any(cells := [_difference(found, column, line) for column in columns])
        ],
    }


def _rank(line: str) -> tuple[int, str]:
    known = list(LABELS)
    return (known.index(line) if line in known else len(known), line)


def _cell(one: Mapping[str, Any] | None) -> dict[str, Any] | None:
    shown = ("mean", "ci95", "runs_ci95", "tasks", "runs", "attempts", "invalid", "stops", "turns", "calls")
    return None if one is None else {key: one[key] for key in shown}


def _difference(
    found: Mapping[tuple[str, str, str], Mapping[str, Any]], column: tuple[str, str], line: str
) -> dict[str, Any] | None:
    of, against = found.get((*column, line)), found.get((*column, BASE))
    if of is None or against is None:
        return None
    compared = statistics.difference(of["by_task"], against["by_task"])
    return None if compared is None else dict(zip(("mean", "ci95", "tasks"), compared, strict=True))


def markdown(table: Mapping[str, Any]) -> str:
    """The table for people, in percent."""
    titles = [title(column) for column in table["columns"]]
    lines = [_line(["", *titles, "mean"]), _line(["---", *["---:"] * (len(titles) + 1)])]
    for row in table["rows"]:
        average = "" if row["average"] is None else percent(row["average"])
        lines.append(_line([row["label"], *(_shown(cell) for cell in row["cells"]), average]))
    for row in table["differences"]:
        lines.append(_line([row["label"], *(_signed(cell) for cell in row["cells"]), ""]))
    return "\n".join(lines)


def title(column: Mapping[str, str]) -> str:
    """A column by name."""
    suite, subset = column["suite"], column["subset"]
    return suite if suite == subset else f"{suite} {subset}"


def percent(share: float) -> str:
    """A share with one digit behind the point."""
    return f"{100 * share:.1f}"


def _shown(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    low, high = cell["ci95"]
    size = f"n={cell['tasks']}" + (f"×{cell['runs']}" if cell["runs"] > 1 else "")
    invalid = f", {cell['invalid']} invalid" if cell["invalid"] else ""
    return f"{percent(cell['mean'])} [{percent(low)}, {percent(high)}] {size}{invalid}"


def _signed(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return "–"
    bounds = "" if cell["ci95"] is None else f" [{', '.join(f'{100 * end:+.1f}' for end in cell['ci95'])}]"
    return f"{100 * cell['mean']:+.1f}{bounds}".replace("-", _MINUS)


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
