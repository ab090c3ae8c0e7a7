"""Finds the local variables of a solver that can be state of the environment, with tools around them.

A stack, a queue, a table, a set, a dict or a running total that the solution keeps in a local is kept by the
environment instead, so that nobody has to keep it in mind. What is not covered stays as it is: locals of
recursive functions, of generators and of closures, and those with a use that no tool stands for.
"""

import ast
import copy
import re
from collections.abc import Collection, Mapping

from codegym_jax.synthesis.outline import names
from codegym_jax.synthesis.outline.scopes import functions
from codegym_jax.synthesis.outline.state_lists import Lists
from codegym_jax.synthesis.outline.state_locals import (
    EMPTY,
    beginnings,
    changed_names,
    first_binding,
    is_plain_function,
    kind_of,
    literal_source,
    local_names,
    run_once,
)
from codegym_jax.synthesis.outline.state_maps import Mappings
from codegym_jax.synthesis.outline.state_numbers import Numbers, accumulates
from codegym_jax.synthesis.outline.state_order import Sequencer
from codegym_jax.synthesis.outline.state_prepare import prepare
from codegym_jax.synthesis.outline.state_sets import Sets
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
_REWRITERS = {"list": Lists, "dict": Mappings, "set": Sets, "number": Numbers}


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
        once = run_once(self.tree, entry)
        for function in functions(self.tree):
            if function.name in opaque or not is_plain_function(self.tree, function):
                continue
            prepare(function, hidden if function.name == entry else {})
            for name in local_names(function):
                self._try(function, name, function.name in once)
        ast.fix_missing_locations(self.tree)

    def _try(self, function: ast.FunctionDef, name: str, once: bool) -> None:
        """Makes the local state, or leaves everything as it is."""
        ban = f"state: {function.name}.{name}"
        values = beginnings(function, name)
        kinds = {kind_of(value) for value in values}
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
        first = first_binding(changed, name) if once else None
        if kind == "number" and first is None:
            return  # a total that starts over and over again is easier to pass around
        made = first and (literal_source(first.value, kind) or self._from_hidden(changed, first.value))
        local.made, local.initial = bool(made), made or EMPTY[kind]
        try:
            _REWRITERS[kind](local, changed, first).rewrite()
            if not _is_useful(local, kind):
                raise NotState("nothing that a tool would remember")
            changed.body = Sequencer(changed, local).block(changed.body)
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
        if name in changed_names(function):
            return None
        if isinstance(value, ast.Call) and any(k.arg != "reverse" for k in value.keywords):
            return None
        reverse = ", reverse=True" if isinstance(value, ast.Call) and value.keywords else ""
        return f"{maker}(self.inputs[{name!r}]{reverse})"


def _is_useful(local: Local, kind: str) -> bool:
    """Whether the tools remember something: what is only built up and handed back needs none."""
    if kind == "number":
        return True
    changes = local.roles - _NOT_CHANGED
    reads = local.roles - _NOT_READ
    return bool(changes) and bool(reads)
