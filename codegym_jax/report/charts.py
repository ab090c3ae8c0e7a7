"""Charts as inline SVG: numbers in, markup out. Colors are CSS variables, so that the page's theme decides.

Matplotlib draws fixed colors and fixed text sizes; these follow dark mode, scale to a phone, and show a value
under the pointer without a script.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 196
WIDE = 720
"""Of a chart that stands alone in its row."""
_LEFT, _RIGHT, _TOP, _BOTTOM = 42, 8, 8, 24
_MAX_POINTS = 160
_SMOOTHED_FROM = 24
_MAX_HITS = 80
_CHAR = 7.2  # width of a character below a column, a little more than it takes


class Series(NamedTuple):
    """One line or one band; values that are not finite leave a gap."""

    label: str
    color: str
    """A CSS color, such as `var(--c1)`."""
    steps: Sequence[int]
    values: Sequence[float]


class Column(NamedTuple):
    """One column of a histogram."""

    label: str
    """Below it."""
    value: float
    color: str
    hint: str
    """What the pointer shows."""


class Stack(NamedTuple):
    """One bar of parts on top of one another, for one step or for several in a row."""

    first: int
    last: int
    """Step; the bar covers both ends."""
    parts: Sequence[float]
    """From the bottom up, at least 0."""
    hint: str
    """What the pointer shows."""


class _Frame(NamedTuple):
    """Maps data to the drawing."""

    x_low: float
    x_high: float
    marks: Sequence[float]
    """On the y axis, which spans them."""
    width: int = WIDTH

    def x(self, step: int | float) -> float:
        share = (step - self.x_low) / (self.x_high - self.x_low)
        return round(_LEFT + share * (self.width - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        share = (value - self.marks[0]) / (self.marks[-1] - self.marks[0])
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def line_chart(series: Sequence[Series], *, title: str, percent: bool = False) -> Markup:
    """Lines over steps; a long noisy one is drawn thin, with its moving mean over it.

    Args:
      series: at least one, each with at least one finite value.
      title: says what is shown to those who cannot see it.
      percent: values are shares, shown times 100.
    """
    series = [_thin(one) for one in series]
    values = [value for one in series for value in one.values if math.isfinite(value)]
    frame = _frame(series, min(values), max(values))
    parts = [_axes(frame, percent)]
    for one in series:
        if len(one.values) >= _SMOOTHED_FROM:
            parts.append(_line(one, one.values, frame, "raw"))
        parts.append(_line(one, moving_mean(one.values), frame, "line"))
    parts.append(_hits(series, frame, percent))
    return _svg(title, parts)


def stacked_area(series: Sequence[Series], *, title: str, percent: bool = False) -> Markup:
    """Bands on top of one another; all series share their steps.

    Args:
      series: from the bottom up; a value that is not finite counts as 0.
      title: says what is shown to those who cannot see it.
      percent: values are shares, shown times 100.
    """
    series = [_thin(one) for one in series]
    steps = series[0].steps
    floor = [0.0] * len(steps)
    bands: list[tuple[Series, list[float], list[float]]] = []
    for one in series:
        top = [
            below + (value if math.isfinite(value) else 0.0)
            for below, value in zip(floor, one.values, strict=True)
        ]
        bands.append((one, floor, top))
        floor = top
    frame = _frame(series, 0.0, max(max(floor), 1e-9))
    parts = [_axes(frame, percent)]
    for one, below, top in bands:
        if len(steps) == 1:  # a single step still shows as a band
            edges = [(_LEFT, top[0]), (WIDTH - _RIGHT, top[0]), (WIDTH - _RIGHT, below[0]), (_LEFT, below[0])]
            points = [(float(x), frame.y(y)) for x, y in edges]
        else:
            upper = [(frame.x(step), frame.y(y)) for step, y in zip(steps, top, strict=True)]
            lower = [(frame.x(step), frame.y(y)) for step, y in zip(steps, below, strict=True)]
            points = upper + lower[::-1]
        path = "M" + "L".join(f"{x:g},{y:g}" for x, y in points) + "Z"
        parts.append(f'<path class="band" d="{path}" style="fill:{escape(one.color)}"/>')
    parts.append(_hits(series, frame, percent))
    return _svg(title, parts)


def histogram(columns: Sequence[Column], *, title: str) -> Markup:
    """Columns side by side, from 0 up.

    Args:
      columns: at least one.
      title: says what is shown to those who cannot see it.
    """
    frame = _Frame(0.0, float(len(columns)), ticks(0.0, max(*(one.value for one in columns), 1.0), 4))
    parts = [_marks(frame, percent=False)]
    every = math.ceil(sum(len(one.label) for one in columns) * _CHAR / (WIDTH - _LEFT - _RIGHT))
    for index, one in enumerate(columns):
        x, y, floor = frame.x(index), frame.y(one.value), HEIGHT - _BOTTOM
        width = frame.x(index + 1) - x
        hint = f"<title>{escape(one.hint)}</title>"
        box = f'x="{x + 0.08 * width:.1f}" y="{y:g}" width="{0.84 * width:.1f}" height="{floor - y:.1f}"'
        if one.value:
            parts.append(f'<rect class="column" {box} rx="1" style="fill:{escape(one.color)}"/>')
        if index % every == 0:
            place = f'x="{x + width / 2:.1f}" y="{floor + 15}"'
            parts.append(f'<text class="tick" {place} text-anchor="middle">{escape(one.label)}</text>')
        whole = f'x="{x:g}" y="{_TOP}" width="{width:.1f}" height="{floor - _TOP}"'
        parts.append(f'<rect class="hit" {whole}>{hint}</rect>')
    return _svg(title, parts)


def stacked_bars(stacks: Sequence[Stack], colors: Sequence[str], *, title: str) -> Markup:
    """Stacked bars over steps, as wide as the page.

    Args:
      stacks: at least one, by rising steps.
      colors: of the parts, which all stacks have.
      title: says what is shown to those who cannot see it.
    """
    highest = max(math.fsum(one.parts) for one in stacks)
    frame = _Frame(stacks[0].first - 0.5, stacks[-1].last + 0.5, ticks(0.0, max(highest, 1e-9), 4), WIDE)
    bands: list[list[str]] = [[] for _ in colors]
    hits = []
    for one in stacks:
        left, right = frame.x(one.first - 0.5), frame.x(one.last + 0.5)
        floor = 0.0
        for band, value in zip(bands, one.parts, strict=True):
            bottom, floor = frame.y(floor), floor + value
            if value:
                band.append(f"M{left:g},{bottom:g}V{frame.y(floor):g}H{right:g}V{bottom:g}Z")
        place = f'x="{left:g}" y="{_TOP}" width="{right - left:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
        hits.append(f'<rect class="hit" {place}><title>{escape(one.hint)}</title></rect>')
    drawn = [
        f'<path class="band" d="{"".join(band)}" style="fill:{escape(color)}"/>'
        for band, color in zip(bands, colors, strict=True)
    ]
    return _svg(title, [_axes(frame, percent=False), *drawn, *hits], WIDE)


def moving_mean(values: Sequence[float]) -> list[float]:
    """A centered moving mean over a twelfth of the values; short sequences stay as they are."""
    reach = len(values) // _SMOOTHED_FROM
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)  # symmetric, so that the ends do not lag
        window = [value for value in values[index - near : index + near + 1] if math.isfinite(value)]
        means.append(sum(window) / len(window) if window else math.nan)
    return means


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers, evenly spaced, that cover [low, high] to within a thousandth of a step."""
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-3), math.ceil(high / step - 1e-3)  # forgives rounding
    return [float(f"{index * step:.12g}") for index in range(first, last + 1)]


