"""Chats with tools as rows of `messages` and `tools`, the form that chat interfaces and trainers exchange.

    {"messages": [{"role": "user", "content": "..."},
                  {"role": "assistant", "content": "", "tool_calls": [{"id": "call_1", "type": "function",
                       "function": {"name": "GetItem", "arguments": "{\\"index\\": 0}"}}]},
                  {"role": "tool", "tool_call_id": "call_1", "content": "7"}, ...],
     "tools": [{"type": "function", "function": {"name": "GetItem", "description": ..., "parameters": ...}}],
     "env_id": "HumanEval_52__BelowThresholdEnv"}

Arguments are written as JSON text, which is OpenAI's form and fits column stores; they are read as objects
too, which is how chat templates take them. `env_id` is ours: rows of others have none. A system message is
optional.

Source: https://platform.openai.com/docs/api-reference/chat (messages, tool calls),
https://huggingface.co/docs/trl/dataset_formats (the columns).
"""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegym_jax.config import UserError
from codegym_jax.data import strict_json
from codegym_jax.data.chat import Demonstration, Renderer
from codegym_jax.data.chat_template import Message
from codegym_jax.data.export import read_parquet, write_jsonl, write_parquet
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.style import Call, Content, read_action, to_call
from codegym_jax.records import EnvSpec, Episode

ASSISTANT, TOOL, USER, SYSTEM = "assistant", "tool", "user", "system"
_ROLES = (SYSTEM, USER, ASSISTANT, TOOL)
COLUMNS = {"messages": "messages", "tools": "string", "env_id": "string"}
"""Of a Parquet file: `tools`, whose form differs from row to row, is JSON text there."""


class MessagesError(UserError):
    """A row that is no chat which a policy could learn from; names what is wrong, and file and row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A message that is not the policy's."""

    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One message of the policy, and what followed it."""

    words: str
    """Its text, or what it says before its call."""
    call: Call | None
    followed_by: tuple[Said, ...] = ()
    """Empty after the last reply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chat:
    """A conversation in which a policy has tools."""

    opening: tuple[Said, ...]
    """What comes before its first message."""
    replies: tuple[Reply, ...]
    tools: tuple[Mapping[str, Any], ...]
    """JSON schemas of functions."""
    env_id: str = ""


def chat_in(spec: EnvSpec, replies: Sequence[Reply]) -> Chat:
    """A chat in an environment: its statement and tools, and what a policy said."""
    return Chat(
        opening=(Said(role=USER, text=spec.statement.strip()),),
        replies=tuple(replies),
        tools=tuple(tool_schema(tool) for tool in spec.tools),
        env_id=spec.env_id,
    )


def oracle_chat(spec: EnvSpec, actions: Sequence[str], observations: Sequence[str]) -> Chat:
    """An oracle's episode; the last observation, a verdict, is left out.

    Raises:
      ValueError: when there are not as many observations as actions.
      RenderError: when an action is none.
    """
    steps = list(zip(actions, observations, strict=True))
    replies = [
        Reply(
            words="",
            call=read_action(action),
            followed_by=(Said(role=TOOL, text=observation),) if number < len(steps) else (),
        )
        for number, (action, observation) in enumerate(steps, 1)
    ]
    return chat_in(spec, replies)


def to_row(chat: Chat) -> dict[str, Any]:
    """A chat as JSON-able data."""
    messages = [{"role": one.role, "content": one.text} for one in chat.opening]
    for number, reply in enumerate(chat.replies, 1):
        messages += _reply_messages(reply, f"call_{number}")
    return {"messages": messages, "tools": [dict(tool) for tool in chat.tools], "env_id": chat.env_id}


def from_row(row: Any) -> Chat:
    """The inverse of `to_row`, for rows of others too.

    What follows the last message of the assistant is left out. Keys that hold None count as missing.

    Raises:
      MessagesError: when the row is no such chat.
    """
    if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
        raise MessagesError("a row must have the key messages, with a list of messages")
    opening: list[Said] = []
    replies: list[Reply] = []
    behind: list[Said] = []

    def settle() -> None:
        """What was said since the last reply goes to it."""
        if replies:
            last = replies.pop()
            replies.append(Reply(words=last.words, call=last.call, followed_by=tuple(behind)))
            behind.clear()

    for number, message in enumerate(row["messages"]):
        role, text = role_and_text(message, f"messages[{number}]")
        if role != ASSISTANT:
            (behind if replies else opening).append(Said(role=role, text=text))
            continue
        if replies and not behind:
            raise MessagesError(f"messages[{number}]: two messages of the assistant in a row")
        settle()
        replies.append(Reply(words=text, call=_only_call(message, f"messages[{number}]")))
    if not replies:
        raise MessagesError("no message is the assistant's, so there is nothing to learn")
    return Chat(
        opening=tuple(opening),
        replies=tuple(replies),
        tools=_tools(row.get("tools")),
        env_id=str(row.get("env_id") or ""),
    )


