"""Episodes as text, for people."""

from collections.abc import Callable, Sequence

from codegym_jax.records import Episode, Turn

_RULE = "=" * 100


def transcripts(episodes: Sequence[Episode], prompt_of: Callable[[Episode], str]) -> str:
    """The episodes one after the other: how each ended, its prompt, and its turns.

    A prompt that was shown before is not shown again. What was said is indented, so that no text can pass for
    a heading.

    Args:
      episodes: finished ones.
      prompt_of: the prompt of one, as text.
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
    return _said("policy", turn.message) + _said(f"tool{error}", turn.observation)


def _said(who: str, text: str) -> list[str]:
    return [f"[{who}]", *(f"    {line}" for line in text.splitlines()), ""]
