"""The local variables of a function: how they begin, of what kind they are, how often the function runs."""

import ast
import json
from collections.abc import Iterator

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.mutation import changed_in_place
from codegym_jax.synthesis.outline.scopes import functions, loaded_names
from codegym_jax.synthesis.outline.state_base import is_scalar
from codegym_jax.synthesis.outline.state_lists import elements_of, filled
from codegym_jax.synthesis.outline.state_numbers import accumulates

EMPTY = {"list": "[]", "dict": "{}", "set": "set()"}
"""Kind of a container -> source of an empty one."""

_EMPTY_MAKERS = {"list", "deque", "dict", "defaultdict", "Counter", "set"}
_TYPES = {"int", "float", "str", "list"}


def first_binding(function: ast.FunctionDef, name: str) -> ast.Assign | None:
    """The statement of the function's own block that binds the local before anything else touches it."""
    for statement in function.body:
        if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement)):
            match statement:
                case ast.Assign(targets=[ast.Name(id=bound)]) if bound == name:
                    return statement
            return None
    return None


def kind_of(value: ast.expr) -> str | None:
    """What a local is that begins with this value."""
    if is_scalar(value):
        return "number"
    if filled(value) is not None or elements_of(value) is not None:
        return "list"
    match value:
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.Set():
            return "set"
        case ast.Call(func=function, args=arguments, keywords=[]):
            name = names.of_expression(function)
            if name == "set":
                return "set"
            if (name == "dict" and not arguments) or name == "Counter":
                return "dict"
            if name == "defaultdict":
                match arguments:
                    case [ast.Name(id=default)] if default in _TYPES:
                        return "dict"
    return None


def literal_source(value: ast.expr, kind: str) -> str | None:
    """Source of a literal value as it comes out of JSON; None when it is computed."""
    shape = filled(value)
    if shape is not None:
        _, sizes, cell = shape
        known = all(isinstance(size, ast.Constant) for size in sizes) and (cell is None or is_scalar(cell))
        return ast.unparse(value) if known else None
    match value:
        case ast.Call(args=[ast.List() as inner]) if kind == "list":
            value = inner
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _EMPTY_MAKERS:
            plain = all(isinstance(node, ast.Name) and node.id in _TYPES for node in value.args)
            return EMPTY[kind] if plain else None
    try:
        literal = ast.literal_eval(value)
        return ast.unparse(value) if kind in ("set", "number") else repr(json.loads(json.dumps(literal)))
    except (ValueError, TypeError, SyntaxError):
        return None


def local_names(function: ast.FunctionDef) -> list[str]:
    """The names that plain statements of the function bind, in order."""
    parameters = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    found = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) if name not in parameters:
                found.setdefault(name, node.lineno)
    accumulating = accumulates(function)
    numbers = [name for name in found if name in accumulating]
    return sorted(found, key=lambda name: (name in numbers, found[name]))


def beginnings(function: ast.FunctionDef, name: str) -> list[ast.expr]:
    """The values that are bound to the local, updates of numbers apart."""
    found = []
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                if name not in loaded_names(value):
                    found.append(value)
    return found


def changed_names(function: ast.FunctionDef) -> set[str]:
    """The names whose values the function changes or binds anew."""
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return stored.union(*map(changed_in_place, ast.walk(function)))


def is_plain_function(tree: ast.Module, function: ast.FunctionDef) -> bool:
    """Whether the function is no generator, has no closure's powers, and never runs inside itself."""
    if function.decorator_list or any(
        isinstance(node, (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)) for node in ast.walk(function)
    ):
        return False
    mentions = {f.name: loaded_names(f) for f in functions(tree)}
    reached, frontier = set(), [function.name]
    while frontier:
        new = (mentions[frontier.pop()] & set(mentions)) - reached
        reached |= new
        frontier += new
    return function.name not in reached


def run_once(tree: ast.Module, entry: str) -> set[str]:
    """The functions that run at most once when the entry function runs once."""
    mentioned = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    once, grown = {entry} if entry not in mentioned else set(), True
    while grown:
        called = {
            node.func.id
            for function in functions(tree)
            if function.name in once
            for node in _outside_loops(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        more = {f.name for f in functions(tree) if f.name in called and mentioned.count(f.name) == 1} - once
        once |= more
        grown = bool(more)
    return once


def _outside_loops(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child,
            (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda),
        ):
            yield child
            yield from _outside_loops(child)
