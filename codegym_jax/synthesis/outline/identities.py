"""Conversions that convert nothing, such as `int(n)` of a number that is an integer already: they go."""

import ast
import copy
from collections.abc import Mapping, Sequence
from typing import Any

_PROBE = "probe_conversion"
_KINDS = {"int": int, "float": float, "str": str, "bool": bool}


def without_identities(
    tree: ast.Module, entry: str, namespace: dict[str, Any], inputs: Sequence[Mapping[str, Any]]
) -> ast.Module:
    """A copy of the module without conversions of what has the type already, on all these inputs.

    Args:
      tree: a solution.
      entry: its function to run.
      namespace: to run it in; changed.
      inputs: arguments of the function.
    """
    tree = copy.deepcopy(tree)
    found = [node for node in ast.walk(tree) if _is_conversion(node)]
    if not found:
        return tree
    numbers = {id(node): number for number, node in enumerate(found)}
    needed: list[bool | None] = [None] * len(found)

    def probe(number: int, kind: str, value: Any) -> Any:
        needed[number] = bool(needed[number]) or type(value) is not _KINDS[kind]
        return _KINDS[kind](value)

    class Probed(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.Call:
            number = numbers.get(id(node))
            self.generic_visit(node)
            if number is None or not isinstance(node.func, ast.Name):
                return node
            told = [ast.Constant(number), ast.Constant(node.func.id)]
            return ast.Call(ast.Name(_PROBE, ast.Load()), [*told, *node.args], [])

    source = ast.unparse(tree)
    namespace[_PROBE] = probe
    exec(compile(ast.unparse(ast.fix_missing_locations(Probed().visit(tree))), "<probed>", "exec"), namespace)
    for given in inputs:
        try:
            namespace[entry](**copy.deepcopy(given))
        except Exception:  # the solution may fail in any way
            continue
    tree = ast.parse(source)
    again = [node for node in ast.walk(tree) if _is_conversion(node)]
    idle = {id(node) for node, need in zip(again, needed, strict=True) if need is False}

    class Dropped(ast.NodeTransformer):
        def visit_Call(self, node: ast.Call) -> ast.expr:
            self.generic_visit(node)
            return node.args[0] if id(node) in idle else node

    return ast.fix_missing_locations(Dropped().visit(tree))


def _is_conversion(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return name in _KINDS and not isinstance(argument, (ast.Starred, ast.Constant))
    return False
