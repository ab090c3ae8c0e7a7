"""What an environment asks of a policy, read off its oracle's episodes.

A step is `(tool name, parameters, result)`, the result None for `Done`. Runs inside the guest (to choose
among outlines) and on the host (to choose what a tiny policy can learn).
"""

import ast
import statistics
from collections.abc import Mapping
from typing import Any

from codegym_jax.synthesis.outline import values

MAX_TINY_CALLS = 12  # of a task that a tiny policy may meet, `Done` included
MAX_TINY_SCALAR = 3  # characters of JSON, quotes apart; true, false and null are always short
MAX_TINY_LIST = 0  # items of a list or an object, so `Observe` has nothing visible to show either
SHORT_CALLS = 8  # of a task short enough to demonstrate
MIN_TINY_TASKS = 4  # an environment with fewer in its sample is not judged
BANDS = ((3, 9), (10, 40), (41, 256))
"""Oracle calls, `Done` included, of easy, medium and hard tasks."""
BAND_SHARES = (0.25, 0.5, 0.25)
MEDIUM_CALLS = BANDS[1][0]
GOOD_TOOLS = 2  # operations that an environment worth training on has at least ...
GOOD_CALLS = 4  # ... calls of them in the median task ...
GOOD_TASKS = 10  # ... tasks that are no easy ones ...
GOOD_ANSWERS = 3  # ... and distinct answers
CONSTANTS = {values.to_json(value) for value in (0, 1, -1, 2, "", " ", True, False, None, 0.0, 1.0)}

Steps = list[tuple[str, dict[str, Any], Any]]
"""One episode: (tool name, parameters, result) of every call; the result of `Done` is None."""


def measure(episodes: list[Steps]) -> dict[str, Any]:
    """Features of one environment: those of `measure_all`, and under `tiny` those of its tiny tasks alone.

    Args:
      episodes: one list of steps a task, from `Observe` (if any) to `Done`.
    """
    return measure_all(episodes) | {"tiny": measure_all([steps for steps in episodes if is_tiny(steps)])}


def is_tiny(steps: Steps) -> bool:
    """Whether a task fits a small context and vocabulary: few calls, short scalars and lists."""
    if len(steps) > MAX_TINY_CALLS:
        return False
    seen = [
        [parameters, result if name != "Observe" else _shown(result)] for name, parameters, result in steps
    ]
    return _longest_scalar(seen) <= MAX_TINY_SCALAR and max(map(_longest_list, _parts(seen))) <= MAX_TINY_LIST


def _parts(seen: list[list[Any]]) -> list[Any]:
    return [part for pair in seen for part in (*pair[0].values(), pair[1])]


def _shown(observed: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in observed.items() if not name.startswith("hidden")}


def measure_all(episodes: list[Steps]) -> dict[str, Any]:
    """Features of a set of tasks.

    Returns:
      A JSON-able dict:
        tasks: how many episodes.
        oracle_calls: their numbers of calls, sorted.
        computed_share: of the scalars in parameters (`Done` apart), those never seen before in a result or
          a parameter, nor constants, nor one more or less than an earlier parameter or
          the last result.
        answer_kind: `boolean` (one of two values), `copied` (made of seen scalars in every task), or
          `computed`.
        longest_scalar: in characters of JSON, over parameters and results.
        longest_list: items of the longest list in parameters and results.
        answers: how many distinct ones; top_answer_share: share of the commonest.
        tools: how many distinct ones are called; sequences: distinct sequences of their names.
        workflow: the distinct trigrams of abstract steps, sorted; equal workflows mean near duplicates.
    """
    scalars = computed = 0
    kinds, answers, sequences, trigrams, tools = [], [], set(), set(), set()
    longest_scalar = longest_list = 0
    for steps in episodes:
        reader = _Reader()
        shapes = ["^"]
        for name, parameters, result in steps:
            tools.add(name)
            if name == "Done":
                answer = parameters["answer"]
                answers.append(values.to_json(answer))
                kinds.append(_answer_kind(answer, reader))
                longest_list = max(longest_list, _longest_list(answer))
                longest_scalar = max(longest_scalar, _longest_scalar(answer))
                shapes.append("$")
                continue
            origins = [reader.origin(value) for value in values.scalars(parameters)]
            scalars += len(origins)
            computed += origins.count("computed")
            shapes.append("".join(origin[0] for origin in origins) + ">" + type(result).__name__[0])
            reader.read(parameters, result)
            if name != "Observe":
                longest_scalar = max(longest_scalar, _longest_scalar([parameters, result]))
                longest_list = max(
                    longest_list, _longest_list(result), *map(_longest_list, parameters.values()), 0
                )
            else:
                longest_scalar = max(longest_scalar, _longest_scalar(_shown(result)))
        trigrams |= {" ".join(shapes[i : i + 3]) for i in range(len(shapes) - 2)}
        sequences.add(tuple(step[0] for step in steps))
    commonest = max(map(answers.count, set(answers)), default=0)
    return {
        "tasks": len(episodes),
        "oracle_calls": sorted(len(steps) for steps in episodes),
        "computed_share": round(computed / max(scalars, 1), 4),
        "answer_kind": "boolean"
        if len(set(answers)) <= 2
        else "computed"
        if "computed" in kinds
        else "copied",
        "longest_scalar": longest_scalar,
        "longest_list": longest_list,
        "answers": len(set(answers)),
        "top_answer_share": round(commonest / max(len(answers), 1), 4),
        "tools": len(tools),
        "sequences": len(sequences),
        "workflow": sorted(trigrams),
    }


