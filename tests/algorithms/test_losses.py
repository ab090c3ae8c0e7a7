"""Laws of `algorithms.losses` and of the presets that use it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.losses import clipped_ratio_loss
from codegym_jax.algorithms.presets import ALGORITHMS

CLIPPED = partial(clipped_ratio_loss, clip_low=0.2, clip_high=0.2)


def batch(seed=0, rows=4, width=6):
    """Log-probabilities of policy and sampler, advantages and a mask, without structure."""
    keys = jax.random.split(jax.random.key(seed), 4)
    sampler_logp_BT = -jax.random.exponential(keys[0], (rows, width))
    policy_logp_BT = sampler_logp_BT + 0.3 * jax.random.normal(keys[1], (rows, width))
    advantage_BT = jax.random.normal(keys[2], (rows, width))
    mask_BT = jax.random.bernoulli(keys[3], 0.6, (rows, width)).astype(jnp.float32)
    return policy_logp_BT, sampler_logp_BT, advantage_BT, mask_BT


def log(*ratios):
    """Policy log-probabilities with these ratios to a sampler whose own are 0."""
    return jnp.log(jnp.array([ratios]))


def test_matches_hand_computation():
    """Ratios 1.5, 1.5, 0.5, 0.5, 1.1 with advantages 1, -1, 1, -1, 2 and bounds 0.8 and 1.2.

    min(1.5, 1.2) + min(-1.5, -1.2) + min(0.5, 0.8) + min(-0.5, -0.8) + min(2.2, 2.2)
    = 1.2 - 1.5 + 0.5 - 0.8 + 2.2 = 1.6, over a denominator of 5.
    The clip binds at the first and the fourth token.
    """
    ratio_BT = [[1.5, 1.5, 0.5, 0.5, 1.1]]
    loss, metrics = CLIPPED(
        log(*ratio_BT[0]),
        jnp.zeros((1, 5)),
        jnp.array([[1.0, -1.0, 1.0, -1.0, 2.0]]),
        jnp.ones((1, 5)),
        denominator=jnp.float32(5),
    )
    divergence = np.mean(np.array(ratio_BT) - 1 - np.log(ratio_BT))
    np.testing.assert_allclose(loss, -1.6 / 5, atol=1e-6)
    np.testing.assert_allclose(metrics["ratio_max"], 1.5, atol=1e-6)
    np.testing.assert_allclose(metrics["clip_fraction"], 2 / 5, atol=1e-6)
    np.testing.assert_allclose(metrics["mismatch_kl"], divergence, atol=1e-6)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.5, 1.0, False), (1.5, -1.0, True), (0.5, 1.0, True), (0.5, -1.0, False), (1.0, 1.0, True)],
)
def test_the_clip_stops_a_token_only_where_it_has_gone_far_enough(ratio, advantage, moves):
    def loss(policy_logp_BT):
        ones_BT = jnp.ones((1, 1))
        return CLIPPED(
            policy_logp_BT, 0.0 * ones_BT, advantage * ones_BT, ones_BT, denominator=jnp.float32(1)
        )

    grad_BT, metrics = jax.grad(loss, has_aux=True)(log(ratio))
    np.testing.assert_allclose(grad_BT, [[-ratio * advantage if moves else 0.0]], atol=1e-6)
    assert bool(metrics["clip_fraction"] == 0.0) == moves


def test_bounds_may_differ():
    def grad(ratio, advantage):
        asymmetric = partial(clipped_ratio_loss, clip_low=0.5, clip_high=0.1, denominator=jnp.float32(1))
        ones_BT = jnp.ones((1, 1))
        loss = lambda logp_BT: asymmetric(logp_BT, 0.0 * ones_BT, advantage * ones_BT, ones_BT)[0]  # noqa: E731
        return float(jax.grad(loss)(log(ratio))[0, 0])

    assert grad(1.05, 1.0) != 0.0 and grad(1.15, 1.0) == 0.0
    assert grad(0.55, -1.0) != 0.0 and grad(0.45, -1.0) == 0.0


def test_a_step_downhill_raises_what_went_well_and_lowers_what_went_badly():
    """The sign of the gradient, through a softmax: two actions, one rewarded."""
    logits = jnp.zeros(2)

    def loss(logits):
        policy_logp_BT = jax.nn.log_softmax(logits)[None, :]
        sampler_logp_BT = jnp.full((1, 2), jnp.log(0.5))
        advantage_BT = jnp.array([[1.0, -1.0]])
        return CLIPPED(
            policy_logp_BT, sampler_logp_BT, advantage_BT, jnp.ones((1, 2)), denominator=jnp.float32(2)
        )[0]

    after = jax.nn.softmax(logits - 0.1 * jax.grad(loss)(logits))
    assert after[0] > 0.5 > after[1]


def test_padding_changes_nothing():
    arrays, denominator = batch(), jnp.float32(11)
    padded = [
        jnp.pad(array, ((0, 3), (0, 5)), constant_values=fill)
        for array, fill in zip(arrays, (1e9, -1e9, 7, 0), strict=True)
    ]
    expected = CLIPPED(*arrays, denominator=denominator)
    actual = CLIPPED(*padded, denominator=denominator)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
def test_masked_tokens_cannot_spoil_the_gradient(garbage):
    policy_logp_BT, sampler_logp_BT, advantage_BT, mask_BT = batch()
    masked_BT = mask_BT == 0.0

    def grad_BT(fill):
        inputs = [jnp.where(masked_BT, fill, x) for x in (policy_logp_BT, sampler_logp_BT, advantage_BT)]
        return jax.grad(lambda *a: CLIPPED(*a, mask_BT, denominator=jnp.float32(9))[0])(*inputs)

    np.testing.assert_array_equal(grad_BT(garbage), grad_BT(0.0))
    np.testing.assert_array_equal(np.asarray(grad_BT(garbage))[masked_BT], 0.0)


def test_rows_may_come_in_any_order():
    arrays, order = batch(), jnp.array([2, 0, 3, 1])
    expected = CLIPPED(*arrays, denominator=jnp.float32(8))
    actual = CLIPPED(*(array[order] for array in arrays), denominator=jnp.float32(8))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), actual, expected)


def test_parts_of_an_update_add_up_to_the_whole():
    arrays, denominator = batch(), jnp.float32(8)
    whole, whole_metrics = CLIPPED(*arrays, denominator=denominator)
    (top, top_metrics), (rest, rest_metrics) = (
        CLIPPED(*(array[rows] for array in arrays), denominator=denominator)
        for rows in (slice(0, 1), slice(1, 4))
    )
    np.testing.assert_allclose(top + rest, whole, rtol=1e-5)
    for name, value in whole_metrics.items():
        combine = max if name.endswith("_max") else lambda a, b: a + b
        np.testing.assert_allclose(combine(top_metrics[name], rest_metrics[name]), value, rtol=1e-5)


def test_an_unchanged_policy_shows_no_mismatch():
    policy_logp_BT, _, advantage_BT, mask_BT = batch()
    _, metrics = CLIPPED(policy_logp_BT, policy_logp_BT, advantage_BT, mask_BT, denominator=mask_BT.sum())
    assert metrics == {"ratio_max": 1.0, "clip_fraction": 0.0, "mismatch_kl": 0.0}


def test_mismatch_kl_estimates_the_divergence_from_samples_of_the_sampler():
    sampler, policy = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    tokens = np.random.default_rng(0).choice(3, size=(100, 200), p=sampler)
    _, metrics = CLIPPED(
        jnp.log(policy[tokens].astype(np.float32)),
        jnp.log(sampler[tokens].astype(np.float32)),
        jnp.zeros((100, 200)),
        jnp.ones((100, 200)),
        denominator=jnp.float32(tokens.size),
    )
    exact = (sampler * np.log(sampler / policy)).sum()
    np.testing.assert_allclose(metrics["mismatch_kl"], exact, rtol=0.05)


@pytest.mark.parametrize("log_ratio", [1e3, -1e3])
def test_absurd_ratios_stay_finite(log_ratio):
    ones_BT = jnp.ones((1, 1))
    loss, metrics = CLIPPED(log_ratio * ones_BT, 0.0 * ones_BT, -ones_BT, ones_BT, denominator=jnp.float32(1))
    assert all(np.isfinite(value) for value in (loss, *metrics.values()))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_preset_learns_which_of_two_actions_is_rewarded(name):
    """From rewards to parameters: four attempts, the two that chose action 1 succeeded."""
    algorithm = ALGORITHMS[name]
    actions, rewards_PG = jnp.array([0, 1, 1, 0]), jnp.array([[0.0, 1.0, 1.0, 0.0]])
    advantages_PG = algorithm.advantages(rewards_PG, jnp.ones((1, 4), bool))
    loss_fn = partial(algorithm.loss, clip_low=0.2, clip_high=0.2, denominator=jnp.float32(4))

    def loss(logits):
        policy_logp_BT = jax.nn.log_softmax(logits)[actions][:, None]
        sampler_logp_BT = jnp.full((4, 1), jnp.log(0.5))
        return loss_fn(policy_logp_BT, sampler_logp_BT, advantages_PG.T, jnp.ones((4, 1)))[0]

    logits = jnp.zeros(2)
    for _ in range(3):
        logits = logits - 0.2 * jax.grad(loss)(logits)
    assert jax.nn.softmax(logits)[1] > 0.55
