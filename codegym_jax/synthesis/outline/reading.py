"""Solvers that read a hidden input only where they need it."""

import ast
import copy
from typing import TypeGuard

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.access import SLICE_ITEMS, Access, call, is_split
from codegym_jax.synthesis.outline.scopes import bound_names, functions, loaded_names

_Loop = tuple[ast.expr, ast.expr, list[ast.stmt]]  # target, iterable, first statements of the body


class NotLazy(Exception):
    """The solver uses a hidden input in a way that needs the whole of it."""


class Reading:
    """A solver that reaches hidden inputs through `call` only.

    Attributes:
      tree: the module; hidden inputs that are read lazily are no parameters any more.
      prelude: statements to run before the entry function.
      arguments: parameter of the entry function -> expression that reads all of it.
    """

    def __init__(
        self,
        tree: ast.Module,
        entry: str,
        accesses: dict[str, Access],
        opaque: frozenset[str] = frozenset(),
        lazy: bool = True,
    ):
        """Rewrites a copy of `tree`.

        Args:
          tree: a normalized module.
          entry: the function that solves the problem.
          accesses: hidden parameter of `entry` -> `Access`.
          opaque: functions that are tools, hence not to be looked into.
          lazy: False reads every hidden input at the start.
        """
        self.tree = copy.deepcopy(tree)
        self.entry = entry
        self.opaque = opaque
        self.by_name = {function.name: function for function in functions(self.tree)}
        self.arguments = {}
        for access in accesses.values():
            if access.view:
                _Viewed(access.name).visit(self.by_name[entry])
        _split_rebinding(self.by_name[entry], accesses)
        used = set()
        for access in accesses.values():
            aliases = self._aliases(access) if lazy and access.kind != "whole" and not access.chunked else {}
            rewritten = self._lazily(access, aliases) if aliases else None
            if rewritten is None:
                self.arguments[access.name] = access.whole()
                continue
            for name, function in rewritten.items():
                self.by_name[name].args, self.by_name[name].body = function.args, function.body
            used |= set().union(*(loaded_names(function) for function in rewritten.values()))
        self.prelude: list[ast.Assign] = []
        for access in accesses.values():
            for variable in (access.length, access.keys):
                if variable in used and access.name not in self.arguments:
                    self.prelude.append(_bind(variable, call(access.count_tool())))
        ast.fix_missing_locations(self.tree)

    def _aliases(self, access: Access) -> dict[str, str]:
        """Function -> its parameter that always is the hidden input."""
        aliases = {self.entry: access.name}
        grown = True
        while grown:
            grown = False
            for name, function in self.by_name.items():
                if name in aliases or name in self.opaque or function.decorator_list:
                    continue
                parameter = self._always_hidden(function, aliases)
                if parameter is not None:
                    aliases[name] = parameter
                    grown = True
        return aliases

    def _always_hidden(self, function: ast.FunctionDef, aliases: dict[str, str]) -> str | None:
        """The first parameter of `function` that every call in the module passes a known alias."""
        calls = []
        for caller in self.tree.body:
            for node in ast.walk(caller):
                if isinstance(node, ast.Call) and _is_name(node.func, function.name):
                    calls.append((caller, node))
        mentions = sum(_is_name(node, function.name) for node in ast.walk(self.tree))
        if not calls or mentions != len(calls):
            return None
        for position, parameter in enumerate(argument.arg for argument in function.args.args):
            known = {**aliases, function.name: parameter}
            if all(
                isinstance(caller, ast.FunctionDef)
                and position < len(node.args)
                and _is_name(node.args[position], known.get(caller.name))
                for caller, node in calls
            ) and not any(isinstance(argument, ast.Starred) for _, node in calls for argument in node.args):
                return parameter
        return None

    def _lazily(self, access: Access, aliases: dict[str, str]) -> dict[str, ast.FunctionDef] | None:
        """Function name -> its rewritten copy, or None when the whole input is needed somewhere."""
        while self.entry in aliases:
            rewritten = {}
            for name, parameter in aliases.items():
                function = copy.deepcopy(self.by_name[name])
                try:
                    _LazyReader(access, parameter, aliases, function, name == self.entry).rewrite()
                except NotLazy:
                    aliases = {key: value for key, value in aliases.items() if key != name}
                    break
                rewritten[name] = function
            else:
                return rewritten
        return None


