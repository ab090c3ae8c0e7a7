"""The learning rate by hand, and what the optimizer leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codegym_jax.trainer.optimizer import decays, learning_rate_schedule, make_adamw

PARAMS = {
    "embedding": jnp.ones((5, 3)),
    "blocks": {"norm": {"scale": jnp.ones((2, 3))}, "q": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))},
    "norm": {"scale": jnp.ones(3)},
}


def adamw(**changes):
    settings = {"warmup_steps": 0, "weight_decay": 0.0, "b1": 0.9, "b2": 0.95, "max_grad_norm": 1.0}
    return make_adamw(0.1, **(settings | changes))


def updates(optimizer, params, gradients):
    """The optimizer's successive updates."""
    state, made = optimizer.init(params), []
    for grads in gradients:
        update, state = jax.jit(optimizer.update)(grads, state, params)
        params = optax.apply_updates(params, update)
        made.append(update)
    return made


def test_warm_up_rises_in_equal_parts_and_then_stays():
    schedule = learning_rate_schedule(2.0, warmup_steps=4)
    rates = [float(schedule(n)) for n in (0, 1, 3, 4, 1000)]
    np.testing.assert_allclose(rates, [0.5, 1.0, 2.0, 2.0, 2.0])


def test_without_warm_up_the_first_update_has_the_peak():
    assert float(learning_rate_schedule(2.0, warmup_steps=0)(0)) == 2.0


def test_cosine_falls_to_zero_through_half_of_the_peak():
    """Ten steps of warm-up, forty of decay: a quarter of the way is (1 + cos 45 degrees) / 2."""
    schedule = learning_rate_schedule(2.0, warmup_steps=10, total_steps=50, decay="cosine")
    rates = [float(schedule(n)) for n in (10, 20, 30, 50, 90)]
    np.testing.assert_allclose(rates, [2.0, 1 + 0.5**0.5, 1.0, 0.0, 0.0], atol=1e-6)


@pytest.mark.parametrize("total_steps", [None, 10])
def test_cosine_needs_an_end(total_steps):
    with pytest.raises(ValueError, match="total_steps above warmup_steps"):
        learning_rate_schedule(1.0, warmup_steps=10, total_steps=total_steps, decay="cosine")


def test_the_first_update_is_the_learning_rate_against_the_sign_of_the_gradient():
    """Adam's two corrected moments are g and g^2 at first. Warm-up over two steps halves the rate."""
    [update] = updates(adamw(warmup_steps=2), {"w": jnp.ones((1, 2))}, [{"w": jnp.array([[0.3, -0.2]])}])
    np.testing.assert_allclose(update["w"], [[-0.05, 0.05]], rtol=1e-4)


def test_weight_decay_pulls_matrices_and_leaves_gains_and_biases():
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    [update] = updates(adamw(weight_decay=0.1), PARAMS, [zero])
    pulled = jax.tree.map(lambda u: bool((u < 0).all()), update)
    still = jax.tree.map(lambda u: bool((u == 0).all()), update)
    expected = {
        "embedding": True,
        "blocks": {"norm": {"scale": False}, "q": True, "bias": False},
        "norm": {"scale": False},
    }
    assert pulled == decays(PARAMS) == expected
    assert still == jax.tree.map(lambda value: not value, expected)


def test_a_gradient_past_the_bound_acts_as_its_scaled_self():
    params, small = {"w": jnp.ones((1, 2))}, {"w": jnp.array([[0.1, 0.2]])}
    bounded = {"w": jnp.array([[0.6, -0.8]])}
    huge = jax.tree.map(lambda g: 1e4 * g, bounded)
    expected, actual = (updates(adamw(), params, [small, last, small]) for last in (bounded, huge))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)
