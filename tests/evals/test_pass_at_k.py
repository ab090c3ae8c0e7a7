"""Hand-worked values and laws of `evals.pass_at_k`."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.evals.pass_at_k import pass_at_k, wilson_interval


def test_wilson_matches_hand_computation():
    """k = 8 of n = 10, z = 2: scale = 1 + 4/10 = 1.4; center = (0.8 + 0.2) / 1.4 = 5/7;
    half = 2 / 1.4 * sqrt(0.016 + 0.01) = 0.230350."""
    low, high = wilson_interval(8, 10, z=2.0)
    assert low == pytest.approx(5 / 7 - 0.2303500, abs=1e-6)
    assert high == pytest.approx(5 / 7 + 0.2303500, abs=1e-6)


def test_wilson_of_none_and_all():
    """k = 0: center = half = z^2 / (2n) / scale, so low is 0 and high = z^2 / (n + z^2) = 4 / 14."""
    assert wilson_interval(0, 10, z=2.0) == (0.0, pytest.approx(4 / 14))
    assert wilson_interval(10, 10, z=2.0) == (pytest.approx(10 / 14), 1.0)
    assert wilson_interval(0, 0) == (0.0, 1.0)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_mirrors(counts):
    successes, n = counts
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson_interval(n - successes, n)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)


def test_four_times_the_attempts_about_halve_the_interval():
    narrow = wilson_interval(1600, 4000)
    wide = wilson_interval(400, 1000)
    assert (wide[1] - wide[0]) / (narrow[1] - narrow[0]) == pytest.approx(2.0, rel=0.01)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_pass_at_k_is_the_mean_over_all_ways_to_draw_k(n):
    for successes in range(n + 1):
        outcomes = [True] * successes + [False] * (n - successes)
        for k in range(1, n + 1):
            draws = list(itertools.combinations(outcomes, k))
            assert pass_at_k(successes, n, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_pass_at_k_matches_hand_computation():
    """n = 4, c = 2, k = 2: of 6 pairs 1 holds no success, so 5/6."""
    assert pass_at_k(2, 4, 2) == pytest.approx(5 / 6)


def test_counts_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="successes=3, n=2"):
        wilson_interval(3, 2)
    with pytest.raises(ValueError, match="k=3, n=2"):
        pass_at_k(1, 2, 3)
