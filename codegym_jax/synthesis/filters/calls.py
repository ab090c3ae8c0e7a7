"""Calls as the filters look at them: the oracle's, the first of an episode, those that give the answer."""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from codegym_jax.envs.audit.evidence import shows
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task


class Call(NamedTuple):
    """One call of an oracle."""

    tool: str
    parameters: dict[str, Any]
    text: str
    """What came back."""

    @property
    def result(self) -> Any:
        """What came back as a JSON value; the text itself where it is none."""
        return value_of(self.text)


def oracle_calls(task: Task) -> list[Call]:
    """The calls in order; what is no call, which an oracle may try too, is left out."""
    found = []
    for action, text in zip(task.oracle_actions, task.oracle_observations, strict=True):
        call = value_of(action)
        match call:
            case {"name": str(name), "parameters": dict(parameters)}:
                found.append(Call(name, parameters, text))
    return found


def value_of(text: str) -> Any:
    """Text as the JSON value that it is, else the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def first_text(
    sandbox: Sandbox, spec: EnvSpec, config_json: str, tool: str, parameters: Mapping[str, Any]
) -> str:
    """What a tool says as the first call of an episode.

    Raises:
      EnvError: when the environment does not load with this config.
    """
    env = Env(sandbox, spec, config_json)
    try:
        return env.step(json.dumps({"name": tool, "parameters": parameters})).observation
    finally:
        env.close()


def matches(text: str, answer: Any) -> bool:
    """Whether a result is the answer: equal as JSON, one-element containers apart, or named in plain text."""
    if text.startswith("Error:"):
        return False
    result = value_of(text)
    if result is text:
        return shows(text, _unwrapped(answer))
    return _same(_unwrapped(result), _unwrapped(answer))


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values as `Done` sees it: 1 is 1.0, but not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _unwrapped(value: Any) -> Any:
    while isinstance(value, list | dict) and len(value) == 1:
        [value] = value.values() if isinstance(value, dict) else value
    return value
