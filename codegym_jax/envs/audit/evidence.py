"""Whether texts show values by more than chance: a small number turns up anywhere, a long list does not.

Values are compared as tokens, so that `[3, 9, 1]`, `3 9 1` and `3,9,1` are one.
"""

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.codegym_format import canonical_json

WEIGHTY = 4
"""So many elements, characters or digits do not turn up by chance."""
_TOKEN = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|\w+")
_MARGIN = 0.5
"""By so much must the rate of texts with their own value exceed that of texts with another text's value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """That texts show the values which belong to them."""

    shown: int
    """So many texts show their value."""
    texts: int
    example: int
    """The first text that does."""


def evidence(values: Sequence[Any], texts: Sequence[str], *, light: bool = False) -> Evidence | None:
    """Whether `texts[i]` shows `values[i]` for most i, where no chance explains it; None where it may.

    More than half of the texts must show their own value, many more than show another text's. And the values
    must be unlikely in themselves: of weight `WEIGHTY`.

    Args:
      light: scalars of any weight will do as well, where they differ enough: three texts show three
        different ones, or five show two.
    """
    own = [index for index, (value, text) in enumerate(zip(values, texts, strict=True)) if shows(text, value)]
    if 2 * len(own) <= len(texts) or len(own) / len(texts) - _chance(values, texts) < _MARGIN:
        return None
    shown = [values[index] for index in own]
    different = len({canonical_json(value) for value in shown})
    scalars = not any(isinstance(value, (list, dict)) for value in shown)
    varied = different >= 2 and len(own) >= (3 if different >= 3 else 5)
    if 2 * sum(weight(value) >= WEIGHTY for value in shown) > len(texts) or (light and scalars and varied):
        return Evidence(shown=len(own), texts=len(texts), example=own[0])
    return None


def _chance(values: Sequence[Any], texts: Sequence[str]) -> float:
    """How much of the other texts' values a text shows, on average over the texts."""
    by_json = {canonical_json(value): value for value in values}
    rates = []
    for value, text in zip(values, texts, strict=True):
        others = [other for key, other in by_json.items() if key != canonical_json(value)]
        if others:
            rates.append(sum(shows(text, other) for other in others) / len(others))
    return sum(rates) / len(rates) if rates else 0.0


def shows(text: str, value: Any) -> bool:
    """Whether a text holds a value: a text as a whole word, anything else as the sequence of its tokens."""
    if isinstance(value, str):
        return bool(value) and bool(re.search(rf"(?<!\w){re.escape(value)}(?!\w)", text))
    wanted = _value_tokens(value)
    return bool(wanted) and f" {' '.join(wanted)} " in f" {' '.join(_text_tokens(text))} "


def weight(value: Any) -> int:
    """How unlikely a value is to be shown by chance: its elements, its characters or its digits."""
    match value:
        case list() | dict():
            return sum(1 for _ in _scalars(value, keys=False))
        case str():
            return len(value.strip())
        case None | bool():
            return 0
    return sum(character.isdigit() for character in json.dumps(value))


def _scalars(value: Any, *, keys: bool) -> Iterator[Any]:
    """The scalars of a value, perhaps with the keys of its objects, in the order of its text."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case list(items):
                waiting += reversed(items)
            case dict(items):
                for key in reversed(items):
                    waiting += [items[key], key] if keys else [items[key]]
            case scalar:
                yield scalar


def _value_tokens(value: Any) -> list[str]:
    texts = (
        scalar if isinstance(scalar, str) else json.dumps(scalar) for scalar in _scalars(value, keys=True)
    )
    return [token for text in texts for token in _text_tokens(text)]


def _text_tokens(text: str) -> list[str]:
    return [_normal(token) for token in _TOKEN.findall(text.lower())]


def _normal(token: str) -> str:
    """One spelling of a number or of nothing: `1.0` is `1`, `none` is `null`."""
    if token == "none":
        return "null"
    if token[-1].isdigit():
        try:
            number = float(token)
        except ValueError:
            return token
        if math.isfinite(number) and abs(number) < 2**53:
            return str(int(number)) if number.is_integer() else repr(number)
    return token
