"""Folders of modules: which functions become problems, what of the docstrings is kept, what is inlined."""

import ast
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems import Problem, ProblemError, open_source
from codegym_jax.synthesis.problems.doctests import examples_of, sessions
from codegym_jax.synthesis.problems.inline import trimmed
from codegym_jax.synthesis.problems.prose import statement
from codegym_jax.synthesis.problems.syntax import functions, parse

SEARCH = '''
"""
Jump Search

Given a sorted list and a value, find where the value stands.

Reference: https://example.org/jump

Complexity:
    Time:  O(sqrt(n))
"""

from __future__ import annotations

import math

LIMIT = 3


def jump_search(values: list[int], wanted: int) -> int:
    """Return the index of a value using blocks in O(sqrt(n)) time.

    Jumps ahead by whole blocks first.

    Args:
        values: Sorted numbers.
        wanted: What to look for.

    Returns:
        Its index, or -1.

    Examples:
        >>> numbers = [1, 3, 5]
        >>> jump_search(numbers, 3)
        1
        >>> jump_search([], "x")
        Traceback (most recent call last):
        ValueError
        >>> jump_search({2, 1}, wanted=_step(4))
        0
    """
    return values.index(wanted) if wanted in values else -1


def _step(size):
    return math.isqrt(size)


def undocumented(values):
    return values


def typed_only(values: list[int]) -> int:
    """Add up."""
    return sum(values)


class Tree:
    pass


def height(root: Tree | None) -> int:
    """Return the height of a tree.

    >>> height(None)
    0
    >>> height(Tree())
    1
    """
    return 0
'''


def folder(root: Path, **modules: str) -> Path:
    """A folder of modules; `a__b` is `a/b.py`."""
    for name, source in modules.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    return root


def built(root: Path) -> dict[str, Problem | Rejection]:
    """What every function of a folder becomes, by what its id adds to the folder's."""
    source = open_source(str(root), "MIT")
    prefix = f"{root.name.replace('-', '_')}_"
    return {
        code_id.removeprefix(prefix): one
        for code_id, one in zip(source.code_ids, source.build(source.code_ids), strict=True)
    }


def reasons(root: Path) -> dict[str, str]:
    """Why each is none, "" for a problem."""
    return {name: one.reason if isinstance(one, Rejection) else "" for name, one in built(root).items()}


def calls(test: str, **names: Any) -> list[tuple]:
    """The calls that a `check(candidate)` module makes."""
    found = []
    namespace = dict(names)
    exec(test, namespace)
    namespace["check"](lambda *args, **named: found.append((*args, named) if named else args))
    return found


@pytest.fixture
def search(tmp_path) -> Path:
    return folder(tmp_path / "mine", searching__jump_search=SEARCH)


def test_a_function_with_examples_becomes_a_problem(search):
    problem = built(search)["searching_jump_search"]
    assert isinstance(problem, Problem)
    assert (problem.code_id, problem.entry) == ("mine_searching_jump_search", "jump_search")
    assert (problem.origin, problem.license) == ("mine", "MIT")
    assert problem.statement == (
        "Return the index of a value using blocks.\n\nGiven a sorted list and a value, find where the value"
        " stands.\n\nArguments:\n  values: Sorted numbers.\n"
        "  wanted: What to look for.\n\nReturns: Its index, or -1."
    )


def test_the_check_repeats_the_calls_and_survives_what_fails(search):
    problem = built(search)["searching_jump_search"]
    assert isinstance(problem, Problem)
    assert calls(problem.test) == [([1, 3, 5], 3)]  # `_step` is missing here, and stops nothing
    assert calls(problem.test, _step=lambda size: size) == [([1, 3, 5], 3), ([2, 1], {"wanted": 4})]


def test_what_the_entry_cannot_reach_is_left_out(search):
    source = built(search)["searching_jump_search"].source
    assert list(functions(parse(source))) == ["jump_search", "_step"]  # the second is in an example
    assert "LIMIT = 3" in source and "class Tree" not in source


def test_functions_without_json_inputs_are_counted(search):
    assert reasons(search) == {
        "searching_jump_search": "",
        "searching_jump_search_undocumented": "no_examples",
        "searching_jump_search_typed_only": "",
        "searching_jump_search_height": "examples_are_no_json",
    }
    assert built(search)["searching_jump_search_typed_only"].test == ""


def test_examples_in_the_module_count_for_the_functions_they_call(tmp_path):
    module = (
        '"""Words.\n\n>>> import m\n>>> m.shout("a")\n\'A\'\n"""\ndef shout(text):\n    return text.upper()\n'
    )
    problem = built(folder(tmp_path / "mine", m=module))["m_shout"]
    assert isinstance(problem, Problem) and calls(problem.test) == [("a",)]


