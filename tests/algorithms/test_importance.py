"""Hand-worked numbers and laws of `algorithms.importance`."""

import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.importance import WEIGHTINGS, masked, truncated

LOG_RATIO_BT = jnp.log(jnp.array([[1.0, 1.9, 2.1, 0.6, 0.4]]))


def test_truncated_by_hand():
    np.testing.assert_allclose(truncated(LOG_RATIO_BT, 2.0), [[1.0, 1.9, 2.0, 0.6, 0.4]], rtol=1e-6)


def test_masked_by_hand():
    """Outside [1/2, 2] nothing is left."""
    np.testing.assert_allclose(masked(LOG_RATIO_BT, 2.0), [[1.0, 1.9, 0.0, 0.6, 0.0]], rtol=1e-6)


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_without_a_mismatch_every_token_counts_once(name):
    np.testing.assert_array_equal(WEIGHTINGS[name](jnp.zeros((1, 5)), 1.0), np.ones((1, 5)))


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_an_absurd_mismatch_stays_bounded(name):
    weight_BT = WEIGHTINGS[name](jnp.array([[20.0, -20.0, 1e4, -1e4, 0.0]]), 2.0)
    assert ((weight_BT >= 0.0) & (weight_BT <= 2.0 + 1e-6)).all()
