"""Runs an outlined solver on sample inputs and finds out which of its tools are sound.

A tool is sound when it is a pure function of short JSON values to a short JSON value; what is not goes on
the ban list, and the solver is rewritten without it, until nothing is left to ban.
"""

import ast
import collections
import copy
import itertools
import json
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from codegym_jax.synthesis.outline import values
from codegym_jax.synthesis.outline.access import Access
from codegym_jax.synthesis.outline.identities import without_identities
from codegym_jax.synthesis.outline.problem import Inputs, Problem
from codegym_jax.synthesis.outline.reading import Reading
from codegym_jax.synthesis.outline.rewrite import Outliner
from codegym_jax.synthesis.outline.scopes import bound_names, functions
from codegym_jax.synthesis.outline.state import State

MAX_CALLS = 600  # of one solver run while tracing; more is given up
MAX_ARGUMENT_CHARS = 160
MAX_RESULT_CHARS = 300
MAX_CHECKS = 60  # calls of one tool that are watched; a sound tool is trusted afterwards
MAX_ROUNDS = 10
MAX_TOOLS = 16  # of an environment, `Observe` and `Done` included
MIN_OPERATIONS = 2  # that are left when tools are too many
TYPICAL_CALLS = 240  # where fewer than a share of the runs are as short, the busiest expressions go
SHORT_SHARE = 0.4


class TooManyCalls(Exception):
    """The solver makes more tool calls than an episode may have.

    Attributes:
      log: those that it made so far.
    """

    def __init__(self, log: list["Call"]):
        self.log = log


class Unusable(Exception):
    """No environment comes out of this problem with this strategy; the message is a countable reason."""


class Sample:
    """One input and the answer of the reference solution, both as they come back from JSON."""

    def __init__(self, inputs: Inputs, answer: Any):
        self.inputs = inputs
        self.answer = answer


class Call:
    """One tool call of a traced run."""

    def __init__(self, tool: str, arguments: dict[str, Any], result: Any):
        self.tool = tool
        self.arguments = arguments
        self.result = result


Trace = tuple[Sample, list[Call]]


class Strategy:
    """How boldly to outline.

    Attributes:
      helpers: functions of the solution become tools; otherwise they are outlined themselves.
      everywhere: expressions outside loops become tools too.
      lazy: hidden inputs are read where they are needed; otherwise all at the start.
      loops: comprehensions and reductions become loops first.
      state: local variables that are changed are kept by the environment, with tools around them.
    """

    def __init__(
        self,
        helpers: bool = True,
        everywhere: bool = False,
        lazy: bool = True,
        loops: bool = True,
        state: bool = False,
    ):
        self.helpers = helpers
        self.everywhere = everywhere
        self.lazy = lazy
        self.loops = loops
        self.state = state