def number(value: float, percent: bool = False) -> str:
    """A number for people: three significant digits, thousands as k and M."""
    if not math.isfinite(value):
        return "–"
    if percent:
        if 0 < value < 0.0005:
            return "<0.1%"
        digits = 0 if value >= 0.1 or value * 100 == round(value * 100) else 1
        return f"{100 * value:.{digits}f}%"
    for limit, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            return f"{value / (1e3 if sign == 'k' else limit):.3g}{sign}"
    if abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{value:.3g}"
    return text.replace("e-0", "e-").replace("-", "−")


def _frame(series: Sequence[Series], low: float, high: float) -> _Frame:
    steps = [float(step) for one in series for step in one.steps]
    x_low, x_high = min(steps), max(steps)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    if 0 <= low <= 0.6 * high:
        low = 0.0
    if high - low < 1e-9 * max(1.0, abs(high)):
        low, high = low - max(0.5 * abs(low), 1e-6), high + max(0.5 * abs(high), 1e-6)
    return _Frame(x_low, x_high, ticks(low, high, 4))


def _marks(frame: _Frame, percent: bool) -> str:
    """The y axis, as lines across."""
    right = frame.width - _RIGHT
    parts = []
    for mark in frame.marks:
        y = frame.y(mark)
        kind = "axis" if mark == frame.marks[0] else "rule"
        parts.append(f'<line class="{kind}" x1="{_LEFT}" x2="{right}" y1="{y:g}" y2="{y:g}"/>')
        label = number(mark, percent)
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:g}" text-anchor="end">{label}</text>')
    return "".join(parts)


