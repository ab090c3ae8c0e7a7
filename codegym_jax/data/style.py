"""What a chat style is: how prompt, call and tool result read as text, before any tokenizer.

A style gives *pieces*: ordinary text, and special tokens by name. It never sees an id, so styles are
compared, tested and trained on (`training_texts`) without a tokenizer.
"""

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from codegym_jax.data import strict_json
from codegym_jax.records import EnvSpec


@dataclass(frozen=True, slots=True)
class Special:
    """A special token, by name."""

    name: str


Piece = str | Special


class RenderError(ValueError):
    """A demonstrated action that this style cannot write."""


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

    def call(self, action: str, spec: EnvSpec) -> str:
        """The message (without `stop`) that `parse` turns back into `action`.

        Raises:
          RenderError: when the action is no call of a tool of `spec`, or has no such message.
        """
        ...

    def result(self, observation: str) -> tuple[Piece, ...]:
        """What stands between a policy message and the next one."""
        ...

    def parse(self, message: str, spec: EnvSpec) -> str | None:
        """The action JSON of the one well-formed call in a message; None for anything else."""
        ...


def action_json(name: str, parameters: dict[str, Any]) -> str:
    """The published form of an action, as `Env.step` takes it."""
    return json.dumps({"name": name, "parameters": parameters})


def read_action(action: str) -> tuple[str, dict[str, Any]]:
    """The tool name and parameters of an action in the published form.

    Raises:
      RenderError: when `action` is anything else.
    """
    try:
        call = strict_json.loads(action)
    except ValueError as error:
        raise RenderError(f"not an action: {action[:200]!r} ({error})") from error
    fields = read_call(call, "parameters")
    if fields is None:
        raise RenderError(f'not an action, which is {{"name": ..., "parameters": {{...}}}}: {action[:200]!r}')
    return fields


def read_call(call: Any, parameters_key: str) -> tuple[str, dict[str, Any]] | None:
    """Name and parameters of an object with exactly the keys `name` and `parameters_key`; else None."""
    if not isinstance(call, dict) or call.keys() != {"name", parameters_key}:
        return None
    name, parameters = call["name"], call[parameters_key]
    if not isinstance(name, str) or not isinstance(parameters, dict):
        return None
    return name, parameters
