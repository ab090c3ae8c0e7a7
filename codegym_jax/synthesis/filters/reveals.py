"""Does `Observe` show what it is said to hide?"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.envs.action import OBSERVE
from codegym_jax.envs.audit.evidence import shows
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.env import EnvError
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task
from codegym_jax.synthesis.filters.calls import first_text, value_of


def revealed(
    sandbox: Sandbox, spec: EnvSpec, tasks: Sequence[Task], observed: Sequence[str]
) -> tuple[str, str] | None:
    """Whether `Observe` shows more of the hidden values than their sizes: does it notice when they change?

    An `Observe` that returns a JSON object hides every input that it does not list with its value. Plain text
    says sizes and settings, so it hides lists and objects; where there are none, it must hide something.

    Args:
      sandbox: as it verified the tasks.
      spec: the environment.
      tasks: some of its tasks.
      observed: what `Observe` says first in each.

    Returns:
      One of the reasons `nothing_hidden` and `observe_reveals_hidden` and the detail, or nothing.
    """
    for task, text in zip(tasks, observed, strict=True):
        config = json.loads(task.config_json)
        listed = value_of(text)
        if isinstance(listed, dict):
            hidden = _hidden(config, listed)
        else:
            hidden = [key for key, value in config.items() if isinstance(value, list | dict)]
            if not hidden:
                hidden = [key for key in config if not _notices(sandbox, spec, task, text, [key])]
        if config and not hidden:
            return "nothing_hidden", f"Observe shows all of {', '.join(config)}: {text[:100]!r}"
        if _notices(sandbox, spec, task, text, hidden):
            keys = [key for key in hidden if _notices(sandbox, spec, task, text, [key])] or hidden
            return "observe_reveals_hidden", f"Observe shows {', '.join(keys)}: {text[:100]!r}"
    return None


def _hidden(config: Mapping[str, Any], listed: Mapping[str, Any]) -> list[str]:
    """The inputs that `Observe` names as hidden or does not list; it may round a number that it lists."""
    named = [
        key
        for value in listed.values()
        if isinstance(value, list) and all(isinstance(key, str) and key in config for key in value)
        for key in value
    ]
    return [
        key
        for key, value in config.items()
        if key in named or key not in listed or (listed[key] != value and isinstance(value, list | dict))
    ]


def _notices(sandbox: Sandbox, spec: EnvSpec, task: Task, text: str, keys: Sequence[str]) -> bool:
    """Whether `Observe` says something else when other values of the same shape stand in some inputs."""
    config = json.loads(task.config_json)
    other = config | {key: altered(config[key]) for key in keys}
    if other == config:
        return False
    try:
        return first_text(sandbox, spec, canonical_json(other), OBSERVE, {}) != text
    except EnvError:  # it takes no such values; then their appearance has to do
        return any(_is_telling(config[key]) and shows(text, config[key]) for key in keys)


def altered(value: Any) -> Any:
    """Another value of the same shape: as many elements and characters, other numbers and letters."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return math.nextafter(value + 1.0, math.inf)
        case str():
            return "".join(map(_other_character, value))
        case list():
            return [altered(item) for item in value]
        case dict():
            return {key: altered(item) for key, item in value.items()}
    return value


def _other_character(character: str) -> str:
    for alphabet in ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        if character in alphabet:
            return alphabet[(alphabet.index(character) + 1) % len(alphabet)]
    return character


def _is_telling(value: Any) -> bool:
    """Whether a value does not turn up by chance: three characters at least."""
    return len(value if isinstance(value, str) else json.dumps(value)) >= 3
