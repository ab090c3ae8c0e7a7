"""Which environments a tiny policy can learn, chosen by criteria and never by hand.

A policy of a million parameters and a few hundred tokens copies well, counts by one, and computes nothing.
An environment qualifies (`features.is_learnable`) by its tiny tasks, those of few calls with short scalars
and lists: parameters are copied from what was seen, answers are copied or one of two values, the solver
works out (nearly) nothing by itself, tools are few, and the course of an episode varies.
Among those that qualify, `rank` prefers the ones with the least work between calls, and skips near
duplicates: environments whose workflows share most of their steps.
"""

from collections.abc import Mapping
from typing import Any

from codegym_jax.synthesis.outline.features import SHORT_CALLS, is_learnable, median_calls

MAX_SHARED_WORKFLOW = 0.85  # Jaccard similarity of two sets of step trigrams; more is a near duplicate
MAX_BOOLEAN_SHARE = 0.3  # of the environments chosen: a boolean answer is right by chance half of the time


def rank(features_of: Mapping[str, Mapping[str, Any]], count: int) -> list[str]:
    """Chooses up to `count` environments, the easiest first.

    Args:
      features_of: environment id -> features.

    Returns:
      Environment ids; the same whatever the order of the mapping.
    """
    qualified = sorted(
        (env_id for env_id, features in features_of.items() if is_learnable(features)),
        key=lambda env_id: (difficulty(features_of[env_id]), env_id),
    )
    chosen: list[str] = []
    booleans = 0
    for env_id in qualified:
        if len(chosen) == count:
            break
        features = features_of[env_id]
        boolean = features["tiny"]["answer_kind"] == "boolean"
        if boolean and booleans + 1 > max(1, MAX_BOOLEAN_SHARE * count):
            continue
        if any(similarity(features, features_of[other]) > MAX_SHARED_WORKFLOW for other in chosen):
            continue
        chosen.append(env_id)
        booleans += boolean
    return chosen


def difficulty(features: Mapping[str, Any]) -> float:
    """Work per episode that copying does not do, in arbitrary units; 0 is the easiest."""
    tiny = features["tiny"]
    short = sum(calls <= SHORT_CALLS for calls in tiny["oracle_calls"])
    return (
        features["native_operations"]
        + 50.0 * tiny["computed_share"]
        + 0.25 * max(tiny["tools"] - 4, 0)
        + 0.25 * max(tiny["longest_scalar"] - 2, 0)
        + 1.0 * tiny["longest_list"]
        + 0.05 * abs(median_calls(tiny) - 8)
        + 5.0 * max(0.1 - short / tiny["tasks"], 0.0)
    )


def similarity(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """Shared part of two workflows, in [0, 1]."""
    left, right = set(one["tiny"]["workflow"]), set(other["tiny"]["workflow"])
    return len(left & right) / max(len(left | right), 1)
