"""JSON as the standard has it: no NaN or Infinity, no key twice, no depth that breaks the parser."""

import json
import math
import re
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
      ValueError: when `text` is not exactly one strict JSON value, holds a number that no finite float or
        Python integer can hold, or is nested too deeply.
    """
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def load_prefix(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that begins at `text[start]`, and where it ends.

    Raises:
      ValueError: as `loads`, except that text after the value is allowed.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def dumps(value: Any, *, spaces: bool) -> str:
    """A JSON text that `loads` turns back into `value`; non-ASCII characters are kept readable.

    Two lone surrogates side by side come back as the one character that they spell, as in all JSON.

    Args:
      value: dicts (with string keys), lists, strings, finite numbers, booleans, None.
      spaces: whether a space follows `,` and `:`.

    Raises:
      ValueError: on NaN or an infinity.
    """
    separators = (", ", ": ") if spaces else (",", ":")
    text = json.dumps(value, separators=separators, ensure_ascii=False, allow_nan=False)
    if _SURROGATE.search(text):  # a lone one is no character: only its escape can be written
        text = json.dumps(value, separators=separators, allow_nan=False)
    return text


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("an object holds a key twice")
    return values


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits} is beyond every float")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