class Outline:
    """A solver that uses sound tools only.

    Attributes:
      tree: its functions and classes.
      prelude: statements to run before the entry function.
      arguments: parameter of the entry function -> expression for its value.
      tools: the tools that it uses, access first.
      initial: attribute of the environment -> source of its value after `reset`.
      changing: names of tools that change the state.
    """

    def __init__(
        self, problem: Problem, tree: ast.Module, strategy: Strategy, samples: list[Sample], bans: set[str]
    ):
        """One round of rewriting. `tree` is the normalized module; `bans` are keys of `Outliner.sites`."""
        self.problem = problem
        accesses = {name: Access(name, [s.inputs[name] for s in samples]) for name in problem.hidden}
        helpers = {
            function.name: function
            for function in functions(tree)
            if strategy.helpers
            and function.name != problem.entry
            and f"helper: {function.name}" not in bans
            and not function.decorator_list
            and not (
                function.args.vararg
                or function.args.kwarg
                or function.args.kwonlyargs
                or function.args.posonlyargs
            )
        }
        # Before hidden inputs: what goes into the state is then read lazily like everything else, and a
        # local that begins as a copy of a hidden input needs no reading at all.
        kinds = {name: access.kind for name, access in accesses.items()}
        state = State(tree, problem.entry, kinds, helpers, bans) if strategy.state else None
        if state is not None and state.kinds <= {"number"}:
            raise Unusable("no container to remember")
        self.initial = state.initial if state else {}
        self.changing = state.changing if state else set()
        tree = state.tree if state else tree
        for access in accesses.values():
            access.sliced = f"slice: {access.name}" not in bans
        for access in accesses.values() if strategy.lazy else ():
            access.look(next(node for node in functions(tree) if node.name == problem.entry))
        text, self.prelude, self.arguments = _read(
            problem, ast.unparse(tree), accesses, frozenset(helpers), strategy.lazy
        )
        outliner = Outliner(helpers, bans, strategy.everywhere, {"Observe", "Done"})
        outliner.taken |= {tool.name for a in accesses.values() for tool in a.tools(_Everything())}
        outliner.taken |= set(state.tools if state else ())
        outliner.summaries = problem.summaries()
        for access in accesses.values():
            outliner.meanings.update(access.meanings())
        self.tree = ast.parse(text)
        self.tree.body = [
            outliner.visit(node) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else node
            for node in self.tree.body
        ]
        ast.fix_missing_locations(self.tree)
        outliner.describe_parameters()
        self.sites = outliner.sites
        self.sites.update({f"Get{a.word}Slice": {f"slice: {a.name}"} for a in accesses.values()})
        called = _called_tools([self.tree, *self.prelude, *self.arguments.values()])
        self.tools = {tool.name: tool for a in accesses.values() for tool in a.tools(called)}
        if state is not None:
            self.tools.update({name: tool for name, tool in state.tools.items() if name in called})
            self.sites.update(state.sites)
        self.tools.update(outliner.tools)
        self._run = self._compiled()

    def _compiled(self) -> Callable[[Inputs, Callable[..., Any]], Any]:
        """A function (inputs, dispatcher) -> answer."""
        visible = [name for name in self.problem.parameters if name not in self.problem.hidden]
        passed = [f"{name}=inputs[{name!r}]" for name in visible]
        passed += [f"{name}={ast.unparse(expression)}" for name, expression in self.arguments.items()]
        lines = [ast.unparse(self.tree), "def run_outline(inputs):"]
        lines += [
            f"    global {ast.unparse(statement.targets[0])}\n    {ast.unparse(statement)}"
            for statement in self.prelude
        ]
        lines += [f"    return {self.problem.entry}({', '.join(passed)})"]
        code = compile("\n".join(lines), "<outline>", "exec")

        def unready(*_: Any, **__: Any) -> Any:
            raise Unusable("the solution runs its functions while it is imported")

        namespace = {**self.problem.fresh_namespace(), "call": unready}
        exec(code, namespace)

        def run(inputs: Inputs, call: Callable[..., Any]) -> Any:
            namespace["call"] = call
            return namespace["run_outline"](copy.deepcopy(inputs))

        return run

    def trace(self, sample: Sample, checks: "Checks") -> tuple[list[Call], Any]:
        """The calls that the solver makes, `Observe` and `Done` left out, and its answer.

        Raises:
          TooManyCalls: past `MAX_CALLS`.
        """
        log = []
        holder = types.SimpleNamespace(inputs=copy.deepcopy(sample.inputs))
        for attribute, source in self.initial.items():
            setattr(holder, attribute, eval(source, {"self": holder, "json": json}))

        def call(name: str, **arguments: Any) -> Any:
            if len(log) >= MAX_CALLS:
                raise TooManyCalls(log)
            result = values.rounded(checks.checked(name, holder, arguments), self.problem.digits)
            log.append(
                Call(name, {key: _recorded(value) for key, value in arguments.items()}, _recorded(result))
            )
            return copy.deepcopy(result) if isinstance(result, (list, dict)) else result

        answer = self.problem.answer_of(self._run(sample.inputs, call), sample.inputs, normalized=True)
        return log, answer


