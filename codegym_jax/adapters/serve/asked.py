"""A chat request as it comes in JSON, read into what the server does with it, or refused by name.

Parameters whose meaning we have not are refused where they ask for anything, never ignored.

Source: https://platform.openai.com/docs/api-reference/chat/create; `top_k`, `min_p` and `return_token_ids`
are those of vLLM, https://docs.vllm.ai (OpenAI-compatible server, extra parameters).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from codegym_jax.adapters.serve.limits import Limits
from codegym_jax.adapters.serve.refusals import bad
from codegym_jax.data import strict_json
from codegym_jax.data.conversation import read_tools
from codegym_jax.data.messages import MessagesError

NONE, AUTO, REQUIRED = "none", "auto", "required"
_UNUSED = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prediction",
)
"""Say who asks, or how the answer may be billed or kept; they change no answer."""
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "repetition_penalty": (1,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "functions": ([],),
    "function_call": (NONE, AUTO),
    "top_logprobs": (0,),
}
"""The values of parameters that ask for nothing; we have no other."""
_INSTEAD = {
    "functions": "; use tools",
    "function_call": "; use tool_choice",
    "top_logprobs": ": the sampler keeps the log-probability of what it sampled only; ask for logprobs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A chat request. None where nothing was said."""

    model: str
    messages: list[Any]
    tools: tuple[dict[str, Any], ...]
    """Schemas of what may be called; empty where `tool_choice` forbids calls."""
    must_call: bool
    """Whether the message must begin with a call."""
    function: str | None
    """The only one that may be called first."""
    one_call: bool
    """Of several calls, only the first is wanted."""
    stream: bool
    include_usage: bool
    """At the end of a stream."""
    logprobs: bool
    return_token_ids: bool
    choices: int
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    stop: tuple[str, ...]
    seed: int | None


def read_request(body: bytes, limits: Limits) -> Asked:
    """Reads a body.

    Raises:
      Refusal: 400, when it is no request that can be answered; names the parameter.
    """
    try:
        fields = strict_json.loads(body.decode("utf-8"))
    except ValueError as error:
        raise bad(f"the body is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise bad("the body must be a JSON object")
    given = _Fields(fields)
    tools = _tools(given.take("tools", list, []))
    choice = given.take("tool_choice", (str, dict), AUTO if tools else NONE)
    function = _chosen(choice, tools)
    options = given.take("stream_options", dict, {})
    limit = given.number("max_tokens", int, None, lambda n: n >= 1, "at least 1")
    asked = Asked(
        model=given.require("model", str),
        messages=given.require("messages", list),
        tools=() if choice == NONE else tools,
        must_call=choice == REQUIRED or function is not None,
        function=function,
        one_call=not given.take("parallel_tool_calls", bool, True),
        stream=given.take("stream", bool, False),
        include_usage=options.get("include_usage") is True,
        logprobs=given.take("logprobs", bool, False),
        return_token_ids=given.take("return_token_ids", bool, False),
        choices=given.number("n", int, 1, lambda n: 1 <= n <= limits.choices, f"from 1 to {limits.choices}"),
        max_tokens=given.number("max_completion_tokens", int, limit, lambda n: n >= 1, "at least 1"),
        temperature=given.number("temperature", float, 1.0, lambda x: x >= 0, "at least 0"),
        top_p=given.number("top_p", float, 1.0, lambda x: 0 < x <= 1, "above 0 and at most 1"),
        top_k=given.number("top_k", int, 0, lambda n: 0 <= n < 2**31, "at least 0"),
        min_p=given.number("min_p", float, 0.0, lambda x: 0 <= x <= 1, "from 0 to 1"),
        stop=_stops(given.take("stop", (str, list), [])),
        seed=given.number("seed", int, None, lambda n: True, "an integer"),
    )
    given.refuse_rest()
    return asked


class _Fields:
    """The keys of a body, taken one by one; null is as good as missing."""

    def __init__(self, fields: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in fields.items() if value is not None}

    def require(self, name: str, kind: type) -> Any:
        if name not in self._left:
            raise bad(f"{name} is missing", name)
        return self.take(name, kind, None)

    def take(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._left.pop(name, default)
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if value is not default and not isinstance(value, kinds):
            wanted = " or ".join(_KINDS[one] for one in kinds)
            raise bad(f"{name} must be {wanted}, got {_short(value)}", name)
        return value

    def number(self, name: str, kind: type, default: Any, good: Callable[[Any], bool], wanted: str) -> Any:
        value = self._left.pop(name, default)
        if value is default:
            return default
        kinds = (int,) if kind is int else (int, float)
        number = isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < 2**63  # nor NaN
        if not number or not good(value):
            raise bad(f"{name} must be {wanted}, got {_short(value)}", name)
        return kind(value)

    def refuse_rest(self) -> None:
        """What nobody took must be without effect."""
        for name, value in self._left.items():
            if name in _UNUSED or value in _NEUTRAL.get(name, ()):
                continue
            if name in _NEUTRAL:
                raise bad(
                    f"{name} is not supported here{_INSTEAD.get(name, '')}", name, "unsupported_parameter"
                )
            raise bad(f"unknown parameter {name[:100]}", name[:100], "unknown_parameter")


_KINDS = {str: "a string", list: "a list", dict: "an object", bool: "true or false"}


def _short(value: Any) -> str:
    return repr(value)[:100]


def _tools(value: list[Any]) -> tuple[dict[str, Any], ...]:
    try:
        return tuple(read_tools(value))
    except MessagesError as error:
        raise bad(str(error), "tools") from error


def _chosen(choice: Any, tools: tuple[dict[str, Any], ...]) -> str | None:
    """The function that must be called; None where the choice is free.

    Raises:
      Refusal: when it is none of ours, or the choice has another form.
    """
    names = [tool["function"]["name"] for tool in tools]
    match choice:
        case "none" | "auto":
            return None
        case "required":
            if tools:
                return None
            raise bad("tool_choice required needs tools", "tool_choice")
        case {"type": "function", "function": {"name": str(name)}} if name in names:
            return name
        case {"type": "function", "function": {"name": str(name)}}:
            raise bad(f"tool_choice names {name[:100]!r}, which is none of the tools", "tool_choice")
    raise bad(
        'tool_choice must be "none", "auto", "required" or'
        ' {"type": "function", "function": {"name": ...}}, got ' + _short(choice),
        "tool_choice",
    )


def _stops(value: Any) -> tuple[str, ...]:
    stops = (value,) if isinstance(value, str) else tuple(value)
    if len(stops) > 16 or not all(isinstance(one, str) and one for one in stops):
        raise bad("stop must be a text, or up to 16 of them, none of them empty", "stop")
    return stops
