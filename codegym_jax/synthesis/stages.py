"""What the problems of a corpus came to: environments, near duplicates among them, and the funnel."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from codegym_jax.records import Rejection
from codegym_jax.synthesis import funnel
from codegym_jax.synthesis.environments import Made
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.funnel import Refusal

SIGNATURE = "signature"
"""The feature by which environments are compared; too large to be kept in a task set."""

Outcome = tuple[Made | Rejection, ...]
"""What an item comes to: the environments made of it, and what was refused."""


def environments_of(outcome: Outcome) -> list[Made]:
    """Those that were made."""
    return [one for one in outcome if isinstance(one, Made)]


def refusals_of(outcomes: Iterable[Outcome]) -> list[Rejection]:
    """What was refused, in order."""
    return [one for outcome in outcomes for one in outcome if isinstance(one, Rejection)]


def signed(made: Made) -> Made:
    """With its signature among its features, so that this is worked out where it was made."""
    return replace(made, features=made.features | {SIGNATURE: similar.signature(made.spec, made.tasks)})


def near_duplicates(made: Mapping[str, Made]) -> dict[str, str]:
    """Environment id -> the one that is kept in its place, for those that are not kept."""
    return similar.duplicates(signatures_of(made))


def signatures_of(made: Mapping[str, Made]) -> dict[str, similar.Signature]:
    """Environment id -> signature, of environments that are `signed`."""
    return {env_id: one.features[SIGNATURE] for env_id, one in made.items()}


def refused_duplicates(duplicate_of: Mapping[str, str]) -> list[Rejection]:
    """Near duplicates, as what was refused."""
    stage = funnel.NEAR_DUPLICATE
    return [
        Refusal(reason="near_duplicate", detail=f"of {kept}", subject=env_id, stage=stage)
        for env_id, kept in sorted(duplicate_of.items())
    ]


def environment_funnel(
    entered: int, outcomes: Mapping[str, Outcome], refused: Sequence[Rejection]
) -> list[dict[str, Any]]:
    """Where the problems went, until they were environments of the task set.

    Args:
      entered: how many problems there were, with those that were refused before any work on them.
      outcomes: of the others.
      refused: at any stage.
    """
    further = sum(max(len(outcome) - 1, 0) for outcome in outcomes.values())
    return funnel.rows(
        funnel.ENVIRONMENT_STAGES,
        entered,
        funnel.by_stage(refused),
        {funnel.OUTLINE: further} if further else None,
    )


def task_funnel(
    made: Mapping[str, Made], duplicate_of: Mapping[str, str], tiny: Mapping[str, Made]
) -> list[dict[str, Any]]:
    """Where the configs of the made environments went, until they were tasks of the task set."""
    tried = [one for one in made.values()] + list(tiny.values())
    rejected = Counter(rejection.reason for one in {**made, **tiny}.values() for rejection in one.rejections)
    entered = rejected.total() + sum(len(one.tasks) for one in tried)
    left = {
        funnel.VERIFY: rejected,
        funnel.NEAR_DUPLICATE: {"near_duplicate": sum(len(made[env_id].tasks) for env_id in duplicate_of)},
        funnel.TASK_SET: {"replaced_by_tiny_tasks": sum(len(made[env_id].tasks) for env_id in tiny)},
    }
    left = {stage: {why: n for why, n in reasons.items() if n} for stage, reasons in left.items()}
    return funnel.rows(funnel.TASK_STAGES, entered, left)
