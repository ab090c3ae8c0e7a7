"""Rewrites a reference solution into plain loops, which outline into small tools.

`sum`, `max`, `min`, `any`, `all`, `len` of a comprehension, comprehensions themselves, and membership in a
hidden input become loops with an accumulator; constants move to where they are used; closed nested
functions move to module level. What the rewriting gets wrong is caught later: every environment must
reproduce the answers of the solution as published.
"""

import ast
import builtins
import copy
from collections.abc import Collection, Sequence

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.branches import Branches
from codegym_jax.synthesis.outline.classes import free_methods
from codegym_jax.synthesis.outline.copies import inline_copies
from codegym_jax.synthesis.outline.returned import unwrap
from codegym_jax.synthesis.outline.simplify import simplify

_ACCUMULATORS = {"sum": "total", "max": "largest", "min": "smallest", "len": "count"}
_WITHOUT_LOOPS = (ast.Lambda, ast.GeneratorExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.JoinedStr)
_Comprehension = ast.GeneratorExp | ast.ListComp


def clean(source: str) -> ast.Module:
    """The module without docstrings, without what runs only as a script, and simplified."""
    tree = ast.parse(source)
    tree.body = [node for node in tree.body if not _is_main_guard(node)]
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    tree = _WithoutFormattedStrings().visit(tree)
    free_methods(tree)
    simplify(tree)
    return tree


class _WithoutFormattedStrings(ast.NodeTransformer):
    """f-strings as `format` calls: the source of an f-string does not parse under every Python."""

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        template, arguments = "", []
        for part in node.values:
            match part:
                case ast.Constant(value=str() as text):
                    template += text.replace("{", "{{").replace("}", "}}")
                case ast.FormattedValue(value=value, conversion=conversion, format_spec=spec):
                    format_spec = _plain_text(spec)
                    if format_spec is None:
                        return self.generic_visit(node)
                    template += "{" + (f"!{chr(conversion)}" if conversion > 0 else "")
                    template += (f":{format_spec}" if format_spec else "") + "}"
                    arguments.append(self.visit(value))
        if not arguments:
            return ast.Constant(template.replace("{{", "{").replace("}}", "}"))
        return ast.Call(ast.Attribute(ast.Constant(template), "format", ast.Load()), arguments, [])


def _plain_text(spec: ast.AST | None) -> str | None:
    """The text of a format specification; None when parts of it are computed."""
    match spec:
        case None | ast.JoinedStr(values=[]):
            return ""
        case ast.JoinedStr(values=[ast.Constant(value=str() as text)]):
            return text
    return None


def normalize(
    source: str, entry: str, hidden: Collection[str], loops: bool = True, projection: str | None = None
) -> ast.Module:
    """The normalized module.

    Args:
      source: the reference solution as published.
      entry: the function that solves the problem.
      hidden: its parameters that will be reached through tools only.
      loops: whether comprehensions and reductions become loops.
      projection: the key of the returned dict whose value is to be returned alone.
    """
    tree = clean(source)
    if projection is not None:
        unwrap(next(node for node in functions(tree) if node.name == entry), projection)
    _lift_nested_functions(tree)
    methods = [
        part
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.FunctionDef)
    ]
    for function in [*functions(tree), *methods]:
        _inline_constants(tree, function)
        if loops:
            of_interest = hidden if function.name == entry else ()
            if function.name == entry:
                inline_copies(function, hidden)
            function.body = _in_steps(function)
            function.body = _Loops(function, of_interest).block(function.body)
            function.body = _in_steps(function)
    return ast.parse(ast.unparse(ast.fix_missing_locations(tree)))


def _in_steps(function: ast.FunctionDef) -> list[ast.stmt]:
    return Branches(bound_names(function) | loaded_names(function)).block(function.body)


def functions(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions at module level, by value."""
    return [node for node in tree.body if isinstance(node, ast.FunctionDef)]


def bound_names(tree: ast.AST) -> set[str]:
    """Every name that the tree binds somewhere: parameters, targets, definitions, imports."""
    bound = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            bound.add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
    return bound


def loaded_names(tree: ast.AST) -> set[str]:
    """Every name that the tree reads somewhere."""
    return {
        node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def _is_main_guard(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "__name__" in loaded_names(node.test)


def _lift_nested_functions(tree: ast.Module) -> None:
    """Moves imports and closed nested functions of top-level functions to module level."""
    lifted = []
    for function in functions(tree):
        outside = bound_names(ast.Module([n for n in tree.body if n is not function], [])) | set(
            dir(builtins)
        )
        module = set()
        for node in tree.body:
            module |= {node.name} if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else bound_names(node)
        known = module | set(dir(builtins))
        kept = []
        for node in function.body:
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                lifted.append(node)
                known |= bound_names(node)
            elif (
                isinstance(node, ast.FunctionDef)
                and not node.decorator_list
                and node.name not in outside
                and not any(isinstance(part, (ast.Nonlocal, ast.Global)) for part in ast.walk(node))
                and loaded_names(node) - bound_names(node) <= known
            ):
                lifted.append(node)
                known.add(node.name)
            else:
                kept.append(node)
        function.body = kept or [ast.Pass()]
    imports = [node for node in lifted if not isinstance(node, ast.FunctionDef)]
    helpers = [node for node in lifted if isinstance(node, ast.FunctionDef)]
    first = next((i for i, n in enumerate(tree.body) if isinstance(n, (ast.FunctionDef, ast.ClassDef))), 0)
    tree.body = [*imports, *tree.body[:first], *helpers, *tree.body[first:]]


def _inline_constants(tree: ast.Module, function: ast.FunctionDef) -> None:
    """Replaces names that are bound once, to a constant, by the constant."""
    stores = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            stores[node.id] = stores.get(node.id, 0) + 1
    parameters = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
    constants = {}
    for node in [*tree.body, *function.body]:
        if not (
            isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
        ):
            continue
        name = node.targets[0].id
        here = node in function.body
        if _is_constant(node.value) and name not in parameters and stores.get(name, 0) == int(here):
            constants[name] = node
    members = _membership_only(function)
    for name, node in list(constants.items()):
        if not isinstance(node.value, ast.Constant) and name not in members:
            del constants[name]

    class Inline(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            if isinstance(node.ctx, ast.Load) and node.id in constants:
                return ast.copy_location(copy.deepcopy(constants[node.id].value), node)
            return node

    function.body = [Inline().visit(node) for node in function.body if node not in constants.values()] or [
        ast.Pass()
    ]


def _is_constant(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, (str, int, float))
    if isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return len(node.elts) <= 12 and all(isinstance(item, ast.Constant) for item in node.elts)
    return False


def _membership_only(function: ast.FunctionDef) -> set[str]:
    """Names whose every reading is the right side of `in` or `not in`."""
    sides = {
        id(node.comparators[0])
        for node in ast.walk(function)
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.In, ast.NotIn))
    }
    reads = [
        node for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    ]
    return {node.id for node in reads} - {node.id for node in reads if id(node) not in sides}


class _Loops:
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
