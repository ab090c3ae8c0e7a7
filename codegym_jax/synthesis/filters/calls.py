"""The oracle's calls of a task, as the filters look at them."""

import json
from typing import Any, NamedTuple

from codegym_jax.records import Task


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
