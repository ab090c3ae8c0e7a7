"""Style `compact`: as few tokens as a small policy can get by with.

    <|bos|>below threshold
    GetItem(index)
    Done(answer)<|end_of_prompt|>GetItem(0)<|end_of_turn|>7<|end_of_result|>Done(true)<|end_of_turn|>

The prompt is the words of the class name and one signature a line. A call is written with JSON arguments in
the signature's order; a result is the observation, verbatim.
"""

import re
from collections.abc import Sequence

from codegym_jax.data import strict_json
from codegym_jax.data.style import Call, Content, Fault, Piece, RenderError, Special
from codegym_jax.records import EnvSpec, ToolSpec

_BEGIN = Special("<|bos|>")
_END_OF_PROMPT = Special("<|end_of_prompt|>")
_END_OF_TURN = Special("<|end_of_turn|>")
_END_OF_RESULT = Special("<|end_of_result|>")
_TITLE_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^A-Za-z0-9_]+")


class Compact:
    """See the module."""

    special_tokens = (_BEGIN.name, _END_OF_PROMPT.name, _END_OF_TURN.name, _END_OF_RESULT.name)
    stop = _END_OF_TURN

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        lines = [_title(spec.class_name)]
        for tool in spec.tools:
            lines.append(f"{tool.name}({','.join(parameter.name for parameter in tool.parameters)})")
        return _BEGIN, Content("\n".join(lines)), _END_OF_PROMPT

    def message(self, call: Call, spec: EnvSpec) -> str:
        name, parameters = call
        tool = _find_tool(spec, name)
        if tool is None:
            raise RenderError(f"{spec.env_id} has no tool {name!r}")
        names = [parameter.name for parameter in tool.parameters][: len(parameters)]
        if set(names) != set(parameters) or len(names) < _required_count(tool):
            expected = ", ".join(parameter.name for parameter in tool.parameters)
            raise RenderError(f"{spec.env_id}: {name} takes ({expected}), got ({', '.join(parameters)})")
        values = (strict_json.dumps(parameters[name], spaces=False) for name in names)
        return f"{tool.name}({','.join(values)})"

    def result(self, observations: Sequence[str]) -> tuple[Piece, ...]:
        return tuple(piece for one in observations for piece in (Content(one), _END_OF_RESULT))

    def parse(self, message: str, spec: EnvSpec) -> Call | Fault:
        name, bracket, rest = message.partition("(")
        tool = _find_tool(spec, name)
        if tool is None or not bracket or not rest.endswith(")"):
            return Fault()
        try:
            values = strict_json.loads(f"[{rest[:-1]}]")
        except ValueError:
            return Fault()
        if not _required_count(tool) <= len(values) <= len(tool.parameters):
            return Fault()
        names = [parameter.name for parameter in tool.parameters]
        return Call(name, dict(zip(names, values, strict=False)))

    def words_before_call(self, message: str) -> str:
        del message  # it is the call
        return ""


def _title(class_name: str) -> str:
    """`BelowThresholdEnv` -> `below threshold`."""
    words = _TITLE_WORD.findall(class_name.removesuffix("Env"))
    return " ".join(word.lower() for word in words) or class_name


def _find_tool(spec: EnvSpec, name: str) -> ToolSpec | None:
    return next((tool for tool in spec.tools if tool.name == name), None)


def _required_count(tool: ToolSpec) -> int:
    """Arguments a call must give: up to the last required parameter, as they go by position."""
    required = [index for index, parameter in enumerate(tool.parameters, start=1) if parameter.required]
    return max(required, default=0)
