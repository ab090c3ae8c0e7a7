"""Keeps apart the calls that change the state, where one statement makes the same call twice."""

import ast
from typing import TypeGuard

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names, loaded_names
from codegym_jax.synthesis.outline.state_words import Local, NotState

_CONDITIONAL = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


class Sequencer:
    """Takes calls that change the state apart when one statement makes the same call twice.

    Equal operands of an expression are evaluated once when the expression becomes a tool; two pops may not.
    """

    def __init__(self, function: ast.FunctionDef, local: Local):
        self.local = local
        self.taken = bound_names(function) | loaded_names(function)

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements, with what had to be taken apart."""
        result: list[ast.stmt] = []
        for statement in statements:
            result += self.statement(statement)
        return result

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        own = []
        for field, value in ast.iter_fields(node):
            if isinstance(value, list) and value and isinstance(value[0], (ast.stmt, ast.ExceptHandler)):
                setattr(node, field, self.block(value))
            else:
                own += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, ast.AST)]
        calls = [n for part in own for n in ast.walk(part) if self.changes(n)]
        dumps = [ast.dump(call) for call in calls]
        twice = [call for call in calls if dumps.count(ast.dump(call)) > 1]
        if not twice:
            return [node]
        if (
            not isinstance(node, (ast.Assign, ast.Expr, ast.Return, ast.AugAssign))
            or any(isinstance(n, _CONDITIONAL) for part in own for n in ast.walk(part))
            or any(call.keywords for call in twice)
        ):
            raise NotState("the same change twice, perhaps under a condition")
        mover = _Mover(self)
        assert node.value is not None
        node.value = mover.visit(node.value)
        return [*mover.moved, node]

    def changes(self, node: ast.AST) -> TypeGuard[ast.Call]:
        """Whether the node is a call that changes the state."""
        match node:
            case ast.Call(func=ast.Name(id="call"), args=[ast.Constant(value=tool)]):
                return tool in self.local.changing
        return False


class _Mover(ast.NodeTransformer):
    """Moves the calls that change the state in front of their statement, in order."""

    def __init__(self, sequencer: Sequencer):
        self.sequencer = sequencer
        self.moved: list[ast.stmt] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if node.keywords or not self.sequencer.changes(node):
            return node
        name = names.unique(f"{self.sequencer.local.name}_value", self.sequencer.taken)
        self.sequencer.taken.add(name)
        self.moved.append(ast.Assign([ast.Name(name, ast.Store())], node))
        return ast.Name(name, ast.Load())