def _recorded(value: Any) -> Any:
    """The value as it comes back from JSON, or as it is when it is not JSON and its tool will be banned."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    try:
        return values.round_trip(value)
    except (TypeError, ValueError, RecursionError):
        return value


def _read(
    problem: Problem, source: str, accesses: dict[str, Access], helpers: frozenset[str], lazy: bool
) -> tuple[str, list[ast.Assign], dict[str, ast.expr]]:
    """The source, prelude and arguments of a `Reading`; made once, since rounds and strategies share them."""
    key = (source, helpers, lazy, tuple(access.sliced for access in accesses.values()))
    if key not in problem.readings:
        reading = Reading(ast.parse(source), problem.entry, accesses, helpers, lazy)
        problem.readings[key] = ast.unparse(reading.tree), reading.prelude, reading.arguments
    return problem.readings[key]


def _without_identities(problem: Problem, tree: ast.Module, samples: list[Sample]) -> ast.Module:
    key = ("identities", ast.unparse(tree))
    if key not in problem.readings:
        inputs = [problem.given(sample.inputs) for sample in samples]
        problem.readings[key] = without_identities(tree, problem.entry, problem.fresh_namespace(), inputs)
    return problem.readings[key]


def _listed(value: Any) -> Any:
    """The value with lists in place of tuples."""
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in value]
    return {key: _listed(item) for key, item in value.items()} if isinstance(value, dict) else value


class _Everything:
    def __contains__(self, item: object) -> bool:
        return True


def _called_tools(trees: Sequence[ast.AST]) -> set[str]:
    return {
        ast.literal_eval(node.args[0])
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "call"
    }


class Checks:
    """Watches the tools of an outline while it runs."""

    def __init__(self, outline: Outline):
        namespace = outline.problem.namespace()
        self._functions = {name: tool.compiled(namespace) for name, tool in outline.tools.items()}
        self._kinds = {name: tool.kind for name, tool in outline.tools.items()}
        self._checked = dict.fromkeys(outline.tools, 0)
        self.faults = {}
        self.reshaped = set()  # tools that got something else than they were given: tuples, keys

    def checked(self, name: str, holder: Any, arguments: dict[str, Any]) -> Any:
        """The tool's result; what is wrong with the tool goes to `faults`."""
        function = self._functions[name]
        trusted = self._checked[name] >= MAX_CHECKS and self._kinds[name] != "state"
        if self._kinds[name] == "access" or trusted:
            result = function(holder, **arguments)
            return values.round_trip(result) if name in self.reshaped else result
        self._checked[name] += 1
        try:
            before = values.to_json(arguments)
        except (TypeError, ValueError):
            self._fault(name, "arguments are not JSON")
            return function(holder, **arguments)
        if self._kinds[name] == "state":
            return self._remembering(name, holder, arguments, before)
        try:
            result = function(holder, **arguments)
        except Exception:
            self._fault(name, "raises")
            raise
        try:
            after = values.to_json(arguments)
            text = values.to_json(result)
        except (TypeError, ValueError, RecursionError):
            self._fault(name, "result is not JSON")
            return result
        if after != before:
            self._fault(name, "changes its arguments")
        back = values.round_trip(result)
        if not values.same(back, result):
            self.reshaped.add(name)
            if not values.same(back, _listed(result)):
                self._fault(name, "result changes in JSON")
        if len(before) > MAX_ARGUMENT_CHARS or len(text) > MAX_RESULT_CHARS:
            self._fault(name, "long values")
        if name not in self.faults and not self._again(name, holder, arguments, back):
            self._fault(name, "depends on more than its arguments")
        return back if name not in self.faults else result

    def _again(self, name: str, holder: Any, arguments: dict[str, Any], result: Any) -> bool:
        """Whether a tool gives the same result for its arguments as they come back from JSON."""
        try:
            return values.same(_listed(self._functions[name](holder, **values.round_trip(arguments))), result)
        except Exception:  # code of the solution may fail in any way
            return False

    def _remembering(self, name: str, holder: Any, arguments: dict[str, Any], text: str) -> Any:
        """The result of a tool with state: it runs once, on what JSON leaves of its arguments."""
        received = values.round_trip(arguments)
        if not values.same(received, arguments):
            self.reshaped.add(name)
        try:
            result = self._functions[name](holder, **received)
            back = values.round_trip(result)
        except Exception:
            self._fault(name, "raises, or its result is not JSON")
            raise
        if not values.same(back, result):
            self._fault(name, "result changes in JSON")
        if len(text) > MAX_ARGUMENT_CHARS or len(values.to_json(result)) > MAX_RESULT_CHARS:
            self._fault(name, "long values")
        return back

    def _fault(self, name: str, fault: str) -> None:
        self.faults.setdefault(name, fault)


