"""MMLU-Pro's questions, and the letter that a reply ends up with."""

import json

import pytest

from codegym_jax.evals.suites.mmlu_pro import answer_letter, open_mmlu_pro
from codegym_jax.evals.suites.play import no_op, oracle, play
from codegym_jax.evals.suites.suite import Suite, SuiteError

ROWS = [
    {"question_id": 70, "question": "What is 2 + 2?", "options": ["3", "4", "5"], "answer": "B",
     "category": "math"},
    {"question_id": 71, "question": "Which is red?", "options": ["sky", "sea", "blood"], "answer": "C",
     "category": "computer science"},
]  # fmt: skip


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "test.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("Two and two make four. The answer is (B).", "B"),
        ("The answer is B", "B"),
        ("The answer is (A)... no, wait. The answer is (D)", "D"),
        ("answer: **C**", "C"),
        (r"so \boxed{E}", "E"),
        ("I weigh them.\n\n(F)\n", "F"),
        ("The answer is a function of time.", ""),
        ("I do not know.", ""),
        ("", ""),
        ("B is wrong, A is right", ""),
    ],
)
def test_the_letter_of_an_answer(text, letter):
    assert answer_letter(text) == letter


def test_questions_are_played_and_graded(path):
    suite = open_mmlu_pro(str(path))
    assert isinstance(suite, Suite)
    assert suite.facts.subsets == ("all", "computer_science", "math")
    assert (suite.tasks("all"), suite.tasks("math")) == (["70", "71"], ["70"])
    asked = suite.open("all", "71").opening.messages[0]["content"]
    assert "about computer science" in asked
    assert asked.endswith("Which is red?\n\n(A) sky\n(B) sea\n(C) blood")
    assert [play(suite, "all", task, 0, oracle, 9).score for task in ("70", "71")] == [1.0, 1.0]
    assert [play(suite, "all", task, 0, no_op, 9).score for task in ("70", "71")] == [0.0, 0.0]


def test_other_questions_are_another_version(path, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(path.read_text().replace("2 + 2", "2 + 1"))
    assert open_mmlu_pro(str(path)).facts.version != open_mmlu_pro(str(other)).facts.version


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({**ROWS[0], "answer": "D"}, "bad.jsonl:2: a row needs"),
        ({**ROWS[0], "options": "4"}, "bad.jsonl:2: a row needs"),
        ({"question": "?"}, "bad.jsonl:2: a row needs"),
        ([], "bad.jsonl:2: a row needs"),
        (ROWS[1], "question_id twice"),
    ],
)
def test_a_row_that_is_no_question_is_named(tmp_path, row, complaint):
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps(ROWS[1]) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(SuiteError, match=complaint):
        open_mmlu_pro(str(path))


def test_a_file_that_is_missing_or_no_table_is_named(tmp_path):
    with pytest.raises(SuiteError, match=r"there is no file .*nowhere\.parquet"):
        open_mmlu_pro(str(tmp_path / "nowhere.parquet"))
    (tmp_path / "bad.parquet").write_text("no table")
    with pytest.raises(SuiteError, match=r"bad\.parquet"):
        open_mmlu_pro(str(tmp_path / "bad.parquet"))
