"""Prompts, calls and tool results as token ids, and a policy's message back to an action.

Ids are append-only: a prompt is rendered once, the policy's own ids are kept as they were sampled, and a
tool result is a list of ids to append. Nothing that a policy produced is ever encoded again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from codegym_jax.config import ConfigError
from codegym_jax.data.codegym import Codegym
from codegym_jax.data.compact import Compact
from codegym_jax.data.hermes import Hermes
from codegym_jax.data.style import Piece, Special, Style, read_action, write_action
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

    def __init__(self, style: Style, tokenizer: Tokenizer) -> None:
        """Raises `TokenizerError` when the tokenizer lacks a special token of the style."""
        for name in style.special_tokens:
            tokenizer.special_id(name)
        self._style = style
        self.tokenizer = tokenizer
        self.stop_id = tokenizer.special_id(style.stop.name)
        self.vocabulary_size = tokenizer.vocabulary_size

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
        return self._encode((self._style.message(read_action(action), spec), self._style.stop))

    def bridge_to_next_turn(self, observation: str) -> list[int]:
        """What to append after a message's `stop_id`, so that the policy's next message can follow.

        Special tokens spelled inside `observation` stay ordinary text.
        """
        return self._encode(self._style.result(observation))

    def parse_response(self, ids: Sequence[int], spec: EnvSpec) -> str:
        """The action of one policy message, for `Env.step`.

        Args:
          ids: as sampled, with or without the final `stop_id`.
          spec: the environment it is sent to.

        Returns:
          The action as JSON when the message is one well-formed call, else the message's text, which the
          environment answers with an error. A message with a special token inside it is no call.
        """
        ids = list(ids)
        if ids and ids[-1] == self.stop_id:
            ids.pop()
        text = self.tokenizer.decode(ids)
        if not self.tokenizer.special_id_set.isdisjoint(ids):
            return text
        call = self._style.parse(text, spec)
        try:
            return text if call is None else write_action(call)
        except RecursionError:  # nested so deeply that it could be read, but not written
            return text

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
        for piece in pieces:
            if isinstance(piece, Special):
                ids.append(self.tokenizer.special_id(piece.name))
            else:
                ids += self.tokenizer.encode(piece)
        return ids


def make_renderer(style: str, tokenizer: Tokenizer) -> Renderer:
    """The renderer of the style called `style`.

    Raises:
      ConfigError: when there is no such style.
      TokenizerError: when the tokenizer lacks a special token of the style.
    """
    return Renderer(_find_style(style), tokenizer)


def special_tokens(style: str) -> tuple[str, ...]:
    """The special tokens that a tokenizer for this style must have.

    Raises:
      ConfigError: when there is no such style.
    """
    return _find_style(style).special_tokens


def training_texts(
    style: str, spec: EnvSpec, actions: Sequence[str], observations: Sequence[str]
) -> Iterator[str]:
    """The ordinary texts of a demonstration, piece by piece as a renderer will encode them.

    They are what a tokenizer for the style is trained on, before there is a renderer.

    Raises:
      ConfigError: when there is no such style.
      ValueError, RenderError: as `Renderer.render_demonstration`.
    """
    found = _find_style(style)
    yield from (piece for piece in found.prompt(spec) if isinstance(piece, str))
    for index, (action, observation) in enumerate(zip(actions, observations, strict=True)):
        yield found.message(read_action(action), spec)
        if index < len(actions) - 1:
            yield from (piece for piece in found.result(observation) if isinstance(piece, str))


def _find_style(name: str) -> Style:
    if name not in STYLES:
        raise ConfigError(f"style must be one of {', '.join(STYLES)}, got {name!r}")
    return STYLES[name]
