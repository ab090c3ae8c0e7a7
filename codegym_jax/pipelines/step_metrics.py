"""What one step of training was like, as metrics: its episodes, its groups, its updates, its speed."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from codegym_jax.evals.pass_at_k import pass_at_k
from codegym_jax.models import flops
from codegym_jax.models.peak import Peak
from codegym_jax.models.presets import ModelConfig
from codegym_jax.records import CallError, Episode, StopReason, Turn
from codegym_jax.rollout.groups import has_signal


def summarize(played: Sequence[Episode], *, policy_version: int) -> dict[str, float]:
    """What a step's episodes were like.

    Args:
      played: all that were played for the step, at least one.
      policy_version: of the learner when it begins to learn from them.
    """
    count = len(played)
    valid = [episode for episode in played if episode.valid]
    turns = [turn for episode in played for turn in episode.turns]
    policy_tokens = float(sum(int(episode.is_policy.sum()) for episode in played))
    stops = Counter(episode.stop_reason for episode in played)
    errors = Counter(turn.error for turn in turns)
    messages = len(turns) + stops[StopReason.TURN_TOO_LONG]
    return {
        "reward": sum(episode.reward for episode in valid) / max(len(valid), 1),
        "success": sum(episode.reward >= 1.0 for episode in valid) / max(len(valid), 1),
        "valid_fraction": len(valid) / count,
        "turns_per_episode": len(turns) / count,
        "calls_per_episode": (len(turns) - errors[CallError.NOT_JSON]) / count,
        "tokens_per_episode": sum(len(episode.token_ids) for episode in played) / count,
        "tokens_per_turn": policy_tokens / max(messages, 1),
        "policy_tokens": policy_tokens,
        "staleness": sum(policy_version - episode.policy_version for episode in played) / count,
        **{f"stop/{reason}": stops[reason] / count for reason in StopReason},
        **{f"call_error/{kind}": errors[kind] / max(len(turns), 1) for kind in CallError},
    }


def summarize_groups(
    rewards_PG: Float[np.ndarray, "P G"], valid_PG: Bool[np.ndarray, "P G"]
) -> dict[str, float]:
    """What comparing the attempts at each task can teach, and pass@k for k = 1, 2, 4, ... G.

    Args:
      rewards_PG: raw rewards of all drawn groups, at least one; those of invalid attempts do not count.
      valid_PG: which attempts are valid. pass@k is a mean over the groups with k of them.
    """
    P, G = rewards_PG.shape
    successes_P = (valid_PG & (rewards_PG >= 1.0)).sum(axis=1)
    attempts_P = valid_PG.sum(axis=1)
    values = {
        "drawn_groups": float(P),
        "signal_share": float(has_signal(rewards_PG, valid_PG).mean()),
        "solved_share": float(((successes_P == attempts_P) & (attempts_P > 0)).mean()),
        "failed_share": float((successes_P == 0).mean()),
    }
    for k in [2**power for power in range(G.bit_length()) if 2**power < G] + [G]:
        estimates = [
            pass_at_k(int(successes), int(n), k)
            for successes, n in zip(successes_P, attempts_P, strict=True)
            if n >= k
        ]
        if estimates:
            values[f"pass_at/{k}"] = sum(estimates) / len(estimates)
    return values


def average(updates: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Metrics of a step's updates: their mean, or the largest of those named `*_max`; {} without updates."""
    if not updates:
        return {}
    return {"updates": float(len(updates))} | {
        name: float((np.max if name.endswith("_max") else np.mean)([values[name] for values in updates]))
        for name in updates[0]
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedometer:
    """Throughput, and how much of the devices' peak the model used."""

    shape: ModelConfig
    vocabulary: int
    peak: Peak

    def measure(
        self,
        played: Sequence[Episode],
        learned: Sequence[int],
        *,
        sampling_s: float,
        score_s: float,
        update_s: float,
        step_s: float,
        scorings: int = 0,
    ) -> dict[str, float]:
        """Metrics of a step's speed; what took no time has none.

        Args:
          played: the episodes that were played for the step.
          learned: lengths of the episodes that it learned from.
          sampling_s: time spent playing; 0 where the episodes were read.
          score_s: time spent on log-probabilities and values before the updates.
          update_s: time spent on updates.
          step_s: time of the whole step.
          scorings: forward passes over the learned episodes, in `score_s`.
        """
        lengths_E = np.asarray(learned, np.int64)
        positions_T = np.concatenate([np.flatnonzero(episode.is_policy) for episode in played])
        sampled = flops.sampling_flops(self.shape, self.vocabulary, positions_T)
        learning = flops.learning_flops(self.shape, self.vocabulary, lengths_E)
        scoring = scorings * flops.forward_flops(self.shape, self.vocabulary, lengths_E)
        done = learning + scoring + (sampled if sampling_s else 0.0)
        shares = {
            "sampled_tokens_per_second": (len(positions_T), sampling_s),
            "tokens_per_second": (int(lengths_E.sum()), score_s + update_s),
            "mfu_rollout": (sampled / self.peak.flops, sampling_s),
            "mfu_update": (learning / self.peak.flops, update_s),
            "mfu": (done / self.peak.flops, step_s),
        }
        return {name: amount / seconds for name, (amount, seconds) in shares.items() if seconds > 0.0}


class ToolErrors(NamedTuple):
    """How often calls of one tool failed."""

    env_id: str
    tool: str
    """`?` where no call was understood, or where it named no tool of the environment."""
    failed: int
    calls: int


def tool_errors(played: Sequence[Episode]) -> list[ToolErrors]:
    """The tools whose calls failed, that with the most failed calls first.

    Tools have the names that their environments give them, hundreds in all: too many for metrics.
    """
    calls: Counter[tuple[str, str]] = Counter()
    failed: Counter[tuple[str, str]] = Counter()
    for episode in played:
        for turn in episode.turns:
            key = episode.env_id, _tool_of(turn)
            calls[key] += 1
            failed[key] += turn.error is not None
    found = [ToolErrors(*key, failed=count, calls=calls[key]) for key, count in failed.items() if count]
    return sorted(found, key=lambda one: (-one.failed, one.env_id, one.tool))


def worst_tools_line(played: Sequence[Episode], count: int = 3) -> str:
    """The tools that fail most as one line for people; empty where none failed."""
    worst = tool_errors(played)[:count]
    told = [f"{one.env_id}.{one.tool} {one.failed}/{one.calls}" for one in worst]
    return f"failed calls: {', '.join(told)}" if told else ""


def _tool_of(turn: Turn) -> str:
    """A name that the environment gave, never one that the policy made up."""
    if turn.error in (CallError.NOT_JSON, CallError.UNKNOWN_TOOL, CallError.REFUSED):
        return "?"
    return json.loads(turn.action)["name"]
