"""Hand-worked numbers and laws of `algorithms.critic`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.critic import clipped_square_error, explained_variance

ONES_BT = jnp.ones((1, 4))


def test_clipped_square_error_by_hand():
    """Old values 0.5, clip 0.2. Value 0.9 for return 1: near is 0.7, max(0.01, 0.09) = 0.09, without a
    gradient. Value 0.6: free decides, 0.16. Value 0.1 for return 0: near 0.3, 0.09. Value 0.9 for return 0:
    0.81 > 0.49, the wrong way is never forgiven."""
    value_BT = jnp.array([[0.9, 0.6, 0.1, 0.9]])
    return_BT = jnp.array([[1.0, 1.0, 0.0, 0.0]])

    def total(value_BT):
        error_BT, clipped_BT = clipped_square_error(value_BT, 0.5 * ONES_BT, return_BT, ONES_BT, clip=0.2)
        return error_BT.sum(), (error_BT, clipped_BT)

    grad_BT, (error_BT, clipped_BT) = jax.grad(total, has_aux=True)(value_BT)
    np.testing.assert_allclose(error_BT, [[0.09, 0.16, 0.09, 0.81]], atol=1e-6)
    np.testing.assert_allclose(grad_BT, [[0.0, -0.8, 0.0, 1.8]], atol=1e-6)
    assert clipped_BT.tolist() == [[True, False, True, False]]


def test_without_a_clip_the_old_value_does_not_matter():
    value_BT, return_BT = jnp.array([[0.9, 0.6, 0.1, 0.9]]), 0.0 * ONES_BT
    error_BT, clipped_BT = clipped_square_error(value_BT, 1e6 * ONES_BT, return_BT, ONES_BT, clip=0.0)
    np.testing.assert_allclose(error_BT, value_BT**2)
    assert not clipped_BT.any()


def test_explained_variance_by_hand():
    """Returns 0, 1, 0, 1 vary by 1/4. Half-right values 0.25, 0.75, ... leave residuals of -+1/4: 1/16."""
    return_BT = jnp.array([[0.0, 1.0, 0.0, 1.0]])
    cases = {1.0: return_BT, 0.0: 0.3 * ONES_BT, 0.75: 0.5 * return_BT + 0.25, -3.0: 1.0 - return_BT}
    for expected, value_BT in cases.items():
        np.testing.assert_allclose(explained_variance(value_BT, return_BT, ONES_BT), expected, atol=1e-6)


def test_equal_returns_cannot_be_explained():
    assert explained_variance(jnp.array([[0.0, 1.0, 2.0, 3.0]]), ONES_BT, ONES_BT) == 0.0


@pytest.mark.parametrize("garbage", [np.nan, np.inf])
def test_other_tokens_are_ignored(garbage):
    is_policy_BT = jnp.array([[1.0, 1.0, 0.0, 1.0]])
    value_BT, return_BT = jnp.array([[0.1, 0.9, 7.0, 0.4]]), jnp.array([[0.0, 1.0, 7.0, 0.5]])

    def results(fill):
        dirty = [jnp.where(is_policy_BT > 0.0, x, fill) for x in (value_BT, return_BT)]
        grad = jax.grad(
            lambda v: clipped_square_error(v, dirty[0], dirty[1], is_policy_BT, clip=0.2)[0].sum()
        )
        return grad(dirty[0]), explained_variance(*dirty, is_policy_BT)

    jax.tree.map(np.testing.assert_array_equal, results(garbage), results(0.0))