def outline(problem: Problem, strategy: Strategy, samples: list[Sample]) -> tuple[Outline, list[Trace]]:
    """The outline of `problem` that is left when every unsound tool is banned, and its traces.

    Raises:
      Unusable: with the reason, when no outline is sound or useful.
    """
    tree = _without_identities(problem, problem.normalize(strategy.loops), samples)
    if "call" in bound_names(tree):
        raise Unusable("a name clashes with the dispatcher")
    bans = set()
    for _ in range(MAX_ROUNDS):
        result = Outline(problem, tree, strategy, samples, bans)
        checks = Checks(result)
        traces, cut, reason = _traces(result, checks, samples)
        found = set(checks.faults)
        if not found and traces:
            found = shortcuts(result, traces) or _idle(result, traces)
        if not found and len(traces) + len(cut) < len(samples):
            found = {name for name in checks.reshaped if result.tools[name].kind != "state"}
        runs = [*traces, *cut]
        too_many = set()
        if not found and runs:
            too_many = _uncalled(result, runs) or _over_budget(result, runs)
        if not found and not too_many and len(traces) < len(samples) * SHORT_SHARE:
            found = _misremembered(result, checks) if reason != "too many calls" else set()
            if not found:
                raise Unusable(reason or "outline fails")
        if not found and not too_many:
            return result, traces
        bans |= {key for name in found for key in result.sites.get(name, ())}
        bans |= {f"deep: {key}" for name in too_many for key in result.sites.get(name, ())}
    raise Unusable("no sound set of tools")


def _traces(
    result: Outline, checks: Checks, samples: list[Sample]
) -> tuple[list[Trace], list[Trace], str | None]:
    """The traces of runs that give the right answer, those of runs that are too long, and why others fail."""
    traces, cut, reason = [], [], None
    for sample in samples:
        try:
            log, answer = result.trace(sample, checks)
        except TooManyCalls as too_many:
            cut.append((sample, too_many.log))
            reason = "too many calls"
            continue
        except RecursionError:
            raise Unusable("recursion") from None
        except Exception as error:  # the rewritten solver may fail in any way; it is then given up
            reason = f"outline raises {type(error).__name__}"
            continue
        if values.agree(answer, sample.answer, result.problem.digits):
            traces.append((sample, log))
        else:
            reason = "outline differs from the solution"
    return traces, cut, reason


def _misremembered(result: Outline, checks: Checks) -> set[str]:
    """Tools of the local to blame when runs with state go wrong: one that got tuples, else the last one."""
    remembering = [name for name, tool in result.tools.items() if tool.kind == "state"]
    blamed = [name for name in remembering if name in checks.reshaped] or remembering[-1:]
    return set(blamed[:1])


