"""One message as it is sampled: tokens in, and out what of its text can no longer change.

Text is held back while it may be the beginning of a call, of a stop text or of a character, so that what a
stream tells, joined, is the message that the same request gets in one piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from codegym_jax.data.chat import Renderer
from codegym_jax.data.conversation import read_assistant_text
from codegym_jax.data.hermes import OPEN
from codegym_jax.rollout.completions import STOP

_BROKEN = "\ufffd"
"""What the bytes of a character read as while some are missing."""


class Token(NamedTuple):
    """A sampled token, and its log-probability under the policy."""

    token_id: int
    logp: float


@dataclass(frozen=True, slots=True)
class Told:
    """What may be told now."""

    text: str
    tokens: tuple[Token, ...]
    """Those since the last time, whether their text is told or held back."""


@dataclass(frozen=True, slots=True)
class Ending:
    """A whole message."""

    message: dict[str, Any]
    """In OpenAI's form."""
    finish_reason: str
    """`stop`, `length` or `tool_calls`."""
    rest: str
    """Of its content, what was not told yet."""


class Speech:
    """One message.

    Args:
      renderer: of the policy.
      tools: what it may call; empty where it may not.
      stops: texts before which it ends.
      begun: how it begins; these tokens were given, not sampled.
      one_call: of several calls the first is kept.
    """

    def __init__(
        self,
        renderer: Renderer,
        tools: Sequence[dict[str, Any]],
        stops: Sequence[str],
        begun: Sequence[int] = (),
        *,
        one_call: bool = False,
    ) -> None:
        self._renderer, self._tools, self._stops, self._one_call = renderer, tools, stops, one_call
        self._begun = list(begun)
        self._marks = (*stops, OPEN) if tools else tuple(stops)
        self._told = 0
        self._text, self._alone = renderer.message_text(self._begun)
        self._cut: int | None = None
        """Where a stop text begins."""
        self.tokens: list[Token] = []
        """Sampled."""

    @property
    def stopped(self) -> bool:
        """Whether a stop text has ended it; nothing that follows is heard."""
        return self._cut is not None

    def hear(self, ids: Sequence[int], logps: Sequence[float]) -> Told:
        """Takes new tokens."""
        new = tuple(Token(*pair) for pair in zip(ids, logps, strict=True))
        self.tokens += new
        ids_so_far = [*self._begun, *(token.token_id for token in self.tokens)]
        self._text, self._alone = self._renderer.message_text(ids_so_far)
        found = [place for stop in self._stops if (place := self._text.find(stop)) >= 0]
        if found:
            self._cut = min(found)
            self._text = self._text[: self._cut]
        return Told(self._tell(self._certain()), new)

    def end(self, reason: str) -> Ending:
        """The message, when no more tokens come.

        Args:
          reason: why the completion ended; a stop text comes before it.
        """
        message = read_assistant_text(self._text, self._tools if self._alone else ())
        if self._one_call and "tool_calls" in message:
            message["tool_calls"] = message["tool_calls"][:1]
        reason = STOP if self.stopped else reason
        if "tool_calls" in message and reason == STOP:
            reason = "tool_calls"
        return Ending(message, reason, self._tell(len(message["content"] or "")))

    def _tell(self, end: int) -> str:
        start, self._told = self._told, max(self._told, end)
        return self._text[start:end]

    def _certain(self) -> int:
        """How much of the text will be content, whatever follows."""
        text = self._text
        if self.stopped:
            end = len(text)
        else:
            end = len(text.rstrip(_BROKEN))
            end = min((_begins_at_end(text[:end], mark) for mark in self._marks), default=end)
        place = text.find(OPEN) if self._tools else -1
        return end if place < 0 else min(end, place)


def _begins_at_end(text: str, mark: str) -> int:
    """Where the longest beginning of `mark` starts with which the text ends; else the text's length."""
    for length in range(min(len(mark) - 1, len(text)), 0, -1):
        if text.endswith(mark[:length]):
            return len(text) - length
    return len(text)
