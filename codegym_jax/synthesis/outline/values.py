"""JSON values: conversion, strict equality, and the scalars inside them."""

import json
from collections.abc import Iterator
from typing import Any

DIGITS = 4  # decimals that a policy has to copy, where floats are rounded
_encode = json.JSONEncoder(allow_nan=False).encode  # `json.dumps` would build an encoder on every call
TOLERANCE = 1e-3  # of an answer's floats: relative, and absolute below 1


def to_json(value: Any) -> str:
    """The value as compact JSON text.

    Raises:
      ValueError, TypeError: when the value is not JSON; NaN and infinities are not.
    """
    if type(value) is int:
        return repr(value)
    return _encode(value)


def round_trip(value: Any) -> Any:
    """The value as it comes back from JSON: tuples become lists, keys become strings."""
    return json.loads(to_json(value))


def same(left: Any, right: Any) -> bool:
    """Equality that also tells `1` from `True`, from `1.0`, and a tuple from a list."""
    if type(left) is not type(right):
        return False
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    return left == right


def rounded(value: Any, digits: int | None) -> Any:
    """The value with its floats rounded to so many decimals, inside containers too; None rounds nothing."""
    if digits is None:
        return value
    if isinstance(value, float):
        return round(value, digits) + 0.0  # no -0.0
    if type(value) in (list, tuple):
        return type(value)(rounded(item, digits) for item in value)
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    return value


def agree(left: Any, right: Any, digits: int | None) -> bool:
    """Equality as `same`; with `digits`, floats may be apart by what rounding along the way can explain."""
    if digits is None:
        return same(left, right)
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return abs(left - right) <= TOLERANCE * max(1.0, abs(right))
    if isinstance(left, list):
        return len(left) == len(right) and all(agree(a, b, digits) for a, b in zip(left, right, strict=True))
    if isinstance(left, dict):
        return list(left) == list(right) and all(agree(left[key], right[key], digits) for key in left)
    return left == right


def scalars(value: Any, keys: bool = False) -> Iterator[Any]:
    """The numbers, strings, booleans and nulls inside a JSON value, in order; with `keys`, also the names."""
    if isinstance(value, dict):
        for key, item in value.items():
            if keys:
                yield key
            yield from scalars(item, keys)
    elif isinstance(value, list):
        for item in value:
            yield from scalars(item, keys)
    else:
        yield value
