"""What a solver does not need: checks of inputs that are always valid, output, imports of missing modules.

An input on which the reference solution raises has no answer, so no task has it. Where nothing catches
exceptions, a condition that leads to one is therefore never true, and it goes.
"""

import ast
import sys
from collections.abc import Iterator

from codegym_jax.synthesis.outline.expressions import PURE_METHODS

INFINITY = 1e308
"""Stands for infinity in a solver, since JSON has none: adding to it and comparing with it come out alike."""


def without_unused_imports(source: str) -> str:
    """The source without imports that name nothing it uses; the standard library's stay, for generators.

    Those from `__future__` go too: they may stand only at the beginning of a file.
    """
    tree = ast.parse(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    lines = source.splitlines(keepends=True)
    for statement, alone in sorted(_imports(tree), key=lambda entry: -entry[0].lineno):
        kept = [alias for alias in statement.names if _is_kept(statement, alias, used)]
        if len(kept) == len(statement.names):
            continue
        start, end = statement.lineno - 1, statement.end_lineno or statement.lineno
        before = lines[start].encode()[: statement.col_offset].decode()
        after = lines[end - 1].encode()[statement.end_col_offset :].decode()
        if before.strip() or after.strip().partition("#")[0]:
            continue  # other statements share the line
        statement.names = kept
        replacement = ast.unparse(statement) if kept else "pass" if alone else ""
        lines[start:end] = [f"{before}{replacement}\n"] if replacement else []
    return "".join(lines)


def _imports(tree: ast.AST) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """(import, whether its block holds nothing else)."""
    for node in ast.walk(tree):
        for field in ("body", "orelse", "finalbody"):
            block = getattr(node, field, None)
            if not isinstance(block, list):
                continue
            imports = [part for part in block if isinstance(part, (ast.Import, ast.ImportFrom))]
            alone = len(imports) == len(block) and not isinstance(node, ast.Module)
            yield from ((part, alone) for part in imports)


def _is_kept(statement: ast.Import | ast.ImportFrom, alias: ast.alias, used: set[str]) -> bool:
    module = statement.module or "" if isinstance(statement, ast.ImportFrom) else alias.name
    bound = alias.asname or alias.name.split(".")[0]
    if module == "__future__":
        return False
    return module.split(".")[0] in sys.stdlib_module_names or alias.name == "*" or bound in used


def simplify(tree: ast.Module) -> None:
    """Drops, in place, what changes no answer, and writes `math` and infinity in one way."""
    tries = any(isinstance(node, ast.Try) for node in ast.walk(tree))
    _Needless(tries).visit(tree)
    _qualify_math(tree)
    _Finite().visit(tree)
    ast.fix_missing_locations(tree)


class _Needless(ast.NodeTransformer):
    """Drops output, and what leads to exceptions that nothing catches."""

    def __init__(self, tries: bool):
        self.tries = tries

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        match node.value:
            case ast.Call(func=ast.Name(id="print")):
                return None
        return self.generic_visit(node)

    def visit_Assert(self, node: ast.Assert) -> ast.AST | None:
        return node if self.tries or not is_effectless(node.test) else None

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        if not self.tries and isinstance(node.exc, ast.Call):
            node.exc = node.exc.func  # the message is for nobody
        return node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt] | None:
        self.generic_visit(node)
        if self.tries or not is_effectless(node.test):
            return node
        if _only_raises(node.body):
            return node.orelse or None
        return node.body if node.orelse and _only_raises(node.orelse) else node


def _only_raises(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise) and all(
        isinstance(node, (ast.Assign, ast.Expr, ast.Raise)) for node in body
    )


def is_effectless(node: ast.expr) -> bool:
    """Whether evaluating the expression changes nothing, as far as can be seen."""
    for part in ast.walk(node):
        match part:
            case ast.NamedExpr() | ast.Await() | ast.Yield() | ast.YieldFrom():
                return False
            case ast.Call(func=ast.Attribute(attr=name)) if name not in PURE_METHODS | {
                "keys",
                "values",
                "get",
            }:
                return False
            case ast.Call(func=ast.Name(id="next")):
                return False
    return True


def _qualify_math(tree: ast.Module) -> None:
    """`from math import sqrt` and `import math as m` as `import math`, names after them."""
    direct, modules = {}, set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "math" and not node.level:
            direct.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.Import):
            modules |= {a.asname for a in node.names if a.name == "math" and a.asname and a.asname != "math"}
    bound = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    bound |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    if not (direct or modules) or bound & {*direct, *modules, "math"} or "*" in direct:
        return

    class Qualify(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if node.id in direct:
                return ast.Attribute(ast.Name("math", ast.Load()), direct[node.id], ast.Load())
            return ast.Name("math", ast.Load()) if node.id in modules else node

    Qualify().visit(tree)
    tree.body.insert(0, ast.Import([ast.alias("math")]))


class _Finite(ast.NodeTransformer):
    """A very large number in place of infinity."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        match node:
            case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]):
                word = text.strip().lower().lstrip("+")
                if word.lstrip("-") in ("inf", "infinity"):
                    large = ast.Constant(INFINITY)
                    return ast.UnaryOp(ast.USub(), large) if word[0] == "-" else large
        self.generic_visit(node)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        match node:
            case ast.Attribute(value=ast.Name(id="math"), attr="inf"):
                return ast.Constant(INFINITY)
        self.generic_visit(node)
        return node
