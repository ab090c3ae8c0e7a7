"""What a chat style is: how prompt, call and tool result read as text, before any tokenizer.

A style gives *pieces*: its own words, words from outside, and tokens by name. It never sees an id, so styles
are compared, tested and trained on (`training_texts`) without a tokenizer.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from codegym_jax.data import strict_json
from codegym_jax.records import EnvSpec


@dataclass(frozen=True, slots=True)
class Special:
    """An added token of the tokenizer, by name."""

    name: str


@dataclass(frozen=True, slots=True)
class Content:
    """Text from outside: a statement, the docs of a tool, what a tool said. No token is named in it."""

    text: str


Piece = str | Content | Special
"""Neighboring texts (`str`, `Content`) are encoded as one. A `str` is the style's own words: markup in it,
such as `<tool_call>`, becomes the token that some tokenizers have for it; in a `Content` it stays text."""


class Call(NamedTuple):
    """One tool call."""

    name: str
    parameters: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a message is no call, in the terms of the style; empty where the environment's own words will do.

    What it says depends on the message only, not on the version of Python or the depth of its stack.
    """

    text: str = ""


class RenderError(ValueError):
    """A demonstrated action that is no call, or that a style cannot write."""


@runtime_checkable
class Style(Protocol):
    """How one way of chatting reads. A message is what the policy writes, up to and including `stop`."""

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """Names of the special tokens that the tokenizer must have; `stop` among them."""
        ...

    @property
    def stop(self) -> Special:
        """Ends a policy message."""
        ...

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        """Everything before the policy's first message."""
        ...

    def message(self, call: Call, spec: EnvSpec) -> str:
        """The message (without `stop`) that `parse` turns back into `call`.

        Raises:
          RenderError: when there is none, such as for a tool that `spec` lacks.
        """
        ...

    def result(self, observations: Sequence[str]) -> tuple[Piece, ...]:
        """What stands between a policy message and the next one: one turn, however many results there are."""
        ...

    def parse(self, message: str, spec: EnvSpec) -> Call | Fault:
        """The one well-formed call in a message (without `stop`), or what is wrong with it."""
        ...

    def words_before_call(self, message: str) -> str:
        """What a message with a call says before it."""
        ...


def join_texts(pieces: Iterable[Piece]) -> Iterator[str]:
    """The texts between tokens, each as long as it gets."""
    text = ""
    for piece in pieces:
        if not isinstance(piece, Special):
            text += piece.text if isinstance(piece, Content) else piece
        elif text:
            yield text
            text = ""
    if text:
        yield text


def join_parts(parts: Iterable[str | Content]) -> str:
    """The text of a message."""
    return "".join(part.text if isinstance(part, Content) else part for part in parts)


def write_action(call: Call) -> str:
    """The published form of an action, `{"name": ..., "parameters": {...}}`, as `Env.step` takes it."""
    return json.dumps({"name": call.name, "parameters": call.parameters})


def read_action(action: str) -> Call:
    """The call in an action of the published form.

    Raises:
      RenderError: when `action` is anything else.
    """
    try:
        value = strict_json.loads(action)
    except ValueError as error:
        raise RenderError(f"not an action: {action[:200]!r} ({error})") from error
    call = to_call(value, "parameters")
    if call is None:
        raise RenderError(f'not an action, which is {{"name": ..., "parameters": {{...}}}}: {action[:200]!r}')
    return call


def to_call(value: Any, parameters_key: str) -> Call | None:
    """The call in a JSON object with exactly the keys `name` and `parameters_key`; None for anything else."""
    if not isinstance(value, dict) or value.keys() != {"name", parameters_key}:
        return None
    name, parameters = value["name"], value[parameters_key]
    if not isinstance(name, str) or not isinstance(parameters, dict):
        return None
    return Call(name, parameters)


def parse_between(message: str, opening: str, closing: str) -> Any | Fault:
    """The JSON value that stands between two marks, with which the message ends.

    Words before the opening mark are allowed (a model may think aloud); a second pair of marks is not. Where
    that leaves no call and the message holds a `</think>`, only what follows it is read: a thought may
    mention the marks.
    """
    value = _parse_between(message, opening, closing)
    if isinstance(value, Fault):
        _, thought, rest = message.partition("</think>")
        if thought and not isinstance(answer := _parse_between(rest, opening, closing), Fault):
            return answer
    return value


def words_before(message: str, opening: str, closing: str) -> str:
    """What stands before the marks that `parse_between` reads, in a message in which it finds a value."""
    if isinstance(_parse_between(message, opening, closing), Fault):
        head, thought, rest = message.partition("</think>")
        return head + thought + rest.partition(opening)[0]
    return message.partition(opening)[0]


def _parse_between(message: str, opening: str, closing: str) -> Any | Fault:
    _, opened, rest = message.partition(opening)
    if not opened:
        return Fault(f"Error: no call; it begins with {opening} and ends with {closing}")
    body = rest.lstrip()
    try:
        value, end = strict_json.load_prefix(body, 0)
    except ValueError:
        return Fault(f"Error: what follows {opening} is not JSON")
    rest = body[end:].strip()
    if rest == closing:
        return value
    if rest.startswith(closing):
        return Fault(f"Error: only one call a message, and nothing after its {closing}")
    return Fault(f"Error: {closing} must follow the call at once")