def test_what_neighbors_define_is_put_in_front(tmp_path):
    entry = (
        'from mine.tools import twice as double\nfrom .tools import LIMIT\n\n\ndef use(n):\n    """Do.\n\n'
    )
    entry += '    >>> use(3)\n    6\n    """\n    return double(n) + LIMIT\n'
    tools = '"""Tools."""\nLIMIT = 0\n\n\ndef twice(n):\n    return 2 * n\n'
    tools += '\n\nif __name__ == "__main__":\n    boom()\n'
    root = folder(tmp_path / "mine", use=entry, tools=tools)
    problem = built(root)["use"]
    assert isinstance(problem, Problem)
    namespace: dict[str, Any] = {}
    exec(problem.source, namespace)
    assert namespace["use"](3) == 6 and "boom" not in problem.source


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import mine.tools\n\n\ndef use(n: int):\n    'Do.'\n", "imports_neighboring_module"),
        ("def use(n: int):\n    'Do.'\n    from mine import tools\n", "imports_neighboring_module"),
        (
            "from mine.tools import twice\nLIMIT = 7\n\n\ndef use(n: int):\n    'Do.'\n",
            "neighbors_share_a_name",
        ),
        (
            "from queue import Queue\n\n\ndef use(n: int):\n    'Do.'\n",
            "",
        ),  # Python's own, whatever lies beside
        ("def use(n: int):\n  'Do.'\n def", "syntax_error"),
        ("def use():\n    '''Do.\n\n    >>> use()\n    '''\n", "no_named_parameters"),
    ],
)
def test_why_a_module_gives_none(tmp_path, source, reason):
    tools = "LIMIT = 0\n\n\ndef twice(n):\n    return 2 * n\n"
    found = reasons(folder(tmp_path / "mine", use=source, tools=tools, queue="Queue = 1\n"))
    assert found["use"] == reason


def test_ids_that_would_collide_are_told_apart(tmp_path):
    code = 'def {}(n: int):\n    "Do."\n'
    root = folder(tmp_path / "mine", a_b=code.format("c"), a=code.format("b_c"))
    assert len(built(root)) == 2


def test_a_folder_without_modules_is_named(tmp_path):
    with pytest.raises(ProblemError, match="holds no Python modules"):
        open_source(str(tmp_path))


def test_inputs_are_read_off_the_examples():
    tree = parse("def f(a, b=0):\n    pass\n")
    assert tree
    shown = ">>> x = [1, (2, 3)]\n>>> f(x, b={'k': None})\n>>> f(list(range(3)))\n>>> f(lambda: 0)\n"
    examples = examples_of(functions(tree)["f"], sessions([shown]), tree)
    assert examples and examples.inputs == ({"a": [1, (2, 3)], "b": {"k": None}},) and examples.usable
    none = examples_of(functions(tree)["f"], sessions([">>> f(lambda: 0)\n>>> f({1: 2})\n"]), tree)
    assert none and not none.inputs and not none.usable


@pytest.mark.parametrize(
    ("docstring", "told"),
    [
        ("Sort a list using merge sort.", "Sort a list."),
        ("Count set bits (recursive).", "Count set bits."),
        ("Find a path via breadth-first search in O(n) time.", "Find a path."),
        ("Encrypt a text using the given key.", "Encrypt a text using the given key."),
        ("Multiply texts without using arithmetic.", "Multiply texts without using arithmetic."),
        ("Do.\n\nExample:\n    f(1) -> 2\n\nKeep this.", "Do.\n\nKeep this."),
        ("Do.\n\n>>> f(1)\n2\n\nUses a stack. The list is not empty.", "Do.\n\nThe list is not empty."),
    ],
)
def test_a_statement_asks_and_does_not_tell_how(docstring, told):
    assert statement(docstring) == told


@given(st.text("abc :.\n>()ExamplesArgsReturns-"))
def test_any_docstring_gives_a_statement_without_prompts(text):
    assert ">>> " not in statement(text, text)


@given(st.text(">>> f(1)=[]{}\"'\n.:lambd", max_size=60))
def test_no_docstring_breaks_the_examples(text):
    tree = ast.parse("def f(a):\n    pass\n")
    examples = examples_of(functions(tree)["f"], sessions([text]), tree)
    assert examples is None or "def check(candidate)" in examples.test


@given(st.sampled_from(["a", "b", "c"]))
def test_trimming_keeps_what_is_reached(entry):
    source = "def a():\n    return b()\n\n\n# about b\n@print\ndef b():\n    return 1\n\n\ndef c(): pass\n"
    left = functions(parse(trimmed(source, entry, "")))
    assert list(left) == {"a": ["a", "b"], "b": ["b"], "c": ["c"]}[entry]