def of_source(source: str) -> dict[str, int]:
    """What the oracle works out by itself, and what it keeps in mind, between its calls.

    `native_operations` is the work. `native_changes` is the memory: the places where `solve` appends to a
    container of its own, or stores an item.

    The work is counted in the source of `solve`: operators, comparisons, slices, conditions inside
    expressions, and calls other than of tools, `range`, `len` and `append`. Comparing with None, and
    one more or one less, are free.
    """
    tree = ast.parse(source)
    solve = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "solve")
    nested = {n.name for n in ast.walk(solve) if isinstance(n, ast.FunctionDef)}
    work = [node for node in solve.body if not (isinstance(node, ast.FunctionDef) and node.name == "call")]
    nodes = [node for part in work[:-1] for node in ast.walk(part)]
    return {
        "native_operations": sum(_is_native(node, nested) for node in nodes),
        "native_changes": sum(_changes_container(node) for node in nodes),
    }


def _changes_container(node: ast.AST) -> bool:
    """Whether the node changes a container and `_is_native` does not count it."""
    match node:
        case ast.Subscript(ctx=ast.Store() | ast.Del()):
            return True
        case ast.Call(func=ast.Attribute(attr="append")):
            return True
    return False


def _is_native(node: ast.AST, nested: set[str]) -> bool:
    match node:
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return False
        case ast.BinOp(op=ast.Add() | ast.Sub(), right=ast.Constant(value=1)):
            return False
        case (
            ast.BinOp()
            | ast.Compare()
            | ast.BoolOp()
            | ast.IfExp()
            | ast.Slice()
            | ast.Lambda()
            | ast.ClassDef()
        ):
            return True
        case ast.Dict() | ast.Set() | ast.DictComp() | ast.SetComp() | ast.Try():
            return True
        case ast.Call(func=ast.Name(id=name)):
            return name not in nested and name not in ("call", "range", "len", "enumerate", "zip", "reversed")
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=""), attr="join")):
            return False
        case ast.Call(func=ast.Attribute(attr=name)):
            return name != "append"
    return False


def band(calls: int) -> int:
    """The index in `BANDS` of a task with so many oracle calls; beyond the last band it is the last one's."""
    return next((i for i, (_, high) in enumerate(BANDS) if calls <= high), len(BANDS) - 1)


def is_good(features: Mapping[str, Any], kinds: Mapping[str, str], episodes: list[Steps]) -> bool:
    """Whether an environment is GOOD: tools with real work, often used, in tasks of some length.

    Args:
      features: of `measure_all` on the episodes.
      kinds: tool name -> kind; tools that only read hidden inputs are of kind `access`.
      episodes: of its verified tasks.
    """
    worked = [
        [name for name, _, _ in steps if kinds.get(name, "frame") not in ("access", "frame")]
        for steps in episodes
    ]
    return (
        len(set().union(*worked)) >= GOOD_TOOLS
        and statistics.median(map(len, worked)) >= GOOD_CALLS
        and sum(calls >= MEDIUM_CALLS for calls in features["oracle_calls"]) >= GOOD_TASKS
        and features["answers"] >= GOOD_ANSWERS
    )


def median_calls(features: Mapping[str, Any]) -> float:
    """The median number of oracle calls."""
    return float(statistics.median(features["oracle_calls"]))


class _Reader:
    """What a policy has seen so far in one episode."""

    def __init__(self) -> None:
        self.results = set()
        self.last_results = set()
        self.parameters = set()

    def read(self, parameters: dict[str, Any], result: Any) -> None:
        self.parameters |= set(map(values.to_json, values.scalars(parameters)))
        self.last_results = set(map(values.to_json, values.scalars(result, keys=True)))
        self.results |= self.last_results

    def origin(self, value: Any) -> str:
        text = values.to_json(value)
        if text in self.last_results:
            return "latest"
        if text in self.results:
            return "result"
        if text in self.parameters:
            return "again"
        if text in CONSTANTS:
            return "constant"
        if isinstance(value, int):
            neighbors = {values.to_json(value - 1), values.to_json(value + 1)}
            if neighbors & (self.parameters | self.last_results):
                return "next"
        return "computed"


def _answer_kind(answer: Any, reader: "_Reader") -> str:
    known = reader.results | CONSTANTS
    return "copied" if all(values.to_json(value) in known for value in values.scalars(answer)) else "computed"


def _longest_scalar(value: Any) -> int:
    return max((_width(scalar) for scalar in values.scalars(value)), default=0)


def _width(scalar: Any) -> int:
    if scalar is None or isinstance(scalar, bool):
        return 1
    return len(values.to_json(scalar)) - 2 * isinstance(scalar, str)


def _longest_list(value: Any) -> int:
    if isinstance(value, dict):
        return max([len(value), *map(_longest_list, value.values())])
    if isinstance(value, list):
        return max([len(value), *map(_longest_list, value)])
    return 0


def is_learnable(features: Mapping[str, Any]) -> bool:
    """Whether a tiny policy can learn an environment's tiny tasks: copying and counting, not computing."""
    tiny = features["tiny"]
    return (
        tiny["tasks"] >= MIN_TINY_TASKS
        and tiny["oracle_calls"][0] <= SHORT_CALLS
        and features["native_operations"] <= 4
        and tiny["computed_share"] <= 0.02
        and tiny["answer_kind"] in ("boolean", "copied")
        and tiny["tools"] <= 8
        and tiny["answers"] >= 2
        and tiny["top_answer_share"] <= 0.85
        and tiny["sequences"] >= 3
    )
