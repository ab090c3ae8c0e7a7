"""Inputs made from a function's annotations: small natural values, drawn by Hypothesis, the same every time.

Annotations are read as syntax and never evaluated. Every draw is made of integers below 100 and of booleans:
Hypothesis adds larger numbers and texts that it finds in the modules loaded at the time, which would make
the inputs depend on who asks.
"""

import ast
import contextlib
import json
import tempfile
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir

from codegym_jax.synthesis.problems import syntax
from codegym_jax.synthesis.problems.problem import Problem

MAX_ITEMS = 8  # of a list
MAX_TEXT = 10  # characters
_BLOCK = 8  # inputs drawn at a time: what Hypothesis does around each draw takes longer than the draw
_DEPTH = 6  # of an annotation
_LETTERS = "aabbccde"

_INTEGERS = st.integers(0, 20)
_FLOATS = st.integers(0, 80).map(lambda quarters: quarters / 4)
_TEXTS = st.lists(st.sampled_from(_LETTERS), min_size=1, max_size=MAX_TEXT).map("".join)
_SCALARS = {"int": _INTEGERS, "float": _FLOATS, "complex": None, "str": _TEXTS, "bool": st.booleans()}
_ANYTHING = {"Any", "Hashable", "Comparable", "Number", "Real", "Integral", "SupportsInt"}
_LISTS = {"list", "List", "Sequence", "MutableSequence", "Iterable", "Collection", "set", "Set", "frozenset"}
_LISTS |= {"FrozenSet", "AbstractSet"}
_DICTS = {"dict", "Dict", "Mapping", "MutableMapping", "DefaultDict", "defaultdict", "OrderedDict"}

_NO_COMPLAINTS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example)
_NO_COMPLAINTS += (HealthCheck.filter_too_much, HealthCheck.nested_given)

_Strategy = st.SearchStrategy[Any]


def typed_inputs(problem: Problem, number: int, count: int) -> tuple[str, ...]:
    """Different inputs for a problem's entry, as its annotations say.

    Only parameters without a default are given, or all of them when each has one.

    Args:
      problem: the problem; its source is read, not run.
      number: the seed; the same one gives the same inputs.
      count: how many, at most; there are fewer where the types allow no more.

    Returns:
      A JSON object each; none where a parameter has no annotation, or one that JSON cannot hold.
    """
    tree = syntax.parse(problem.source)
    function = syntax.functions(tree).get(problem.entry) if tree else None
    if tree is None or function is None or function.args.posonlyargs:
        return ()
    strategies = {}
    for argument in syntax.required(function) or syntax.parameters(function):
        drawn = strategy(argument.annotation, tree)
        if drawn is None:
            return ()
        strategies[argument.arg] = drawn
    return _drawn(st.fixed_dictionaries(strategies), number, count) if strategies else ()


def strategy(annotation: ast.expr | None, tree: ast.Module, depth: int = _DEPTH) -> _Strategy | None:
    """Values of an annotated type, or None where there is no annotation or none that JSON can hold.

    Args:
      annotation: the annotation's syntax.
      tree: the module, where the annotation's names may be defined.
      depth: how much further to look into it.
    """
    if annotation is None or depth == 0:
        return None
    if isinstance(annotation, ast.Constant):
        return _of_constant(annotation.value, tree, depth)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return _union([annotation.left, annotation.right], tree, depth)
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice
        arguments = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        return _of_generic(_last_name(annotation.value), arguments, tree, depth - 1)
    return _of_name(_last_name(annotation), tree, depth)


