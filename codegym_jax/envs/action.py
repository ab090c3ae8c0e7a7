"""What the policy wrote, judged before any guest sees it.

An action is one JSON object `{"name": tool, "parameters": {...}}`, in the JSON that Python's `json` reads (so
NaN and Infinity are numbers, and of a repeated key the last one counts). Everything else is an error of the
policy: an observation, never an exception. What the policy then reads depends on its action and on the tools
only: a transcript shows neither the version of the host's Python nor how much stack the host had left.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from codegym_jax.config import SandboxConfig
from codegym_jax.records import CallError, ToolSpec

DONE = "Done"
OBSERVE = "Observe"

_EXPECTED = 'Error: expected one call, {"name": ..., "parameters": {...}}'
_MAX_NAMES = 3  # of parameters that an error text lists
_SPACE = " \t\n\r"
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_AS_PARENTHESES = bytes.maketrans(b"[]{}", b"()()")
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_decode = json.JSONDecoder().raw_decode


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
        name = call.get("name")
        if not isinstance(name, str) or "parameters" not in call:
            return BadCall(CallError.NOT_JSON, _EXPECTED)
        known = self._all.get(name)
        if known is None:
            return BadCall(CallError.UNKNOWN_TOOL, f"Error: there is no tool {_excerpt(name)}")
        parameters = call["parameters"]
        if not isinstance(parameters, dict):
            return BadCall(CallError.BAD_PARAMETERS, "Error: parameters must be a JSON object")
        given = parameters.keys()
        if given != known:
            lacking = self._required[name] - given
            if lacking:
                text = f"Error: {name} lacks the parameter {_listed(lacking)}"
                return BadCall(CallError.BAD_PARAMETERS, text)
            unknown = given - known
            if unknown:
                text = f"Error: {name} has no parameter {_listed(unknown)}"
                return BadCall(CallError.BAD_PARAMETERS, text)
        return name

    def _parse(self, action: str) -> dict[str, Any] | BadCall:
        size = len(action)
        if not action.isascii() and size <= self._max_bytes:
            try:
                size = len(action.encode())
            except UnicodeEncodeError:
                return BadCall(CallError.NOT_JSON, f"{_EXPECTED} in UTF-8")
        if size > self._max_bytes:
            return BadCall(CallError.NOT_JSON, f"Error: a call has at most {self._max_bytes} bytes")
        text = action.strip(_SPACE)
        if not text.startswith("{"):
            return BadCall(CallError.NOT_JSON, _EXPECTED)
        if text.count("[") + text.count("{") > self._max_depth and _deeper(text, self._max_depth):
            return BadCall(CallError.NOT_JSON, f"Error: a call is nested at most {self._max_depth} deep")
        try:
            call, end = _decode(text)
        except json.JSONDecodeError:
            return BadCall(CallError.NOT_JSON, f"{_EXPECTED}, and this is not JSON")
        except ValueError:  # CPython converts no integer beyond `sys.get_int_max_str_digits()`
            return BadCall(CallError.NOT_JSON, f"{_EXPECTED}, and a number in this is too long")
        if end != len(text):
            return BadCall(CallError.NOT_JSON, f"{_EXPECTED}, and this goes on after it")
        return call


def _deeper(text: str, depth: int) -> bool:
    """Whether JSON is nested deeper than `depth`; text that is no JSON is too, where parsing it recursed far.

    A round takes the innermost brackets away, so JSON is as deep as it takes rounds.
    """
    brackets = _STRING.sub("", text).encode().translate(_AS_PARENTHESES, _NO_BRACKETS)
    for _ in range(depth):
        if b"()" not in brackets:
            break
        brackets = brackets.replace(b"()", b"")
    return b"()" in brackets or brackets.count(b"(") > depth


def _listed(names: Iterable[str]) -> str:
    """The first few of some names, in order."""
    names = sorted(names)
    more = ["..."] if len(names) > _MAX_NAMES else []
    return ", ".join([*map(_excerpt, names[:_MAX_NAMES]), *more])


def _excerpt(text: str) -> str:
    short = text if len(text) <= 60 else text[:57] + "..."
    return short.encode("utf-8", "backslashreplace").decode()
