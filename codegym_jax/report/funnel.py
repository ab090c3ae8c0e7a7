"""The funnel of a synthesis: how many enter each stage, how many leave it and why, how many pass.

A funnel is a list of stages `{"stage": str, "entered": int, "left": {reason: int}, "passed": int}`, with
`"things"` (problems, environments, tasks, ...) where it says what is counted, and `"added"` where more enter
than passed the stage before. Stages that hand on to one another make one flow; what is counted anew, such as
tasks after environments, begins another.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from markupsafe import escape
from rich.table import Table
from rich.text import Text

Funnel = Sequence[Mapping[str, Any]]

_COLUMN, _LAST, _MARGIN = 166, 96, 20
_BAR, _FLOW, _HEAD, _LINE = 10, 96, 62, 15
_REASONS, _REASON_CHARS = 5, 23
_SAME = {"problems": "environments"}  # an environment is what becomes of a problem

_STYLE = """
.funnel { --f-card: #ffffff; --f-ink: #1d1c1a; --f-quiet: #5c5850; --f-in: #1f67a8; --f-out: #b8540f; --f-end: #0a6b4d; }
@media (prefers-color-scheme: dark) {
  .funnel { --f-card: #1c1c1f; --f-ink: #ece9e2; --f-quiet: #a9a499; --f-in: #6aaee8; --f-out: #e8924a; --f-end: #4fc294; }
}
.funnel text { font: 12px system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif; fill: var(--f-quiet); }
.funnel .f-name { fill: var(--f-ink); font-weight: 600; font-size: 13px; }
.funnel .f-count { fill: var(--f-ink); font-size: 19px; font-weight: 600; font-variant-numeric: tabular-nums; }
.funnel .f-left { fill: var(--f-out); font-weight: 600; }
.funnel .f-number { fill: var(--f-ink); font-variant-numeric: tabular-nums; }
.funnel .f-card { fill: var(--f-card); }
.funnel .f-bar { fill: var(--f-in); } .funnel .f-band { fill: var(--f-in); stroke: none; opacity: .26; }
.funnel .f-lost { fill: var(--f-out); stroke: none; opacity: .3; } .funnel .f-end { fill: var(--f-end); }
.funnel .f-leak { fill: none; stroke: var(--f-out); stroke-linecap: butt; opacity: .5; }
"""  # noqa: E501


def flows(funnel: Funnel) -> list[list[Mapping[str, Any]]]:
    """The stages as chains: each stage follows the one that hands on exactly what enters it."""
    chains: list[list[Mapping[str, Any]]] = []
    for stage in funnel:
        for chain in reversed(chains):
            last = chain[-1]
            handed_on = last["passed"] + stage.get("added", 0)
            if handed_on == stage["entered"] and _kind(last) == _kind(stage) != "completions":
                chain.append(stage)
                break
        else:
            chains.append([stage])
    return chains


def reasons(stage: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Why things left a stage, in words, the commonest first."""
    counts = [(reason.replace("_", " "), count) for reason, count in stage["left"].items() if count]
    return sorted(counts, key=lambda item: (-item[1], item[0]))


def funnel_table(funnel: Funnel) -> Table:
    """The funnel for a terminal."""
    table = Table(title="Funnel", title_justify="left", box=None, pad_edge=False, header_style="dim")
    table.add_column("stage")
    for name in ("entered", "left", "passed"):
        table.add_column(name, justify="right")
    table.add_column("why")
    for number, chain in enumerate(flows(funnel)):
        if number:
            table.add_row()
        for stage in chain:
            why = reasons(stage)
            table.add_row(
                Text(_title(stage)),
                f"{stage['entered']:,}",
                f"{sum(stage['left'].values()):,}" if why else "",
                f"{stage['passed']:,}",
                Text("\n".join(f"{count:6,} {reason}" for reason, count in why)),
            )
    return table


def funnel_svg(funnel: Funnel) -> str:
    """The funnel as a picture, left to right, one flow below the other; a whole SVG file, or part of a page.

    Widths are to scale within a flow. The commonest reasons stand below each stage; all of them, and whole
    names, show under the pointer.
    """
    chains = flows(funnel)
    width = max((2 * _MARGIN + _COLUMN * len(chain) + _LAST for chain in chains), default=320)
    parts, top = [], _MARGIN
    for chain in chains:
        drawn, height = _flow(chain, top)
        parts.append(drawn)
        top += height + 26
    height = max(top - 26 + _MARGIN, 60)
    told = "; ".join(f"{_title(one)}: {one['entered']} entered, {one['passed']} passed" for one in funnel)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="funnel" viewBox="0 0 {width} {height}"'
        f' width="{width}" height="{height}" style="--f-width:{width}px" role="img"'
        f' aria-label="{escape("Funnel. " + told)}">'
        f'<style>{_STYLE}</style><rect class="f-card" width="{width}" height="{height}" rx="8"/>'
        f"{''.join(parts)}</svg>"
    )


def _flow(chain: Sequence[Mapping[str, Any]], top: int) -> tuple[str, int]:
    """One chain, and its height."""
    most = max(max(stage["entered"] for stage in chain), 1)
    shown = [_reason_lines(stage) for stage in chain]
    parts = []
    for index, stage in enumerate(chain):
        x, y = _MARGIN + index * _COLUMN, top + _HEAD
        entered, passed = _tall(stage["entered"], most), _tall(stage["passed"], most)
        lost = sum(stage["left"].values())
        things = f" {stage['things']}" if _says_things(chain, index) else ""
        things += f" (+{stage['added']:,})" if stage.get("added") else ""
        parts.append(_text(x, top + 14, _title(stage), "f-name"))
        parts.append(
            f'<text x="{x}" y="{top + 40}"><tspan class="f-count">{stage["entered"]:,}</tspan>'
            f"{escape(things)}</text>"
        )
        parts.append(f'<rect class="f-bar" x="{x}" y="{y}" width="{_BAR}" height="{entered:g}" rx="1.5"/>')
        parts.append(_band(x + _BAR, x + _COLUMN, y, passed))
        if lost:
            parts.append(_lost(x + _BAR, y + passed, max(entered - passed, 1.0), top + _HEAD + _FLOW + 12))
        parts += _reasons(x, top + _HEAD + _FLOW + 32, stage, lost, shown[index])
    last = chain[-1]
    x = _MARGIN + len(chain) * _COLUMN
    parts.append(_text(x, top + 14, "passed", "f-name"))
    parts.append(_text(x, top + 40, f"{last['passed']:,}", "f-count"))
    tall = _tall(last["passed"], most)
    parts.append(f'<rect class="f-end" x="{x}" y="{top + _HEAD}" width="{_BAR}" height="{tall:g}" rx="1.5"/>')
    lines = max(1 + sum(len(lines) for _, lines in rows) + bool(rest) for rows, rest in shown)
    return "".join(parts), _HEAD + _FLOW + 32 + _LINE * lines


def _reason_lines(stage: Mapping[str, Any]) -> tuple[list[tuple[int, list[str]]], list[tuple[str, int]]]:
    """The commonest reasons as (count, wrapped name), and the others."""
    why = reasons(stage)
    kept = _REASONS if len(why) > _REASONS + 1 else len(why)
    return [(count, wrap(reason, _REASON_CHARS)[:3]) for reason, count in why[:kept]], why[kept:]


def _reasons(
    x: int,
    y: int,
    stage: Mapping[str, Any],
    lost: int,
    shown: tuple[list[tuple[int, list[str]]], list[tuple[str, int]]],
) -> list[str]:
    if not lost:
        return [_text(x, y, "all pass", "")]
    told = "\n".join(f"{count:,} {reason}" for reason, count in reasons(stage))
    parts = [f"<g><title>{escape(told)}</title>", _text(x, y, f"{lost:,} left", "f-left")]
    for count, lines in shown[0]:
        for number, line in enumerate(lines):
            y += _LINE
            if number == 0:
                parts.append(
                    f'<text x="{x}" y="{y}"><tspan class="f-number">{count:,}</tspan> {escape(line)}</text>'
                )
            else:
                parts.append(_text(x + 12, y, line, ""))
    if shown[1]:
        rest = sum(count for _, count in shown[1])
        parts.append(_text(x, y + _LINE, f"{rest:,} for {len(shown[1])} other reasons", ""))
    return [*parts, "</g>"]


def _band(x: int, end: int, y: int, tall: float) -> str:
    return f'<rect class="f-band" x="{x}" y="{y}" width="{end - x}" height="{tall:g}"/>' if tall else ""


def _lost(x: int, y: float, tall: float, floor: int) -> str:
    """What leaves bends down and thins out."""
    right = x + 34 + min(tall, 60) * 0.5
    if tall < 4:
        y, middle = y + tall / 2, (y + floor) / 2
        return (
            f'<path class="f-leak" d="M{x},{y:g}C{right - 8:g},{y:g} {right:g},{y + 4:g} {right:g},{middle:g}'
            f'V{floor}" stroke-width="{tall:g}"/>'
        )
    left = right - max(tall * 0.45, 1.5)
    return (
        f'<path class="f-lost" d="M{x},{y:g}C{x + 40},{y:g} {right:g},{y + tall * 0.4:g} {right:g},{floor}'
        f'H{left:g}C{left:g},{y + tall:g} {x + 14},{y + tall:g} {x},{y + tall:g}Z"/>'
    )


def _tall(count: int, most: int) -> float:
    return round(_FLOW * count / most, 1) if count == 0 else max(round(_FLOW * count / most, 1), 1.0)


def _text(x: int, y: int, text: str, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f'<text{named} x="{x}" y="{y}">{escape(text)}</text>'


def _title(stage: Mapping[str, Any]) -> str:
    return str(stage["stage"]).replace("_", " ")


def _kind(stage: Mapping[str, Any]) -> str:
    things = str(stage.get("things", ""))
    return _SAME.get(things, things)


def _says_things(chain: Sequence[Mapping[str, Any]], index: int) -> bool:
    """Whether what is counted is worth saying: where it changes, unless the stage's name says it."""
    things = chain[index].get("things")
    changes = index == 0 or things != chain[index - 1].get("things")
    return bool(things) and changes and chain[index]["stage"] != "problems" != things
