"""Style `codegym`: tools as Python signatures with docstrings, calls between the paper's markers.

    <|FunctionCallBegin|>[{"name": "GetItem", "parameters": {"index": 0}}]<|FunctionCallEnd|>

The markers are ordinary text, as for every tokenizer that does not know them; turns are framed in ChatML, and
a result is a user turn. The instructions are our own words.

Source: CodeGym, arXiv 2509.17325, figure 13 (markers, tool listing without example outputs).
"""

from collections.abc import Sequence

from codegym_jax.data import strict_json
from codegym_jax.data.chat_template import ChatML, Message
from codegym_jax.data.style import Call, Content, Fault, Piece, parse_between, to_call, words_before
from codegym_jax.records import EnvSpec, ToolSpec

_FRAME = ChatML()
_OPEN, _CLOSE = "<|FunctionCallBegin|>", "<|FunctionCallEnd|>"
_FORM = Fault(f'Error: a call is {_OPEN}[{{"name": ..., "parameters": {{...}}}}]{_CLOSE}, with no other key')

_INSTRUCTIONS = f"""\
Solve the task below step by step, only by calling the functions you are given; write no program of your own.
Call at most one function in each message, then wait for its result. Where a description leaves something
open, try the function and learn from what it returns. Write a call as a JSON list with one object:
{_OPEN}[{{"name": "function_name", "parameters": {{"parameter": "value"}}}}]{_CLOSE}

Task:

"""


class Codegym:
    """See the module."""

    special_tokens = _FRAME.special_tokens
    stop = _FRAME.stop

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        listing = Content("".join(_listing(tool) for tool in spec.tools))
        statement = Content(spec.statement.strip())
        return _FRAME.open([Message("system", (listing,)), Message("user", (_INSTRUCTIONS, statement))])

    def message(self, call: Call, spec: EnvSpec) -> str:
        del spec  # arguments go by name
        value = [{"name": call.name, "parameters": call.parameters}]
        return _OPEN + strict_json.dumps(value, spaces=True) + _CLOSE

    def result(self, observations: Sequence[str]) -> tuple[Piece, ...]:
        return _FRAME.follow([Message("user", (Content("\n".join(observations)),))])

    def parse(self, message: str, spec: EnvSpec) -> Call | Fault:
        """Words before the call are allowed (a model may think aloud); a second call is not."""
        del spec
        value = parse_between(message, _OPEN, _CLOSE)
        if isinstance(value, Fault):
            return value
        one = value[0] if isinstance(value, list) and len(value) == 1 else None
        return to_call(one, "parameters") or _FORM

    def words_before_call(self, message: str) -> str:
        return words_before(message, _OPEN, _CLOSE)


def _listing(tool: ToolSpec) -> str:
    signature = ", ".join(parameter.name for parameter in tool.parameters)
    return f'Function:\n\ndef {tool.name}({signature}):\n    r"""\n    {tool.doc.strip()}\n    """\n\n'
