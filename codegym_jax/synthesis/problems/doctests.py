"""Example calls out of docstrings: a `check(candidate)` module that repeats them, and which of them are JSON.

Docstrings are parsed, never run. Expected results are left out: the reference solution says what is right.
"""

import ast
import copy
import doctest
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.synthesis.problems import syntax, typed

_PLAIN_CALLS = {"abs", "dict", "divmod", "float", "int", "len", "list", "max", "min", "ord", "pow", "range"}
_PLAIN_CALLS |= {
    "reversed",
    "round",
    "set",
    "sorted",
    "str",
    "sum",
    "tuple",
    "zip",
    "enumerate",
    "chr",
    "bool",
}

Session = list[ast.stmt]
"""The statements of one docstring's examples, in order."""


@dataclass(frozen=True, slots=True)
class Examples:
    """The example calls of one function."""

    test: str
    """A module with `check(candidate)`."""
    inputs: tuple[dict[str, Any], ...]
    """The different inputs that can be read off the calls and are JSON."""
    usable: bool
    """False when no call has, or might have, arguments that are JSON and say something."""


def sessions(docstrings: Iterable[str]) -> list[Session]:
    """The interactive examples of each docstring; those that must fail or are to be skipped are left out."""
    found = []
    for text in docstrings:
        try:
            examples = doctest.DocTestParser().get_examples(text)
        except ValueError:  # the prompts are indented inconsistently
            continue
        session: Session = []
        for example in examples:
            tree = syntax.parse(example.source)
            if tree and not example.exc_msg and not example.options.get(doctest.SKIP):
                session += tree.body
        if session:
            found.append(session)
    return found


def examples_of(
    function: ast.FunctionDef, all_sessions: Sequence[Session], tree: ast.Module
) -> Examples | None:
    """The calls of a function in the sessions; None when there are none.

    Args:
      function: the function.
      all_sessions: the examples of its module, its own among them.
      tree: its module, whose aliases its annotations may use.
    """
    chosen = []
    for session in all_sessions:
        body = [_Plain(function.name).visit(copy.deepcopy(statement)) for statement in session]
        if any(function.name in syntax.called(statement) for statement in body):
            chosen.append([statement for statement in body if not _imports(statement, function.name)])
    if not chosen:
        return None
    inputs, unsure = [], False
    for session in chosen:
        for found in _calls(session, function):
            unsure |= found is None
            if found and found not in inputs:
                inputs.append(found)
    inputs = [item for item in inputs if _says_something(item, function, tree)]
    return Examples(check_of(chosen, function.name), tuple(inputs), bool(inputs) or unsure)


def check_of(chosen: Sequence[Session], entry: str) -> str:
    """A `check(candidate)` module: each session in its own scope, no failing statement stops the rest."""
    body: list[ast.stmt] = []
    for number, session in enumerate(chosen, start=1):
        title = f"examples_{number}"
        candidate = syntax.assign(entry, syntax.name("candidate"))
        inner = [syntax.suppressed([statement]) for statement in session]
        body.append(syntax.function(title, [candidate, *inner]))
        body.append(syntax.call(syntax.name(title)))
    return syntax.check_module(body)


class _Plain(ast.NodeTransformer):
    """Calls the entry by its bare name, and shows sets as lists: JSON has no sets."""

    def __init__(self, entry: str):
        self._entry = entry

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr == self._entry:
            owner = function.value
            if isinstance(owner, ast.Name) and owner.id.islower():  # a module, one hopes
                node.func = syntax.name(self._entry)
        return node

    def visit_Set(self, node: ast.Set) -> ast.AST:
        self.generic_visit(node)
        return ast.List(node.elts, ast.Load())


def _imports(statement: ast.stmt, entry: str) -> bool:
    if not isinstance(statement, (ast.Import, ast.ImportFrom)):
        return False
    return any((alias.asname or alias.name) == entry for alias in statement.names)


def _calls(session: Session, function: ast.FunctionDef) -> Iterator[dict[str, Any] | None]:
    """The inputs of every call in a session: {} where they are no JSON, None where only running tells."""
    known: dict[str, ast.expr] = {}
    for statement in session:
        for node in ast.walk(statement):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Name)
                and node.func.id == function.name
            ):
                yield _inputs(node, function, known)
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            known[statement.targets[0].id] = _Known(known).visit(copy.deepcopy(statement.value))


def _inputs(node: ast.Call, function: ast.FunctionDef, known: dict[str, ast.expr]) -> dict[str, Any] | None:
    names = [argument.arg for argument in function.args.args]
    if len(node.args) > len(names) or any(keyword.arg is None for keyword in node.keywords):
        return {}
    given = dict(zip(names, node.args, strict=False)) | {str(pair.arg): pair.value for pair in node.keywords}
    inputs = {}
    for parameter, value in given.items():
        value = _Known(known).visit(copy.deepcopy(value))
        try:
            inputs[parameter] = ast.literal_eval(value)
        except (*syntax.UNREADABLE, TypeError):
            return None if all(map(_plain, ast.walk(value))) else {}
        if not _is_json(inputs[parameter]):
            return {}
    return inputs


class _Known(ast.NodeTransformer):
    """Puts the values of names in their place."""

    def __init__(self, known: dict[str, ast.expr]):
        self._values = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self._values.get(node.id, node))


def _plain(node: ast.AST) -> bool:
    """Whether a part of an expression makes nothing but numbers, texts and containers of them."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _PLAIN_CALLS
    if isinstance(node, ast.Name):
        return node.id[0].islower()
    return not isinstance(node, (ast.Lambda, ast.Attribute, ast.Await, ast.Yield, ast.Starred))


def _is_json(value: Any) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_json(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return all(map(_is_json, value))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def _says_something(inputs: dict[str, Any], function: ast.FunctionDef, tree: ast.Module) -> bool:
    """Whether no null stands for an object that JSON could not hold, as in the empty tree."""
    for argument in syntax.parameters(function):
        is_null = argument.arg in inputs and inputs[argument.arg] is None
        if is_null and typed.strategy(argument.annotation, tree) is None:
            return False
    return bool(inputs)
