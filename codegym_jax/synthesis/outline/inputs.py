"""Inputs of a problem: drawn from its generator or mined from its tests, then varied and cut short.

Every input is passed through JSON before anything else sees it, and is kept only when the reference
solution runs on it, twice with the same answer.
"""

import contextlib
import copy
import inspect
import random
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from codegym_jax.synthesis.outline import values
from codegym_jax.synthesis.outline.problem import Inputs, Problem

MAX_INPUT_CHARS = 4_000
MAX_LINES = 100_000  # of Python that a solution may execute on one input
MAX_LONG_RUNS = 12  # inputs beyond that before no more are tried
MAX_LIST = 10  # items of a list that was varied
MAX_GROWN = 24  # items of a list, or characters of a text, that was made from two
MAX_TEXT = 14  # characters of a text that was varied


def generated(problem: Problem, generator: str, seeds: Iterable[int]) -> Iterator[Inputs]:
    """Inputs that the problem's own generator draws, one per seed; a failing seed gives none."""
    namespace = problem.namespace()
    exec(compile(generator, "<generator>", "exec"), namespace)
    draw = namespace.get("generate_inputs") or namespace["generate_input"]
    for seed in seeds:
        try:
            inputs = values.round_trip(draw(random.Random(seed)))
        except (TypeError, ValueError, LookupError, ArithmeticError):
            continue
        if isinstance(inputs, dict) and set(inputs) <= set(problem.parameters):
            yield inputs


def mined(problem: Problem, test: str) -> list[Inputs]:
    """Inputs of the calls that the problem's tests make."""
    namespace = problem.namespace()
    solution = namespace[problem.entry]
    signature = inspect.signature(solution)
    found = []

    def candidate(*positional: Any, **named: Any) -> Any:
        with contextlib.suppress(TypeError, ValueError):
            found.append(values.round_trip(dict(signature.bind(*positional, **named).arguments)))
        return solution(*positional, **named)

    exec(compile(test, "<test>", "exec"), namespace)
    with contextlib.suppress(AssertionError):
        namespace["check"](candidate)
    return found


def answered(problem: Problem, candidates: Iterable[Inputs], seen: set[str]) -> Iterator[tuple[Inputs, Any]]:
    """(inputs, answer) of the candidates that are new and on which the reference runs, twice the same.

    Args:
      problem: where the reference comes from.
      candidates: an iterable of inputs.
      seen: texts of the inputs met so far; grows.
    """
    long_runs = 0
    for inputs in candidates:
        text = values.to_json(inputs)
        if text in seen or len(text) > MAX_INPUT_CHARS:
            continue
        seen.add(text)
        try:
            with _line_limit(MAX_LINES):
                answer = problem.answer(inputs)
            if values.same(answer, problem.answer(inputs)):
                yield inputs, answer
        except _RunsLong:
            long_runs += 1
            if long_runs == MAX_LONG_RUNS:
                return
        except Exception:  # the reference may fail in any way on an input that it was not written for
            continue


class _RunsLong(BaseException):
    """A run executes more lines than allowed; no `except Exception` of a solution swallows it."""


@contextlib.contextmanager
def _line_limit(count: int) -> Iterator[None]:
    """Runs the block until it has executed `count` lines of Python.

    Raises:
      _RunsLong: when it does not end by then.
    """
    left = count

    def trace(frame: object, event: str, argument: object) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise _RunsLong
        return trace

    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(None)


def varied(base: list[Inputs], source: random.Random, count: int) -> Iterator[Inputs]:
    """Variations of the inputs in `base`: items dropped, added, exchanged, numbers nudged, texts reshuffled.

    Args:
      base: inputs to start from.
      source: a `random.Random`.
      count: how many to draw.
    """
    given = dict.fromkeys(name for inputs in base for name in inputs)  # one may leave out what has a default
    pools = {name: _Pool([inputs[name] for inputs in base if name in inputs]) for name in given}
    for _ in range(count):
        inputs = copy.deepcopy(source.choice(base))
        for name in inputs:
            for _ in range(source.randint(0, 4)):
                inputs[name] = pools[name].varied(inputs[name], source)
        yield inputs


