"""Success on CodeGym tasks: finished episodes in, a success rate with its interval out."""

from collections.abc import Iterable, Mapping
from typing import Any

from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.records import Episode, SuccessRate


def success_rate(episodes: Iterable[Episode]) -> SuccessRate:
    """The share of episodes that earned reward 1, in all and by environment.

    Episodes that the host spoiled are left out: they say nothing about the policy.
    """
    by_env: dict[str, tuple[int, int]] = {}
    for episode in episodes:
        if episode.valid:
            successes, n = by_env.get(episode.env_id, (0, 0))
            by_env[episode.env_id] = (successes + (episode.reward >= 1.0), n + 1)
    return from_counts(by_env)


def from_counts(by_env: Mapping[str, tuple[int, int]]) -> SuccessRate:
    """Pools environment id -> (successes, attempts); with no attempts at all the rate is 0 in (0, 1)."""
    successes = sum(count for count, _ in by_env.values())
    n = sum(count for _, count in by_env.values())
    return SuccessRate(
        success=successes / n if n else 0.0,
        ci95=wilson_interval(successes, n),
        n=n,
        by_env=dict(sorted(by_env.items())),
    )


def to_json(rate: SuccessRate) -> dict[str, Any]:
    """The rate as an entry of `result.json`."""
    return {
        "success": rate.success,
        "ci95": list(rate.ci95),
        "n": rate.n,
        "by_env": {env_id: list(counts) for env_id, counts in rate.by_env.items()},
    }


def told(rate: Mapping[str, Any]) -> str:
    """An entry of `result.json` as one line for people; an empty split has no rate."""
    if not rate["n"]:
        return "no rate: no task was played"
    low, high = rate["ci95"]
    return f"{rate['success']:.3f} [{low:.3f}, {high:.3f}] n={rate['n']}"
