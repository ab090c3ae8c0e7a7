"""Style `hermes`: tools as JSON schemas and calls in `<tool_call>` tags, the form Qwen models are tuned on.

The tags are interface and kept to the letter; the instructions are our own words. How turns are framed is
asked of a `Frame`: ChatML, or the template that a pretrained model brings. A template that takes tools lists
them in the words its model was tuned on; for any other, our own words list them.
"""

import itertools
from collections.abc import Sequence
from typing import Any

from codegym_jax.data import strict_json
from codegym_jax.data.chat_template import ChatML, Frame, Message
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.style import Call, Content, Fault, Piece, Special, parse_between, to_call, words_before
from codegym_jax.records import EnvSpec

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_FORM = Fault(f'Error: a call is {OPEN}{{"name": ..., "arguments": {{...}}}}{CLOSE}, with no other key')

_WITH_TEMPLATE = (
    "You solve a task by calling functions. Make one call in each message and wait for its result."
)
_BEFORE_TOOLS = """\
You solve a task by calling functions. These are the functions, each as a JSON schema, within <tools></tools>:
<tools>
"""
_AFTER_TOOLS = """
</tools>

Make one call in each message and wait for its result. Write the call as a JSON object within \
<tool_call></tool_call>:
<tool_call>
{"name": <name of the function>, "arguments": <object with its arguments>}
</tool_call>"""


class Hermes:
    """See the module."""

    def __init__(self, frame: Frame | None = None) -> None:
        """Frames turns in `frame`, or in ChatML."""
        self._frame = ChatML() if frame is None else frame

    @property
    def special_tokens(self) -> tuple[str, ...]:
        return self._frame.special_tokens

    @property
    def stop(self) -> Special:
        return self._frame.stop

    def conversation(self, spec: EnvSpec) -> tuple[list[Message], list[dict[str, Any]]]:
        """What the prompt frames: messages, and the tools' JSON schemas where the frame lists them itself."""
        statement = Message("user", (Content(spec.statement.strip()),))
        messages, schemas = self._with_tools([statement], [tool_schema(tool) for tool in spec.tools])
        return messages, list(schemas)

    def open_chat(self, said: Sequence[Message], schemas: Sequence[dict[str, Any]]) -> tuple[Piece, ...]:
        """A chat of any tools, up to where the policy's first message begins.

        Args:
          said: what comes before it. Without a system message in front it gets the one of environments.
          schemas: of the tools. Without any, the chat has no word of tools.
        """
        if not schemas:
            return self._frame.open(said)
        return self._frame.open(*self._with_tools(said, schemas))

    def _with_tools(
        self, said: Sequence[Message], schemas: Sequence[dict[str, Any]]
    ) -> tuple[list[Message], Sequence[dict[str, Any]]]:
        """The messages with word of the tools, and the schemas where the frame lists them itself."""
        own = said[0].parts if said and said[0].role == "system" else ()
        rest = said[1:] if own else said
        if self._frame.takes_tools:
            return [Message("system", own or (_WITH_TEMPLATE,)), *rest], schemas
        listing = Content("\n".join(strict_json.dumps(schema, spaces=True) for schema in schemas))
        gap = ("\n\n",) if own else ()
        return [Message("system", (*own, *gap, _BEFORE_TOOLS, listing, _AFTER_TOOLS)), *rest], []

    def prompt(self, spec: EnvSpec) -> tuple[Piece, ...]:
        return self._frame.open(*self.conversation(spec))

    def message(self, call: Call, spec: EnvSpec) -> str:
        del spec  # arguments go by name
        text = strict_json.dumps({"name": call.name, "arguments": call.parameters}, spaces=True)
        return f"{OPEN}\n{text}\n{CLOSE}"

    def result(self, observations: Sequence[str]) -> tuple[Piece, ...]:
        return self.follow([Message("tool", (Content(one),)) for one in observations])

    def follow(self, said: Sequence[Message]) -> tuple[Piece, ...]:
        """What stands between a policy message and the next one: results of tools, a user's words, both."""
        if self._frame.takes_tools:
            return self._frame.follow(said)
        turns: list[Message] = []
        for role, group in itertools.groupby(said, key=lambda one: one.role):
            messages = list(group)
            turns += [_results(messages)] if role == "tool" else messages
        return self._frame.follow(turns)

    def parse(self, message: str, spec: EnvSpec) -> Call | Fault:
        """Words before the call are allowed (a model may think aloud); a second call is not."""
        del spec
        value = parse_between(message, OPEN, CLOSE)
        return value if isinstance(value, Fault) else to_call(value, "arguments") or _FORM

    def words_before_call(self, message: str) -> str:
        return words_before(message, OPEN, CLOSE)


def _results(messages: Sequence[Message]) -> Message:
    """Results of tools as one turn of the user, for frames that know no role `tool`."""
    parts: list[str | Content] = []
    for one in messages:
        parts += ["\n<tool_response>\n" if parts else "<tool_response>\n", *one.parts, "\n</tool_response>"]
    return Message("user", tuple(parts))
