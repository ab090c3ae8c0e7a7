"""Finds the local variables of a solver that can be state of the environment, with tools around them.

A stack, a queue, a table, a set, a dict or a running total that the solution keeps in a local is kept by the
environment instead, so that nobody has to keep it in mind. What is not covered stays as it is: locals of
recursive functions, of generators and of closures, and those with a use that no tool stands for.
"""

import ast
import copy
import json
import re
from collections.abc import Collection, Iterator, Mapping
from typing import TypeGuard

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import bound_names, functions, loaded_names
from codegym_jax.synthesis.outline.state_base import changed_in_place, is_scalar
from codegym_jax.synthesis.outline.state_lists import Lists, elements_of, filled
from codegym_jax.synthesis.outline.state_maps import Mappings, Sets
from codegym_jax.synthesis.outline.state_numbers import Numbers, accumulates
from codegym_jax.synthesis.outline.state_words import Local, NotState
from codegym_jax.synthesis.outline.tools import Tool

_RESERVED = {
    "inputs", "step_count", "func_mapping", "finished", "reward", "reset", "step", "solve", "from_env_str",
    "get_ref_answer", "spec", "metadata", "render", "render_mode", "close", "action_space", "unwrapped",
    "observation_space", "np_random", "np_random_seed", "get_wrapper_attr", "set_wrapper_attr",
    "has_wrapper_attr", "reward_range",
}  # fmt: skip
_NOT_READ = {"create", "whole", "push", "clear", "set", "append", "reset", "push_row", "sort", "sort_down"}
_NOT_CHANGED = {
    "create", "whole", "length", "rows", "row", "row_length", "item", "cell", "peek", "empty", "contains",
    "find", "count", "get", "get_or", "has", "keys", "items", "largest", "smallest", "total", "sorted",
    "joined",
}  # fmt: skip
_INNER_CHANGES = {"set_cell", "add_cell", "subtract_cell", "increment_cell", "push_row"}
MAX_WORD_CHARS = 20  # of the word for a local that is told from another by its function
_CONDITIONAL = (ast.BoolOp, ast.IfExp, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_REWRITERS = {"list": Lists, "dict": Mappings, "set": Sets, "number": Numbers}
_EMPTY_MAKERS = {"list", "deque", "dict", "defaultdict", "Counter", "set"}
_TYPES = {"int", "float", "str", "list"}
_EMPTY = {"list": "[]", "dict": "{}", "set": "set()"}


class State:
    """A solver with its mutable locals in the environment.

    Attributes:
      tree: the module.
      initial: attribute of the environment -> source of its value after `reset`.
      tools: tool name -> `Tool`, of kind `state`.
      sites: tool name -> the key that bans its local.
      changing: names of tools that change the state.
      kinds: of the locals that became state: `list`, `dict`, `set`, `number`.
    """

    def __init__(
        self, tree: ast.Module, entry: str, hidden: Mapping[str, str], opaque: Collection[str], bans: set[str]
    ):
        """Rewrites a copy of `tree`.

        Args:
          tree: a normalized module.
          entry: the function that solves the problem.
          hidden: its hidden parameter -> `text`, `list`, `mapping` or `whole`.
          opaque: functions that are tools, hence not to be looked into.
          bans: keys of locals that must stay in the solver.
        """
        self.tree = copy.deepcopy(tree)
        self.entry = entry
        self.hidden = hidden
        self.bans = bans
        self.initial: dict[str, str] = {}
        self.tools: dict[str, Tool] = {}
        self.sites: dict[str, set[str]] = {}
        self.changing: set[str] = set()
        self.kinds: set[str] = set()
        self._words = {names.pascal(name) for name in hidden}
        once = _run_once(self.tree, entry)
        for function in functions(self.tree):
            if function.name in opaque or not _is_plain(self.tree, function):
                continue
            _prepare(function, hidden if function.name == entry else {})
            for name in _locals(function):
                self._try(function, name, function.name in once)
        ast.fix_missing_locations(self.tree)

    def _try(self, function: ast.FunctionDef, name: str, once: bool) -> None:
        """Makes the local state, or leaves everything as it is."""
        ban = f"state: {function.name}.{name}"
        values = _beginnings(function, name)
        kinds = {_kind(value) for value in values}
        kind = kinds.pop() if len(kinds) == 1 else None
        if kind is None or {ban, f"deep: {ban}"} & self.bans:
            return
        if kind == "number" and name not in accumulates(function):
            return
        word = names.pascal(name)
        if word in self._words and function.name != self.entry:
            word = names.pascal(f"{function.name}_{name}")
        if len(word) > MAX_WORD_CHARS or word in self._words:
            word = names.unique(names.pascal(name), self._words)
        base = f"{name}_state" if name in _RESERVED or name.startswith("_") else name
        local = Local(name, word, names.unique(base.strip("_"), self.initial))
        changed = copy.deepcopy(function)
        first = _first(changed, name) if once else None
        if kind == "number" and first is None:
            return  # a total that starts over and over again is easier to pass around
        made = first and (_literal(first.value, kind) or self._from_hidden(changed, first.value))
        local.made, local.initial = bool(made), made or _EMPTY[kind]
        try:
            _REWRITERS[kind](local, changed, first).rewrite()
            if not _is_useful(local, kind):
                raise NotState("nothing that a tool would remember")
            changed.body = _Sequencer(changed, local).block(changed.body)
        except NotState:
            return
        if set(local.tools) & set(self.tools):
            return
        if local.roles & _INNER_CHANGES:  # the config's own rows must stay as they are
            local.initial = re.sub(r"self\.inputs\[.*?\]", r"json.loads(json.dumps(\g<0>))", local.initial)
        function.body = changed.body
        self._words.add(word)
        self.initial[local.attribute] = local.initial
        self.tools |= local.tools
        self.changing |= local.changing
        self.kinds.add(kind)
        self.sites |= {tool: {ban} for tool in local.tools}

    def _from_hidden(self, function: ast.FunctionDef, value: ast.expr) -> str | None:
        """Source of a new list that `value` makes of a hidden input which is never changed."""
        match value:
            case ast.Call(func=ast.Name(id="sorted" | "list" as maker), args=[ast.Name(id=name)]):
                pass
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="copy"), args=[], keywords=[]):
                maker = "list"
            case ast.Subscript(value=ast.Name(id=name), slice=ast.Slice(None, None, None)):
                maker = "list"
            case _:
                return None
        if function.name != self.entry or self.hidden.get(name) not in ("list", "text"):
            return None
        if name in _changed(function):
            return None
        if isinstance(value, ast.Call) and any(k.arg != "reverse" for k in value.keywords):
            return None
        reverse = ", reverse=True" if isinstance(value, ast.Call) and value.keywords else ""
        return f"{maker}(self.inputs[{name!r}]{reverse})"


