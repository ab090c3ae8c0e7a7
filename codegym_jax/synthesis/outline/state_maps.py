"""Dicts as state."""

import ast

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names
from codegym_jax.synthesis.outline.state_base import is_scalar, load
from codegym_jax.synthesis.outline.state_containers import Container, Loop
from codegym_jax.synthesis.outline.state_keys import Keys
from codegym_jax.synthesis.outline.state_words import MAPPING, Local, NotState

_UNSET = "unset"


class Mappings(Container):
    """A dict from numbers or texts, or tuples of them, to JSON values."""

    forms = MAPPING

    def __init__(self, local: Local, function: ast.FunctionDef, first: ast.stmt | None):
        super().__init__(local, function, first)
        seen, defaults, beginnings = [], set(), set()
        for node in ast.walk(function):
            match node:
                case ast.Compare(comparators=[ast.Call(func=ast.Attribute(value=inner, attr="keys"))]):
                    node.comparators = [inner] if self.mine(inner) else node.comparators
            match node:
                case ast.Assign(targets=[target], value=value) if self.mine(target):
                    beginnings.add(_default(value))
                case ast.Subscript(value=inner, slice=key) if self.mine(inner):
                    seen.append(key)
                case ast.Compare(left=key, ops=[ast.In() | ast.NotIn()], comparators=[inner]) if self.mine(
                    inner
                ):
                    seen.append(key)
                case ast.Call(
                    func=ast.Attribute(value=inner, attr="get" | "pop" | "setdefault" as method),
                    args=[key, *rest],
                ) if self.mine(inner):
                    seen.append(key)
                    if method == "get":
                        defaults.add(ast.unparse(rest[0]) if rest and is_scalar(rest[0]) else _UNSET)
        if len(beginnings) != 1:
            raise NotState("several kinds of dicts")
        self.keys = Keys("key", seen)
        [self.default] = beginnings
        if self.default is None and len(defaults) == 1 and _UNSET not in defaults:
            [self.default] = defaults  # the tool gives what `get` gives for a missing key

    def at(self, role: str, key: ast.expr, **more: ast.expr) -> ast.Call:
        """A call of a tool for one key; the key is not yet rewritten, other arguments are."""
        place, state = self.keys.source, f"self.{self.local.attribute}"
        old = f"{state}.get({place}, 0)" if self.default == "0" else f"{state}[{place}]"
        arguments = self.keys.arguments(self.visit(key)) | more
        return self.local.call(role, self.forms[role], arguments, k=place, old=old, c=str(self.default))

    def value_at(self, key: ast.expr) -> ast.expr:
        """The value for a key that is not yet rewritten."""
        return self.at("get" if self.default is None else "get_or", key)

    def whole(self) -> ast.expr:
        key = self._key()
        part = ast.comprehension(ast.Name(key, ast.Store()), self.use("keys"), [], 0)
        return ast.DictComp(load(key), self.value_at(load(key)), [part])

    def _key(self) -> str:
        """A fresh name for a key."""
        if self.keys.parts:
            raise NotState("tuples among the keys")
        return self.fresh("key")

    def _listed(self, what: str) -> ast.expr:
        """`keys()`, `values()` or `items()`."""
        if what == "keys":
            return self.use("keys")
        key = self._key()
        part = ast.comprehension(ast.Name(key, ast.Store()), self.use("keys"), [], 0)
        value = self.value_at(load(key))
        return ast.ListComp(ast.Tuple([load(key), value], ast.Load()) if what == "items" else value, [part])

    def each(self, node: ast.For) -> Loop | None:
        match node.iter:
            case inner if self.mine(inner):
                return node.target, self.use("keys"), []
            case ast.Call(func=ast.Attribute(value=inner, attr="keys")) if self.mine(inner):
                return node.target, self.use("keys"), []
            case ast.Call(func=ast.Attribute(value=inner, attr="values")) if self.mine(inner):
                key = self._key()
                read = ast.Assign([node.target], self.value_at(load(key)))
                return ast.Name(key, ast.Store()), self.use("keys"), [read]
            case ast.Call(func=ast.Attribute(value=inner, attr="items")) if self.mine(inner):
                match node.target:
                    case ast.Tuple(elts=[ast.Name(id=key), value]) if not self.keys.parts:
                        read = ast.Assign([value], self.value_at(load(key)))
                        return ast.Name(key, ast.Store()), self.use("keys"), [read]
        return None

    def created(self, value: ast.expr, empty: bool) -> list[ast.stmt]:
        clear = self.cleared(empty)
        match value:
            case ast.Dict(keys=keys, values=values) if None not in keys:
                pairs = zip(keys, values, strict=True)
                return [*clear, *(ast.Expr(self.at("set", k, value=self.value(v))) for k, v in pairs if k)]
            case ast.DictComp(key=key, value=item, generators=[part]):
                return [*clear, self._each_set(part, key, item)]
            case ast.Call(func=function, args=[items]) if names.of_expression(function) == "Counter":
                item = self.fresh("item")
                count: list[ast.stmt] = [ast.Expr(self.at("increment", load(item)))]
                return [*clear, ast.For(ast.Name(item, ast.Store()), self.visit(items), count, [])]
        return clear

    def _each_set(self, part: ast.comprehension, key: ast.expr, item: ast.expr) -> ast.stmt:
        """The loop that does what a dict comprehension does."""
        for name in bound_names(part.target):
            stores = [n for n in ast.walk(self.function) if isinstance(n, ast.Name) and n.id == name]
            if sum(isinstance(n.ctx, ast.Store) for n in stores) > 1:
                raise NotState("a comprehension that shares a name")
        body: list[ast.stmt] = [ast.Expr(self.at("set", key, value=self.value(item)))]
        for test in reversed(part.ifs):
            body = [ast.If(self.visit(test), body, [])]
        return ast.For(part.target, self.visit(part.iter), body, [])

    def contains(self, value: ast.expr) -> ast.expr:
        return self.at("has", value)

    def statement(self, node: ast.Call, name: str) -> list[ast.stmt]:
        match name, node.args:
            case "clear", []:
                return [self.do("clear")]
            case "setdefault", [key, value]:
                store = ast.Expr(self.at("set", self.twice(key), value=self.value(value)))
                return [ast.If(ast.UnaryOp(ast.Not(), self.at("has", key)), [store], [])]
            case "pop", [key, _]:
                remove = ast.Expr(self.at("remove", self.twice(key)))
                return [ast.If(self.at("has", key), [remove], [])]
        return [ast.Expr(self.method(node, name))]

    def method(self, node: ast.Call, name: str) -> ast.expr:
        match name, node.args:
            case "get", [key, *rest]:
                default = rest[0] if rest else ast.Constant(None)
                if is_scalar(default) and ast.unparse(default) == self.default:
                    return self.value_at(key)
                known = self.at("has", self.twice(key))
                return ast.IfExp(known, self.at("get", key), self.visit(default))
            case "pop", [key]:
                return self.at("remove", key)
            case (("keys" | "values" | "items"), []):
                return self._listed(name)
            case "copy", []:
                return self.everything()
        raise NotState(f"method {name}")

    def visit_Call(self, node: ast.Call) -> ast.AST:
        match node.func, node.args:
            case ast.Attribute(value=ast.Subscript(value=inner, slice=key), attr="append"), [value] if (
                self.mine(inner)
            ):
                return self.at("append", key, value=self.value(value))
            case (
                ast.Attribute(
                    value=ast.Call(
                        func=ast.Attribute(value=inner, attr="setdefault"), args=[key, ast.List(elts=[])]
                    ),
                    attr="append",
                ),
                [value],
            ) if self.mine(inner):
                return self.at("append", key, value=self.value(value))
        for keyword in node.keywords:
            match keyword.value:
                case ast.Attribute(value=inner, attr="get") if keyword.arg == "key" and self.mine(inner):
                    key = self._key()
                    arguments = ast.arguments([], [ast.arg(key)], None, [], [], None, [])
                    keyword.value = ast.Lambda(arguments, self.value_at(load(key)))
        if isinstance(node.func, ast.Name) and node.func.id in ("sorted", "max", "min", "list", "sum", "set"):
            node.args = [self.use("keys") if self.mine(part) else part for part in node.args]
        return super().visit_Call(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if self.mine(node.value) and isinstance(node.ctx, ast.Load):
            return self.value_at(node.slice)
        return self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if self.mine(node.iter):
            node.iter = self.use("keys")
        return self.generic_visit(node)

    def stored(self, target: ast.Subscript, value: ast.expr) -> ast.stmt:
        if not self.mine(target.value):
            raise NotState("a part of a value is stored")
        match value:
            case ast.BinOp(
                left=ast.Call(func=ast.Attribute(value=inner, attr="get"), args=[key, ast.Constant(value=0)]),
                op=ast.Add(),
                right=amount,
            ) if self.mine(inner) and ast.dump(key) == ast.dump(target.slice) and self.default == "0":
                return self.added(target, ast.Add(), amount)
        return ast.Expr(self.at("set", target.slice, value=self.value(value)))

    def added(self, target: ast.Subscript, op: ast.operator, amount: ast.expr) -> ast.stmt:
        role = self.sum_role(op, amount)
        if not self.mine(target.value):
            raise NotState("a part of a value is added to")
        if role is None:
            return self.otherwise_added(target, op, amount)
        given = {} if role == "increment" else {"amount": self.visit(amount)}
        return ast.Expr(self.at(role, target.slice, **given))

    def visit_Delete(self, node: ast.Delete) -> ast.AST | list[ast.stmt]:
        match node.targets:
            case [ast.Subscript(value=inner, slice=key)] if self.mine(inner):
                return [ast.Expr(self.at("remove", key))]
        return self.generic_visit(node)


def _default(value: ast.expr) -> str | None:
    """Source of what a new dict gives for a missing key, None when it raises."""
    match value:
        case ast.Call(func=function, args=[ast.Name(id=kind)]) if (
            names.of_expression(function) == "defaultdict"
        ):
            return {"int": "0", "list": "[]", "float": "0.0", "str": "''", "bool": "False"}.get(kind)
        case ast.Call(func=function) if names.of_expression(function) == "Counter":
            return "0"
    return None
