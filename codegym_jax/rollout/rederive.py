"""An episode once more, from nothing but what its policy said.

Prompt, calls, observations, stop reason and reward are made again by the rules that made them the first time,
so a record either holds to the last token or is found out. Needs no model and no JAX.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt32

from codegym_jax.data.chat import Renderer
from codegym_jax.records import EnvSpec, Episode, Task
from codegym_jax.rollout.agent import Agent, EnvMaker, EpisodeLimits, EpisodeRequest, Unfinished
from codegym_jax.rollout.token_sampler import Sampled, stop_of

_SHOWN = 120  # characters of each text of a difference
_BEFORE = 20  # of them before the first that differs


def rederive(
    episode: Episode, spec: EnvSpec, renderer: Renderer, open_env: EnvMaker, limits: EpisodeLimits
) -> Episode | Unfinished:
    """Plays an episode again, with its own messages in place of a policy's.

    Only the tokens of its policy, their log-probabilities and its task are taken from the record.

    Args:
      episode: a valid one.
      spec: of its environment.
      renderer: the one that it was played with.
      open_env: opens its environment on its config.
      limits: those that it was played with.

    Returns:
      What the record should hold; `Unfinished` where its tokens end before the episode does.

    Raises:
      ValueError: when the record's lists have different lengths, or its task's id is none.
    """
    fields = (episode.is_policy, episode.sampler_logp, episode.policy_logp)
    if any(len(values) != len(episode.token_ids) for values in fields):
        lengths = ", ".join(str(len(values)) for values in fields)
        raise ValueError(f"{len(episode.token_ids)} tokens, but their masks and scores are {lengths}")
    _, _, config_json = episode.task_id.split("@", 2)
    request = EpisodeRequest(
        spec=spec, task=Task(env_id=spec.env_id, config_json=config_json), attempt=episode.attempt
    )
    said = _Said(episode, renderer.stop_sequences)
    played = Agent(said, renderer, open_env, limits, seed=0).play_until(
        lambda: said.is_spent, None, [request], temperature=0.0, policy_version=episode.policy_version
    )
    return (*played.episodes, *played.unfinished)[0]


def difference(derived: Episode | Unfinished, stored: Episode) -> str | None:
    """The first thing in which a record differs from what was derived from it, in words; None where none."""
    if isinstance(derived, Episode) and not derived.valid:
        return "the host failed while deriving it"
    for number, (now, then) in enumerate(zip(derived.turns, stored.turns, strict=False), 1):
        for name in ("message", "action", "observation", "error", "fault"):
            one, other = getattr(now, name) or "", getattr(then, name) or ""
            if one != other:
                return f"call {number}: {name} {_apart(one, other)}, stored {_apart(other, one)}"
    for name in ("token_ids", "is_policy", "sampler_logp", "policy_logp"):
        one_T, other_T = getattr(derived, name), getattr(stored, name)
        count = min(len(one_T), len(other_T))
        bits = f"u{one_T.itemsize}"  # a NaN is not equal to itself
        differs_T = one_T[:count].view(bits) != other_T[:count].view(bits)
        if differs_T.any():
            at = int(np.argmax(differs_T))
            return f"{name} at {at}: {one_T[at]}, stored {other_T[at]}"
    if isinstance(derived, Unfinished):
        return "its tokens end before the episode does"
    counts = {
        "calls": (len(derived.turns), len(stored.turns)),
        "tokens": (len(derived.token_ids), len(stored.token_ids)),
        "stop reason": (derived.stop_reason.value, stored.stop_reason.value),
        "reward": (derived.reward, stored.reward),
    }
    return next((f"{name} {now}, stored {then}" for name, (now, then) in counts.items() if now != then), None)


class _Said:
    """Samples what the policy of a record said. A message ends as a sampler ends one: at its budget, or at
    its first stop."""

    slots = 1

    def __init__(self, episode: Episode, stop_sequences: Sequence[tuple[int, ...]]) -> None:
        self.stop_sequences = tuple(stop_sequences)
        self.is_spent = False
        self._episode = episode
        self._place = 0
        self._last_ids = {sequence[-1] for sequence in stop_sequences}

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None:
        del slot_keys  # nothing is drawn

    def append(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> None:
        del params
        self._place += sum(map(len, tokens_of.values()))

    def decode(self, params: Any, budget_B: Int[np.ndarray, " B"], temperature: float) -> Sampled:
        del params, temperature
        start, end = self._place, self._end_of_message(int(budget_B[0]))
        self._place, self.is_spent = end, start == end
        return Sampled(
            tokens_BT=self._episode.token_ids[None, start:end],
            sampler_logp_BT=self._episode.sampler_logp[None, start:end],
            policy_logp_BT=self._episode.policy_logp[None, start:end],
            count_B=np.array([end - start], np.int32),
        )

    def _end_of_message(self, budget: int) -> int:
        ids, own, start = self._episode.token_ids, self._episode.is_policy, self._place
        for end in range(start, min(start + budget, len(ids))):
            if not own[end]:
                return end
            if ids[end] in self._last_ids and stop_of(ids[start : end + 1].tolist(), self.stop_sequences):
                return end + 1
        return max(start, min(start + budget, len(ids)))


def _apart(text: str, other: str) -> str:
    """The part of a text around the first character in which it differs from another one."""
    same = next((i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), None)
    start = max(0, (min(len(text), len(other)) if same is None else same) - _BEFORE)
    shown = repr(text[start : start + _SHOWN])
    return f"...{shown}" if start else shown
