"""Running totals as state: numbers and texts that are added to, multiplied, or replaced by larger ones."""

import ast

from codegym_jax.synthesis.outline.scopes import loaded_names
from codegym_jax.synthesis.outline.state_base import Rewriter, is_scalar
from codegym_jax.synthesis.outline.state_words import NUMBER, NotState

_SIGNED = {ast.Add: ("increment", "add"), ast.Sub: ("decrement", "subtract")}


def accumulates(function: ast.FunctionDef) -> set[str]:
    """The names that a loop of the function updates in a way that a tool does, and that are bound to
    literals otherwise."""
    updated, other = set(), set()
    loops = [node for node in ast.walk(function) if isinstance(node, (ast.For, ast.While))]
    inside = {id(node) for loop in loops for node in ast.walk(loop)}
    for node in ast.walk(function):
        update = update_of(node)
        if update is not None:
            updated |= {update[0]} if id(node) in inside else set()
        elif isinstance(node, ast.Assign) and not is_scalar(node.value):
            other |= {n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    return updated - other


def update_of(node: ast.AST) -> tuple[str, str, ast.expr | None] | None:
    """(name, role, amount) of a statement that updates a running total, else None."""
    match node:
        case ast.AugAssign(target=ast.Name(id=name), op=op, value=amount):
            return _summed(name, op, amount)
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            return _assigned(name, value)
    return None


def _summed(name: str, op: ast.operator, amount: ast.expr) -> tuple[str, str, ast.expr | None] | None:
    if isinstance(op, ast.Mult):
        return name, "multiply", amount
    if type(op) not in _SIGNED or isinstance(amount, (ast.List, ast.ListComp, ast.Tuple)):
        return None
    one, more = _SIGNED[type(op)]
    is_one = isinstance(amount, ast.Constant) and amount.value == 1 and type(amount.value) is int
    return (name, one, None) if is_one else (name, more, amount)


def _assigned(name: str, value: ast.expr) -> tuple[str, str, ast.expr | None] | None:
    match value:
        case ast.BinOp(left=ast.Name(id=same), op=op, right=amount) if same == name:
            return _summed(name, op, amount)
        case ast.IfExp(
            test=ast.Compare(left=ast.Name(id=same), ops=[ast.Is()], comparators=[ast.Constant(value=None)]),
            body=first,
            orelse=ast.Call() as rest,
        ) if same == name:
            update = _assigned(name, rest)
            known = update is not None and update[2] is not None and ast.dump(update[2]) == ast.dump(first)
            return update if known else None
        case ast.Call(func=ast.Name(id="max" | "min" as kind), args=[one, other], keywords=[]):
            role = "largest" if kind == "max" else "smallest"
            if isinstance(one, ast.Name) and one.id == name and name not in loaded_names(other):
                return name, role, other
            if isinstance(other, ast.Name) and other.id == name and name not in loaded_names(one):
                return name, role, one
    return None


class Numbers(Rewriter):
    """A running total; the solver keeps its last value, as the tools return it."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if self.mine(node) and not isinstance(node.ctx, ast.Load):
            raise NotState("bound otherwise")
        return node

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        return [self._rewritten(statement) for statement in statements]

    def _rewritten(self, statement: ast.stmt) -> ast.stmt:
        if statement is self.first:
            return statement
        update = update_of(statement)
        if update is not None and update[0] == self.local.name:
            _, role, amount = update
            return self._bound(role, amount)
        match statement:
            case ast.Assign(targets=[target], value=value) if self.mine(target) and is_scalar(value):
                if ast.unparse(value) == self.local.initial:
                    return self._bound("reset", None, c=self.local.initial)
                return self._bound("set", value)
        return self.visit(statement)

    def _bound(self, role: str, amount: ast.expr | None, **parts: str) -> ast.stmt:
        parameter = {"multiply": "factor", "add": "amount", "subtract": "amount"}.get(role, "value")
        if role == "add" and self.local.initial[:1] in "'\"":
            role, parameter = "append", "text"
        given = {} if amount is None else {parameter: self.visit(amount)}
        call = self.local.call(role, NUMBER[role], given, **parts)
        return ast.Assign([ast.Name(self.local.name, ast.Store())], call)
