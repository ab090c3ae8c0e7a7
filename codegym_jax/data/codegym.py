"""Style `codegym`: tools as Python signatures with docstrings, calls between the paper's markers.

    <|FunctionCallBegin|>[{"name": "GetItem", "parameters": {"index": 0}}]<|FunctionCallEnd|>

The markers are ordinary text, as for every tokenizer that does not know them; turns are framed in ChatML, and
a result is a user turn. The instructions are our own words.

Source: CodeGym, arXiv 2509.17325, figure 13 (markers, tool listing without example outputs).
"""

from codegym_jax.data import strict_json
from codegym_jax.data.style import Call, Piece, Special, to_call
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

    def message(self, call: Call, spec: EnvSpec) -> str:
        del spec  # arguments go by name
        value = [{"name": call.name, "parameters": call.parameters}]
        return _OPEN + strict_json.dumps(value, spaces=True) + _CLOSE

    def result(self, observation: str) -> tuple[Piece, ...]:
        return ("\n", _START, f"user\n{observation}", *_NEXT_TURN)

    def parse(self, message: str, spec: EnvSpec) -> Call | None:
        """Words before the call are allowed (a model may think aloud); a second call is not."""
        del spec
        _, opened, rest = message.partition(_OPEN)
        body = rest.lstrip()
        if not opened:
            return None
        try:
            value, end = strict_json.load_prefix(body, 0)
        except ValueError:
            return None
        if not isinstance(value, list) or len(value) != 1 or body[end:].strip() != _CLOSE:
            return None
        return to_call(value[0], "parameters")


def _listing(tool: ToolSpec) -> str:
    signature = ", ".join(parameter.name for parameter in tool.parameters)
    return f'Function:\n\ndef {tool.name}({signature}):\n    r"""\n    {tool.doc.strip()}\n    """\n\n'