def shortened(base: list[Inputs], source: random.Random, count: int) -> Iterator[Inputs]:
    """The inputs in `base` with their lists and texts cut; those of one length are cut alike."""
    for _ in range(count):
        inputs = dict(source.choice(base))
        cuts = {}
        for name, value in inputs.items():
            if isinstance(value, (list, str)) and len(value) > 1:
                if len(value) not in cuts:
                    kept = source.randint(1, min(len(value), 8))
                    start = source.randint(0, len(value) - kept)
                    cuts[len(value)] = slice(start, start + kept)
                inputs[name] = copy.deepcopy(value[cuts[len(value)]])
        yield inputs


def grown(base: list[Inputs], names: list[str], source: random.Random, count: int) -> Iterator[Inputs]:
    """Two inputs of `base` joined: the lists and texts called `names` of both, the rest of the first."""
    for _ in range(count if names else 0):
        inputs, other = copy.deepcopy(source.choice(base)), copy.deepcopy(source.choice(base))
        for name in names:
            value, more = inputs.get(name), other.get(name)
            if isinstance(value, list) and isinstance(more, list) and _widths(value) == _widths(more):
                inputs[name] = [*value, *more][:MAX_GROWN]
            elif isinstance(value, str) and isinstance(more, str):
                inputs[name] = (value + more)[:MAX_GROWN]
        yield inputs


def _widths(rows: list[Any]) -> set[int]:
    """The widths of a table's rows; nothing for rows of several widths, and for a list that is no table."""
    widths = {len(row) for row in rows if isinstance(row, (list, str))}
    return widths if len(widths) == 1 else set()


class _Pool:
    """The values that one parameter was seen to take, and variations of them."""

    def __init__(self, seen: list[Any]):
        self.scalars = [value for value in values.scalars(seen) if len(str(value)) <= 3] or list(
            values.scalars(seen)
        )
        self.items = [item for value in seen if isinstance(value, list) for item in value]
        self.characters = "".join(value for value in values.scalars(seen) if isinstance(value, str))

    def varied(self, value: Any, source: random.Random) -> Any:
        if isinstance(value, bool) or value is None:
            return source.choice(self.scalars)
        if isinstance(value, int):
            return source.choice(
                [self._number(value, source), value + source.randint(-2, 2), abs(value) // 2]
            )
        if isinstance(value, float):
            return source.choice(
                [self._number(value, source), round(value + source.choice([-1, -0.5, 0.5, 1]), 2)]
            )
        if isinstance(value, str):
            return self._text(value, source)
        if isinstance(value, list):
            return self._list(value, source)
        return {
            key: self.varied(item, source) if source.random() < 0.3 else item for key, item in value.items()
        }

    def _number(self, value: int | float, source: random.Random) -> Any:
        alike = [scalar for scalar in self.scalars if type(scalar) is type(value)]
        return source.choice(alike or [value])

    def _text(self, value: str, source: random.Random) -> str:
        parts = value.split(" ") if " " in value and source.random() < 0.5 else list(value)
        joint = " " if " " in value and len(parts) == value.count(" ") + 1 else ""
        choices = [part for part in self.characters.split(joint)] if joint else list(self.characters)
        return joint.join(self._edited(parts, choices, source))[:MAX_TEXT] if choices or parts else value

    def _list(self, value: list[Any], source: random.Random) -> list[Any]:
        if value and source.random() < 0.3:
            place = source.randrange(len(value))
            return [self.varied(item, source) if i == place else item for i, item in enumerate(value)]
        return self._edited(value, self.items, source)[:MAX_LIST]

    @staticmethod
    def _edited(items: list[Any], choices: list[Any], source: random.Random) -> list[Any]:
        items = list(items)
        edit = source.randrange(5)
        if edit == 0 and len(items) > 1:
            source.shuffle(items)
        elif edit == 1 and items:
            items.pop(source.randrange(len(items)))
        elif edit == 2 and (choices or items):
            items.insert(source.randrange(len(items) + 1), copy.deepcopy(source.choice(choices or items)))
        elif edit == 3 and choices and items:
            items[source.randrange(len(items))] = copy.deepcopy(source.choice(choices))
        elif len(items) > 2:
            items = items[: source.randint(1, len(items))]
        return items