def _first(function: ast.FunctionDef, name: str) -> ast.Assign | None:
    """The statement of the function's own block that binds the local before anything else touches it."""
    for statement in function.body:
        if any(isinstance(node, ast.Name) and node.id == name for node in ast.walk(statement)):
            match statement:
                case ast.Assign(targets=[ast.Name(id=bound)]) if bound == name:
                    return statement
            return None
    return None


def _kind(value: ast.expr) -> str | None:
    """What a local is that begins with this value."""
    if is_scalar(value):
        return "number"
    if filled(value) is not None or elements_of(value) is not None:
        return "list"
    match value:
        case ast.Dict() | ast.DictComp():
            return "dict"
        case ast.Set():
            return "set"
        case ast.Call(func=function, args=arguments, keywords=[]):
            name = names.of_expression(function)
            if name == "set":
                return "set"
            if (name == "dict" and not arguments) or name == "Counter":
                return "dict"
            if name == "defaultdict":
                match arguments:
                    case [ast.Name(id=default)] if default in _TYPES:
                        return "dict"
    return None


def _literal(value: ast.expr, kind: str) -> str | None:
    """Source of a literal value as it comes out of JSON; None when it is computed."""
    shape = filled(value)
    if shape is not None:
        _, sizes, cell = shape
        known = all(isinstance(size, ast.Constant) for size in sizes) and (cell is None or is_scalar(cell))
        return ast.unparse(value) if known else None
    match value:
        case ast.Call(args=[ast.List() as inner]) if kind == "list":
            value = inner
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in _EMPTY_MAKERS:
            plain = all(isinstance(node, ast.Name) and node.id in _TYPES for node in value.args)
            return _EMPTY[kind] if plain else None
    try:
        literal = ast.literal_eval(value)
        return ast.unparse(value) if kind in ("set", "number") else repr(json.loads(json.dumps(literal)))
    except (ValueError, TypeError, SyntaxError):
        return None


