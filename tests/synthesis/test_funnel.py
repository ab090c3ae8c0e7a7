"""Laws of the funnel's counts, and one worked by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.records import Rejection
from codegym_jax.synthesis import funnel

STAGES = {"first": "things", "second": "things", "third": "things"}


def test_matches_hand_computation():
    """10 enter, 3 leave for two reasons, one more comes in: 8 enter the second stage, and 1 leaves it."""
    refused = [
        funnel.Refusal(reason="late", subject="a", stage="first"),
        funnel.Refusal(reason="late", subject="b", stage="first"),
        funnel.Refusal(reason="early", subject="c", stage="first"),
        funnel.at("second", Rejection(reason="odd")),
    ]
    assert funnel.rows(STAGES, 10, funnel.by_stage(refused), {"second": 1}) == [
        {"stage": "first", "things": "things", "entered": 10, "left": {"late": 2, "early": 1}, "passed": 7},
        {"stage": "second", "things": "things", "entered": 8, "left": {"odd": 1}, "passed": 7, "added": 1},
        {"stage": "third", "things": "things", "entered": 7, "left": {}, "passed": 7},
    ]


@given(
    st.lists(st.tuples(st.sampled_from(list(STAGES)), st.sampled_from("abc"))),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(list(STAGES)), st.integers(1, 5)),
)
def test_nothing_is_lost(left, more, added):
    refused = [funnel.Refusal(reason=reason, stage=stage) for stage, reason in left]
    rows = funnel.rows(STAGES, len(refused) + more, funnel.by_stage(refused), added)
    entered = len(refused) + more
    for row in rows:
        entered += row.get("added", 0)
        assert row["entered"] == entered == row["passed"] + sum(row["left"].values())
        entered = row["passed"]
    assert entered == more + sum(added.values())


def test_a_rejection_without_a_stage_is_the_outliners():
    assert funnel.by_stage([Rejection(reason="no_input")]) == {funnel.OUTLINE: {"no_input": 1}}


@pytest.mark.parametrize("stage", ["forth", "third"])
def test_a_count_that_cannot_be_is_refused(stage):
    """One at a stage that is not there, or more than entered."""
    with pytest.raises(ValueError, match=stage):
        funnel.rows(STAGES, 0, {stage: {"lost": 1}})
