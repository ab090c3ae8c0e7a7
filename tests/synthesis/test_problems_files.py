"""Files of rows in both schemas and all formats: the entry, the calls of the tests, errors and rejections."""

import gzip
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems import Problem, ProblemError, load, pytest_files, rows

SOLUTION = """from typing import List

def _best(a: int, b: int) -> int:
    return max(a, b)

def largest(values: List[int], floor: int = 0) -> int:
    result = floor
    for value in values:
        result = _best(result, value)
    return result
"""
TESTS = """import pytest
from solution import largest, _best

CASES = [([4, 1], 4), ([], 0)]

@pytest.fixture
def numbers():
    yield [7, 8]

def test_plain():
    assert largest([1, 2]) == 3  # wrong, and stops nothing
    assert largest([5], floor=6) == pytest.approx(6)

@pytest.mark.parametrize("values, expected", [([9], 9), pytest.param([2, 3], 3, id="two")])
@pytest.mark.parametrize("floor", (0, 1))
def test_grid(values, expected, floor):
    assert largest(values, floor) >= expected

@pytest.mark.parametrize(["values", "expected"], CASES)
def test_cases(values, expected):
    assert largest(values) == expected

def test_fixture(numbers):
    assert largest(numbers) == 8

def test_unknown_fixture(tmp_path):
    assert largest([0]) == tmp_path

def test_fails():
    with pytest.raises(TypeError):
        largest(None)

@pytest.mark.skip(reason="slow")
def test_skipped():
    largest([10 ** 9])

class TestMore:
    def setup_method(self, method):
        self.values = [3]

    def test_it(self):
        assert largest(self.values) == 3

if __name__ == "__main__":
    pytest.main()
"""
ROW = {
    "style": "instruct",
    "subset": "Leetcode",
    "question_id": "Leetcode_7_I",
    "question": "Find the largest value.",
    "solution": SOLUTION,
    "test_code": TESTS,
    "test_info": [{"function_name": "largest", "parameter_list": "(values, floor)", "docstring": ""}],
}


def written(path: Path, *made: Any) -> str:
    """A file of rows; a text is a line as it stands."""
    text = "".join(row if isinstance(row, str) else f"{json.dumps(row)}\n" for row in made)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return str(path)


def of_row(row: dict[str, Any]) -> Problem | Rejection:
    """What a row becomes."""
    return rows.problem_of(rows.checked(row, "here"), "Own_1", "own", "unknown")


def calls(test: str) -> list[tuple]:
    """The calls that a `check(candidate)` module makes; its candidate returns what the solution would."""
    found = []

    def largest(values: Any, floor: int = 0) -> int:
        found.append((values, floor))
        return max([floor, *values])

    namespace: dict[str, Any] = {}
    exec(test, namespace)
    namespace["check"](largest)
    return found


def test_a_kodcode_row_becomes_a_problem(tmp_path):
    (problem,) = load((written(tmp_path / "kodcode.jsonl", ROW),), 5, seed=0).problems
    assert (problem.code_id, problem.entry) == ("Leetcode_7_I", "largest")
    assert (problem.origin, problem.license) == ("kodcode.jsonl", "CC-BY-NC-4.0")
    assert (problem.statement, problem.source) == ("Find the largest value.", SOLUTION)
    assert all(isinstance(json.loads(text)["values"], list) for text in problem.inputs) and problem.inputs


def test_every_call_of_the_pytest_file_is_made_without_pytest():
    problem = of_row(ROW)
    assert isinstance(problem, Problem) and "pytest" not in problem.test
    assert calls(problem.test) == [
        *[([1, 2], 0), ([5], 6)],
        *[([9], 0), ([2, 3], 0), ([9], 1), ([2, 3], 1)],
        *[([4, 1], 0), ([], 0), ([7, 8], 0), ([3], 0)],
    ]


@pytest.mark.parametrize(
    "tests",
    [
        "from solution import *\n\ndef test():\n    assert largest([1]) == 1\n",
        "import solution\n\ndef test():\n    assert solution.largest([1]) == 1\n",
        "import solution as s\n\ndef test():\n    assert s.largest([1]) == 1\n",
        "from solution import largest as best\n\ndef test():\n    assert best([1]) == 1\n",
        "import unittest\nfrom solution import largest\n\nclass TestIt(unittest.TestCase):\n"
        "    def setUp(self):\n        self.x = 1\n\n"
        "    def test(self):\n        self.assertEqual(largest([self.x]), 1)\n",
        "import no_such_module\nfrom solution import largest\n\nassert largest([1]) == 1\n",
        "from solution import largest\n\ndef call(f):\n    f([1])\n\ndef test():\n    call(largest)\n",
    ],
)
def test_the_ways_to_import_and_to_call(tests):
    assert calls(pytest_files.check_of(tests, "largest")) == [([1], 0)]


@pytest.mark.parametrize(
    "tests", ["", "def test(:", "def test():\n    assert other(1)\n", "return 1\nlargest([1])"]
)
def test_tests_that_call_nothing_are_no_tests(tests):
    assert pytest_files.check_of(tests, "largest") == ""


def test_a_raw_problem_needs_no_tests(tmp_path):
    row = {"subset": "Code_Contests", "question_id": 12, "question": "Find it.", "solution": SOLUTION}
    path = written(tmp_path / "raw_problems.jsonl", row, "\n", row | {"question_id": 13, "license": "MIT"})
    first, second = sorted(load((path,), 5, 0, own_license="Mine").problems, key=lambda one: one.code_id)
    assert (first.code_id, first.entry, first.test) == ("Code_Contests_12", "largest", "")
    assert (first.license, second.license) == ("Mine", "MIT")


