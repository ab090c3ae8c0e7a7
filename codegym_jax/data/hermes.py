"""Style `hermes`: tools as JSON schemas and calls in `<tool_call>` tags, the form Qwen models are tuned on.

Turns are framed in ChatML. The tags are interface and kept to the letter; the instructions are our own words.
"""

from codegym_jax.data import strict_json
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.style import Call, Piece, Special, to_call
from codegym_jax.records import EnvSpec

_START = Special("<|im_start|>")
_END = Special("<|im_end|>")
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_NEXT_TURN: tuple[Piece, ...] = (_END, "\n", _START, "assistant\n")

_INSTRUCTIONS = """\
You solve a task by calling functions. These are the functions, each as a JSON schema, within <tools></tools>:
<tools>
{tools}
</tools>

Make one call in each message and wait for its result. Write the call as a JSON object within \
<tool_call></tool_call>:
<tool_call>
{{"name": <name of the function>, "arguments": <object with its arguments>}}
</tool_call>"""


class Hermes:
    """See the module."""

    special_tokens = (_START.name, _END.name)
    stop = _END

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        tools = "\n".join(strict_json.dumps(tool_schema(tool), spaces=True) for tool in spec.tools)
        return (
            *(_START, "system\n" + _INSTRUCTIONS.format(tools=tools), _END, "\n"),
            *(_START, f"user\n{spec.statement.strip()}"),
            *_NEXT_TURN,
        )

    def message(self, call: Call, spec: EnvSpec) -> str:
        del spec  # arguments go by name
        text = strict_json.dumps({"name": call.name, "arguments": call.parameters}, spaces=True)
        return f"{_OPEN}\n{text}\n{_CLOSE}"

    def result(self, observation: str) -> tuple[Piece, ...]:
        text = f"user\n<tool_response>\n{observation}\n</tool_response>"
        return ("\n", _START, text, *_NEXT_TURN)

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
        return to_call(value, "arguments") if body[end:].strip() == _CLOSE else None
