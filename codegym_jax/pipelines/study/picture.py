"""A question of a study as SVG: one panel for each set of tasks, points with their intervals over seeds."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from markupsafe import escape

from codegym_jax.pipelines.study.figures import Point
from codegym_jax.report.charts import ticks

_PANEL, _HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 14, 52, 46
_DOT, _SMALL, _CAP = 4.5, 2.2, 4
_STYLE = """
svg{font:12px system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
text{fill:#5c5850}.name{fill:#1d1c1a;font-weight:600;font-size:13px}
.rule{stroke:#e6e2d8}.axis{stroke:#8a857a}
.arm{fill:#1f67a8;stroke:#1f67a8}.start{fill:#8a857a;stroke:#8a857a}
.bar{stroke-width:1.6;fill:none}.line{stroke-width:2;fill:none}.seed{fill-opacity:.45;stroke:none}
"""


class Mark(NamedTuple):
    """A point in a panel."""

    place: int
    """Counted from the left; marks at one place share its label."""
    kind: str
    """`arm` or `start`."""
    point: Point


class Panel(NamedTuple):
    """Success on one set of tasks."""

    title: str
    marks: Sequence[Mark]


def picture(panels: Sequence[Panel], labels: Sequence[str], *, lines: bool, told: str) -> str:
    """Panels beside each other, on one scale.

    Args:
      panels: at least one, with at least one mark.
      labels: of the places.
      lines: whether marks of a kind are joined: the places are ordered.
      told: says what is shown, above it and to those who cannot see it.
    """
    points = [mark.point for panel in panels for mark in panel.marks]
    ends = [end for point in points for end in (*point.by_seed, *(point.interval or ()))]
    marks = ticks(0.0, max(*ends, 0.05), 5)
    width = _PANEL * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" width="{width}"'
        f' height="{_HEIGHT}" role="img" aria-label="{escape(told)}"><style>{_STYLE}</style>',
        f'<rect width="{width}" height="{_HEIGHT}" fill="#fff"/><text x="12" y="18">{escape(told)}</text>',
    ]
    for index, panel in enumerate(panels):
        drawn = _panel(panel, labels, marks, lines)
        parts.append(f'<g transform="translate({index * _PANEL},0)">{drawn}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, labels: Sequence[str], marks: Sequence[float], lines: bool) -> str:
    floor, right = _HEIGHT - _BOTTOM, _PANEL - _RIGHT

    def x(place: int, kind: str) -> float:
        aside = 0.1 if kind == "arm" else -0.1
        return round(_LEFT + (place + 0.5 + aside) / len(labels) * (right - _LEFT), 1)

    def y(value: float) -> float:
        return round(floor - (value - marks[0]) / (marks[-1] - marks[0]) * (floor - _TOP), 1)

    parts = [f'<text class="name" x="{_LEFT}" y="40">{escape(panel.title)}</text>']
    for mark in marks:
        kind = "rule" if mark else "axis"
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y(mark):g}" y2="{y(mark):g}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(mark) + 4:g}" text-anchor="end">{100 * mark:g}%</text>')
    for place, label in enumerate(labels):
        at = _LEFT + (place + 0.5) / len(labels) * (right - _LEFT)
        low = 16 + 13 * (place % 2 if len(labels) > 3 and not lines else 0)
        parts.append(f'<text x="{at:.1f}" y="{floor + low}" text-anchor="middle">{escape(label)}</text>')
    for kind in ("start", "arm"):
        own = [mark for mark in panel.marks if mark.kind == kind]
        if lines and len(own) > 1:
            path = "L".join(f"{x(mark.place, kind):g},{y(mark.point.mean):g}" for mark in own)
            parts.append(f'<path class="line {kind}" style="fill:none" d="M{path}"/>')
        parts += [_mark(mark, x(mark.place, kind), y) for mark in own]
    return "".join(parts)


def _mark(mark: Mark, x: float, y: Callable[[float], float]) -> str:
    point, kind = mark.point, mark.kind
    parts = [
        f'<circle class="seed {kind}" cx="{x + 7:g}" cy="{y(value):g}" r="{_SMALL}"/>'
        for value in point.by_seed
        if math.isfinite(value)
    ]
    if point.interval:
        low, high = map(y, point.interval)
        ends = f"M{x - _CAP:g},{low:g}H{x + _CAP:g}M{x - _CAP:g},{high:g}H{x + _CAP:g}"
        parts.append(f'<path class="bar {kind}" d="M{x:g},{low:g}V{high:g}{ends}"/>')
    parts.append(f'<circle class="{kind}" cx="{x:g}" cy="{y(point.mean):g}" r="{_DOT}"/>')
    return "".join(parts)
