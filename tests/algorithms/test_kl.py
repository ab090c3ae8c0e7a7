"""Laws of the KL estimators, on a distribution small enough to be enumerated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.kl import ESTIMATORS, k1, k2, k3

REFERENCE_V = jnp.log(jnp.array([0.5, 0.3, 0.2]))
LOGITS_V = jnp.array([0.1, 0.9, -0.4])


def divergence(p_V, q_V):
    """KL(p || q) of two vectors of log-probabilities."""
    return (jnp.exp(p_V) * (p_V - q_V)).sum()


def expected(estimator, p_V, q_V):
    """The estimate's mean over tokens drawn from p; the draw carries no gradient, as in a batch."""
    drawn_V = jax.lax.stop_gradient(jnp.exp(p_V))
    return (drawn_V * estimator((p_V - q_V)[None])[0]).sum()


def test_values_by_hand():
    """At l = log 2: 0.6931, 0.2402, 1/2 - 1 + 0.6931 = 0.1931. At l = -log 2: -0.6931, 0.2402, 0.3069."""
    log_ratio_BT = jnp.log(jnp.array([[2.0, 0.5]]))
    np.testing.assert_allclose(k1(log_ratio_BT), [[0.6931, -0.6931]], atol=1e-4)
    np.testing.assert_allclose(k2(log_ratio_BT), [[0.2402, 0.2402]], atol=1e-4)
    np.testing.assert_allclose(k3(log_ratio_BT), [[0.1931, 0.3069]], atol=1e-4)


@pytest.mark.parametrize("estimator", [k1, k3])
def test_k1_and_k3_are_unbiased(estimator):
    p_V = jax.nn.log_softmax(LOGITS_V)
    np.testing.assert_allclose(expected(estimator, p_V, REFERENCE_V), divergence(p_V, REFERENCE_V), rtol=1e-5)


def test_k2_is_right_to_second_order():
    near_V = jax.nn.log_softmax(REFERENCE_V + 0.01 * LOGITS_V)
    np.testing.assert_allclose(
        expected(k2, near_V, REFERENCE_V), divergence(near_V, REFERENCE_V), rtol=0.02, atol=1e-7
    )


@pytest.mark.parametrize(
    ("estimator", "target"),
    [
        (k1, lambda logits_V: jnp.float32(0)),
        (k2, lambda logits_V: divergence(jax.nn.log_softmax(logits_V), REFERENCE_V)),
        (k3, lambda logits_V: divergence(REFERENCE_V, jax.nn.log_softmax(logits_V))),
    ],
    ids=["k1", "k2", "k3"],
)
def test_expected_gradients_are_those_stated(estimator, target):
    actual_V = jax.grad(lambda x_V: expected(estimator, jax.nn.log_softmax(x_V), REFERENCE_V))(LOGITS_V)
    np.testing.assert_allclose(actual_V, jax.grad(target)(LOGITS_V), atol=1e-6)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_policies_have_no_divergence(name):
    np.testing.assert_array_equal(ESTIMATORS[name](jnp.zeros((1, 2))), np.zeros((1, 2)))
