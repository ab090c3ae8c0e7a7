"""What a run has spent, in policy tokens: a sampled one counts 1, one learned from 3.

A token that is sampled costs one pass through the model, one that is learned from a pass forward and a pass
backward, which is about two more. So a budget in these tokens is a budget of computation that knows no
machine, and is the same however often a run was killed. What is only read (prompts, what tools answer)
is not counted: it is the same share of every arm's episodes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from codegym_jax.data.chat import Demonstration
from codegym_jax.metrics import read_metrics
from codegym_jax.pipelines.diary import STAGE
from codegym_jax.records import Episode

LEARNED = 3
"""What a token that is learned from costs."""


class Spent(NamedTuple):
    """Policy tokens."""

    sampled: int = 0
    learned: int = 0

    @property
    def total(self) -> int:
        """By cost."""
        return self.sampled + LEARNED * self.learned

    def __add__(self, other: "Spent") -> "Spent":  # type: ignore[override]
        return Spent(self.sampled + other.sampled, self.learned + other.learned)


def spent_by_rl(run: Path, step: int) -> Spent:
    """Up to a step of a run's reinforcement learning."""
    path = run / "metrics.jsonl"
    rows = [row for row in read_metrics(path) if row["stage"] == STAGE and row["step"] <= step]
    sampled = sum(row["policy_tokens"] for row in rows)
    return Spent(round(sampled), round(sum(row.get("tokens") or 0.0 for row in rows)))


def spent_by_sft(run: Path, stage: str) -> Spent:
    """By a run's supervised stage."""
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["stage"] == stage]
    return Spent(learned=round(sum(row["tokens"] for row in rows)))


def sampled(episodes: Sequence[Episode]) -> Spent:
    """By playing these."""
    return Spent(sampled=sum(int(episode.is_policy.sum()) for episode in episodes))


def affordable_steps(budget: int, rows: Sequence[Demonstration], rows_per_update: int) -> int:
    """How many updates of supervised learning a budget pays for, at least one."""
    mean = sum(int(row.is_policy[1:].sum()) for row in rows) / len(rows)
    return max(1, round(budget / (LEARNED * rows_per_update * mean)))