class _Viewed(ast.NodeTransformer):
    """A name in place of the splitting of the text that has it."""

    def __init__(self, name: str):
        self.name = name

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if is_split(node, self.name):
            return _load(self.name)
        self.generic_visit(node)
        return node


class _LazyReader(ast.NodeTransformer):
    """Replaces the uses of one hidden input in one function by tool calls."""

    def __init__(
        self,
        access: Access,
        parameter: str,
        aliases: dict[str, str],
        function: ast.FunctionDef,
        may_read_whole: bool,
    ):
        self.access = access
        self.parameter = parameter
        self.aliases = aliases
        self.function = function
        self.whole_reads = 1 if may_read_whole else 0
        self.taken = bound_names(function) | loaded_names(function)

    def rewrite(self) -> None:
        arguments = self.function.args
        position = [argument.arg for argument in arguments.args].index(self.parameter)
        defaults = [None] * (len(arguments.args) - len(arguments.defaults)) + arguments.defaults
        del arguments.args[position], defaults[position]
        arguments.defaults = [default for default in defaults if default is not None]
        self.depth = 0
        self.before: list[ast.stmt] = []  # what the statement at hand needs to have been read
        self.function.body = self._statements(self.function.body)

    def _statements(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        result = []
        for statement in statements:
            outer, self.before = self.before, []
            visited = self.visit(statement)
            result += [*self.before, *(visited if isinstance(visited, list) else [visited])]
            self.before = outer
        return result

    def _mine(self, node: ast.AST) -> TypeGuard[ast.Name]:
        return _is_name(node, self.parameter)

    def _is_row(self, node: ast.AST) -> TypeGuard[ast.Subscript]:
        """Whether the node reads one row of a table."""
        return (
            self.access.is_table
            and isinstance(node, ast.Subscript)
            and self._mine(node.value)
            and not isinstance(node.slice, ast.Slice)
        )

    def _length(self) -> ast.expr:
        return (
            _load(self.access.length) if self.access.kind != "mapping" else _parse(f"len({self.access.keys})")
        )

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id != self.parameter:
            return node
        if not isinstance(node.ctx, ast.Load):
            raise NotLazy
        return self._at_once(self.access.whole())

    def _at_once(self, everything: ast.expr) -> ast.expr:
        """A local that holds everything, read before the statement at hand."""
        if self.depth or not self.whole_reads:
            raise NotLazy
        self.whole_reads -= 1
        local = self._fresh(f"own_{self.parameter}")
        self.before.append(_bind(local, everything))
        return _load(local)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        raise NotLazy  # a closure

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        self.depth += 1
        visited = self.generic_visit(node)
        self.depth -= 1
        return visited

    def visit_Call(self, node: ast.Call) -> ast.AST:
        access = self.access
        if _is_name(node.func, "len") and len(node.args) == 1:
            argument = node.args[0]
            if self._mine(argument):
                return self._length()
            if self._is_row(argument):
                return call(f"Get{access.word}RowLength", row=self.visit(argument.slice))
        if _is_name(node.func, "list") and len(node.args) == 1 and self._mine(node.args[0]):
            return self._at_once(access.items())
        if isinstance(node.func, ast.Name) and node.func.id in self.aliases:
            node.args = [argument for argument in node.args if not self._mine(argument)]
        if access.kind == "mapping" and isinstance(node.func, ast.Attribute) and self._mine(node.func.value):
            if node.func.attr == "keys" and not node.args:
                return _load(access.keys)
            if (
                node.func.attr == "get"
                and 1 <= len(node.args) <= 2
                and isinstance(node.args[0], (ast.Name, ast.Constant))
            ):
                key = self.visit(node.args[0])
                default = self.visit(node.args[1]) if len(node.args) == 2 else ast.Constant(None)
                known = ast.Compare(key, [ast.In()], [_load(access.keys)])
                return ast.IfExp(known, access.item(copy.deepcopy(key)), default)
        return self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        if self._mine(node.value) and isinstance(node.slice, ast.Slice):
            bounds = self._short(node.slice)
            if bounds is not None:
                return self.access.slice(*bounds)
        if not isinstance(node.ctx, ast.Load) or isinstance(node.slice, ast.Slice):
            return self.generic_visit(node)
        if self._mine(node.value):
            return self.access.item(self.visit(node.slice))
        if self._is_row(node.value):
            return self.access.cell(self.visit(node.value.slice), self.visit(node.slice))
        return self.generic_visit(node)

    def _short(self, part: ast.Slice) -> tuple[ast.expr, ast.expr] | None:
        """Start and end of a slice that may be short; None for one that is long, or takes steps."""
        if not self.access.sliced or self.access.kind not in ("text", "list") or self.access.is_table:
            return None
        if part.step is not None:
            return None
        match part.lower, part.upper:
            case None, ast.Constant(value=int() as end) if 0 <= end <= SLICE_ITEMS:
                return ast.Constant(0), ast.Constant(end)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as count)), None if (
                count <= SLICE_ITEMS
            ):
                return part.lower, self._length()
            case ast.expr(), ast.expr() if not isinstance(part.lower, ast.Constant):
                return self.visit(part.lower), self.visit(part.upper)
            case ast.Constant(value=int() as start), ast.Constant(value=int() as end) if end >= start:
                return (part.lower, part.upper) if end - start <= SLICE_ITEMS else None
        return None

    def visit_Assign(self, node: ast.Assign) -> ast.AST | list[ast.stmt]:
        match node:
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=value) if (
                self._mine(value)
                and self.access.kind in ("text", "list")
                and all(isinstance(target, ast.Name) for target in targets)
            ):
                return [
                    ast.Assign([target], self.access.item(ast.Constant(number)))
                    for number, target in enumerate(targets)
                ]
        return self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        match node:
            case ast.Compare(
                left=left,
                ops=[ast.Eq() | ast.NotEq()],
                comparators=[ast.Constant(value="") | ast.List(elts=[]) | ast.Dict(keys=[])],
            ) if self._mine(left):
                return ast.Compare(self._length(), node.ops, [ast.Constant(0)])
            case ast.Compare(ops=[ast.In() | ast.NotIn()], comparators=[inner]) if (
                self.access.kind == "mapping" and self._mine(inner)
            ):
                return ast.Compare(self.visit(node.left), node.ops, [_load(self.access.keys)])
        return self.generic_visit(node)

    def _truth(self, node: ast.expr) -> ast.expr:
        if self._mine(node):
            return ast.Compare(self._length(), [ast.Gt()], [ast.Constant(0)])
        return self.visit(node)

    def visit_If(self, node: ast.If) -> ast.AST:
        node.test = self._truth(node.test)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        if isinstance(node.op, ast.Not) and self._mine(node.operand):
            return ast.Compare(self._length(), [ast.Eq()], [ast.Constant(0)])
        return self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        node.values = [self._truth(value) for value in node.values]
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        node.test = self._truth(node.test)
        node.body, node.orelse = self.visit(node.body), self.visit(node.orelse)
        return node

    def visit_While(self, node: ast.While) -> ast.AST:
        self.depth += 1
        node.test = self._truth(node.test)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        self.depth -= 1
        return node

    def visit_For(self, node: ast.For) -> ast.AST:
        reading = self._iteration(node.target, node.iter)
        if reading is None:
            node.iter = self.visit(node.iter)
        self.depth += 1
        node.target = self.visit(node.target)
        node.body, node.orelse = self._statements(node.body), self._statements(node.orelse)
        self.depth -= 1
        if reading is not None:
            node.target, node.iter, first = reading
            node.body = [*first, *node.body]
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        if self._mine(node.iter) and self.access.kind != "mapping":
            index = self._fresh("index")
            places = ast.Call(_load("range"), [self._length()], [])
            part = ast.comprehension(ast.Name(index, ast.Store()), places, [], 0)
            node.iter = ast.GeneratorExp(self.access.item(_load(index)), [part])
        elif self._mine(node.iter):
            node.iter = _load(self.access.keys)
        return self.generic_visit(node)

    def _fresh(self, base: str) -> str:
        name = names.unique(base, self.taken)
        self.taken.add(name)
        return name

    def _iteration(self, target: ast.expr, iterable: ast.expr) -> _Loop | None:
        """(target, range, first statements of the body) for a loop over the hidden input, or None."""
        if self.access.kind == "mapping":
            return self._over_mapping(target, iterable)
        index = start = None
        if isinstance(iterable, ast.Call) and _is_name(iterable.func, "zip"):
            return self._zipped(target, iterable)
        match iterable, target:
            case (
                ast.Call(func=ast.Name(id="enumerate"), args=[inner]),
                ast.Tuple(elts=[ast.Name(id=counter), element]),
            ) if not iterable.keywords:
                index, target, iterable = counter, element, inner
            case (
                ast.Call(func=ast.Name(id="enumerate"), args=[inner, ast.Constant() as start])
                | ast.Call(
                    func=ast.Name(id="enumerate"),
                    args=[inner],
                    keywords=[ast.keyword(arg="start", value=ast.Constant() as start)],
                ),
                ast.Tuple(elts=[ast.Name(id=counter), element]),
            ):
                index, target, iterable = counter, element, inner
        places = self._places(iterable)
        if places is None or (index is not None and not self._mine(iterable)):
            return None
        index = index or self._fresh("index")
        first: list[ast.stmt] = [ast.Assign([target], self.access.item(_load(index)))]
        if start is not None:
            place, index = index, self._fresh("index")
            counted = ast.BinOp(_load(index), ast.Add(), start)
            first = [
                ast.Assign([target], self.access.item(_load(index))),
                ast.Assign([ast.Name(place, ast.Store())], counted),
            ]
        return ast.Name(index, ast.Store()), places, first

    def _places(self, iterable: ast.expr) -> ast.expr | None:
        """The indices that a loop over `iterable` visits, or None when it is not the hidden input."""
        every = ast.Call(_load("range"), [self._length()], [])
        if self._mine(iterable):
            return every
        match iterable:
            case ast.Call(func=ast.Name(id="reversed"), args=[inner]) if self._mine(inner):
                return ast.Call(_load("reversed"), [every], [])
            case ast.Subscript(value=inner, slice=ast.Slice() as part) if self._mine(inner):
                return ast.Subscript(every, self.visit(part), ast.Load())
        return None

    def _zipped(self, target: ast.expr, iterable: ast.Call) -> _Loop | None:
        """A loop over `zip` with the hidden input among its arguments."""
        if not isinstance(target, ast.Tuple) or len(target.elts) != len(iterable.args) or iterable.keywords:
            return None
        first = []
        for number, argument in enumerate(iterable.args):
            places = self._places(argument)
            if places is not None:
                index = self._fresh("index")
                first.append(ast.Assign([target.elts[number]], self.access.item(_load(index))))
                target.elts[number], iterable.args[number] = ast.Name(index, ast.Store()), places
        return (target, self.visit(iterable), first) if first else None

    def _over_mapping(self, target: ast.expr, iterable: ast.expr) -> _Loop | None:
        keys = _load(self.access.keys)
        if self._mine(iterable):
            return target, keys, []
        match iterable:
            case ast.Call(func=ast.Attribute(value=inner, attr="items"), args=[]) if self._mine(inner):
                match target:
                    case ast.Tuple(elts=[ast.Name(id=key), value]):
                        read = ast.Assign([value], self.access.item(_load(key)))
                        return ast.Name(key, ast.Store()), keys, [read]
        return None


def _split_rebinding(function: ast.FunctionDef, accesses: dict[str, Access]) -> None:
    """Renames a hidden parameter from where the function body rebinds it, as in `x = list(x)`."""
    for name in accesses:
        for number, statement in enumerate(function.body):
            stored = [n for n in ast.walk(statement) if _is_name(n, name) and not isinstance(n.ctx, ast.Load)]
            if not stored:
                continue
            if isinstance(statement, ast.Assign) and stored == statement.targets:
                local = names.unique(f"own_{name}", bound_names(function))
                statement.targets = [ast.Name(local, ast.Store())]
                for later in function.body[number + 1 :]:
                    for node in ast.walk(later):
                        if _is_name(node, name):
                            node.id = local
            break


def _is_name(node: ast.AST, name: str | None) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and node.id == name


def _load(name: str) -> ast.Name:
    return ast.Name(name, ast.Load())


def _bind(name: str, value: ast.expr) -> ast.Assign:
    return ast.fix_missing_locations(ast.Assign([ast.Name(name, ast.Store())], value))


def _parse(expression: str) -> ast.expr:
    return ast.parse(expression, mode="eval").body
