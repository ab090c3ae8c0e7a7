"""Which slot already holds the beginning of a prompt: a tree of chunks, on the host. Knows no device."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Start(NamedTuple):
    """How a slot's prompt begins."""

    source: int | None
    """The slot to copy from; None where nothing is shared, or the slot itself still holds it."""
    shared: int
    """Tokens that need not be computed."""
    wave: int
    """A prompt can be copied once the prompts of all earlier waves have been computed."""


@dataclass(slots=True)
class _Node:
    children: dict[tuple[int, ...], "_Node"] = field(default_factory=dict)
    slots: dict[int, None] = field(default_factory=dict)
    """Those that hold the prompt up to here, in the order in which they came to."""


class PrefixTree:
    """The prompts that slots hold, in chunks of `width` tokens, as they are computed.

    Two prompts share the chunks in which they agree from the start; the last, short chunk only where both end
    with it. A shared chunk was therefore computed by the same program, in the same columns, as the slot would
    have computed it itself: sharing changes no number.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._root = _Node()
        self._prompt_of: dict[int, tuple[int, ...]] = {}

    def plan(self, prompts: dict[int, Sequence[int]]) -> dict[int, Start]:
        """Decides what each slot, about to be filled with a prompt, shares; notes that it will hold it.

        What a slot held before is gone, except for the beginning that it shares with its own new prompt.
        """
        kept = {slot: self._common(self._prompt_of.get(slot, ()), ids) for slot, ids in prompts.items()}
        for slot in prompts:
            self.forget(slot)
        starts: dict[int, Start] = {}
        for slot in sorted(
            prompts, key=kept.__getitem__, reverse=True
        ):  # so that others may copy what is kept
            ids = prompts[slot]
            source, shared = self._longest(ids)
            if source is None or kept[slot] >= shared:
                starts[slot] = Start(None, kept[slot], 0)
            else:
                starts[slot] = Start(source, shared, starts[source].wave + 1 if source in starts else 0)
            self._hold(slot, ids)
        return starts

    def continued(self, prompt: Sequence[int], free: Sequence[int]) -> int:
        """The free slot whose own prompt goes on in `prompt`, as a chat's does; without one, the first.

        Such a slot loses nothing by it. Of several, the one that holds most. What others hold can be copied,
        so that they are better left for whoever goes on with it.
        """

        def whole(slot: int) -> int:
            """Tokens that it would keep, where those are all its chunks but a last, short one."""
            held = self._prompt_of.get(slot, ())
            kept = self._common(held, prompt)
            return kept if kept >= len(held) - len(held) % self._width else 0

        best = max(free, key=whole)  # the first of equals
        return best if whole(best) else free[0]

    def forget(self, slot: int) -> None:
        """What the slot held is there no more."""
        node = self._root
        for chunk in self._chunks(self._prompt_of.pop(slot, ())):
            child = node.children[chunk]
            del child.slots[slot]
            if not child.slots:  # nor does any slot hold what lies beyond
                del node.children[chunk]
                break
            node = child

    def clear(self) -> None:
        """Forgets everything, as when the parameters have changed."""
        self._root = _Node()
        self._prompt_of.clear()

    def _chunks(self, ids: Sequence[int]) -> list[tuple[int, ...]]:
        return [tuple(ids[at : at + self._width]) for at in range(0, len(ids), self._width)]

    def _common(self, held: Sequence[int], wanted: Sequence[int]) -> int:
        """Tokens of the chunks that two prompts share."""
        count = 0
        for one, other in zip(self._chunks(held), self._chunks(wanted), strict=False):
            if one != other:
                break
            count += len(one)
        return count

    def _longest(self, ids: Sequence[int]) -> tuple[int | None, int]:
        node, found, count = self._root, None, 0
        for chunk in self._chunks(ids):
            child = node.children.get(chunk)
            if child is None:
                break
            node, count = child, count + len(chunk)
            found = next(iter(node.slots))
        return found, count

    def _hold(self, slot: int, ids: Sequence[int]) -> None:
        self._prompt_of[slot] = tuple(ids)
        node = self._root
        for chunk in self._chunks(ids):
            node = node.children.setdefault(chunk, _Node())
            node.slots[slot] = None
