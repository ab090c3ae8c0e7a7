"""JSON values: conversion, strict equality, and the scalars inside them."""

import json
from collections.abc import Iterator
from typing import Any


def to_json(value: Any) -> str:
    """The value as compact JSON text.

    Raises:
      ValueError, TypeError: when the value is not JSON; NaN and infinities are not.
    """
    return json.dumps(value, allow_nan=False)


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
