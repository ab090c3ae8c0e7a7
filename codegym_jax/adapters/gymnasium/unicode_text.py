"""The space of all texts up to some length.

Gymnasium's `Text` lists its characters, and all of Unicode is a million of them; here a character's index
is computed from its number.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Text

_SURROGATES = range(0xD800, 0xE000)
"""Numbers of no character; a text with one has no UTF-8 form."""
_COUNT = 0x110000 - len(_SURROGATES)


class _Characters(Sequence[str]):
    """Every character, in the order of the numbers, without a list of them."""

    def __len__(self) -> int:
        return _COUNT

    def __getitem__(self, index: Any) -> Any:
        if not 0 <= index < _COUNT:
            raise IndexError(index)
        number = int(index)
        return chr(number if number < _SURROGATES.start else number + len(_SURROGATES))

    def __contains__(self, value: object) -> bool:
        return isinstance(value, str) and len(value) == 1 and ord(value) not in _SURROGATES


_ALL = _Characters()


class UnicodeText(Text):
    """Texts of at most `max_length` characters, any but surrogates."""

    def __init__(self, max_length: int, seed: int | np.random.Generator | None = None):
        """Takes the length in characters; the empty text is in the space."""
        super().__init__(max_length, min_length=0, charset="", seed=seed)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """A text of uniform length and characters; with a mask or probabilities as `Text` draws."""
        if mask is not None or probability is not None:
            return super().sample(mask, probability)
        length = int(self.np_random.integers(self.max_length + 1))
        return "".join([_ALL[index] for index in self.np_random.integers(_COUNT, size=length)])

    def contains(self, x: Any) -> bool:
        """Whether it is such a text."""
        return isinstance(x, str) and len(x) <= self.max_length and not _has_surrogate(x)

    def character_index(self, char: str) -> np.int32:
        """The place of a character among all."""
        number = ord(char)
        return np.int32(number if number < _SURROGATES.start else number - len(_SURROGATES))

    @property
    def character_set(self) -> Any:
        """All characters."""
        return _ALL

    @property
    def character_list(self) -> Any:
        """All characters, in order."""
        return _ALL

    @property
    def characters(self) -> str:
        """Their names together, as a text would be of a million characters."""
        return "Unicode"

    def __repr__(self) -> str:
        return f"UnicodeText({self.max_length})"

    def __eq__(self, other: object, /) -> bool:
        return isinstance(other, UnicodeText) and self.max_length == other.max_length


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
