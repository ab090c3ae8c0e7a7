"""What all inputs of a problem have in common, so that inputs made from them can keep it.

A statement says "an N by N matrix" or "each nut has a matching bolt", and code cannot read it. But the inputs
that the problem's author gave or generates obey it, so what is true of all of them is demanded of those that
are made by cutting, joining and varying them.

Source: likely invariants, Ernst et al. 2007, https://doi.org/10.1016/j.scico.2007.01.015 (Daikon).
"""

import copy
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from codegym_jax.synthesis.outline import values
from codegym_jax.synthesis.outline.problem import Inputs

MIN_WITNESSES = 5
"""Inputs that must show a property before it is demanded of others."""
MIN_ITEMS = 3
"""In each list or text of an input that shows anything: two items are in order half of the time."""

Property = Callable[..., bool | None]
"""Of the values of one or two parameters; None for values that it does not apply to."""


class Precondition(NamedTuple):
    """A property of the parameters called `names`."""

    holds: Property
    names: tuple[str, ...]

    def of(self, inputs: Inputs) -> bool | None:
        """Whether it holds of these inputs; None where it does not apply."""
        if not all(name in inputs for name in self.names):
            return None
        return self.holds(*(inputs[name] for name in self.names))

    def is_shown_by(self, inputs: Inputs) -> bool:
        """Whether it holds, and not by lack of items."""
        told = [inputs[name] for name in self.names if name in inputs]
        return bool(self.of(inputs)) and all(len(value) >= MIN_ITEMS for value in told if _is_sequence(value))


def common(originals: list[Inputs]) -> list[Precondition]:
    """The properties that no input in `originals` lacks and enough of them show."""
    names = list(dict.fromkeys(name for inputs in originals for name in inputs))
    candidates = [Precondition(holds, (name,)) for holds in _OF_ONE for name in names]
    candidates += [
        Precondition(holds, pair) for holds in _OF_TWO for pair in itertools.permutations(names, 2)
    ]
    found = []
    for candidate in candidates:
        holds_of_all = all(candidate.of(inputs) is not False for inputs in originals)
        if holds_of_all and sum(map(candidate.is_shown_by, originals)) >= MIN_WITNESSES:
            found.append(candidate)
    return found


def keeping(preconditions: list[Precondition], candidates: Iterable[Inputs]) -> Iterator[Inputs]:
    """The candidates that meet the preconditions, after a repair where one is plain."""
    for candidate in candidates:
        inputs = _repaired(preconditions, candidate)
        if all(precondition.of(inputs) is not False for precondition in preconditions):
            yield inputs


def _repaired(preconditions: list[Precondition], inputs: Inputs) -> Inputs:
    inputs = copy.deepcopy(inputs)
    for precondition in preconditions:
        repair = _REPAIRS.get(precondition.holds)
        if repair is not None and precondition.of(inputs) is False:
            *others, last = precondition.names
            inputs[last] = repair(*(inputs[name] for name in others), inputs[last])
    return inputs


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, str))


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_sequence, value))


def _not_empty(value: Any) -> bool | None:
    return len(value) > 0 if _is_sequence(value) else None


def _numbers(value: Any) -> list[int | float]:
    return [number for number in values.scalars([value]) if type(number) in (int, float)]


def _not_negative(value: Any) -> bool | None:
    return min(numbers) >= 0 if (numbers := _numbers(value)) else None


def _positive(value: Any) -> bool | None:
    return min(numbers) > 0 if (numbers := _numbers(value)) else None


def _even_rows(value: Any) -> bool | None:
    return len(set(map(len, value))) == 1 if _is_table(value) else None


def _square(value: Any) -> bool | None:
    return all(len(row) == len(value) for row in value) if _is_table(value) else None


def _cropped(table: list[Any]) -> list[Any]:
    size = min(len(table), *map(len, table))
    return [row[:size] for row in table[:size]]


def _ascending(value: Any) -> bool | None:
    if not isinstance(value, list) or not _comparable(value):
        return None
    return all(a <= b for a, b in itertools.pairwise(value))


def _comparable(items: list[Any]) -> bool:
    return {type(item) for item in items} in (set(), {int}, {float}, {int, float}, {str})


def _distinct(value: Any) -> bool | None:
    if not isinstance(value, list):
        return None
    return len({values.to_json(item) for item in value}) == len(value)


def _same_length(one: Any, other: Any) -> bool | None:
    if not (_is_sequence(one) and _is_sequence(other)):
        return None
    return len(one) == len(other)


def _same_items(one: Any, other: Any) -> bool | None:
    """In any order."""
    if not (_is_sequence(one) and _is_sequence(other)):
        return None
    return Counter(map(values.to_json, one)) == Counter(map(values.to_json, other))


def _only_items_of(one: Any, other: Any) -> Any:
    """The items of `other` that are left when `one` may claim each of its own once, in their order."""
    left, kept = Counter(map(values.to_json, one)), []
    for item in other:
        text = values.to_json(item)
        if left[text]:
            left[text] -= 1
            kept.append(item)
    missing = [item for item in one if _take(left, values.to_json(item))]
    return "".join(kept + missing) if isinstance(other, str) else copy.deepcopy(kept + missing)


def _take(left: Counter[str], text: str) -> bool:
    left[text] -= 1
    return left[text] >= 0


def _counts(sequence: Any, number: Any) -> bool | None:
    return number == len(sequence) if _is_sequence(sequence) and type(number) is int else None


def _indexes(sequence: Any, number: Any) -> bool | None:
    return 0 <= number < len(sequence) if _is_sequence(sequence) and type(number) is int else None


def _fits(sequence: Any, number: Any) -> bool | None:
    return number <= len(sequence) if _is_sequence(sequence) and type(number) is int else None


def _contains(sequence: Any, item: Any) -> bool | None:
    if isinstance(sequence, list) and not isinstance(item, (list, dict)):
        return any(values.same(item, other) for other in sequence)
    return None


def _at_least(one: Any, other: Any) -> bool | None:
    return one >= other if type(one) is int and type(other) is int else None


_OF_ONE: tuple[Property, ...] = (
    *(_not_empty, _not_negative, _positive, _even_rows, _square, _ascending, _distinct),
)
_OF_TWO: tuple[Property, ...] = (
    *(_same_items, _same_length, _counts, _indexes, _fits, _contains, _at_least),
)
_REPAIRS: dict[Property, Callable[..., Any]] = {
    _square: _cropped,
    _ascending: sorted,
    _same_items: _only_items_of,
    _counts: lambda sequence, number: len(sequence),
}
