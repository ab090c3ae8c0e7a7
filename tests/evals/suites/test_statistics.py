"""Means over tasks and runs, and their intervals."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.evals.suites import statistics

SCORES = st.dictionaries(
    st.text(max_size=3), st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=1, max_size=5), max_size=8
)


def test_one_run_of_right_and_wrong_gives_wilsons_interval():
    scores = {str(number): [float(number < 3)] for number in range(10)}
    assert statistics.mean_score(scores) == (0.3, wilson_interval(3, 10))


def test_runs_that_never_differ_add_nothing():
    """Five attempts at each of ten tasks, all alike: still ten independent ones."""
    scores = {str(number): [float(number < 3)] * 5 for number in range(10)}
    assert statistics.mean_score(scores)[1] == pytest.approx(wilson_interval(3, 10))


def test_runs_that_differ_at_random_add_as_many_attempts():
    """Two tasks, each right in 2 of 4: the tasks' means do not differ, so 8 attempts count."""
    scores = {"a": [1.0, 0.0, 1.0, 0.0], "b": [0.0, 0.0, 1.0, 1.0]}
    assert statistics.mean_score(scores) == (0.5, wilson_interval(4, 8))


def test_nothing_is_known_without_attempts():
    assert statistics.mean_score({}) == (0.0, (0.0, 1.0))


@given(SCORES)
def test_a_mean_lies_in_its_interval_whatever_the_order(scores):
    p, (low, high) = statistics.mean_score(scores)
    assert 0.0 <= low <= high <= 1.0
    assert not scores or low - 1e-9 <= p <= high + 1e-9
    assert statistics.mean_score(dict(reversed(scores.items()))) == (p, (low, high))


def test_students_interval_by_hand():
    """Mean 0.3, s = 0.1, half width 4.303 * 0.1 / sqrt(3) = 0.2484."""
    assert statistics.t_interval([0.2, 0.3, 0.4]) == pytest.approx((0.0516, 0.5484), abs=1e-4)
    assert statistics.t_interval([0.2]) is None
    assert statistics.t_interval([0.0, 1.0]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (4, 2.776), (30, 2.042), (40, 2.021), (1000, 1.962)]
)
def test_students_quantile(degrees, quantile):
    """Against the usual tables."""
    assert statistics.t_quantile(degrees) == pytest.approx(quantile, abs=4e-3)


def test_a_difference_is_that_of_pairs():
    """Better by 1 at one of three common tasks; the fourth was played by one alone.

    The interval would be 1/3 +- 4.303 * 0.577 / sqrt(3), which is more than there can be.
    """
    found = statistics.difference({"a": 1.0, "b": 0.0, "c": 1.0, "d": 1.0}, {"a": 0.0, "b": 0.0, "c": 1.0})
    assert found is not None
    mean, interval, tasks = found
    assert (mean, tasks) == (pytest.approx(1 / 3), 3)
    assert interval == (-1.0, 1.0)
    assert statistics.difference({"a": 1.0}, {"b": 1.0}) is None
