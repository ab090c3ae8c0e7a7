"""What all rewriters of a local variable into calls of state tools have in common.

Every use of the local must be one that the tools cover; the first that is not raises `NotState`, and the
caller drops the half rewritten function. What a tool returns is a copy of the state, so a local that is
bound to another name, stored, or passed on is refused.
"""

import ast
import copy
from typing import TypeGuard

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names, loaded_names
from codegym_jax.synthesis.outline.state_words import Local, NotState


class Rewriter(ast.NodeTransformer):
    """Rewrites one local of one function, in place."""

    def __init__(self, local: Local, function: ast.FunctionDef, first: ast.stmt | None):
        """
        Args:
          local: what is rewritten; it collects the tools.
          function: where it lives.
          first: the statement that creates its first value, when that runs once; the state is empty then,
            or made by `reset` already if `local` says so.
        """
        self.local = local
        self.function = function
        self.first = first
        self.taken = bound_names(function) | loaded_names(function)

    def rewrite(self) -> None:
        """Rewrites the function.

        Raises:
          NotState: when a use of the local is not covered.
        """
        self.function.body = self.block(self.function.body) or [ast.Pass()]

    def mine(self, node: ast.AST | None) -> TypeGuard[ast.Name]:
        """Whether the node is the local."""
        return isinstance(node, ast.Name) and node.id == self.local.name

    def mentions(self, node: ast.AST) -> bool:
        """Whether the local occurs in the node."""
        return any(self.mine(part) for part in ast.walk(node))

    def fresh(self, base: str) -> str:
        """A name that is free in the function."""
        name = names.unique(base, self.taken)
        self.taken.add(name)
        return name

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements, rewritten; the one that `reset` does is left out."""
        result = []
        for statement in statements:
            made = statement is self.first and self.local.made
            visited = [] if made else self.visit(statement)
            result += visited if isinstance(visited, list) else [visited]
        return result

    def generic_visit(self, node: ast.AST) -> ast.AST:
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                setattr(node, field, self.block(value) or ([ast.Pass()] if field == "body" else []))
            elif isinstance(value, list):
                setattr(node, field, [self.visit(v) if isinstance(v, ast.AST) else v for v in value])
            elif isinstance(value, ast.AST):
                setattr(node, field, self.visit(value))
        return node

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if self.mine(node):
            raise NotState("a use that no tool covers")
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if self.mentions(node):
            raise NotState("a closure")
        return node

    def twice(self, node: ast.expr) -> ast.expr:
        """A copy of an expression that may be evaluated twice."""
        if any(isinstance(part, (ast.Call, ast.NamedExpr)) for part in ast.walk(node)):
            raise NotState("a place with calls in it")
        return copy.deepcopy(node)


def load(name: str) -> ast.Name:
    """The name, to be read."""
    return ast.Name(name, ast.Load())


def is_scalar(node: ast.AST | None) -> bool:
    """Whether the node is a literal number, text, truth value or None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None)))
