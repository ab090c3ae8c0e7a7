"""What the methods of an environment's class do with its attributes, read off its source."""

import ast
from typing import NamedTuple

from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.records import EnvSpec

_MUTATORS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft"}
    | {"remove", "reverse", "rotate", "setdefault", "sort", "update"}
)


class Method(NamedTuple):
    """One tool's method."""

    node: ast.FunctionDef
    reads: frozenset[str]
    """Attributes of `self` that it mentions."""
    writes: frozenset[str]
    """Those among them that it assigns, or changes by a method that changes containers."""


def tool_methods(spec: EnvSpec) -> dict[str, Method]:
    """Tool name -> its method, for the tools that the class itself defines."""
    names = {tool.name for tool in spec.tools}
    classes = [node for node in parse_tree(spec.source).body if isinstance(node, ast.ClassDef)]
    return {
        node.name: _method(node)
        for cls in sorted(classes, key=lambda cls: cls.name == spec.class_name)  # its own definitions win
        for node in cls.body
        if isinstance(node, ast.FunctionDef) and node.name in names
    }


def _method(node: ast.FunctionDef) -> Method:
    reads, writes = set(), set()
    for part in ast.walk(node):
        name = attribute_of_self(part)
        if name:
            reads.add(name)
            if not isinstance(part.ctx, ast.Load):  # type: ignore[attr-defined]
                writes.add(name)
        match part:
            case ast.Subscript(value=changed, ctx=ast.Store() | ast.Del()):
                writes.add(_owner(changed))
            case ast.Call(func=ast.Attribute(value=changed, attr=method)) if method in _MUTATORS:
                writes.add(_owner(changed))
    return Method(node, frozenset(reads), frozenset(writes - {""}))


def attribute_of_self(node: ast.AST) -> str:
    """`x` of the expression `self.x`; "" for any other."""
    match node:
        case ast.Attribute(value=ast.Name(id="self"), attr=name):
            return name
    return ""


def _owner(node: ast.AST) -> str:
    """`x` of `self.x`, `self.x[i]`, `self.x[i][j]` and so on; "" for what belongs to nothing of `self`."""
    while isinstance(node, ast.Subscript):
        node = node.value
    return attribute_of_self(node)
