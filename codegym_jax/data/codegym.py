"""Style `codegym`: tools as Python signatures with docstrings, calls between the paper's markers.

    <|FunctionCallBegin|>[{"name": "GetItem", "parameters": {"index": 0}}]<|FunctionCallEnd|>

The markers are ordinary text, as for every tokenizer that does not know them; turns are framed in ChatML, and
a result is a user turn. The instructions are our own words.

Source: CodeGym, arXiv 2509.17325, figure 13 (markers, tool listing without example outputs).
"""

from codegym_jax.data import strict_json
from codegym_jax.data.style import Piece, Special, action_json, read_action, read_call
from codegym_jax.records import EnvSpec, ToolSpec

_START = Special("<|im_start|>")
_END = Special("<|im_end|>")
_OPEN, _CLOSE = "<|FunctionCallBegin|>", "<|FunctionCallEnd|>"
_NEXT_TURN: tuple[Piece, ...] = (_END, "\n", _START, "assistant\n")

_INSTRUCTIONS = f"""\
Solve the task below step by step, only by calling the functions you are given; write no program of your own.
Call at most one function in each message, then wait for its result. Where a description leaves something
open, try the function and learn from what it returns. Write a call as a JSON list with one object:
{_OPEN}[{{"name": "function_name", "parameters": {{"parameter": "value"}}}}]{_CLOSE}

Task:

"""


class Codegym:
    """See the module."""

    special_tokens = (_START.name, _END.name)
    stop = _END

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        listing = "".join(_listing(tool) for tool in spec.tools)
        return (
            *(_START, f"system\n{listing}", _END, "\n"),
            *(_START, f"user\n{_INSTRUCTIONS}{spec.statement.strip()}"),
            *_NEXT_TURN,
        )

    def call(self, action: str, spec: EnvSpec) -> str:
        del spec  # arguments go by name
        name, parameters = read_action(action)
        return _OPEN + strict_json.dumps([{"name": name, "parameters": parameters}], spaces=True) + _CLOSE

    def result(self, observation: str) -> tuple[Piece, ...]:
        return ("\n", _START, f"user\n{observation}", *_NEXT_TURN)

    def parse(self, message: str, spec: EnvSpec) -> str | None:
        """Words before the call are allowed (a model may think aloud); a second call is not."""
        del spec
        _, opened, rest = message.partition(_OPEN)
        body = rest.lstrip()
        if not opened:
            return None
        try:
            calls, end = strict_json.load_prefix(body, 0)
        except ValueError:
            return None
        if not isinstance(calls, list) or len(calls) != 1 or body[end:].strip() != _CLOSE:
            return None
        fields = read_call(calls[0], "parameters")
        return None if fields is None else action_json(*fields)


def _listing(tool: ToolSpec) -> str:
    signature = ", ".join(parameter.name for parameter in tool.parameters)
    return f'Function:\n\ndef {tool.name}({signature}):\n    r"""\n    {tool.doc.strip()}\n    """\n\n'
