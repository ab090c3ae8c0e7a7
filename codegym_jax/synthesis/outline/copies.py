"""Locals that only give another name to a hidden input: they go, so that it is read where it is used."""

import ast
import copy
from collections.abc import Collection

from codegym_jax.synthesis.outline.access import is_split

_READERS = {
    "len", "sum", "min", "max", "any", "all", "sorted", "enumerate", "zip", "reversed", "set", "list",
    "tuple", "str", "map", "filter", "range", "int", "float", "ord", "isinstance",
}  # fmt: skip
_METHODS = {
    "count", "index", "find", "split", "lower", "upper", "strip", "startswith", "endswith", "isdigit",
    "isalpha", "join", "items", "keys", "values", "get", "copy", "replace", "format",
}  # fmt: skip


def inline_copies(function: ast.FunctionDef, hidden: Collection[str]) -> None:
    """Replaces, in place, locals that are bound once to a hidden input and read only.

    `words = text.split()` counts as such a local where nothing else is done with the text.
    """
    for statement in list(function.body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=local)], value=value):
                source = _source(value, hidden)
                if source is None or not _is_replaceable(function, local, source, value):
                    continue
                plain = value if is_split(value, source) else ast.Name(source, ast.Load())
                function.body.remove(statement)
                _Replace(local, plain).visit(function)
    function.body = function.body or [ast.Pass()]


def _source(value: ast.expr, hidden: Collection[str]) -> str | None:
    """The hidden input that `value` is, or a copy of; for a text, one that `value` splits."""
    match value:
        case ast.Name(id=name):
            return name if name in hidden else None
        case ast.Call(func=ast.Name(id="list" | "tuple"), args=[ast.Name(id=name)], keywords=[]):
            return name if name in hidden else None
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="copy"), args=[]):
            return name if name in hidden else None
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice(lower=None, upper=None, step=None)):
            return name if name in hidden else None
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))) if is_split(value, name):
            return name if name in hidden else None
    return None


def _is_replaceable(function: ast.FunctionDef, local: str, source: str, value: ast.expr) -> bool:
    parents = {child: node for node in ast.walk(function) for child in ast.iter_child_nodes(node)}
    bound = {local: 0, source: 0}
    reads = {local: [], source: []}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and node.id in bound:
            if isinstance(node.ctx, ast.Load):
                reads[node.id].append(node)
            else:
                bound[node.id] += 1
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            return False
    own = [node for node in ast.walk(value) if isinstance(node, ast.Name) and node.id == source]
    others = [node for node in reads[source] if node not in own]
    if bound != {local: 1, source: 0} or (others and is_split(value, source)):
        return False
    passed = not others  # then nobody sees what a function does to it
    return all(_is_read(node, parents, passed) for node in reads[local]) and all(
        _is_read(node, parents, False) for node in others
    )


def _is_read(node: ast.Name, parents: dict[ast.AST, ast.AST], passed: bool) -> bool:
    """Whether this use of a list leaves it as it is."""
    parent = parents[node]
    match parent:
        case ast.Subscript(value=value, ctx=ast.Load()) if value is node:
            outer = parents[parent]
            return not (
                isinstance(outer, ast.Attribute)
                or (isinstance(outer, ast.Subscript) and not isinstance(outer.ctx, ast.Load))
            )
        case ast.For(iter=iterable) | ast.comprehension(iter=iterable):
            return iterable is node
        case ast.Call(func=ast.Name(id=name)):
            return name in _READERS or passed
        case ast.Attribute(attr=name):
            return name in _METHODS
        case ast.Compare() | ast.BoolOp() | ast.UnaryOp() | ast.If() | ast.While() | ast.IfExp():
            return True
    return False


class _Replace(ast.NodeTransformer):
    def __init__(self, local: str, value: ast.expr):
        self.local = local
        self.value = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.value) if node.id == self.local else node
