"""Reductions and comprehensions as loops with an accumulator."""

import ast
import copy
from collections.abc import Collection, Sequence

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names, loaded_names

_ACCUMULATORS = {"sum": "total", "max": "largest", "min": "smallest", "len": "count"}
_WITHOUT_LOOPS = (ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.JoinedStr)
_Comprehension = ast.GeneratorExp | ast.ListComp


class Loops:
    """Turns reductions and comprehensions of one function into loops placed before their statement."""

    def __init__(self, function: ast.FunctionDef, hidden: Collection[str]):
        self.taken = bound_names(function) | loaded_names(function)
        self.outer = _bound_outside_comprehensions(function)
        self.hidden = set(hidden)
        self.before = []

    def block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result = []
        for statement in statements:
            result += self.statement(statement)
        return result

    def statement(self, node: ast.stmt) -> list[ast.stmt]:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(node, field, None), list):
                setattr(node, field, self.block(getattr(node, field)))
        for handler in getattr(node, "handlers", []):
            handler.body = self.block(handler.body)
        early = self.early_return(node)
        if early:
            return early
        outer, self.before = self.before, []
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and len(node.targets) == 1:
            name = node.targets[0].id
            node.value = self.expression(node.value, None if name in loaded_names(node.value) else name)
            result = self.before
            if not (isinstance(node.value, ast.Name) and node.value.id == name):
                result = [*result, node]
        else:
            for field in {ast.Return: "value", ast.AugAssign: "value", ast.Expr: "value", ast.Assign: "value",
                          ast.If: "test", ast.For: "iter"}.get(type(node), "").split():  # fmt: skip
                if getattr(node, field) is not None:
                    setattr(node, field, self.expression(getattr(node, field)))
            result = [*self.before, node]
        self.before = outer
        return result

    def early_return(self, node: ast.stmt) -> list[ast.stmt] | None:
        """`return any(...)` and `return all(...)` as a loop that returns as soon as it knows."""
        match node:
            case ast.Return(
                value=ast.Call(func=ast.Name(id="any" | "all" as kind), args=[argument], keywords=[])
            ):
                generator = _as_generator(argument)
                if generator is None or len(generator.generators) > 1:
                    return None
                generator = self.isolated(generator)
                test = generator.elt if kind == "any" else _negated(generator.elt)
                inner = [ast.If(test, [ast.Return(ast.Constant(kind == "any"))], [])]
                return [*self.loop(generator, inner), ast.Return(ast.Constant(kind != "any"))]
        return None

    def fresh(self, base: str) -> str:
        name = names.unique(base, self.taken)
        self.taken.add(name)
        return name

    def expression(self, node: ast.expr, target: str | None = None) -> ast.expr:
        """The expression without loops inside; the loops go to `self.before`.

        Args:
          node: evaluated unconditionally, and before anything that follows it.
          target: the name that the value will be bound to, free to be the accumulator.
        """
        if isinstance(node, _WITHOUT_LOOPS) and not isinstance(node, ast.ListComp):
            return node
        replaced = self.reduction(node, target)
        if replaced is not None:
            return replaced
        if isinstance(node, ast.BoolOp):
            node.values[0] = self.expression(node.values[0])
        elif isinstance(node, ast.IfExp):
            node.test = self.expression(node.test)
        elif isinstance(node, ast.Compare):
            node.left = self.expression(node.left)
            node.comparators[0] = self.expression(node.comparators[0])
        else:
            match node:
                case ast.Call(func=function, args=[ast.GeneratorExp() as generator]) if names.of_expression(
                    function
                ) in ("join", "sorted", "set", "tuple"):
                    node.args = [self.collect(generator, None)]
            for field, value in ast.iter_fields(node):
                if isinstance(value, ast.expr):
                    setattr(node, field, self.expression(value))
                elif isinstance(value, list):
                    setattr(
                        node, field, [self.expression(v) if isinstance(v, ast.expr) else v for v in value]
                    )
                    for keyword in value:
                        if isinstance(keyword, ast.keyword):
                            keyword.value = self.expression(keyword.value)
        return node

    def reduction(self, node: ast.expr, target: str | None) -> ast.expr | None:
        """The name that holds the value of `node` once its loop has run; None when it is no reduction."""
        match node:
            case ast.Call(func=ast.Name(id=kind), args=[argument], keywords=[]) if kind in _ACCUMULATORS:
                generator = _as_generator(argument)
                if generator is None or (kind == "len" and not _is_list(argument)):
                    return None
                return self.accumulate(kind, generator, target)
            case ast.Call(func=ast.Name(id="any" | "all" as kind), args=[argument], keywords=[]):
                generator = _as_generator(argument)
                if generator is None or len(generator.generators) > 1:
                    return None
                return self.search(kind == "any", generator, target)
            case ast.Call(func=ast.Name(id="list"), args=[ast.GeneratorExp() as generator], keywords=[]):
                return self.collect(generator, target)
            case ast.Call(
                func=ast.Name(id="list"), args=[ast.Call(func=ast.Name(id="filter" | "map"))], keywords=[]
            ):
                generator = _as_generator(node.args[0])
                return None if generator is None else self.collect(generator, target)
            case ast.ListComp():
                return self.collect(node, target)
            case ast.Compare(
                left=left, ops=[ast.In() | ast.NotIn() as operator], comparators=[ast.Name(id=name)]
            ) if name in self.hidden:
                item = self.fresh(f"{name}_item")
                test = ast.Compare(_load(item), [ast.Eq()], [self.expression(left)])
                generator = _generator(test, item, node.comparators[0])
                found = self.search(True, generator, target)
                return found if isinstance(operator, ast.In) else _negated(found)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="count"),
                args=[ast.Constant() | ast.Name() as wanted],
                keywords=[],
            ) if name in self.hidden:
                item = self.fresh(f"{name}_item")
                test = ast.Compare(_load(item), [ast.Eq()], [wanted])
                return self.accumulate("sum", _generator(test, item, _load(name)), target)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr="lower" | "upper" | "swapcase" as method),
                args=[],
            ) if name in self.hidden:
                item = self.fresh(f"{name}_char")
                changed = ast.Call(ast.Attribute(_load(item), method, ast.Load()), [], [])
                items = self.collect(_generator(changed, item, _load(name)), None)
                return ast.Call(ast.Attribute(ast.Constant(""), "join", ast.Load()), [items], [])
        return None

    def isolated(self, generator: _Comprehension) -> _Comprehension:
        """The comprehension with targets that clash with no variable of the function."""
        targets = set().union(*(bound_names(part.target) for part in generator.generators))
        clashing = {name: self.fresh(name) for name in sorted(targets & self.outer)}

        class Rename(ast.NodeTransformer):
            def visit_Name(self, node: ast.Name) -> ast.expr:
                node.id = clashing.get(node.id, node.id)
                return node

        if clashing:
            first = generator.generators[0]
            outside, first.iter = (
                first.iter,
                ast.Constant(None),
            )  # the first iterable is read outside the scope
            Rename().visit(generator)
            first.iter = outside
        return generator

    def accumulate(self, kind: str, generator: _Comprehension, target: str | None) -> ast.expr:
        name = target or self.fresh(_ACCUMULATORS[kind])
        element = self.isolated(generator).elt
        if kind in ("sum", "len"):
            start = ast.Constant(0)
            inner = _added(name, ast.Constant(1) if kind == "len" else element)
        else:
            start, inner = ast.Constant(None), []
            if not isinstance(element, ast.Name):
                value = self.fresh("value")
                inner, element = [_bind(value, element)], _load(value)
            better = ast.Call(_load(kind), [_load(name), element], [])
            unset = ast.Compare(_load(name), [ast.Is()], [ast.Constant(None)])
            inner = [*inner, _bind(name, ast.IfExp(unset, copy.deepcopy(element), better))]
        self.before += [_bind(name, start), *self.loop(generator, inner)]
        return _load(name)

    def search(self, wanted: bool, generator: _Comprehension, target: str | None) -> ast.expr:
        name = target or self.fresh("found" if wanted else "holds")
        generator = self.isolated(generator)
        test = generator.elt if wanted else _negated(generator.elt)
        inner = [ast.If(test, [_bind(name, ast.Constant(wanted)), ast.Break()], [])]
        self.before += [_bind(name, ast.Constant(not wanted)), *self.loop(generator, inner)]
        return _load(name)

    def collect(self, generator: _Comprehension, target: str | None) -> ast.expr:
        name = target or self.fresh("items")
        element = self.isolated(generator).elt
        append = ast.Call(ast.Attribute(_load(name), "append", ast.Load()), [element], [])
        self.before += [_bind(name, ast.List([], ast.Load())), *self.loop(generator, [ast.Expr(append)])]
        return _load(name)

    def loop(self, generator: _Comprehension, inner: Sequence[ast.stmt]) -> list[ast.stmt]:
        """`for ... if ...` around the statements `inner`, normalized in their turn."""
        statements: list[ast.stmt] = list(inner)
        for part in reversed(generator.generators):
            for test in reversed(part.ifs):
                statements = [ast.If(test, statements, [])]
            statements = [ast.For(part.target, part.iter, statements, [])]
        outer, self.before = self.before, []
        result = self.block(statements)
        self.before = outer
        return result


