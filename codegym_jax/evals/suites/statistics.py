"""Figures of many attempts: a mean over tasks and runs, and what it may be off by.

Attempts at one task are no independent draws, so the tasks are what is counted: a score's interval is that of
tasks drawn like these, each with the mean of its runs. The spread of the runs is another figure: what the
policy's own chance does to the score on just these tasks.
"""

import math
from collections.abc import Mapping, Sequence

from codegym_jax.evals.pass_at_k import wilson_interval

Interval = tuple[float, float]

# fmt: off
_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)
# fmt: on
"""The quantile 0.975 of Student's t, by degrees of freedom from 1."""


def t_quantile(degrees: int) -> float:
    """The quantile 0.975 of Student's t, to 0.004; beyond the table z + (z^3 + z) / (4 degrees), z = 1.96."""
    return _T_975[degrees - 1] if degrees <= len(_T_975) else 1.96 + 2.37 / degrees


def mean(values: Sequence[float]) -> float:
    """Exactly rounded, whatever the order; 0 of none."""
    return math.fsum(values) / len(values) if values else 0.0


def variance(values: Sequence[float]) -> float:
    """Of a sample; 0 of fewer than two."""
    if len(values) < 2:
        return 0.0
    center = mean(values)
    return math.fsum((value - center) ** 2 for value in values) / (len(values) - 1)


def mean_score(scores_of: Mapping[str, Sequence[float]]) -> tuple[float, Interval]:
    """The mean score over tasks, with its 95% interval.

    The interval is Wilson's for as many independent attempts as would give the mean the variance that the
    tasks' means show:

        n' = p (1 - p) / (s^2 / n)        at least n, at most all attempts

    With one attempt a task it is Wilson's interval of n attempts; with more it narrows as far as the runs of
    a task differ. Where all scores are 0, or 1, n' = n.

    Args:
      scores_of: task -> scores in [0, 1], at least one of each. Without tasks the mean is 0 in (0, 1).
    """
    means = [mean(scores) for scores in scores_of.values()]
    attempts = sum(len(scores) for scores in scores_of.values())
    p, n = mean(means), len(means)
    spread = p * (1 - p)
    error = variance(means) / n if n else 0.0
    effective = n if spread == 0 else attempts if error == 0 else min(max(spread / error, n), attempts)
    return p, wilson_interval(p * effective, effective)


def t_interval(values: Sequence[float], low: float = 0.0, high: float = 1.0) -> Interval | None:
    """The 95% interval of a mean of independent values, cut to [low, high]; None of fewer than two.

    Args:
      values: such as the means of runs.
      low: that a mean may be.
      high: that a mean may be.
    """
    if len(values) < 2:
        return None
    half = t_quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    center = mean(values)
    return max(low, center - half), min(high, center + half)


def difference(
    of: Mapping[str, float], against: Mapping[str, float]
) -> tuple[float, Interval | None, int] | None:
    """How much better one policy is than another, on the tasks that both played.

    Args:
      of: task -> mean score.
      against: the same of the other.

    Returns:
      Mean difference, its 95% interval over tasks (pairs), and how many tasks; None without a common one.
    """
    common = sorted(of.keys() & against.keys())
    if not common:
        return None
    pairs = [of[task] - against[task] for task in common]
    return mean(pairs), t_interval(pairs, -1.0, 1.0), len(pairs)
