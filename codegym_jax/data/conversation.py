"""Conversations with tools in OpenAI's form to token ids, and a sampled message back to that form.

    render_conversation(renderer, messages, tools)       up to where the next message of the assistant begins
    read_assistant_message(renderer, ids, tools)         {"role": "assistant", "content": ..., ...}

Unlike an episode here, whose messages are one call each (`data.messages`), a message may have several calls,
and no environment is behind the tools. A conversation is rendered message by message, so that of a longer
one the shorter is a prefix, and a message that a policy sampled in the form in which we write it comes back
to the ids that it had.

Source: https://platform.openai.com/docs/api-reference/chat (messages, tools and tool calls).
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.data import strict_json
from codegym_jax.data.chat import Renderer
from codegym_jax.data.chat_template import Message
from codegym_jax.data.hermes import CLOSE, OPEN, Hermes
from codegym_jax.data.messages import ASSISTANT, SYSTEM, TOOL, MessagesError, calls_of, role_and_text
from codegym_jax.data.style import Call, Content, RenderError, to_call
from codegym_jax.records import EnvSpec

_DEVELOPER = "developer"
"""What newer clients call the role `system`."""
_NO_ENVIRONMENT = EnvSpec(code_id="", class_name="", source="", tools=())


def require_chats(renderer: Renderer) -> None:
    """Checks that a policy's style has a form for conversations.

    Raises:
      RenderError: when it has none.
    """
    if not renderer.takes_chats:
        raise RenderError(
            "conversations with any tools need a policy of the style hermes; this one has a style for its own"
            " environments alone (train one with --set style='\"hermes\"')"
        )


def render_conversation(renderer: Renderer, messages: Sequence[Any], tools: Sequence[Any]) -> list[int]:
    """A conversation as ids, up to where the assistant's next message begins.

    Args:
      renderer: of the policy.
      messages: of the roles system (or developer), user, assistant and tool. Results of tools follow in the
        order of their calls where they name them.
      tools: schemas of functions; with `{"type": "function", "function": ...}` around them, or without.

    Raises:
      RenderError: as `require_chats`.
      MessagesError: when a message or a tool has another form; names it.
      ChatTemplateError: when the policy's chat template has no place for these messages.
    """
    require_chats(renderer)
    schemas = read_tools(tools)
    read = [_read(message, f"messages[{number}]") for number, message in enumerate(messages)]
    if not read:
        raise MessagesError("messages must hold a message")
    places = [number for number, (role, _, _) in enumerate(read) if role == ASSISTANT]
    ends = [*places[1:], len(read)]
    opening = read[: places[0]] if places else read
    ids = renderer.render_opening([_said(role, text) for role, text, _ in opening], schemas)
    for place, end in zip(places, ends if places else (), strict=True):
        _, words, calls = read[place]
        ids += renderer.render_message(write_message(words, calls), None, _NO_ENVIRONMENT)
        order = _in_order_of_calls(messages[place], messages[place + 1 : end])
        ids += renderer.render_following([_said(*read[place + 1 + number][:2]) for number in order])
    return ids


def write_message(words: str, calls: Sequence[Call]) -> str:
    """What the assistant writes to say some words and then make calls."""
    texts = [Hermes().message(call, _NO_ENVIRONMENT) for call in calls]
    if texts and words and not words[-1].isspace():
        words += "\n"
    return words + "\n".join(texts)


def render_call_begin(renderer: Renderer, name: str | None = None) -> list[int]:
    """How a message begins that is a call from its first token on.

    Args:
      renderer: of the policy.
      name: of the function that is called; None leaves it to the policy.
    """
    begin = OPEN + "\n"
    if name is not None:
        # Up to the colon: most tokenizers join the space behind it to what follows.
        begin += '{"name": ' + strict_json.dumps(name, spaces=True) + ', "arguments":'
    return renderer.render_message(begin, None, _NO_ENVIRONMENT)[:-1]  # without the token that stops it


def read_assistant_message(
    renderer: Renderer, ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """A sampled message in OpenAI's form.

    Args:
      renderer: of the policy.
      ids: with or without the token that stopped it.
      tools: what it may call; without any, all it says is text.

    Returns:
      `role`, `content` and, where it makes calls, `tool_calls` with ids `call_0`, `call_1` and so on.
      `content` is what it says before them, None where that is nothing. A message is calls only when all
      that follows the first one's mark is well-formed calls: a broken one leaves the whole message text. A
      call's function may be one that `tools` lack.
    """
    text, alone = renderer.message_text(ids)
    return read_assistant_text(text, tools if alone else ())


def read_assistant_text(text: str, tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """As `read_assistant_message`, of a message's text, which no special token interrupts."""
    found = _read_calls(text) if tools else None
    if found is None:
        return {"role": ASSISTANT, "content": text}
    words, calls = found
    return {
        "role": ASSISTANT,
        "content": words or None,
        "tool_calls": [_write_call(number, call) for number, call in enumerate(calls)],
    }