def _axes(frame: _Frame, percent: bool) -> str:
    right, bottom = frame.width - _RIGHT, HEIGHT - _BOTTOM
    parts = [_marks(frame, percent)]
    for mark in ticks(frame.x_low, frame.x_high, 4):
        if frame.x_low <= mark <= frame.x_high and mark == int(mark):
            x = frame.x(mark)
            anchor = "end" if x > right - 12 else "middle"
            label = number(mark)
            parts.append(
                f'<text class="tick" x="{x:g}" y="{bottom + 15}" text-anchor="{anchor}">{label}</text>'
            )
    return "".join(parts)


def _line(one: Series, values: Sequence[float], frame: _Frame, kind: str) -> str:
    pieces: list[list[str]] = [[]]
    for step, value in zip(one.steps, values, strict=True):
        if math.isfinite(value):
            pieces[-1].append(f"{frame.x(step):g},{frame.y(value):g}")
        elif pieces[-1]:
            pieces.append([])
    color = escape(one.color)
    drawn = []
    for points in filter(None, pieces):
        if len(points) == 1:
            x, y = points[0].split(",")
            drawn.append(f'<circle class="{kind}" cx="{x}" cy="{y}" r="2.5" style="fill:{color}"/>')
        else:
            drawn.append(f'<path class="{kind}" d="M{"L".join(points)}" style="stroke:{color}"/>')
    return "".join(drawn)


def _hits(series: Sequence[Series], frame: _Frame, percent: bool) -> str:
    """Invisible columns that tell the values under the pointer."""
    steps = sorted({step for one in series for step in one.steps})
    steps = steps[:: math.ceil(len(steps) / _MAX_HITS)]
    width = (WIDTH - _LEFT - _RIGHT) / max(1, len(steps))
    parts = []
    for step in steps:
        told = [f"step {step:g}"]
        for one in series:
            value = dict(zip(one.steps, one.values, strict=True)).get(step)
            if value is not None:
                told.append(f"{one.label}: {number(value, percent)}")
        x = frame.x(step) - width / 2
        place = f'x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"'
        title = escape("\n".join(told))
        parts.append(f'<rect class="hit" {place}><title>{title}</title></rect>')
    return "".join(parts)


def _thin(one: Series) -> Series:
    """At most `_MAX_POINTS` points, each the mean of its neighbors, at the last of their steps."""
    size = math.ceil(len(one.steps) / _MAX_POINTS)
    if size == 1:
        return one
    steps, values = [], []
    for start in range(0, len(one.steps), size):
        finite = [value for value in one.values[start : start + size] if math.isfinite(value)]
        steps.append(one.steps[min(start + size, len(one.steps)) - 1])
        values.append(sum(finite) / len(finite) if finite else math.nan)
    return one._replace(steps=steps, values=values)


def _svg(title: str, parts: Sequence[str], width: int = WIDTH) -> Markup:
    # Safe: every part is built above from numbers and escaped strings.
    return Markup(
        f'<svg viewBox="0 0 {width} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )
