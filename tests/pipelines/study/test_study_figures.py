"""Points and gaps of a study, worked by hand."""

import pytest

from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.pipelines.study.figures import gap, point


def rows(*rates: float, n: int = 50, first: int = 0):
    """One row for each rate, of seeds from `first` on."""
    return {
        first + place: {"success": {"sampled": {"unseen": {"success": rate, "n": n}}}}
        for place, rate in enumerate(rates)
    }


def test_a_point_is_the_mean_of_seeds_with_student_s_interval():
    """s = 0.1 of three seeds: 0.3 +- 4.303 * 0.1 / sqrt(3) = 0.2484, cut at 0."""
    one = point(rows(0.2, 0.3, 0.4), "sampled", "unseen")
    assert one.mean == pytest.approx(0.3)
    assert one.interval == pytest.approx((0.3 - 0.24844, 0.3 + 0.24844), abs=1e-4)
    assert (one.by_seed, one.tasks) == ([0.2, 0.3, 0.4], 150)
    assert one.pooled == pytest.approx(wilson_interval(45, 150))


def test_one_seed_has_no_interval_over_seeds():
    one = point(rows(0.2), "sampled", "unseen")
    assert one.interval is None
    assert one.pooled == pytest.approx(wilson_interval(10, 50))


def test_what_a_seed_has_for_both_arms_drops_out_of_a_gap():
    better = gap(rows(0.3, 0.5, 0.9), rows(0.2, 0.4, 0.8), "sampled", "unseen")
    assert better is not None and better.seeds == 3
    assert better.mean == pytest.approx(0.1)
    assert better.interval == pytest.approx((0.1, 0.1))


def test_a_gap_is_of_the_seeds_that_both_have():
    both = gap(rows(0.3, 0.5), rows(0.4, first=1), "sampled", "unseen")
    assert both is not None and both.seeds == 1 and both.interval is None
    assert both.mean == pytest.approx(0.1)
    assert gap(rows(0.3), rows(0.4, first=1), "sampled", "unseen") is None