def _drawn(inputs: _Strategy, number: int, count: int) -> tuple[str, ...]:
    found: dict[str, None] = {}

    @seed(number)
    @settings(
        max_examples=3 + count // _BLOCK,
        phases=[Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=_NO_COMPLAINTS,
    )
    @given(st.tuples(*[inputs] * _BLOCK))
    def collect(block: tuple[dict[str, Any], ...]) -> None:
        for place, drawn in enumerate(block):
            found[json.dumps(_aligned(drawn) if place % 2 else drawn)] = None

    with _no_traces():
        collect()
    # What is drawn first is all zeros and of one item; the rest is more like what a person would write.
    return tuple(reversed(found))[:count]


@contextlib.contextmanager
def _no_traces() -> Iterator[None]:
    """Keeps Hypothesis from leaving its notes in the current folder."""
    with tempfile.TemporaryDirectory() as folder:
        set_hypothesis_home_dir(folder)
        try:
            yield
        finally:
            set_hypothesis_home_dir(None)


def _aligned(inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs with their lists cut to one length, as functions of several lists mostly want them."""
    shortest = min((len(value) for value in inputs.values() if isinstance(value, list)), default=0)
    return {name: value[:shortest] if isinstance(value, list) else value for name, value in inputs.items()}


def _of_constant(value: Any, tree: ast.Module, depth: int) -> _Strategy | None:
    if value is None:
        return st.none()
    quoted = syntax.parse(value) if isinstance(value, str) else None
    if quoted is None or len(quoted.body) != 1 or not isinstance(quoted.body[0], ast.Expr):
        return None
    return strategy(quoted.body[0].value, tree, depth - 1)


def _of_name(name: str, tree: ast.Module, depth: int) -> _Strategy | None:
    if name in _SCALARS:
        return _SCALARS[name]
    if name in _ANYTHING:
        return _INTEGERS
    if name in _LISTS or name in {"tuple", "Tuple"}:
        return _list_of(_INTEGERS)
    if name in _DICTS:
        return _dict_of(_INTEGERS)
    for node in tree.body:  # an alias or a type variable
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
        if value is None or not any(isinstance(target, ast.Name) and target.id == name for target in targets):
            continue
        if isinstance(value, ast.Call):
            return _INTEGERS if _last_name(value.func) == "TypeVar" else None
        return strategy(value, tree, depth - 1)
    return None


def _of_generic(name: str, arguments: list[ast.expr], tree: ast.Module, depth: int) -> _Strategy | None:
    if name == "Optional":
        return _union([*arguments, ast.Constant(None)], tree, depth)
    if name == "Union":
        return _union(arguments, tree, depth)
    if name == "Literal":
        values = [item.value for item in arguments if isinstance(item, ast.Constant)]
        plain = [value for value in values if value is None or isinstance(value, (bool, int, str))]
        return st.sampled_from(plain) if plain else None
    if name in {"Annotated", "Final"}:
        return strategy(arguments[0], tree, depth)
    if name in {"tuple", "Tuple"} and not (len(arguments) == 2 and _is_ellipsis(arguments[1])):
        return _tuple_of([strategy(argument, tree, depth) for argument in arguments])
    if name in _DICTS:
        keys, item = _last_name(arguments[0]), strategy(arguments[-1], tree, depth)
        return _dict_of(item) if item is not None and keys in {"str", "Any", "object", "Hashable"} else None
    if name in _LISTS or name in {"tuple", "Tuple"}:
        inner = arguments[0]
        if isinstance(inner, ast.Subscript) and _last_name(inner.value) in _LISTS:
            item = strategy(inner.slice, tree, depth - 1)
            return None if item is None else _rows_of(item)
        item = strategy(inner, tree, depth)
        return None if item is None else _list_of(item)
    return None


def _union(members: list[ast.expr], tree: ast.Module, depth: int) -> _Strategy | None:
    """Any member that JSON can hold; null, where it is one, rarely."""
    drawn = [strategy(member, tree, depth - 1) for member in members if not _is_none(member)]
    usable = [member for member in drawn if member is not None]
    if not usable:
        return None
    nulls = [st.none()] if any(map(_is_none, members)) else []
    return st.one_of(usable * 3 + nulls)


def _list_of(item: _Strategy) -> _Strategy:
    return st.lists(item, min_size=1, max_size=MAX_ITEMS)


def _rows_of(item: _Strategy) -> _Strategy:
    """Lists of equally long lists, which do for matrices and for pairs alike."""
    return st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(item, min_size=width, max_size=width), min_size=1, max_size=5)
    )


def _tuple_of(items: list[_Strategy | None]) -> _Strategy | None:
    known = [item for item in items if item is not None]
    return st.tuples(*known).map(list) if len(known) == len(items) else None


def _dict_of(item: _Strategy) -> _Strategy:
    return st.dictionaries(st.sampled_from("abcdef"), item, min_size=1, max_size=5)


def _last_name(node: ast.AST) -> str:
    """`List` of `typing.List`."""
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis
