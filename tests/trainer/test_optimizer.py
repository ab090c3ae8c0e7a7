"""The learning rate by hand, and what the optimizer leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from codegym_jax.config.learning import OPTIMIZERS
from codegym_jax.models import layers_layout, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.trainer.optimizer import (
    DIRECTIONS,
    decays,
    learning_rate_schedule,
    make_optimizer,
)
from codegym_jax.trainer.state import init_state

PARAMS = {
    "embedding": jnp.ones((5, 3)),
    "blocks": {"norm": {"scale": jnp.ones((2, 3))}, "q": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3))},
    "norm": {"scale": jnp.ones(3)},
}


def adamw(**changes):
    settings = {"warmup_steps": 0, "weight_decay": 0.0, "b1": 0.9, "b2": 0.95, "max_grad_norm": 1.0}
    return make_optimizer("adamw", 0.1, **(settings | changes))


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


def optimizer(name, **changes):
    settings = {"warmup_steps": 0, "weight_decay": 0.0, "b1": 0.9, "b2": 0.95, "max_grad_norm": 100.0}
    return make_optimizer(name, 0.1, **(settings | changes))


def test_every_name_that_a_config_may_say_is_known():
    assert tuple(DIRECTIONS) == OPTIMIZERS
    with pytest.raises(ValueError, match="optimizer must be one of adamw, lion, muon, adafactor, got 'sgd'"):
        optimizer("sgd")


def test_adam_by_hand():
    """Gradients 1, then -2: moments -0.11 and 0.2475, corrected by 0.19 and 0.0975; 0.1 a unit of it."""
    made = updates(optimizer("adamw"), {"w": jnp.ones(1)}, [{"w": jnp.array([g])} for g in (1.0, -2.0)])
    second = -0.1 * (-0.11 / 0.19) / (0.2475 / 0.0975) ** 0.5
    np.testing.assert_allclose([made[0]["w"][0], made[1]["w"][0]], [-0.1, second], rtol=1e-5)


def test_lion_by_hand():
    """The sign of 0.9 m + 0.1 g. After g = 1 the moment is 0.05, which -0.4 does not outweigh: 0.045 - 0.04.

    After that the moment is 0.95 * 0.05 - 0.05 * 0.4 = 0.0275, and 0.02475 - 0.04 is below 0.
    """
    gradients = [{"w": jnp.array([g])} for g in (1.0, -0.4, -0.4)]
    made = updates(optimizer("lion"), {"w": jnp.ones(1)}, gradients)
    np.testing.assert_allclose([float(update["w"][0]) for update in made], [-0.1, -0.1, 0.1], rtol=1e-6)


def test_muon_by_hand():
    """A gradient 3 I of two rows is already orthogonal: its singular values begin at 1 / sqrt(2) and go five
    times through 3.4445 s - 4.775 s^3 + 2.0315 s^5. The step is that, times 0.2 sqrt(2), times the rate.

    A bias and the embedding follow Adam instead, whose first step is the rate against the sign.
    """
    params = {"blocks_0": {"q": jnp.zeros((2, 2)), "q_bias": jnp.zeros(2)}, "embedding": jnp.zeros((2, 2))}
    gradient = jax.tree.map(lambda leaf: 3.0 * jnp.eye(2) if leaf.ndim == 2 else jnp.ones(2), params)
    [update] = updates(optimizer("muon"), params, [gradient])
    value = 0.5**0.5
    for _ in range(5):
        value = 3.4445 * value - 4.775 * value**3 + 2.0315 * value**5
    expected = -0.1 * 0.2 * 2**0.5 * value * np.eye(2)
    np.testing.assert_allclose(update["blocks_0"]["q"], expected, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(update["embedding"], -0.1 * np.eye(2), rtol=1e-4)
    np.testing.assert_allclose(update["blocks_0"]["q_bias"], [-0.1, -0.1], rtol=1e-4)


def test_muon_treats_the_layers_of_a_stack_one_by_one():
    rng = np.random.default_rng(0)
    apart = {f"blocks_{i}": {"up": jnp.asarray(rng.standard_normal((3, 5)), jnp.float32)} for i in range(2)}
    [one] = updates(optimizer("muon"), apart, [apart])
    [stacked] = updates(optimizer("muon"), layers_layout.stack(apart), [layers_layout.stack(apart)])
    one = layers_layout.stack(one)
    np.testing.assert_allclose(one["blocks"]["up"], stacked["blocks"]["up"], rtol=1e-4, atol=1e-6)


def test_adafactor_by_hand():
    """A gradient u v^T has a second moment of rank one, so a row and a column hold all of it, and the
    direction is the sign. Below 128 rows or columns each entry has its own, and it is the sign, too."""
    u = jnp.where(jnp.arange(128) % 3 == 0, -1.0, 2.0)
    v = jnp.where(jnp.arange(130) % 2 == 0, 0.5, -4.0)
    gradient = {"large": u[:, None] * v[None, :], "small": jnp.array([[0.3, -0.2]])}
    params = jax.tree.map(jnp.zeros_like, gradient)
    [update] = updates(optimizer("adafactor", max_grad_norm=1e6), params, [gradient])
    jax.tree.map(
        lambda step, grad: np.testing.assert_allclose(step, -0.1 * np.sign(grad), rtol=1e-4), update, gradient
    )
    kept = [leaf.shape for leaf in jax.tree.leaves(optimizer("adafactor").init(params)) if leaf.size > 1]
    assert sorted(kept) == [(1, 2), (128,), (130,)]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_clip_warm_up_and_decay_alike(name):
    """With no gradient a matrix loses rate times decay of itself; a huge one acts as its scaled self."""
    zero = jax.tree.map(jnp.zeros_like, PARAMS)
    [update] = updates(optimizer(name, weight_decay=0.5, warmup_steps=2), PARAMS, [zero])
    np.testing.assert_allclose(update["blocks"]["q"], -0.05 * 0.5, rtol=1e-5)
    np.testing.assert_allclose(update["embedding"], -0.05 * 0.5, rtol=1e-5)
    assert not update["blocks"]["bias"].any() and not update["norm"]["scale"].any()

    params, small = {"w": jnp.ones((1, 2))}, {"w": jnp.array([[0.1, 0.2]])}
    bounded = {"w": jnp.array([[0.6, -0.8]])}
    huge = jax.tree.map(lambda g: 1e4 * g, bounded)
    clipped = optimizer(name, max_grad_norm=1.0)
    expected, actual = (updates(clipped, params, [small, last, small]) for last in (bounded, huge))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_moments_lie_as_their_parameters_and_keep_their_type(name, dtype):
    """What is as large as its parameter lies where it lies; an update changes no shape or type of it."""
    config = ModelConfig(width=16, layers=1, query_heads=2, kv_heads=1, head_width=8, ffn_width=32)
    shapes = sharding.parameter_shapes(
        Transformer(config, 32, Compute(param_dtype=dtype)), sharding.make_mesh(2, 2, 2)
    )
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype, device=leaf.sharding), shapes)
    opt_state = init_state(params, optimizer(name)).opt_state
    places = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    found = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(opt_state):
        of = next((one for end, one in places.items() if jax.tree_util.keystr(path).endswith(end)), None)
        if of is not None and of.shape == leaf.shape:
            assert leaf.sharding.is_equivalent_to(of.sharding, leaf.ndim), jax.tree_util.keystr(path)
            found += 1
    assert found >= len(places)
    after = jax.eval_shape(optimizer(name).update, params, opt_state, params)[1]
    types = [[(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(tree)] for tree in (opt_state, after)]
    assert types[0] == types[1]
