"""Prompts, calls and tool results as token ids, and a policy's message back to an action.

Ids are append-only: a prompt is rendered once, the policy's own ids are kept as they were sampled, and a
tool result is a list of ids to append. Nothing that a policy produced is ever encoded again.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from codegym_jax.config import ConfigError
from codegym_jax.data.chat_template import ChatTemplate, Message
from codegym_jax.data.codegym import Codegym
from codegym_jax.data.compact import Compact
from codegym_jax.data.hermes import Hermes
from codegym_jax.data.style import (
    Call,
    Content,
    Fault,
    Piece,
    RenderError,
    Special,
    Style,
    join_parts,
    join_texts,
    read_action,
    write_action,
)
from codegym_jax.data.tokenizer import Tokenizer
from codegym_jax.records import EnvSpec

STYLES: dict[str, Style] = {"compact": Compact(), "hermes": Hermes(), "codegym": Codegym()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """An oracle's episode as tokens."""

    token_ids: Int[np.ndarray, " T"]
    is_policy: Bool[np.ndarray, " T"]
    """True on the messages, their stop tokens included; False on prompt and tool results."""


class Renderer:
    """A style joined to a tokenizer."""

    def __init__(self, style: Style, tokenizer: Tokenizer, stop_texts: Sequence[str] = ()) -> None:
        """Joins them.

        Args:
          style: how turns read.
          tokenizer: must have the special tokens of the style.
          stop_texts: what ends a message beside the style's own stop, such as `</tool_call>`; recognized
            where it is written in the tokens that it has by itself.

        Raises:
          TokenizerError: when the tokenizer lacks a special token of the style.
          ConfigError: when a stop text is empty.
        """
        for name in style.special_tokens:
            tokenizer.added_id(name)
        if not all(stop_texts):
            raise ConfigError("a stop text must not be empty")
        self._style = style
        self.tokenizer = tokenizer
        self.stop_id = tokenizer.added_id(style.stop.name)
        self.vocabulary_size = tokenizer.vocabulary_size
        end_of_text = [] if tokenizer.eos is None else [tokenizer.added_id(tokenizer.eos)]
        self.takes_chats = isinstance(style, Hermes)
        """Whether it renders chats that are no environment's."""
        self._end_ids = (self.stop_id, *end_of_text)
        ends = [*((end,) for end in self._end_ids), *(tuple(tokenizer.encode(text)) for text in stop_texts)]
        self.stop_sequences = tuple(dict.fromkeys(ends))
        """Each ends a message; the first is the style's own, and a pretrained model's end of text is one."""

    def render_prompt(self, spec: EnvSpec) -> list[int]:
        """Everything before the policy's first message; tells nothing of the hidden config."""
        return self._encode(self._style.prompt(spec))

    def render_call(self, action: str, spec: EnvSpec) -> list[int]:
        """A demonstrated message, `stop_id` included.

        Args:
          action: `{"name": ..., "parameters": {...}}`.
          spec: the environment it is sent to.

        Raises:
          RenderError: when it is no action, or the style has no message for it.
        """
        return self.render_message("", read_action(action), spec)

    def render_message(self, words: str, call: Call | None, spec: EnvSpec) -> list[int]:
        """A demonstrated message: words, a call, or words and then a call; `stop_id` included.

        Raises:
          RenderError: when the style has no message for it.
        """
        text = words if call is None else self._style.message(call, spec)
        if call is not None and words:
            gap = "" if words[-1].isspace() else "\n"
            text = words + gap + text
            if self._style.words_before_call(text) != words + gap:
                raise RenderError(f"the style has no place for words before a call: {words[:200]!r}")
        return self._encode((text, self._style.stop))

    def read_message(self, ids: Sequence[int], spec: EnvSpec) -> tuple[str, Call | None]:
        """The inverse of `render_message` for every message: its words, and its call where it is one."""
        text, call = self._parse(ids, spec)
        return (text, None) if isinstance(call, Fault) else (self._style.words_before_call(text), call)

    def render_opening(self, said: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> list[int]:
        """A chat that is no environment's, up to where the policy's first message begins.

        Raises:
          RenderError: when the style has no form for it.
        """
        return self._encode(self._chat_style().open_chat(said, [dict(tool) for tool in tools]))

    def render_following(self, said: Sequence[Message]) -> list[int]:
        """What stands between a message and the next one: results of tools, or whatever else was said.

        Raises:
          RenderError: when the style has no form for a message that is no tool's.
        """
        if all(one.role == "tool" for one in said):
            return self.bridge_to_next_turn([join_parts(one.parts) for one in said])
        return self._encode(self._chat_style().follow(said))

    def _chat_style(self) -> Hermes:
        if not isinstance(self._style, Hermes):
            raise RenderError("only the style hermes has a form for chats that are no environment's")
        return self._style

    def bridge_to_next_turn(
        self, observation: str | Sequence[str], stopped_by: Sequence[int] | None = None
    ) -> list[int]:
        """What to append after a message, so that the policy's next message can follow.

        Added tokens spelled inside an observation stay ordinary text.

        Args:
          observation: what the tool said; of several results at once, all, which share one turn.
          stopped_by: the one of `stop_sequences` that ended the message. After another than the style's own
            stop, that stop comes first.
        """
        closing = [] if stopped_by is None or tuple(stopped_by) == (self.stop_id,) else [self.stop_id]
        observations = (observation,) if isinstance(observation, str) else observation
        return closing + self._encode(self._style.result(observations))

    def parse_response(self, ids: Sequence[int], spec: EnvSpec) -> str:
        """The action of one policy message, for `Env.step`.

        Args:
          ids: as sampled, with or without the token that stopped it.
          spec: the environment it is sent to.

        Returns:
          The action as JSON when the message is one well-formed call, else the message's text, which the
          environment answers with an error. A message with a special token inside it is no call.
        """
        text, call = self._parse(ids, spec)
        try:
            return text if isinstance(call, Fault) else write_action(call)
        except RecursionError:  # nested so deeply that it could be read, but not written
            return text

    def fault(self, ids: Sequence[int], spec: EnvSpec) -> str:
        """Why a message is no call, for the policy to read; empty when it is one, or there is no more to say.

        Says in the terms of the style what the environment, which sees actions only, cannot. A style such as
        `compact` adds nothing.
        """
        _, call = self._parse(ids, spec)
        return call.text if isinstance(call, Fault) else ""

    def message_text(self, ids: Sequence[int]) -> tuple[str, bool]:
        """A message as text, without the token that stopped it; and whether it is text alone, as calls are.

        With a special token inside, or an id that the tokenizer lacks, it is not.
        """
        ids = list(ids)
        if ids and ids[-1] in self._end_ids:
            ids.pop()
        known = max(ids, default=0) < self.vocabulary_size
        return self.tokenizer.decode(ids), known and self.tokenizer.special_id_set.isdisjoint(ids)

    def _parse(self, ids: Sequence[int], spec: EnvSpec) -> tuple[str, Call | Fault]:
        """A message as text, without the token that stopped it, and as a call."""
        text, alone = self.message_text(ids)
        if alone:
            return text, self._style.parse(text, spec)
        return text, Fault("Error: a call is written in text alone, with no special token inside it")

    def decode(self, ids: Sequence[int]) -> str:
        """The text of any ids, special tokens by name; for people."""
        return self.tokenizer.decode(ids)

    def render_demonstration(
        self, spec: EnvSpec, actions: Sequence[str], observations: Sequence[str]
    ) -> Demonstration:
        """A whole episode: prompt, then each message and, except after the last, its result.

        Args:
          spec: the environment.
          actions: in order; the last one ends the episode.
          observations: of each action; the last one, a verdict, is not rendered.

        Raises:
          ValueError: when the two differ in length.
          RenderError: as `render_call`.
        """
        token_ids = self.render_prompt(spec)
        is_policy = [False] * len(token_ids)
        for index, (action, observation) in enumerate(zip(actions, observations, strict=True)):
            message = self.render_call(action, spec)
            last = index == len(actions) - 1
            result = [] if last else self.bridge_to_next_turn(observation)
            token_ids += message + result
            is_policy += [True] * len(message) + [False] * len(result)
        return Demonstration(token_ids=np.array(token_ids, np.int32), is_policy=np.array(is_policy, bool))

    def _encode(self, pieces: Sequence[Piece]) -> list[int]:
        ids: list[int] = []
        text = ""  # since the last token; encoded as one
        for piece in pieces:
            if isinstance(piece, Content):
                text += piece.text
                continue
            tokenizer = self.tokenizer
            parts = (
                (tokenizer.added_id(piece.name),)
                if isinstance(piece, Special)
                else tokenizer.split_markup(piece)
            )
            for part in parts:
                if isinstance(part, str):
                    text += part
                else:
                    ids += (*self.tokenizer.encode_verbatim(text), part)
                    text = ""
        return ids + list(self.tokenizer.encode_verbatim(text))


def make_renderer(
    style: str,
    tokenizer: Tokenizer,
    *,
    stop_texts: Sequence[str] = (),
    template_variables: Mapping[str, Any] | None = None,
) -> Renderer:
    """The renderer of the style called `style`.

    On a tokenizer with a chat template, `hermes` frames turns by that template.

    Args:
      style: a key of `STYLES`.
      tokenizer: of the policy.
      stop_texts: as `Renderer` takes them.
      template_variables: switches of the chat template, such as `enable_thinking`: False.

    Raises:
      ConfigError: when there is no such style.
      TokenizerError: when the tokenizer lacks a special token of the style.
      ChatTemplateError: when the chat template cannot be used.
    """
    found = _find_style(style)
    if isinstance(found, Hermes) and tokenizer.chat_template is not None:
        variables = {**tokenizer.token_names, **(template_variables or {})}
        frame = ChatTemplate(
            tokenizer.chat_template, added_tokens=tokenizer.added_tokens, variables=variables
        )
        found = Hermes(frame)
    return Renderer(found, tokenizer, stop_texts)


def special_tokens(style: str) -> tuple[str, ...]:
    """The special tokens that a tokenizer for this style must have.

    Raises:
      ConfigError: when there is no such style.
    """
    return _find_style(style).special_tokens


def training_texts(
    style: str, spec: EnvSpec, actions: Sequence[str], observations: Sequence[str]
) -> Iterator[str]:
    """The ordinary texts of a demonstration, each as a renderer will encode it.

    They are what a tokenizer for the style is trained on, before there is a renderer.

    Raises:
      ConfigError: when there is no such style.
      ValueError, RenderError: as `Renderer.render_demonstration`.
    """
    found = _find_style(style)
    yield from join_texts(found.prompt(spec))
    for index, (action, observation) in enumerate(zip(actions, observations, strict=True)):
        yield found.message(read_action(action), spec)
        if index < len(actions) - 1:
            yield from join_texts(found.result((observation,)))


def _find_style(name: str) -> Style:
    if name not in STYLES:
        raise ConfigError(f"style must be one of {', '.join(STYLES)}, got {name!r}")
    return STYLES[name]