def _write_call(number: int, call: Call) -> dict[str, Any]:
    function = {"name": call.name, "arguments": strict_json.dumps(call.parameters, spaces=True)}
    return {"id": f"call_{number}", "type": "function", "function": function}


def read_tools(tools: Sequence[Any]) -> list[dict[str, Any]]:
    """Schemas of functions in the one form that renderers take.

    Raises:
      MessagesError: when one is no function, or has no name.
    """
    read = []
    for number, tool in enumerate(tools):
        function = tool.get("function", tool) if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise MessagesError(f"tools[{number}]: a tool must be a function with a name")
        read.append({"type": "function", "function": dict(function)})
    return read


def _read(message: Any, where: str) -> tuple[str, str, tuple[Call, ...]]:
    if isinstance(message, Mapping) and message.get("role") == _DEVELOPER:
        message = {**message, "role": SYSTEM}
    role, text = role_and_text(message, where)
    return role, text, calls_of(message, where) if role == ASSISTANT else ()


def _said(role: str, text: str) -> Message:
    return Message(role, (Content(text),))


def _in_order_of_calls(message: Mapping[str, Any], followed_by: Sequence[Mapping[str, Any]]) -> list[int]:
    """The places of what followed a message, the results of its calls in the calls' order.

    The style writes results without saying whose they are.
    """
    ids = [call.get("id") for call in message.get("tool_calls") or ()]
    results = len(list(itertools.takewhile(lambda one: one["role"] == TOOL, followed_by)))

    def place(number: int) -> int:
        named = followed_by[number].get("tool_call_id")
        return ids.index(named) if named is not None and named in ids else len(ids)

    return [*sorted(range(results), key=place), *range(results, len(followed_by))]


def _read_calls(text: str) -> tuple[str, list[Call]] | None:
    """The words before a message's calls, and the calls; None where it has none, or a broken one.

    Where that leaves no call and the message holds a `</think>`, only what follows it is read: a thought may
    mention the marks.
    """
    found = _read_calls_in(text)
    if found is None:
        head, thought, rest = text.partition("</think>")
        if thought and (later := _read_calls_in(rest)) is not None:
            return head + thought + later[0], later[1]
    return found


def _read_calls_in(text: str) -> tuple[str, list[Call]] | None:
    words, opened, rest = text.partition(OPEN)
    calls = []
    while opened:
        body = rest.lstrip()
        try:
            value, end = strict_json.load_prefix(body, 0)
        except ValueError:
            return None
        call = to_call(value, "arguments")
        between, closed, rest = body[end:].partition(CLOSE)
        if call is None or not closed or between.strip():
            return None
        calls.append(call)
        between, opened, rest = rest.partition(OPEN)
        if between.strip():
            return None
    return (words, calls) if calls else None
