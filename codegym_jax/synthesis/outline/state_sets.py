"""Sets as state."""

import ast

from codegym_jax.synthesis.outline.state_base import load
from codegym_jax.synthesis.outline.state_containers import Container, Loop
from codegym_jax.synthesis.outline.state_keys import Keys
from codegym_jax.synthesis.outline.state_words import SET, Local, NotState


class Sets(Container):
    """A set of numbers or texts, or of tuples of them."""

    forms = SET

    def __init__(self, local: Local, function: ast.FunctionDef, first: ast.stmt | None):
        super().__init__(local, function, first)
        seen = []
        for node in ast.walk(function):
            match node:
                case ast.Compare(left=value, ops=[ast.In() | ast.NotIn()], comparators=[inner]) if self.mine(
                    inner
                ):
                    seen.append(value)
                case ast.Call(
                    func=ast.Attribute(value=inner, attr="add" | "discard" | "remove"), args=[value]
                ):
                    seen += [value] if self.mine(inner) else []
                case ast.Assign(targets=[target], value=ast.Set(elts=values)) if self.mine(target):
                    seen += values
        self.keys = Keys("value", seen)

    def at(self, role: str, value: ast.expr) -> ast.Call:
        """A call of a tool for one value, not yet rewritten."""
        arguments = self.keys.arguments(self.visit(value))
        return self.local.call(role, self.forms[role], arguments, k=self.keys.source)

    def whole(self) -> ast.expr:
        raise NotState("read in no order")

    def each(self, node: ast.For) -> Loop | None:
        return None

    def created(self, value: ast.expr, empty: bool) -> list[ast.stmt]:
        clear = self.cleared(empty)
        match value:
            case ast.Call(args=[]):
                return clear
            case ast.Call(args=[items]):
                return [*clear, self._each_added(items)]
            case ast.Set(elts=values):
                return [*clear, *(ast.Expr(self.at("add", item)) for item in values)]
        raise NotState("an unknown beginning")

    def _each_added(self, items: ast.expr) -> ast.stmt:
        item = self.fresh("item")
        return ast.For(
            ast.Name(item, ast.Store()), self.visit(items), [ast.Expr(self.at("add", load(item)))], []
        )

    def contains(self, value: ast.expr) -> ast.expr:
        return self.at("contains", value)

    def statement(self, node: ast.Call, name: str) -> list[ast.stmt]:
        match name, node.args:
            case "add", [value]:
                return [ast.Expr(self.at("add", value))]
            case (("discard" | "remove"), [value]):
                return [ast.Expr(self.at("remove", value))]
            case "update", [items]:
                return [self._each_added(items)]
            case "clear", []:
                return [self.do("clear")]
        raise NotState(f"method {name}")

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="sorted"), args=[inner], keywords=[]) if self.mine(inner):
                return self.use("items")
            case ast.Call(func=ast.Name(id="sum" | "min" | "max" | "sorted"), args=[inner]) if self.mine(
                inner
            ):
                node.args = [self.use("items")]
        return super().visit_Call(node)
