"""Success rates from counts: the interval of a proportion, and pass@k from more than k attempts."""

import math


def wilson_interval(successes: int | float, n: int | float, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a success rate; unlike the normal one it holds near 0 and 1.

        center = (p + z^2 / 2n) / (1 + z^2 / n)
        half   = z / (1 + z^2 / n) * sqrt(p (1 - p) / n + z^2 / 4n^2)

    Args:
      successes: of `n` independent attempts; their scores' sum where they are more than right or wrong.
      n: attempts; with none of them nothing is known, and the interval is (0, 1).
      z: normal quantile; 1.96 makes it a 95% interval.

    Raises:
      ValueError: unless 0 <= successes <= n.

    Source: Wilson 1927, https://doi.org/10.1080/01621459.1927.10502953.
    """
    _check(successes, n)
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    scale = 1 + z**2 / n
    center = (p + z**2 / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low = 0.0 if successes == 0 else max(0.0, center - half)
    high = 1.0 if successes == n else min(1.0, center + half)
    return low, high


def pass_at_k(successes: int, n: int, k: int) -> float:
    """Estimates without bias the chance that at least one of k attempts succeeds, from n >= k attempts.

        1 - C(n - c, k) / C(n, k)

    Args:
      successes: c, of the n attempts at one task.
      n: attempts made.
      k: attempts asked about.

    Raises:
      ValueError: unless 0 <= successes <= n and 1 <= k <= n.

    Source: Chen et al. 2021, https://arxiv.org/abs/2107.03374, equation 1.
    """
    _check(successes, n)
    if not 1 <= k <= n:
        raise ValueError(f"pass@k needs 1 <= k <= n, got k={k}, n={n}")
    return 1.0 - math.comb(n - successes, k) / math.comb(n, k)


def _check(successes: int | float, n: int | float) -> None:
    if not 0 <= successes <= n:
        raise ValueError(f"successes must lie between 0 and n, got successes={successes}, n={n}")