def demonstration(chat: Chat, renderer: Renderer, spec: EnvSpec | None = None) -> Demonstration:
    """A chat as tokens, of which the assistant's messages are the policy's.

    Args:
      chat: what was said. The style `hermes` renders it as it is; the others, whose prompts are no chats,
        render the prompt of its environment.
      renderer: of the policy.
      spec: of the chat's environment; None where it has none that is known.

    Raises:
      RenderError: when the style has no form for it.
    """
    known = EnvSpec(code_id="", class_name="", source="", tools=()) if spec is None else spec
    opening = [_message(one) for one in chat.opening]
    if spec is None or renderer.takes_chats:
        token_ids = renderer.render_opening(opening, chat.tools)
    else:
        token_ids = renderer.render_prompt(spec)
    is_policy = [False] * len(token_ids)
    for number, reply in enumerate(chat.replies, 1):
        message = renderer.render_message(reply.words, reply.call, known)
        last = number == len(chat.replies)
        result = [] if last else renderer.render_following([_message(one) for one in reply.followed_by])
        token_ids += message + result
        is_policy += [True] * len(message) + [False] * len(result)
    return Demonstration(token_ids=np.array(token_ids, np.int32), is_policy=np.array(is_policy, bool))


def episode_chat(episode: Episode, renderer: Renderer, spec: EnvSpec) -> Chat:
    """What an episode's policy said, read from its tokens, and what it read in turn.

    Args:
      episode: a whole one, not cut off within a message.
      renderer: the one that it was played with.
      spec: of its environment.
    """
    edges = np.flatnonzero(np.diff(episode.is_policy.astype(int), prepend=0, append=0))
    replies = []
    for number, (turn, start, end) in enumerate(zip(episode.turns, edges[::2], edges[1::2], strict=True), 1):
        words, call = renderer.read_message(episode.token_ids[start:end].tolist(), spec)
        read = Said(role=TOOL, text=turn.fault or turn.observation)
        last = number == len(episode.turns)
        replies.append(Reply(words=words, call=call, followed_by=() if last else (read,)))
    return chat_in(spec, replies)


def write_rows(path: pathlib.Path, chats: Iterable[Chat]) -> int:
    """Writes chats as rows, as Parquet where the path ends so, else as JSON lines; returns how many.

    Raises:
      ExportError: when a text has no UTF-8 form, which Parquet needs.
    """
    rows = map(to_row, chats)
    if path.suffix != ".parquet":
        return write_jsonl(path, rows)
    return write_parquet(path, ({**row, "tools": json.dumps(row["tools"])} for row in rows), COLUMNS)


def read_rows(path: pathlib.Path) -> Iterator[Chat]:
    """Reads rows in order, Parquet where the path ends so, else JSON lines.

    Raises:
      MessagesError: when a row is no chat: names file and row.
      ExportError: when a Parquet file cannot be read.
    """
    for number, row in enumerate(read_parquet(path) if path.suffix == ".parquet" else _lines(path), 1):
        try:
            yield from_row(row)
        except MessagesError as error:
            raise MessagesError(f"{path}:{number}: {error}") from error


def _message(said: Said) -> Message:
    return Message(said.role, (Content(said.text),))


def _lines(path: pathlib.Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise MessagesError(f"{path}:{number}: not JSON: {error}") from error


def _reply_messages(reply: Reply, call_id: str) -> list[dict[str, Any]]:
    message: dict[str, Any] = {"role": ASSISTANT, "content": reply.words}
    if reply.call is not None:
        arguments = strict_json.dumps(reply.call.parameters, spaces=True)
        function = {"name": reply.call.name, "arguments": arguments}
        message["tool_calls"] = [{"id": call_id, "type": "function", "function": function}]
    answered = {"tool_call_id": call_id} if reply.call is not None else {}
    return [
        message,
        *(
            {"role": one.role, "content": one.text, **(answered if one.role == TOOL else {})}
            for one in reply.followed_by
        ),
    ]


def role_and_text(message: Any, where: str) -> tuple[str, str]:
    """Role and text of a message; no content is no text.

    Args:
      message: as others write it.
      where: names it in an error.

    Raises:
      MessagesError: when it has no such role, or its content is no text, whole or in parts.
    """
    if not isinstance(message, Mapping) or message.get("role") not in _ROLES:
        raise MessagesError(f"{where}: the key role must be one of {', '.join(_ROLES)}")
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str):  # text in parts
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else parts
    if content is None:
        content = ""
    if not isinstance(content, str):
        raise MessagesError(f"{where}: the key content must hold text")
    return message["role"], content


def calls_of(message: Mapping[str, Any], where: str) -> tuple[Call, ...]:
    """The calls of a message, in order; `where` names it in an error.

    Raises:
      MessagesError: when one of them has no name, or no arguments that are an object or the JSON text of one.
    """
    calls = message.get("tool_calls")
    if calls is None:
        return ()
    if not isinstance(calls, Sequence) or isinstance(calls, str):
        raise MessagesError(f"{where}: the key tool_calls must hold a list")
    return tuple(_read_call(call, where) for call in calls)


def _only_call(message: Mapping[str, Any], where: str) -> Call | None:
    calls = calls_of(message, where)
    if len(calls) > 1:
        raise MessagesError(f"{where}: {len(calls)} calls at once; a policy here makes one call a message")
    return calls[0] if calls else None


def _read_call(value: Any, where: str) -> Call:
    function = value.get("function") if isinstance(value, Mapping) else None
    if not isinstance(function, Mapping):
        raise MessagesError(f"{where}: a call must have the key function, with an object")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = strict_json.loads(arguments)
        except ValueError as error:
            raise MessagesError(f"{where}: the arguments are not JSON: {error}") from error
    call = to_call({"name": function.get("name"), "arguments": arguments}, "arguments")
    if call is None:
        raise MessagesError(f"{where}: a function needs a name, and arguments that are an object")
    return call


def _tools(value: Any) -> tuple[Mapping[str, Any], ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise MessagesError(f"tools: not JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise MessagesError("the key tools must hold a list of function schemas, perhaps as JSON text")
    return tuple(value)