def _bound_outside_comprehensions(node: ast.AST) -> set[str]:
    if isinstance(node, (ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.Lambda)):
        return set()
    here = {node.id} if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else set()
    here |= {node.arg} if isinstance(node, ast.arg) else set()
    return here.union(*map(_bound_outside_comprehensions, ast.iter_child_nodes(node)))


def _is_list(node: ast.AST) -> bool:
    match node:
        case ast.ListComp() | ast.Call(func=ast.Name(id="list")):
            return True
    return False


def _as_generator(node: ast.AST) -> _Comprehension | None:
    """A comprehension over what `node` iterates; None when it may not be taken apart."""
    match node:
        case ast.GeneratorExp() | ast.ListComp():
            return node if not any(part.is_async for part in node.generators) else None
        case ast.Call(func=ast.Name(id="list"), args=[inner], keywords=[]):
            return _as_generator(inner) if isinstance(inner, ast.Call) else None
        case ast.Call(func=ast.Name(id="filter"), args=[ast.Lambda(args=arguments, body=body), iterable]):
            if len(arguments.args) != 1:
                return None
            name = arguments.args[0].arg
            result = _generator(_load(name), name, iterable)
            result.generators[0].ifs = [body]
            return result
        case ast.Call(func=ast.Name(id="map"), args=[ast.Name() as function, iterable]):
            return _generator(ast.Call(function, [_load("item")], []), "item", iterable)
        case ast.Name():
            return _generator(_load("item"), "item", node)
        case ast.Subscript(value=ast.Name(), slice=ast.Slice()):
            return _generator(_load("item"), "item", node)
        case ast.Call(func=ast.Name(id="range")):
            return _generator(_load("number"), "number", node)
    return None


def _generator(element: ast.expr, name: str, iterable: ast.expr) -> ast.GeneratorExp:
    return ast.GeneratorExp(element, [ast.comprehension(ast.Name(name, ast.Store()), iterable, [], 0)])


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _bind(name: str, value: ast.expr) -> ast.Assign:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _negated(test: ast.expr) -> ast.expr:
    opposite = {ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In}
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in opposite:
        return ast.Compare(test.left, [opposite[type(test.ops[0])]()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _added(name: str, element: ast.expr) -> list[ast.stmt]:
    """Statements that add `element` to the accumulator; a truth value counts one."""
    match element:
        case ast.Compare() | ast.UnaryOp(op=ast.Not()):
            return [ast.If(element, _added(name, ast.Constant(1)), [])]
        case ast.IfExp(test=test, body=body, orelse=ast.Constant(value=0)):
            return [ast.If(test, _added(name, body), [])]
    return [ast.AugAssign(ast.Name(name, ast.Store()), ast.Add(), element)]
