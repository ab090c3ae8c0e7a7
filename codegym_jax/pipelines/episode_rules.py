"""What a run plays its episodes by, for those who play them and those who check them."""

import pathlib

from codegym_jax.config import RolloutConfig
from codegym_jax.data.chat import Renderer, make_renderer
from codegym_jax.data.tokenizer import Tokenizer
from codegym_jax.rollout.agent import EpisodeLimits


def tokenizer_path(folder: pathlib.Path) -> pathlib.Path:
    """Where a run keeps its copy of the tokenizer."""
    return folder / "tokenizer.json"


def run_renderer(style: str, folder: pathlib.Path) -> Renderer:
    """The renderer of a run whose folder has its tokenizer.

    Raises:
      TokenizerError: when it has none, or that lacks a special token of the style.
      ConfigError: when there is no such style.
    """
    return make_renderer(style, Tokenizer.load(tokenizer_path(folder)))


def episode_limits(rollout: RolloutConfig) -> EpisodeLimits:
    """The budgets of one episode."""
    return EpisodeLimits(
        max_tokens=rollout.max_tokens,
        max_turn_tokens=rollout.max_turn_tokens,
        max_turns=rollout.max_turns,
        max_errors=rollout.max_errors,
    )
