"""What the rewriters of lists, dicts and sets have in common."""

import ast

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.mutation import changed_in_place
from codegym_jax.synthesis.outline.scopes import bound_names
from codegym_jax.synthesis.outline.state_base import Rewriter
from codegym_jax.synthesis.outline.state_words import Form, NotState

READERS = {
    "sorted", "sum", "max", "min", "any", "all", "list", "tuple", "set", "str", "enumerate", "zip", "map",
    "reversed", "filter", "join", "frozenset", "Counter", "print",
}  # fmt: skip
"""Functions that read a container and keep no hold of it."""

_SIGNS = {
    (ast.Eq, 0): True, (ast.Lt, 1): True, (ast.LtE, 0): True,
    (ast.NotEq, 0): False, (ast.Gt, 0): False, (ast.GtE, 1): False,
}  # fmt: skip
_SUMS = {ast.Add: "add", ast.Sub: "subtract"}

Loop = tuple[ast.expr, ast.expr, list[ast.stmt]]
"""Target, iterable, first statements of the body."""


class Container(Rewriter):
    """A list, a dict or a set."""

    forms: dict[str, Form]

    def use(self, role: str, **arguments: ast.expr) -> ast.Call:
        """A call of a tool; the arguments are rewritten already."""
        return self.local.call(role, self.forms[role], arguments)

    def do(self, role: str, **arguments: ast.expr) -> ast.Expr:
        """`use` as a statement."""
        return ast.Expr(self.use(role, **arguments))

    def whole(self) -> ast.expr:
        """An expression that reads everything."""
        raise NotImplementedError

    def everything(self) -> ast.expr:
        """`whole`, of which the local remembers nothing but that."""
        roles = set(self.local.roles)
        whole = self.whole()
        self.local.roles = roles | {"whole"}
        return whole

    def each(self, node: ast.For) -> Loop | None:
        """What a loop over the local becomes; None for other loops."""
        raise NotImplementedError

    def created(self, value: ast.expr, empty: bool) -> list[ast.stmt]:
        """Statements that make the state what `value` is; `empty` says that it is empty before."""
        raise NotImplementedError

    def cleared(self, empty: bool) -> list[ast.stmt]:
        """The statement that empties the state, when it is not known to be empty."""
        return [] if empty else [self.do("clear")]

    def method(self, node: ast.Call, name: str) -> ast.expr:
        """The value of the method call `node` on the local."""
        raise NotState(f"method {name}")

    def statement(self, node: ast.Call, name: str) -> list[ast.stmt]:
        """The method call `node` on the local as a statement."""
        return [ast.Expr(self.method(node, name))]

    def contains(self, value: ast.expr) -> ast.expr:
        """`value in local`, the value not yet rewritten."""
        raise NotImplementedError

    def stored(self, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        """`target = value`."""
        raise NotState("a part is stored")

    def added(self, target: ast.Subscript, op: ast.operator, amount: ast.expr) -> ast.stmt:
        """`target op= amount`."""
        raise NotState("a part is added to")

    def value(self, node: ast.expr) -> ast.expr:
        """A value that the state gets; refused when it may change later, as what it was made from."""
        if isinstance(node, ast.Name) and self._changes_later(node):
            raise NotState("a value that changes later")
        return self.visit(node)

    def _changes_later(self, value: ast.Name) -> bool:
        """Whether the variable is changed in place after this use, or outlives the loop around it."""
        changes = [
            node
            for node in ast.walk(self.function)
            if isinstance(node, (ast.expr, ast.stmt)) and value.id in changed_in_place(node)
        ]
        if not changes:
            return False
        loops = [
            node
            for node in ast.walk(self.function)
            if isinstance(node, (ast.For, ast.While)) and value in ast.walk(node)
        ]
        inner = loops[-1].body if loops else self.function.body
        bound = any(
            isinstance(node, ast.Assign) and value.id in bound_names(node)
            for statement in inner
            for node in ast.walk(statement)
        )
        return not bound or any(node.lineno > value.lineno for node in changes)

    def sum_role(self, op: ast.operator, amount: ast.expr) -> str | None:
        """`increment`, `add` or `subtract`; None for other operators and amounts."""
        if isinstance(amount, (ast.List, ast.ListComp, ast.Tuple)):
            return None
        one = isinstance(amount, ast.Constant) and amount.value == 1 and not isinstance(amount.value, bool)
        return "increment" if one and isinstance(op, ast.Add) else _SUMS.get(type(op))

    def otherwise_added(self, target: ast.Subscript, op: ast.operator, amount: ast.expr) -> ast.stmt:
        """`target op= amount` as reading and storing."""
        old = self.twice(target)
        assert isinstance(old, ast.Subscript)
        old.ctx = ast.Load()
        return self.stored(target, ast.BinOp(old, op, amount))

    def visit_Expr(self, node: ast.Expr) -> ast.AST | list[ast.stmt]:
        match node.value:
            case ast.Call(func=ast.Attribute(value=value, attr=name)) as call if self.mine(value):
                return self.statement(call, name)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[argument]) if self.mine(argument):
                return self.use("length")
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if self.mine(value):
                return self.method(node, name)
        if names.of_expression(node.func) in READERS:
            node.args = [self.everything() if self.mine(part) else part for part in node.args]
        return self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        if self.mine(node.value):
            node.value = self.everything()
        elif isinstance(node.value, (ast.Tuple, ast.List)):
            node.value.elts = [self.everything() if self.mine(item) else item for item in node.value.elts]
        return self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> ast.AST:
        node.values = [self.everything() if self.mine(value) else value for value in node.values]
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if self.mine(node.iter):
            node.iter = self.everything()
            if isinstance(node.iter, ast.ListComp):
                node.iter = ast.GeneratorExp(node.iter.elt, node.iter.generators)
        return self.generic_visit(node)

    def visit_For(self, node: ast.For) -> ast.AST:
        reading = self.each(node)
        if reading is None:
            node.iter = self.visit(node.iter)
        node.target = self.visit(node.target)
        changing, self.local.changing = self.local.changing, set()
        node.body, node.orelse = self.block(node.body) or [ast.Pass()], self.block(node.orelse)
        if reading is not None:
            if self.local.changing:
                raise NotState("changed while it is iterated")
            node.target, node.iter, first = reading
            node.body = [*first, *node.body]
        self.local.changing |= changing
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        target = node.targets[0] if len(node.targets) == 1 else None
        if isinstance(target, ast.Name) and self.mine(node.value) and self._asks_only(target.id):
            node.value = self.truth(node.value)
            return node
        if self.mine(target):
            if self.mentions(node.value):
                raise NotState("made from itself")
            roles = set(self.local.roles)
            created = self.created(node.value, node is self.first)
            self.local.roles = roles | {"create"}
            return created
        if isinstance(target, ast.Subscript) and self.mentions(target.value):
            summed = _summed(target, node.value)
            return [self.added(target, *summed) if summed else self.stored(target, node.value)]
        return self.generic_visit(node)

    def _asks_only(self, name: str) -> bool:
        """Whether of the values that the name takes only the truth counts."""
        asked = {id(n.test) for n in ast.walk(self.function) if isinstance(n, (ast.If, ast.While, ast.IfExp))}
        asked |= {
            id(n.operand)
            for n in ast.walk(self.function)
            if isinstance(n, ast.UnaryOp) and isinstance(n.op, ast.Not)
        }
        reads = [
            n
            for n in ast.walk(self.function)
            if isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Load)
        ]
        return all(id(read) in asked for read in reads)

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | list[ast.stmt]:
        if isinstance(node.target, ast.Subscript) and self.mentions(node.target.value):
            return [self.added(node.target, node.op, node.value)]
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(left=left, ops=[ast.In() | ast.NotIn() as op], comparators=[right]) if self.mine(
                right
            ):
                found = self.contains(left)
                return found if isinstance(op, ast.In) else ast.UnaryOp(ast.Not(), found)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                empty = self._emptiness(left, op, right)
                if empty is not None:
                    return self.use("empty") if empty else ast.UnaryOp(ast.Not(), self.use("empty"))
        return self.generic_visit(node)

    def _emptiness(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> bool | None:
        """True for `len(x) == 0` and the like, False for their opposites, else None."""
        match left, right:
            case ast.Call(func=ast.Name(id="len"), args=[inner]), ast.Constant(value=int() as bound):
                return _SIGNS.get((type(op), bound)) if self.mine(inner) else None
            case inner, (ast.List(elts=[]) | ast.Dict(keys=[])) if self.mine(inner):
                return _SIGNS.get((type(op), 0))
        return None

    def truth(self, node: ast.expr) -> ast.expr:
        """The expression, of which only the truth counts."""
        match node:
            case ast.Call(func=ast.Name(id="len"), args=[inner]) if self.mine(inner):
                node = inner
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                operand = self.truth(operand)
                if isinstance(operand, ast.UnaryOp) and isinstance(operand.op, ast.Not):
                    return operand.operand
                return ast.UnaryOp(ast.Not(), operand)
            case ast.BoolOp():
                node.values = [self.truth(value) for value in node.values]
                return node
        return ast.UnaryOp(ast.Not(), self.use("empty")) if self.mine(node) else self.visit(node)

    def visit_If(self, node: ast.If | ast.While) -> ast.AST:
        node.test = self.truth(node.test)
        node.body, node.orelse = self.block(node.body) or [ast.Pass()], self.block(node.orelse)
        return node

    visit_While = visit_If

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self.truth(node.test)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self.truth(node) if isinstance(node.op, ast.Not) else self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        return self.truth(node)


def _summed(target: ast.Subscript, value: ast.expr) -> tuple[ast.operator, ast.expr] | None:
    """(operator, amount) when `target = value` is `target = target + amount`, or with a minus."""
    old = ast.dump(ast.Subscript(target.value, target.slice, ast.Load()))
    match value:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() as op, right=right) if ast.dump(left) == old:
            return op, right
        case ast.BinOp(left=left, op=ast.Add() as op, right=right) if ast.dump(right) == old:
            return op, left
    return None
