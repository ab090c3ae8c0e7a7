"""How many enter each stage of offline synthesis, how many leave it and why, and how many pass.

What leaves a stage is a `Refusal`, so that nothing is lost between two counts: what enters a stage is what
passed the one before it, and of that everything either passes or left for a reason that is counted.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
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

ENVIRONMENT_STAGES: Mapping[str, str] = {
    PROBLEMS: "problems",
    OUTLINE: "problems",
    VERIFY: "environments",
    DETERMINISM: "environments",
    SHORTCUT: "environments",
    NEAR_DUPLICATE: "environments",
}
"""What a problem goes through until it is an environment of the task set; stage -> what is counted there."""
TASK_STAGES: Mapping[str, str] = {VERIFY: "tasks", NEAR_DUPLICATE: "tasks", TASK_SET: "tasks"}
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
    things: Mapping[str, str],
    entered: int,
    left: Mapping[str, Mapping[str, int]],
    added: Mapping[str, int] | None = None,
) -> list[dict[str, Any]]:
    """The stages as JSON values, in order, reasons by falling count.

    Args:
      things: stage, in order -> what is counted there: `problems`, `environments`, `tasks`.
      entered: how many enter the first stage.
      left: stage -> reason -> how many left it.
      added: stage -> how many enter it beside those that passed the stage before.

    Raises:
      ValueError: when a stage has another name, or more left it than entered.
    """
    added = added or {}
    unknown = sorted((left.keys() | added.keys()) - things.keys())
    if unknown:
        raise ValueError(f"no stage {', '.join(unknown)}; there are {', '.join(things)}")
    found = []
    for stage, what in things.items():
        entered += added.get(stage, 0)
        reasons = sorted(left.get(stage, {}).items(), key=lambda item: (-item[1], item[0]))
        passed = entered - sum(count for _, count in reasons)
        if passed < 0:
            raise ValueError(f"{entered - passed} {what} left the stage {stage}, but {entered} entered it")
        row = {"stage": stage, "things": what, "entered": entered, "left": dict(reasons), "passed": passed}
        if stage in added:
            row["added"] = added[stage]
        found.append(row)
        entered = passed
    return found
