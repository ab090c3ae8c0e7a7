"""How many enter each stage of offline synthesis, how many leave it and why, and how many pass.

What leaves a stage is a `Refusal`, so that nothing is lost between two counts: what enters a stage is what
passed the one before it, and of that everything either passes or left for a reason that is counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.records import Rejection

PROBLEMS = "problems"
OUTLINE = "outline"
VERIFY = "verify"
DETERMINISM = "determinism"
SHORTCUT = "shortcut"
NEAR_DUPLICATE = "near_duplicate"
TASK_SET = "task_set"

ENVIRONMENT_STAGES = (PROBLEMS, OUTLINE, VERIFY, DETERMINISM, SHORTCUT, NEAR_DUPLICATE)
"""What a problem goes through until it is an environment of the task set."""
TASK_STAGES = (VERIFY, NEAR_DUPLICATE, TASK_SET)
"""What a config of a made environment goes through."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal(Rejection):
    """A rejection that tells the stage at which it happened."""

    stage: str


def at(stage: str, rejection: Rejection) -> Refusal:
    """The rejection, as one of this stage."""
    return Refusal(reason=rejection.reason, detail=rejection.detail, subject=rejection.subject, stage=stage)


def stage_of(rejection: Rejection) -> str:
    """Where a rejection happened; the outliner's own carry no stage."""
    return rejection.stage if isinstance(rejection, Refusal) else OUTLINE


def by_stage(rejections: Iterable[Rejection]) -> dict[str, Counter[str]]:
    """Stage -> reason -> how many."""
    counted: dict[str, Counter[str]] = {}
    for rejection in rejections:
        counted.setdefault(stage_of(rejection), Counter())[rejection.reason] += 1
    return counted


def rows(
    things: str,
    stages: Sequence[str],
    entered: int,
    left: Mapping[str, Mapping[str, int]],
    added: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """The stages as JSON values, in order, reasons by falling count.

    Args:
      things: what is counted: `environments`, `tasks`.
      entered: how many enter the first stage.
      left: stage -> reason -> how many left it.
      added: stage -> how many enter it beside those that passed the stage before.

    Raises:
      ValueError: when a stage has a name that is not among `stages`, or more left it than entered.
    """
    added = added or {}
    unknown = sorted((left.keys() | added.keys()) - set(stages))
    if unknown:
        raise ValueError(f"no stage {', '.join(unknown)}; there are {', '.join(stages)}")
    found = []
    for stage in stages:
        entered += added.get(stage, 0)
        reasons = sorted(left.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))
        passed = entered - sum(count for _, count in reasons)
        if passed < 0:
            raise ValueError(f"{entered - passed} {things} left the stage {stage}, but {entered} entered it")
        row = {"stage": stage, "things": things, "entered": entered, "left": dict(reasons), "passed": passed}
        if stage in added:
            row["added"] = added[stage]
        found.append(row)
        entered = passed
    return found


def lines(table: Iterable[Mapping[str, Any]]) -> list[str]:
    """The rows for people."""
    found = []
    for row in table:
        found.append(f"{row['stage']:16} {row['entered']:7d} {row['things']:12} -> {row['passed']:7d}")
        found += [f"{count:24d} {reason.replace('_', ' ')}" for reason, count in row["left"].items()]
    return found