def shortcuts(result: Outline, traces: list[Trace]) -> set[str]:
    """Tools that hand over the final answer: called once in most tasks, with the answer as the result.

    A last step that needs what a chain of other calls worked out is no shortcut, nor is reading what
    repeated calls have put into the state.
    """
    hits = {}
    for sample, log in traces:
        counts = {}
        for call in log:
            counts[call.tool] = counts.get(call.tool, 0) + 1
        worked_out, built_up = set(), set()
        for call in log:
            if call.tool not in result.sites:
                continue  # reading an item; reading a slice may be everything
            local = next(iter(result.sites[call.tool]))
            is_built_up = local in built_up
            if call.tool in result.changing and counts[call.tool] > 1:
                built_up.add(local)
            seen = hits.setdefault(call.tool, [0, 0])
            seen[0] += 1
            arguments = {values.to_json(value) for value in call.arguments.values()}
            if (
                counts[call.tool] == 1
                and not is_built_up
                and not (arguments & worked_out)
                and _is_answer(call.result, sample.answer)
            ):
                seen[1] += 1
            if counts[call.tool] > 1 and not isinstance(call.result, bool):
                worked_out.add(values.to_json(call.result))
    return {name for name, (_, answers) in hits.items() if answers > len(traces) / 2}


def _is_answer(result: Any, answer: Any) -> bool:
    while isinstance(answer, (list, dict)) and len(answer) == 1:
        [answer] = answer.values() if isinstance(answer, dict) else answer
    return values.same(result, answer)


def _idle(result: Outline, traces: list[Trace]) -> set[str]:
    """Conditions that came out the same in every run, such as the checks of inputs that are always valid."""
    seen = {}
    for _, log in traces:
        for call in log:
            if result.tools[call.tool].kind == "operation":
                seen.setdefault(call.tool, []).append(call)
    return {
        name
        for name, calls in seen.items()
        if all(call.result is calls[0].result for call in calls)
        and isinstance(calls[0].result, bool)
        and len({values.to_json(call.arguments) for call in calls}) > 1
    }


def _uncalled(result: Outline, traces: list[Trace]) -> set[str]:
    """Operations of branches that no run takes: they would be no tools, so the solver must do without."""
    called = {call.tool for _, log in traces for call in log}
    return {name for name, tool in result.tools.items() if tool.kind == "operation" and name not in called}


def _over_budget(result: Outline, traces: list[Trace]) -> set[str]:
    """The expressions to give up, the busiest when runs are long or the rarest of too many tools; or a local.

    Raises:
      Unusable: when tools are too many without them.
    """
    lengths = sorted(len(log) for _, log in traces)
    uses = collections.Counter(call.tool for _, log in traces for call in log)
    operations = [name for name, tool in result.tools.items() if tool.kind == "operation" and uses[name]]
    busiest = sorted(operations, key=lambda name: -uses[name])[:-1]
    long = (lengths[int(len(lengths) * SHORT_SHARE)] - TYPICAL_CALLS) * len(traces)
    if long > 0 and busiest:
        saved = list(itertools.accumulate(uses[name] for name in busiest))
        return set(busiest[: 1 + sum(calls < long for calls in saved)])
    excess = max(len(uses) + len(("Observe", "Done")) - MAX_TOOLS, 0)
    if excess > len(operations) - MIN_OPERATIONS and excess:
        return _rarest_locals(result, uses, excess)
    return set(sorted(operations, key=lambda name: uses[name])[:excess])


def _rarest_locals(result: Outline, uses: Mapping[str, int], excess: int) -> set[str]:
    """Tools around the locals that are used least, so many that giving them up saves `excess` tools.

    Raises:
      Unusable: when no local is left.
    """
    locals_ = {}
    for name in uses:
        if result.tools[name].kind == "state":
            locals_.setdefault(min(result.sites[name]), []).append(name)
    if not locals_:
        raise Unusable("too many tools")
    given_up = []
    for names in sorted(locals_.values(), key=lambda names: sum(uses[name] for name in names)):
        if len(given_up) < excess:
            given_up += names
    return set(given_up)
