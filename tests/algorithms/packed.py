"""A handful of episodes as packed batches, for the laws of everything that reads one.

Three episodes of 5, 3 and 4 tokens, without structure, laid out in three rows of 14. All layouts have one
shape, so what is compiled once serves every law.
"""

import jax
import jax.numpy as jnp
import numpy as np

from codegym_jax.algorithms.log_probs import Scores
from codegym_jax.records import PackedBatch

ROWS, WIDTH = 3, 14
IS_POLICY = ([0, 1, 1, 0, 1], [0, 1, 1], [0, 0, 1, 1])
TOKEN_COUNT = sum(map(sum, IS_POLICY))

APART = ([0], [1], [2])
"""Which episodes each row holds, in order: one a row."""
TOGETHER = ([0, 1, 2], [], [])
OTHER_ORDER = ([2], [1, 0], [])


def episodes(seed=0, drift=0.3):
    """Per episode, what a batch and the scores on it hold; the learner is `drift` nats away from the old."""
    rng = np.random.default_rng(seed)

    def one(index, mask):
        length = len(mask)
        sampler = -rng.exponential(size=length)
        old = sampler + 0.1 * rng.normal(size=length)
        return {
            "is_policy": np.array(mask),
            "weight": np.array(mask) / TOKEN_COUNT,
            "sampler_logp": sampler,
            "old_logp": old,
            "reference_logp": old + 0.3 * rng.normal(size=length),
            "advantage": rng.normal() * np.ones(length),
            "old_value": rng.uniform(size=length),
            "return": rng.uniform(size=length),
            "logp": old + drift * rng.normal(size=length),
            "entropy": rng.uniform(size=length),
            "value": rng.uniform(size=length),
        }

    return [one(index, mask) for index, mask in enumerate(IS_POLICY)]


def lay_out(parts, rows=APART, fill=0.0):
    """The episodes in the given rows, as scores and a batch; padding and other tokens hold `fill`."""

    def array(name):
        values = np.full((ROWS, WIDTH), fill if name not in ("is_policy", "weight", "segment") else 0.0)
        for row, members in enumerate(rows):
            start = 0
            for number, member in enumerate(members, 1):
                part = parts[member]
                mask = part["is_policy"]
                end = start + len(mask)
                if name == "segment":
                    values[row, start:end] = number
                else:
                    values[row, start:end] = np.where(mask, part[name], values[row, start:end])
                start = end
        return jnp.asarray(values, jnp.int32 if name == "segment" else jnp.float32)

    names = ("weight", "sampler_logp", "advantage", "old_logp", "reference_logp", "old_value", "return")
    batch = PackedBatch(
        tokens_BT=jnp.zeros((ROWS, WIDTH), jnp.int32),
        segment_BT=array("segment"),
        is_policy_BT=array("is_policy"),
        **{f"{name}_BT": array(name) for name in names},
    )
    return Scores(array("logp"), array("entropy"), array("value")), batch


def gathered(array_BT, rows):
    """Per episode, what stands at its policy tokens."""
    found = {}
    for row, members in enumerate(rows):
        start = 0
        for member in members:
            mask = np.array(IS_POLICY[member])
            found[member] = np.asarray(array_BT)[row, start : start + len(mask)][mask > 0]
            start += len(mask)
    return [found[member] for member in sorted(found)]


def close(actual, expected, tolerance=1e-5):
    """All leaves agree."""
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), actual, expected
    )
