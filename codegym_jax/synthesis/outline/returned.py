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
    unread = dropped - _needed(function) - _still_changed(function)
    while unread:
        parts = _Unread(unread)
        function.body = [kept for node in function.body if (kept := parts.visit(node)) is not None]
        unread = parts.loaded - _needed(function) - _still_changed(function)
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


def _needed(function: ast.FunctionDef) -> set[str]:
    """Names that are read for something else than their own next value."""
    found = set()
    waiting: list[tuple[ast.AST, str]] = [(node, "") for node in function.body]
    while waiting:
        node, target = waiting.pop()
        match node:
            case ast.Name(id=name, ctx=ast.Load()) if name != target:
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)]):
                target = name
        waiting += [(child, target) for child in ast.iter_child_nodes(node)]
    return found


def _still_changed(function: ast.FunctionDef) -> set[str]:
    """Names that are added to by expressions that have to be evaluated."""
    return {
        node.target.id
        for node in ast.walk(function)
        if isinstance(node, ast.AugAssign)
        and isinstance(node.target, ast.Name)
        and not is_effectless(node.value)
    }


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

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | None:
        match node:
            case ast.AugAssign(target=ast.Name(id=name), value=value) if name in self.unread:
                self.loaded |= _loaded(value)
                return None
        return node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        self.generic_visit(node)
        if all(isinstance(part, ast.Pass) for part in [*node.body, *node.orelse]) and is_effectless(
            node.test
        ):
            self.loaded |= _loaded(node.test)
            return None
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node
