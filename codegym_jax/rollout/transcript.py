"""Episodes as text, for people."""

from collections.abc import Callable, Sequence

import numpy as np

from codegym_jax.records import Episode, Turn

_RULE = "=" * 100


def transcripts(
    episodes: Sequence[Episode],
    prompt_of: Callable[[Episode], str],
    decode: Callable[[Sequence[int]], str],
) -> str:
    """The episodes one after the other: how each ended, its prompt, and its turns.

    A prompt that was shown before is not shown again. What was said is indented, so that no text can pass for
    a heading.

    Args:
      episodes: finished ones.
      prompt_of: the prompt of one, as text.
      decode: token ids to text, for a message that a budget cut short: no turn holds it.
    """
    parts: list[str] = []
    shown: dict[str, int] = {}
    for number, episode in enumerate(episodes, 1):
        prompt = prompt_of(episode)
        first = shown.setdefault(prompt, number)
        parts += [_RULE, _headline(number, episode), ""]
        parts += _said("prompt", prompt) if first == number else [f"[prompt as in episode {first}]", ""]
        for turn in episode.turns:
            parts += _turn(turn)
        if unended := _unended(episode):
            parts += _said("policy, cut short", decode(unended))
    return "\n".join(parts) + "\n"


def _headline(number: int, episode: Episode) -> str:
    policy_tokens = int(episode.is_policy.sum())
    return (
        f"episode {number}: {episode.task_id}, attempt {episode.attempt}\n"
        f"reward {episode.reward:g}, {episode.stop_reason.value}, {len(episode.turns)} calls,"
        f" {len(episode.token_ids)} tokens, {policy_tokens} of them the policy's"
    )


def _turn(turn: Turn) -> list[str]:
    error = f" ({turn.error.value})" if turn.error else ""
    return _said("policy", turn.message) + _said(f"tool{error}", turn.fault or turn.observation)


def _unended(episode: Episode) -> list[int]:
    """The tokens of a last message that spent its budget before it ended; empty where there is none."""
    starts = np.flatnonzero(np.diff(episode.is_policy.astype(int), prepend=0) == 1)
    return episode.token_ids[starts[-1] :].tolist() if len(starts) > len(episode.turns) else []


def _said(who: str, text: str) -> list[str]:
    return [f"[{who}]", *(f"    {line}" for line in text.splitlines()), ""]
