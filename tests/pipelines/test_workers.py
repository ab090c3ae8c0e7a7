"""Items and the workers that make something of them: failures are counted, and what is done is done once."""

import io

import pytest
from dying_items import Dying
from rich.console import Console

from codegym_jax.config import SandboxConfig, SynthesisConfig
from codegym_jax.pipelines.journal import Journal
from codegym_jax.pipelines.workers import MAKE, TRIES, LocalWorkers, Site, pack, unpack
from codegym_jax.records import Rejection
from codegym_jax.synthesis.funnel import PROBLEMS, Refusal, stage_of
from codegym_jax.synthesis.problems import Problem
from codegym_jax.synthesis.stages import environment_funnel, environments_of, refusals_of

BROKEN = Problem(code_id="P_1", origin="o", license="MIT", statement="s", source="x =", entry="f")
SETTINGS = SandboxConfig(), SynthesisConfig(workers=1)


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=200)


def test_a_worker_that_dies_over_an_item_is_replaced_and_the_item_tried_again(tmp_path, console):
    """One item kills the first worker it comes to, one every worker; the third shows that others go on."""
    items = {
        "once": Dying(BROKEN, tmp_path / "marker"),
        "always": Dying(BROKEN, tmp_path / "nowhere" / "marker"),
        "never": BROKEN,
    }
    with Journal(tmp_path / "partial") as journal:
        done = Site(LocalWorkers(*SETTINGS), journal, console).finish(MAKE, items, "make")
    assert list(done) == list(items)
    assert done["once"] == done["never"]
    [failed] = done["always"]
    assert isinstance(failed, Refusal)
    assert (failed.reason, failed.stage, failed.subject) == ("worker_failure", PROBLEMS, "always")
    assert f"always: {TRIES} workers failed: the worker process was lost" in console.file.getvalue()  # type: ignore[attr-defined]

    rows = environment_funnel(3, done, refusals_of(done.values()))
    assert rows[0]["left"] == {"worker_failure": 1} and rows[-1]["passed"] == 0
    with Journal(tmp_path / "partial") as journal:
        assert sorted(journal.results) == ["make never", "make once"]


def test_what_the_journal_holds_is_not_made_again(tmp_path, console):
    """A worker would die over the item, so nobody was given it."""
    kept = (Rejection(reason="made_before", subject="P_1"),)
    with Journal(tmp_path / "partial") as journal:
        journal.put("make P_1", pack(kept))
    item = Dying(BROKEN, tmp_path / "nowhere" / "marker")
    with Journal(tmp_path / "partial") as journal:
        done = Site(LocalWorkers(*SETTINGS), journal, console).finish(MAKE, {"P_1": item}, "make")
    assert done == {"P_1": kept}


def test_several_results_of_one_item_stay_together():
    one, other = Rejection(reason="one"), Refusal(reason="other", stage="verify")
    assert unpack(pack((one, other))) == (one, other)
    assert unpack(pack(one)) == (one,)
    assert environments_of((one, other)) == []
    assert [stage_of(each) for each in refusals_of([(one, other)])] == ["outline", "verify"]


def test_further_environments_of_a_problem_are_counted_where_they_come_in():
    """Two problems; of one came two that were refused at different stages: 3 enter the outline."""
    outcomes = {
        "P_1": (Rejection(reason="one"),),
        "P_2": (Rejection(reason="two"), Refusal(reason="three", stage="verify")),
    }
    rows = {row["stage"]: row for row in environment_funnel(2, outcomes, refusals_of(outcomes.values()))}
    assert (rows["outline"]["entered"], rows["outline"]["added"], rows["outline"]["passed"]) == (3, 1, 1)
    assert (rows["verify"]["entered"], rows["verify"]["passed"]) == (1, 0)
