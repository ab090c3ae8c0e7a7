"""Inputs made from annotations: of the annotated types, small, and the same whoever asks."""

import ast
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from codegym_jax.synthesis.problems import Problem, typed_inputs


def of(signature: str, before: str = "") -> Problem:
    """A problem whose entry has these parameters."""
    source = f"{before}\ndef f({signature}):\n    raise SystemExit\n"
    return Problem(code_id="F", origin="own", license="MIT", statement="", source=source, entry="f")


def drawn(signature: str, before: str = "", count: int = 24) -> list[dict]:
    """Inputs for a function with these parameters."""
    return [json.loads(text) for text in typed_inputs(of(signature, before), 7, count)]


def is_int(value):
    return type(value) is int and 0 <= value <= 20


def is_text(value):
    return isinstance(value, str) and 1 <= len(value) <= 10


@pytest.mark.parametrize(
    ("annotation", "holds"),
    [
        ("int", is_int),
        ("float", lambda value: type(value) is float and 0 <= value <= 20 and value * 4 == int(value * 4)),
        ("str", is_text),
        ("bool", lambda value: type(value) is bool),
        ("list[int]", lambda value: 1 <= len(value) <= 8 and all(map(is_int, value))),
        ("typing.List['str']", lambda value: all(map(is_text, value))),
        ("'list[int]'", lambda value: all(map(is_int, value))),
        ("list[list[int]]", lambda value: len({len(row) for row in value}) == 1 and is_int(value[0][0])),
        ("dict[str, list[int]]", lambda value: all(is_text(key) and is_int(value[key][0]) for key in value)),
        ("tuple[int, str]", lambda value: len(value) == 2 and is_int(value[0]) and is_text(value[1])),
        ("tuple[int, ...]", lambda value: all(map(is_int, value))),
        ("Optional[int]", lambda value: value is None or is_int(value)),
        ("int | str | None", lambda value: value is None or is_int(value) or is_text(value)),
        ("Literal['x', 3]", lambda value: value in ("x", 3)),
        ("Grid", lambda value: is_int(value[0][0])),
        ("T", is_int),
    ],
)
def test_values_are_of_the_annotated_type(annotation, holds):
    before = "Grid = list[list[int]]\nT = TypeVar('T')\n"
    found = drawn(f"x: {annotation}", before)
    assert found and all(holds(inputs["x"]) for inputs in found)
    assert len({json.dumps(inputs) for inputs in found}) == len(found)


@pytest.mark.parametrize(
    "signature",
    [
        "x",
        "x: Node",
        "x: dict[int, str]",
        "x: Callable[[int], int]",
        "x: bytes",
        "x: int, y: Node",
        "",
        "x: int, /",
    ],
)
def test_no_inputs_where_json_cannot_hold_them(signature):
    assert drawn(signature) == []


def test_defaults_are_left_to_the_function():
    assert set(drawn("x: int, y: Node = None")[0]) == {"x"}
    assert set(drawn("x: int = 1, *, y: str = ''")[0]) == {"x", "y"}


def test_lists_are_often_of_one_length():
    found = drawn("x: list[int], y: list[int]")
    alike = sum(len(inputs["x"]) == len(inputs["y"]) for inputs in found)
    assert len(found) / 3 < alike < len(found)


def test_the_seed_decides():
    problem = of("values: list[int], wanted: int")
    assert typed_inputs(problem, 1, 24) == typed_inputs(problem, 1, 24)
    assert typed_inputs(problem, 1, 24) != typed_inputs(problem, 2, 24)
    assert len(typed_inputs(problem, 1, 24)) == 24


def test_neither_other_modules_nor_the_folder_matter(tmp_path):
    """Hypothesis draws on constants of loaded modules, and notes them in the folder it runs in."""
    program = "from codegym_jax.synthesis.problems import *\nprint(typed_inputs({}, 3, 40))"
    problem = of("text: str, n: int, values: list[float]")
    told = subprocess.run(
        [sys.executable, "-c", program.format(repr(problem))],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert ast.literal_eval(told) == typed_inputs(problem, 3, 40)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, suppress_health_check=[HealthCheck.nested_given])
@given(st.text("int[]|, listdcrfoaNeOpU'\".*", max_size=30))
def test_any_annotation_gives_inputs_or_none(annotation):
    for text in typed_inputs(of(f"x: {annotation}"), 0, 3):
        assert "x" in json.loads(text)
