"""What a chart draws: hand-worked coordinates, round axes, gaps where nothing was measured."""

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codegym_jax.report.charts import (
    Column,
    Series,
    histogram,
    line_chart,
    moving_mean,
    number,
    stacked_area,
    ticks,
)

FINITE = st.floats(-1e6, 1e6, allow_nan=False)


def parse(markup):
    return ElementTree.fromstring(str(markup))


def paths(markup, kind):
    """The points of every path of a class."""
    found = []
    for path in parse(markup).iter("path"):
        if path.get("class") == kind:
            points = re.findall(r"([-\d.]+),([-\d.]+)", path.get("d"))
            found.append([(float(x), float(y)) for x, y in points])
    return found


def test_a_line_meets_the_corners_of_its_axes():
    """Steps 0..10 and values 0..1 span the frame: x from 42 to 360 - 8, y from 196 - 24 up to 8."""
    chart = line_chart([Series("reward", "red", [0, 10], [0.0, 1.0])], title="Reward")
    assert paths(chart, "line") == [[(42, 172), (352, 8)]]


def test_nan_leaves_a_gap_and_a_lone_point_is_a_dot():
    values = [1.0, 2.0, math.nan, 3.0, math.inf, 2.0, 2.0]
    chart = line_chart([Series("loss", "red", range(7), values)], title="Loss")
    assert [len(points) for points in paths(chart, "line")] == [2, 2]
    assert len(list(parse(chart).iter("circle"))) == 1


@pytest.mark.parametrize("values", [[0.0], [5.0, 5.0, 5.0], [-2.0, -2.0], [1e-9, 2e-9], [0.0, 1e9]])
def test_flat_and_tiny_and_huge_lines_stay_inside(values):
    chart = line_chart([Series("x", "red", range(len(values)), values)], title="X")
    drawn = [point for line in paths(chart, "line") for point in line]
    drawn += [(float(dot.get("cx")), float(dot.get("cy"))) for dot in parse(chart).iter("circle")]
    assert drawn
    assert all(42 <= x <= 352 and 8 <= y <= 172 for x, y in drawn)


def test_bands_stack_without_holes():
    """Shares .25 and .75 of a whole: the first band spans y 172..131, the second 131..8."""
    bands = [Series("a", "red", [1, 2], [0.25, 0.25]), Series("b", "blue", [1, 2], [0.75, 0.75])]
    low, high = paths(stacked_area(bands, title="Shares", percent=True), "band")
    assert low == [(42, 131), (352, 131), (352, 172), (42, 172)]
    assert high == [(42, 8), (352, 8), (352, 131), (42, 131)]


def test_rounded_shares_do_not_push_the_axis_past_the_whole():
    thirds = [Series(name, "red", [1, 2], [0.3333334, 0.3333334]) for name in "abc"]
    chart = stacked_area(thirds, title="Shares", percent=True)
    assert "100%" in chart and "125%" not in chart and "150%" not in chart


def test_a_single_step_is_still_a_band():
    [band] = paths(stacked_area([Series("a", "red", [3], [1.0])], title="Shares"), "band")
    assert {x for x, _ in band} == {42, 352}


def test_hostile_labels_and_titles_are_escaped():
    name = '"><script>alert(1)</script>'
    series = [Series(name, name, [1, 2], [1.0, 2.0])]
    for chart in (line_chart(series, title=name), stacked_area(series, title=name)):
        assert "<script" not in chart
        assert parse(chart).get("aria-label") == name


def test_long_series_are_thinned_to_means():
    """1600 points become 160, each the mean of 10: 1580..1589 has the mean 1584.5, shown at step 1589."""
    series = [Series("x", "red", range(1600), [float(value) for value in range(1600)])]
    chart = line_chart(series, title="X")
    assert len(paths(chart, "line")[0]) == 160
    assert sum(rect.get("class") == "hit" for rect in parse(chart).iter("rect")) == 80
    assert "step 1589\nx: 1584" in [title.text for title in parse(chart).iter("title")]


@given(FINITE, FINITE, st.integers(2, 8))
def test_ticks_are_even_and_cover(low, high, count):
    low, high = sorted((low, high))
    assume(high - low > 1e-3)
    marks = ticks(low, high, count)
    gaps = [second - first for first, second in itertools.pairwise(marks)]
    assert max(gaps) == pytest.approx(min(gaps), rel=1e-6)
    assert marks[0] <= low + gaps[0] * 1e-3 and marks[-1] >= high - gaps[0] * 1e-3
    assert len(marks) <= count + 2


def test_ticks_by_hand():
    assert ticks(0.0, 1.0, 4) == [0, 0.25, 0.5, 0.75, 1]
    assert ticks(0.03, 0.61, 4) == [0, 0.2, 0.4, 0.6, 0.8]
    assert ticks(7.0, 113.0, 4) == [0, 50, 100, 150]


@given(st.lists(FINITE, max_size=200), FINITE, FINITE)
def test_the_moving_mean_keeps_lines_and_bounds(values, slope, offset):
    means = moving_mean(values)
    assert len(means) == len(values)
    if values:
        assert min(values) - 1e-3 <= min(means) and max(means) <= max(values) + 1e-3
    line = [slope * index + offset for index in range(len(values))]
    assert moving_mean(line) == pytest.approx(line, rel=1e-6, abs=1e-3)


def test_short_series_are_not_smoothed_and_nan_does_not_spread():
    values = [1.0, 5.0, 2.0]
    assert moving_mean(values) == values
    gappy = [1.0] * 30 + [math.nan] + [1.0] * 30
    assert moving_mean(gappy) == [1.0] * 61


@pytest.mark.parametrize(
    ("value", "percent", "text"),
    [
        (0.0, False, "0"),
        (1234.0, False, "1234"),
        (12345.0, False, "12.3k"),
        (2_500_000.0, False, "2.5M"),
        (-0.25, False, "−0.25"),
        (1e-5, False, "1e−5"),
        (math.nan, True, "–"),
        (0.5, True, "50%"),
        (0.123, True, "12%"),
        (0.021, True, "2.1%"),
        (0.02, True, "2%"),
        (0.0001, True, "<0.1%"),
        (0.0, True, "0%"),
        (1.0, True, "100%"),
    ],
)
def test_numbers_read_well(value, percent, text):
    assert number(value, percent) == text


def test_a_histogram_s_columns_are_to_scale_and_tell_their_counts():
    columns = [Column(f"{n}", float(n), "var(--c1)", f"{n} things") for n in (0, 50, 200)]
    svg = str(histogram(columns, title="Things"))
    heights = [float(one) for one in re.findall(r'class="column"[^>]* height="([\d.]+)"', svg)]
    assert len(heights) == 2  # nothing is drawn for nothing
    assert heights[1] == pytest.approx(4 * heights[0], abs=0.2)
    assert re.findall(r"<title>(\d+ things)</title>", svg) == ["0 things", "50 things", "200 things"]


def test_a_histogram_of_nothing_is_drawn():
    assert "<svg" in histogram([Column("a", 0.0, "red", "none")], title="Nothing")
