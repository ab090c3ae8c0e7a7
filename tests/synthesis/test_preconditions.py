"""What a problem's own inputs have in common holds for those that are made from them."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.synthesis.outline import inputs
from codegym_jax.synthesis.outline.preconditions import MIN_WITNESSES, common, keeping

SIZES = range(3, 3 + 2 * MIN_WITNESSES)


def shuffled(items, seed):
    return random.Random(seed).sample(items, len(items))


FAMILIES = {
    "a square": [{"grid": [[r * c for c in range(n)] for r in range(n)]} for n in SIZES],
    "rows of one length": [{"grid": [[n] * 4 for _ in range(n)]} for n in SIZES],
    "a permutation": [
        {"nuts": shuffled(list(range(n)), n), "bolts": shuffled(list(range(n)), n + 50)} for n in SIZES
    ],
    "a count": [{"n": n, "items": [n % 3, *range(1, n)]} for n in SIZES],
    "ascending": [{"items": [i * n for i in range(n)]} for n in SIZES],
    "distinct": [{"items": shuffled(list(range(n)), n)} for n in SIZES],
    "an index": [{"items": [7] * n, "at": n // 2} for n in SIZES],
    "an item": [{"items": [5, 1, n], "wanted": n} for n in SIZES],
    "two as long": [{"a": [n] * n, "b": [1] * n} for n in SIZES],
    "positive": [{"n": n, "k": 1} for n in SIZES],
    "in order": [{"low": n - 2, "high": n} for n in SIZES],
}
HOLDS = {
    "a square": lambda grid: all(len(row) == len(grid) for row in grid),
    "rows of one length": lambda grid: len(set(map(len, grid))) == 1,
    "a permutation": lambda nuts, bolts: sorted(nuts) == sorted(bolts),
    "a count": lambda n, items: n == len(items),
    "ascending": lambda items: items == sorted(items),
    "distinct": lambda items: len(set(items)) == len(items),
    "an index": lambda items, at: 0 <= at < len(items),
    "an item": lambda items, wanted: wanted in items,
    "two as long": lambda a, b: len(a) == len(b),
    "positive": lambda n, k: n > 0 and k > 0,
    "in order": lambda low, high: low <= high,
}


@pytest.mark.parametrize("family", FAMILIES)
def test_inputs_that_are_made_keep_what_the_given_ones_share(family):
    originals = FAMILIES[family]
    demanded = common(originals)
    source = random.Random(0)
    made = [
        *inputs.varied(originals, source, 400),
        *inputs.shortened(originals, source, 400),
        *inputs.grown(originals, list(originals[0]), source, 400),
    ]
    kept = list(keeping(demanded, made))
    assert all(HOLDS[family](**one) for one in kept)
    assert len({str(one) for one in kept}) >= 20, "else nothing is left to make tasks of"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_property_with_one_exception_is_not_demanded(family):
    breaking = {
        "a square": {"grid": [[1, 2], [3]]},
        "rows of one length": {"grid": [[1], [2, 3]]},
        "a permutation": {"nuts": [1, 2], "bolts": [3]},
        "a count": {"n": 9, "items": [1]},
        "ascending": {"items": [3, 2, 2]},
        "distinct": {"items": [3, 2, 2]},
        "an index": {"items": [], "at": 2},
        "an item": {"items": [1], "wanted": 2},
        "two as long": {"a": [1, 2], "b": []},
        "positive": {"n": -1, "k": -7},
        "in order": {"low": 5, "high": -5},
    }[family]
    demanded = common([*FAMILIES[family], breaking])
    assert list(keeping(demanded, [breaking])) == [breaking]


def test_a_few_inputs_prove_nothing():
    assert not common(FAMILIES["ascending"][: MIN_WITNESSES - 1])


def test_repairs_by_hand():
    def repaired(family, candidate):
        return list(keeping(common(FAMILIES[family]), [candidate]))

    assert repaired("a square", {"grid": [[0, 0, 0], [0, 1, 2]]}) == [{"grid": [[0, 0], [0, 1]]}]
    assert repaired("a count", {"n": 7, "items": [2, 1]}) == [{"n": 2, "items": [2, 1]}]
    assert repaired("ascending", {"items": [0, 9, 4]}) == [{"items": [0, 4, 9]}]
    assert repaired("a permutation", {"nuts": [2, 0], "bolts": [1, 0, 4]}) == [
        {"nuts": [2, 0], "bolts": [0, 2]}
    ]
    assert repaired("distinct", {"items": [1, 1, 2]}) == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
)


@given(st.lists(st.fixed_dictionaries({"a": JSON, "b": JSON}), max_size=9))
def test_the_inputs_themselves_always_pass_unchanged(originals):
    assert list(keeping(common(originals), originals)) == originals