def _is_useful(local: Local, kind: str) -> bool:
    """Whether the tools remember something: what is only built up and handed back needs none."""
    if kind == "number":
        return True
    changes = local.roles - _NOT_CHANGED
    reads = local.roles - _NOT_READ
    return bool(changes) and bool(reads)


def _locals(function: ast.FunctionDef) -> list[str]:
    """The names that plain statements of the function bind, in order."""
    parameters = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    found = {}
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)]) if name not in parameters:
                found.setdefault(name, node.lineno)
    accumulating = accumulates(function)
    numbers = [name for name in found if name in accumulating]
    return sorted(found, key=lambda name: (name in numbers, found[name]))


def _beginnings(function: ast.FunctionDef, name: str) -> list[ast.expr]:
    """The values that are bound to the local, updates of numbers apart."""
    found = []
    for node in ast.walk(function):
        match node:
            case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                if name not in loaded_names(value):
                    found.append(value)
    return found


def _changed(function: ast.FunctionDef) -> set[str]:
    """The names whose values the function changes or binds anew."""
    stored = {
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
    }
    return stored.union(*map(changed_in_place, ast.walk(function)))


def _is_plain(tree: ast.Module, function: ast.FunctionDef) -> bool:
    """Whether the function is no generator, has no closure's powers, and never runs inside itself."""
    if function.decorator_list or any(
        isinstance(node, (ast.Yield, ast.YieldFrom, ast.Global, ast.Nonlocal)) for node in ast.walk(function)
    ):
        return False
    mentions = {f.name: loaded_names(f) for f in functions(tree)}
    reached, frontier = set(), [function.name]
    while frontier:
        new = (mentions[frontier.pop()] & set(mentions)) - reached
        reached |= new
        frontier += new
    return function.name not in reached


