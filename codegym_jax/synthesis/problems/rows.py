"""Rows of the KodCode schema and of CodeGym's `raw_problems.jsonl` as problems.

KodCode: `question_id`, `subset`, `question`, `solution`, `test_code` (a pytest file), `test_info` (a list
of objects with `function_name`); its rows are CC BY-NC 4.0. `raw_problems.jsonl`: the first four. Either may
hold `license`. Other fields are left alone.
"""

import ast
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems import prose, pytest_files, syntax
from codegym_jax.synthesis.problems.problem import Problem, ProblemError, code_id_of

KODCODE_LICENSE = "CC-BY-NC-4.0"
_TEXTS = ("subset", "question", "solution", "test_code", "license")
_SHOWN_CHARS = 60


def checked(row: Any, where: str) -> dict[str, Any]:
    """The row, when its fields have the types of the schemas.

    Args:
      row: as read from the file.
      where: file and row number, for the message.

    Raises:
      ProblemError: naming field, value and what would be right.
    """
    if not isinstance(row, dict):
        raise _bad(where, "the row", row, "be an object with question_id, question and solution")
    for field in ("question_id", "question"):
        if row.get(field) is None:
            fields = ", ".join(map(str, list(row)[:8])) or "none"
            raise ProblemError(
                f"{where}: field {field!r} is missing; fill it in or drop the row (fields: {fields})"
            )
    identifier = row["question_id"]
    if isinstance(identifier, bool) or not isinstance(identifier, (str, int)) or identifier == "":
        raise _bad(where, "field 'question_id'", identifier, "be text or a whole number")
    for field in _TEXTS:
        if not isinstance(row.get(field), (str, type(None))):
            raise _bad(where, f"field {field!r}", row[field], "be text")
    info = row.get("test_info")
    if isinstance(info, str):
        try:
            info = json.loads(info) if info else None
        except ValueError:
            info = 0
    if info is not None and not (isinstance(info, list) and all(isinstance(item, dict) for item in info)):
        raise _bad(where, "field 'test_info'", row["test_info"], "be a list of objects with function_name")
    return {**row, "test_info": info or []}


def code_id(row: Mapping[str, Any], file: str) -> str:
    """`Leetcode_6096_I`: the question's id, after the subset (or the file) that it does not begin with."""
    identifier, family = str(row["question_id"]), row.get("subset") or file
    plain = identifier.startswith(str(row.get("subset") or "\0"))
    return code_id_of(identifier) if plain else code_id_of(family, identifier)


def problem_of(row: Mapping[str, Any], code_id: str, origin: str, own_license: str) -> Problem | Rejection:
    """The problem that a checked row holds, or why it holds none.

    Args:
      row: from `checked`.
      code_id: its id.
      origin: as in `Problem`.
      own_license: of a row that neither names its license nor comes from KodCode.
    """
    is_kodcode = "test_code" in row or bool(row["test_info"])
    source = row.get("solution") or ""
    reason, entry = _entry(row, source)
    if reason:
        return Rejection(reason=reason, subject=code_id)
    return Problem(
        code_id=code_id,
        origin=origin,
        license=row.get("license") or (KODCODE_LICENSE if is_kodcode else own_license),
        statement=_statement(row["question"], entry),
        source=source,
        entry=entry,
        test=pytest_files.check_of(row.get("test_code") or "", entry),
    )


def _entry(row: Mapping[str, Any], source: str) -> tuple[str, str]:
    """(why there is none, the function that solves the problem): of the two, one is empty."""
    if not source.strip():
        return "no_solution", ""
    tree = syntax.parse(source)
    if tree is None or not syntax.compiles(source):
        return "syntax_error", ""
    functions = syntax.functions(tree)
    if not functions:
        return "no_function", ""
    named = [item.get("function_name") for item in row["test_info"]]
    calls = Counter(name for name in pytest_files.tested(row.get("test_code") or "") if name in functions)
    known = [name for name in named if isinstance(name, str) and name in functions]
    if known:
        entry = max(known, key=lambda name: bool(calls[name]))
    elif calls:
        entry = max(calls, key=lambda name: calls[name])
    elif row.get("test_code") or named:
        return "entry_is_no_function", ""
    else:
        entry = _outermost(functions)
    arguments = functions[entry].args
    if not syntax.parameters(functions[entry]) or arguments.posonlyargs:
        return "no_named_parameters", ""
    return "", entry


def _outermost(functions: Mapping[str, ast.FunctionDef]) -> str:
    """The last public function that no other calls; the last of all where there is none."""
    inner = {
        name for title, function in functions.items() for name in syntax.called(function) if name != title
    }
    outer = [name for name in functions if name not in inner and not name.startswith("_") and name != "main"]
    return outer[-1] if outer else list(functions)[-1]


def _statement(question: str, entry: str) -> str:
    """The question; what its docstring asks, where it is code to complete."""
    tree = syntax.parse(question) or syntax.parse(f"{question.rstrip()}\n    pass\n")
    function = syntax.functions(tree).get(entry) if tree else None
    asked = prose.statement(syntax.docstring(function)) if function else ""
    return asked or question.strip()


def _bad(where: str, what: str, value: Any, expected: str) -> ProblemError:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN_CHARS else f"{shown[:_SHOWN_CHARS]}..."
    return ProblemError(f"{where}: {what} must {expected}, got {shown}; fix the row or drop it")
