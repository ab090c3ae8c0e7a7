"""What a chat style is: how prompt, call and tool result read as text, before any tokenizer.

A style gives *pieces*: ordinary text, and special tokens by name. It never sees an id, so styles are
compared, tested and trained on (`training_texts`) without a tokenizer.
"""

import json
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

from codegym_jax.data import strict_json
from codegym_jax.records import EnvSpec


@dataclass(frozen=True, slots=True)
class Special:
    """A special token, by name."""

    name: str


Piece = str | Special


class Call(NamedTuple):
    """One tool call."""

    name: str
    parameters: dict[str, Any]


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

    def result(self, observation: str) -> tuple[Piece, ...]:
        """What stands between a policy message and the next one."""
        ...

    def parse(self, message: str, spec: EnvSpec) -> Call | None:
        """The one well-formed call in a message (without `stop`); None for anything else."""
        ...


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