def _run_once(tree: ast.Module, entry: str) -> set[str]:
    """The functions that run at most once when the entry function runs once."""
    mentioned = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name)]
    once, grown = {entry} if entry not in mentioned else set(), True
    while grown:
        called = {
            node.func.id
            for function in functions(tree)
            if function.name in once
            for node in _outside_loops(function)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        more = {f.name for f in functions(tree) if f.name in called and mentioned.count(f.name) == 1} - once
        once |= more
        grown = bool(more)
    return once


def _outside_loops(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if not isinstance(
            child,
            (ast.For, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Lambda),
        ):
            yield child
            yield from _outside_loops(child)


def _prepare(function: ast.FunctionDef, hidden: Mapping[str, str]) -> None:
    """Brings the beginnings of locals into the forms that the pass knows."""
    function.body = _plain_statements(function.body)
    _merge_aliases(function)
    for name, kind in hidden.items():
        if kind in ("list", "text"):
            _own(function, name)
    ast.fix_missing_locations(function)


def _plain_statements(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Splits `a, b = [], 0`, drops annotations, and rolls loops that fill a table back into an expression."""
    result: list[ast.stmt] = []
    for statement in statements:
        for field in ("body", "orelse", "finalbody"):
            if isinstance(getattr(statement, field, None), list):
                setattr(statement, field, _plain_statements(getattr(statement, field)))
        match statement:
            case ast.AnnAssign(target=ast.Name() as target, value=ast.expr() as value):
                result.append(ast.copy_location(ast.Assign([target], value), statement))
            case ast.Assign(targets=[ast.Tuple(elts=targets)], value=ast.Tuple(elts=values)) if (
                len(targets) == len(values)
                and all(isinstance(target, ast.Name) for target in targets)
                and not bound_names(statement) & loaded_names(statement.value)
                and any(_kind(value) for value in values)
            ):
                pairs = zip(targets, values, strict=True)
                result += [ast.copy_location(ast.Assign([t], v), statement) for t, v in pairs]
            case ast.For() if result and _table(result[-1], statement) is not None:
                result[-1] = ast.copy_location(_table(result[-1], statement) or statement, statement)
            case _:
                result.append(statement)
    return result


def _merge_aliases(function: ast.FunctionDef) -> None:
    """Drops `x = items` at the end of the life of `items`, a list that was built up under that name."""
    for number, statement in enumerate(function.body):
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Name(id=built)):
                before, after = function.body[:number], function.body[number + 1 :]
                stores = [_kind(value) for value in _beginnings(function, built)]
                if stores != ["list"] or built in _names(after) or name in _stored([*before, *after]):
                    continue
                own = name
                if name in _names(before) | {argument.arg for argument in function.args.args}:
                    own = names.unique(f"new_{name}", _names(function.body))
                _rename(before, built, own)
                _rename(after, name, own)
                function.body = [*before, *after]
                return _merge_aliases(function)
    return None


def _names(statements: list[ast.stmt]) -> set[str]:
    return {node.id for s in statements for node in ast.walk(s) if isinstance(node, ast.Name)}


def _stored(statements: list[ast.stmt]) -> set[str]:
    return set().union(*map(bound_names, statements))


def _rename(statements: list[ast.stmt], name: str, new: str) -> None:
    for node in (node for statement in statements for node in ast.walk(statement)):
        if isinstance(node, ast.Name) and node.id == name:
            node.id = new


def _table(before: ast.stmt, loop: ast.For) -> ast.Assign | None:
    """`x = [cell for _ in range(n)]` for `x = []` and a loop that appends the same cell each time."""
    match before, loop:
        case (
            ast.Assign(targets=[ast.Name(id=name)], value=ast.List(elts=[])),
            ast.For(target=ast.Name() as target, iter=ast.Call() as places, body=body, orelse=[]),
        ):
            cell = None
            match body:
                case [
                    ast.Expr(
                        value=ast.Call(
                            func=ast.Attribute(value=ast.Name(id=into), attr="append"), args=[cell]
                        )
                    )
                ]:
                    pass
                case [
                    ast.Assign(targets=[ast.Name(id=inner)], value=row),
                    ast.Expr(
                        value=ast.Call(
                            func=ast.Attribute(value=ast.Name(id=into), attr="append"),
                            args=[ast.Name(id=same)],
                        )
                    ),
                ] if inner == same:
                    cell = row
                case _:
                    return None
            part = ast.comprehension(target, places, [], 0)
            value = ast.ListComp(cell, [part])
            if into == name and filled(value) is not None:
                return ast.Assign([ast.Name(name, ast.Store())], value)
    return None


def _own(function: ast.FunctionDef, name: str) -> None:
    """Gives a hidden parameter that the function binds anew or changes a local of its own."""
    if name not in _changed(function):
        return
    taken = bound_names(function) | loaded_names(function)
    own = names.unique(f"working_{name}", taken)
    later = function.body
    for number, statement in enumerate(function.body):
        if any(
            isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)
            for n in ast.walk(statement)
        ):
            match statement:
                case ast.Assign(targets=[ast.Name(id=bound)], value=value) if bound == name:
                    if name not in loaded_names(value):
                        own = f"new_{name}"
                    elif ast.unparse(value).startswith("sorted("):
                        own = f"sorted_{name}"
                    own = names.unique(own, taken)
                    statement.targets = [ast.Name(own, ast.Store())]
                    later = function.body[number + 1 :]
                    break
            return
    else:
        copied = ast.Call(ast.Attribute(ast.Name(name, ast.Load()), "copy", ast.Load()), [], [])
        function.body = [ast.Assign([ast.Name(own, ast.Store())], copied), *function.body]
    _rename(later, name, own)


class _Sequencer:
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

    def __init__(self, sequencer: _Sequencer):
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
