"""What the policy wrote, judged before any guest sees it.

An action is one JSON object `{"name": tool, "parameters": {...}}`. Everything else is an error of the
policy: an observation, never an exception.
"""

import json
from dataclasses import dataclass
from typing import Any

from codegym_jax.config import SandboxConfig
from codegym_jax.records import CallError, ToolSpec

DONE = "Done"
OBSERVE = "Observe"

_EXPECTED = 'expected one call, {"name": ..., "parameters": {...}}'


@dataclass(frozen=True, slots=True)
class BadCall:
    """Why an action is no call; `text` is what the policy reads."""

    error: CallError
    text: str


class ActionParser:
    """Knows an environment's tools and what their parameters are called."""

    def __init__(self, tools: tuple[ToolSpec, ...], limits: SandboxConfig):
        self._all = {tool.name: frozenset(p.name for p in tool.parameters) for tool in tools}
        self._required = {
            tool.name: frozenset(p.name for p in tool.parameters if p.required) for tool in tools
        }
        self._max_bytes = limits.max_action_bytes
        self._max_depth = limits.max_json_depth

    def tool_of(self, action: str) -> str | BadCall:
        """The tool that a well-formed action calls, or what is wrong with the action."""
        call = self._parse(action)
        if isinstance(call, BadCall):
            return call
        name, parameters = call.get("name"), call.get("parameters")
        if not isinstance(name, str) or "parameters" not in call:
            return BadCall(CallError.NOT_JSON, f"Error: {_EXPECTED}")
        known = self._all.get(name)
        if known is None:
            return BadCall(CallError.UNKNOWN_TOOL, f"Error: there is no tool {_excerpt(name)}")
        if not isinstance(parameters, dict):
            return BadCall(CallError.BAD_PARAMETERS, "Error: parameters must be a JSON object")
        given = parameters.keys()
        if given != known:
            if not self._required[name] <= given:
                lacking = ", ".join(sorted(self._required[name] - given))
                return BadCall(CallError.BAD_PARAMETERS, f"Error: {name} lacks the parameter {lacking}")
            if not given <= known:
                unknown = ", ".join(map(_excerpt, sorted(given - known)))
                return BadCall(CallError.BAD_PARAMETERS, f"Error: {name} has no parameter {unknown}")
        return name

    def _parse(self, action: str) -> dict[str, Any] | BadCall:
        if not action.isascii():
            try:
                size = len(action.encode())
            except UnicodeEncodeError:
                return BadCall(CallError.NOT_JSON, f"Error: {_EXPECTED} in UTF-8")
        else:
            size = len(action)
        if size > self._max_bytes:
            return BadCall(CallError.NOT_JSON, f"Error: a call has at most {self._max_bytes} bytes")
        try:
            call = json.loads(action)
        except RecursionError:
            return BadCall(CallError.NOT_JSON, f"Error: a call is nested at most {self._max_depth} deep")
        except ValueError as error:
            return BadCall(CallError.NOT_JSON, f"Error: {_EXPECTED}; {_excerpt(str(error))}")
        if not isinstance(call, dict):
            return BadCall(CallError.NOT_JSON, f"Error: {_EXPECTED}")
        if action.count("[") + action.count("{") > self._max_depth and _deeper(call, self._max_depth):
            return BadCall(CallError.NOT_JSON, f"Error: a call is nested at most {self._max_depth} deep")
        return call


def _deeper(value: Any, depth: int) -> bool:
    """Whether a JSON value is nested deeper than `depth` containers."""
    level = [value]
    for _ in range(depth + 1):
        containers = [item for item in level if isinstance(item, (dict, list))]
        if not containers:
            return False
        level = [x for item in containers for x in (item.values() if isinstance(item, dict) else item)]
    return True


def _excerpt(text: str) -> str:
    short = text if len(text) <= 60 else text[:57] + "..."
    return short.encode("utf-8", "backslashreplace").decode()