def test_the_formats_hold_the_same_problems(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    made = [ROW | {"question_id": f"Leetcode_{n}"} for n in range(3)]
    pq.write_table(pa.Table.from_pylist(made), tmp_path / "a.parquet")
    plain = load((written(tmp_path / "a.jsonl", *made),), 9, seed=0).problems
    gzipped = load((written(tmp_path / "a.jsonl.gz", *made),), 9, seed=0).problems
    columns = load((str(tmp_path / "a.parquet"),), 9, seed=0).problems
    assert len(plain) == 3
    for other in (gzipped, columns):
        assert [(one.code_id, one.test, one.inputs) for one in other] == [
            (one.code_id, one.test, one.inputs) for one in plain
        ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{'a': 1}\n", "own.jsonl, row 2: not JSON"),
        (
            "[1]\n",
            "own.jsonl, row 2: the row must be an object with question_id, question and solution, got [1]",
        ),
        ({"question": "?"}, "own.jsonl, row 2: field 'question_id' is missing; fill it in or drop the row"),
        ({"question_id": "a"}, "own.jsonl, row 2: field 'question' is missing"),
        (
            ROW | {"question_id": 1.5},
            "row 2: field 'question_id' must be text or a whole number, got 1.5; fix",
        ),
        (
            ROW | {"question": 7},
            "own.jsonl, row 2: field 'question' must be text, got 7; fix the row or drop it",
        ),
        (ROW | {"solution": ["x"]}, "own.jsonl, row 2: field 'solution' must be text, got ['x']"),
        (ROW | {"license": 4}, "own.jsonl, row 2: field 'license' must be text, got 4"),
        (
            ROW | {"test_info": 3},
            "row 2: field 'test_info' must be a list of objects with function_name, got 3",
        ),
    ],
)
def test_a_malformed_row_is_named(tmp_path, row, message):
    with pytest.raises(ProblemError) as caught:
        load((written(tmp_path / "own.jsonl", ROW, row),), 5, seed=0)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b"\xff\n", "row 1: not UTF-8"),
        ("a.jsonl.gz", b"plain", "cannot be read after row 0"),
        ("a.parquet", b"plain", "no Parquet file"),
    ],
)
def test_a_file_that_is_something_else_is_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ProblemError, match=message):
        load((str(tmp_path / name),), 5, seed=0)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"solution": ""}, "no_solution"),
        ({"solution": "def f(:"}, "syntax_error"),
        ({"solution": "return 1"}, "syntax_error"),
        ({"solution": "print(input())"}, "no_function"),
        ({"solution": "def f():\n    pass\n", "test_code": "", "test_info": []}, "no_named_parameters"),
        (
            {"test_info": [{"function_name": "absent"}], "test_code": "assert absent(1)"},
            "entry_is_no_function",
        ),
    ],
)
def test_a_row_without_a_problem_is_counted(change, reason):
    refused = of_row(ROW | change)
    assert isinstance(refused, Rejection) and refused.reason == reason


def test_a_repeated_id_is_counted(tmp_path):
    loaded = load((written(tmp_path / "own.jsonl", ROW, ROW),), 5, seed=0)
    assert len(loaded.problems) == 1
    assert [(one.reason, one.subject) for one in loaded.rejections] == [("duplicate_id", "Leetcode_7_I_row2")]


@pytest.mark.parametrize(
    ("change", "entry"),
    [
        ({"test_info": None}, "largest"),  # the function that the tests call most
        ({"test_info": "[]", "test_code": None}, "largest"),  # the one that no other calls
        (
            {"test_info": [{"function_name": "_best"}, {"function_name": "largest"}]},
            "largest",
        ),  # the tested one
        ({"test_info": '[{"function_name": "_best"}]', "test_code": ""}, "_best"),
    ],
)
def test_which_function_is_the_entry(change, entry):
    problem = of_row(ROW | change)
    assert isinstance(problem, Problem) and problem.entry == entry


def test_a_question_that_is_code_to_complete_is_asked_in_prose():
    question = (
        'def largest(values, floor=0):\n    """Return the largest.\n\n    >>> largest([1])\n    1\n    """\n'
    )
    problem = of_row(ROW | {"question": question})
    assert isinstance(problem, Problem) and problem.statement == "Return the largest."


CODE = st.text(string.ascii_letters + "()[]{}:=.,@#'\"\\ \n\t0123456789") | st.sampled_from([SOLUTION, TESTS])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers()
    | CODE
    | st.lists(st.dictionaries(st.just("function_name"), CODE))
)


@given(st.dictionaries(st.sampled_from([*sorted(ROW), "license"]), VALUES) | VALUES)
def test_any_row_is_a_problem_a_rejection_or_a_clear_error(row):
    try:
        row = rows.checked(row, "own.jsonl, row 1")
    except ProblemError as error:
        assert str(error).startswith("own.jsonl, row 1: ")
        return
    made = rows.problem_of(row, rows.code_id(row, "own"), "own", "unknown")
    assert isinstance(made, Problem | Rejection)


@given(solution=CODE, tests=CODE, info=st.lists(st.fixed_dictionaries({"function_name": CODE})))
def test_any_code_is_a_problem_or_a_rejection(solution, tests, info):
    made = of_row(ROW | {"solution": solution, "test_code": tests, "test_info": info})
    assert isinstance(made, Problem | Rejection)
    if isinstance(made, Problem):
        assert not made.test or "def check(candidate)" in made.test


@given(st.binary(max_size=60))
def test_any_bytes_are_problems_or_a_clear_error(tmp_path_factory, data):
    for ending in (".jsonl", ".jsonl.gz"):
        path = tmp_path_factory.getbasetemp() / f"bytes{ending}"
        path.write_bytes(data)
        try:
            assert load((str(path),), 5, seed=0).problems == ()
        except ProblemError as error:
            assert str(error).startswith(f"{path}")
