"""Solutions that return `{"key": value, ...}`, of which one value is asked for: only that is worked out."""

import ast

from codegym_jax.synthesis.outline.simplify import is_effectless


def returns_key(function: ast.FunctionDef, key: str) -> bool:
    """Whether the function always returns a dict display that has the key."""
    returns = _returns(function)
    return bool(returns) and all(_value(node, key) is not None for node in returns)


def unwrap(function: ast.FunctionDef, key: str) -> None:
    """Makes a function of which `returns_key` is true return the value alone, in place."""
    dropped = set()
    for node in _returns(function):
        value = _value(node, key)
        dropped |= _loaded(node)
        node.value = value
    unread = dropped - _loaded(function)
    while unread:
        parts = _Unread(unread)
        function.body = [kept for node in function.body if (kept := parts.visit(node)) is not None]
        unread = parts.loaded - _loaded(function)
    function.body = function.body or [ast.Pass()]


def _returns(function: ast.FunctionDef) -> list[ast.Return]:
    found: list[ast.Return] = []
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Return):
            found.append(node)
        elif not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
            waiting += ast.iter_child_nodes(node)
    return found


def _value(node: ast.Return, key: str) -> ast.expr | None:
    if not isinstance(node.value, ast.Dict):
        return None
    for name, value in zip(node.value.keys, node.value.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key:
            return value
    return None


def _loaded(node: ast.AST) -> set[str]:
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


class _Unread(ast.NodeTransformer):
    """Drops assignments to names that nothing reads."""

    def __init__(self, unread: set[str]):
        self.unread = unread
        self.loaded = set()

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        match node.targets:
            case [ast.Name(id=name)] if name in self.unread and is_effectless(node.value):
                self.loaded |= _loaded(node.value)
                return None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node
