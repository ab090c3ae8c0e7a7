"""Conditions in small steps: `and`, `or` and conditional expressions become statements.

Only those are rewritten that are no tool as a whole, because a part of them may be evaluated only when the
parts before it say so. Then every part is a condition of its own, read and asked when its turn comes.
"""

import ast
import copy

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.expressions import Extraction


class Branches:
    """Rewrites the statements of one function."""

    def __init__(self, taken: set[str]):
        """`taken` are the names that the function uses; it grows."""
        self.taken = taken

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        """The statements, rewritten."""
        return [new for statement in statements for new in self.statement(statement)]

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        """What stands for one statement."""
        match node:
            case ast.If(test=ast.UnaryOp(op=ast.Not(), operand=ast.BoolOp() as test)) if _is_stepwise(test):
                node.test = _opposite(test)
                return self.statement(node)
            case ast.If(test=ast.BoolOp() as test) if _is_stepwise(test):
                return self._if(node, test)
            case ast.While(test=ast.BoolOp() as test, orelse=[]) if _is_stepwise(test):
                return self._while(node, test)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.BoolOp() as value) if _is_stepwise(value):
                if any(isinstance(n, ast.Name) and n.id == name for n in ast.walk(value)):
                    flag = self._fresh()
                    return [*self._evaluated(flag, value), ast.Assign(node.targets, _load(flag))]
                return self._evaluated(name, value)
            case ast.Return(value=ast.BoolOp() as value) if _is_stepwise(value):
                flag = self._fresh()
                return [*self._evaluated(flag, value), ast.Return(_load(flag))]
            case ast.Assign(value=ast.IfExp() as value) | ast.Return(value=ast.IfExp() as value) if (
                _is_stepwise(value)
            ):
                return self._either(node, "value", value)
            case ast.AugAssign(value=ast.IfExp() as value) if _is_stepwise(value):
                return self._either(node, "value", value)
            case ast.Expr(
                value=ast.Call(func=ast.Attribute(value=ast.Name()), args=[ast.IfExp() as value], keywords=[])
            ) if _is_stepwise(value):
                return self._either(node, "value.args.0", value)
        return [self._inside(node)]

    def _inside(self, node: ast.stmt) -> ast.stmt:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, self.block(getattr(node, field)))
        for handler in getattr(node, "handlers", []):
            handler.body = self.block(handler.body)
        return node

    def _if(self, node: ast.If, test: ast.BoolOp) -> list[ast.stmt]:
        first, rest = test.values[0], _joined(test.op, test.values[1:])
        if isinstance(test.op, ast.And) and not node.orelse:
            return self.statement(ast.If(first, [ast.If(rest, node.body, [])], []))
        if isinstance(test.op, ast.Or) and not node.orelse and _is_jump(node.body):
            again = ast.If(rest, copy.deepcopy(node.body), [])
            return [*self.statement(ast.If(first, node.body, [])), *self.statement(again)]
        flag = self._fresh()
        return [*self._evaluated(flag, test), self._inside(ast.If(_load(flag), node.body, node.orelse))]

    def _while(self, node: ast.While, test: ast.BoolOp) -> list[ast.stmt]:
        if isinstance(test.op, ast.And) and not isinstance(test.values[0], ast.BoolOp):
            leave = [
                new
                for value in test.values[1:]
                for new in self.statement(ast.If(ast.UnaryOp(ast.Not(), value), [ast.Break()], []))
            ]
            return [ast.While(test.values[0], [*leave, *self.block(node.body)], [])]
        flag = self._fresh()
        leave = ast.If(ast.UnaryOp(ast.Not(), _load(flag)), [ast.Break()], [])
        body = [*self._evaluated(flag, test), leave, *self.block(node.body)]
        return [ast.While(ast.Constant(True), body, [])]

    def _evaluated(self, name: str, node: ast.expr) -> list[ast.stmt]:
        """Statements after which `name` has the value of `node`."""
        if not (isinstance(node, ast.BoolOp) and _is_stepwise(node)):
            return self.statement(ast.Assign([ast.Name(name, ast.Store())], node))
        rest = self._evaluated(name, _joined(node.op, node.values[1:]))
        test = _load(name) if isinstance(node.op, ast.And) else ast.UnaryOp(ast.Not(), _load(name))
        return [*self._evaluated(name, node.values[0]), ast.If(test, rest, [])]

    def _either(self, node: ast.stmt, place: str, value: ast.IfExp) -> list[ast.stmt]:
        """`node`, which holds `value` at the place, under the condition of `value`."""
        copies = []
        for part in (value.body, value.orelse):
            statement = copy.deepcopy(node)
            holder: ast.AST | list[ast.expr] = statement
            *path, last = place.split(".")
            for step in path:
                holder = getattr(holder, step)
            if isinstance(holder, list):
                holder[int(last)] = part
            else:
                setattr(holder, last, part)
            copies.append(self.statement(statement))
        return self.statement(ast.If(value.test, *copies))

    def _fresh(self) -> str:
        name = names.unique("holds", self.taken)
        self.taken.add(name)
        return name


def _is_stepwise(node: ast.expr) -> bool:
    """Whether some part may be evaluated only when another part says so."""
    return not Extraction(node).possible


def _is_jump(body: list[ast.stmt]) -> bool:
    """Whether the block is one short statement that leads elsewhere, so that it may be written twice."""
    match body:
        case [ast.Return(value=None | ast.Constant() | ast.Name())]:
            return True
        case [ast.Break() | ast.Continue()]:
            return True
    return False


def _joined(op: ast.boolop, values: list[ast.expr]) -> ast.expr:
    return values[0] if len(values) == 1 else ast.BoolOp(op, values)


def _opposite(test: ast.BoolOp) -> ast.BoolOp:
    """`not (a and b)` as `not a or not b`."""
    op = ast.Or() if isinstance(test.op, ast.And) else ast.And()
    return ast.BoolOp(op, [_not(value) for value in test.values])


def _not(node: ast.expr) -> ast.expr:
    match node:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return operand
        case ast.BoolOp():
            return _opposite(node)
    return ast.UnaryOp(ast.Not(), node)


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())
