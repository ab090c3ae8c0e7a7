"""Hand-worked numbers and laws of `algorithms.objective`; those of every algorithm are in `test_recipes`."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.importance import masked, truncated
from codegym_jax.algorithms.kl import k1, k2, k3
from codegym_jax.algorithms.log_probs import Scores
from codegym_jax.algorithms.objective import Objective
from codegym_jax.algorithms.surrogates import Clip, clipped_ratio
from codegym_jax.records import PackedBatch

PLAIN = Objective(surrogate=clipped_ratio, clip=Clip(0.2, 0.3))
FREE = Clip(low=1.0, high=1e9)
"""Bounds that never decide."""


def problem(logp, *, weight=None, advantage=None, entropy=None, value=None, **optional):
    """One row of one episode, all of it the policy's, whose sampler log-probabilities are 0 unless given."""
    zeros_BT = jnp.zeros((1, len(logp)))

    def row(values):
        return zeros_BT if values is None else jnp.array([values], jnp.float32)

    batch = PackedBatch(
        tokens_BT=jnp.zeros(zeros_BT.shape, jnp.int32),
        segment_BT=jnp.ones(zeros_BT.shape, jnp.int32),
        is_policy_BT=zeros_BT + 1.0,
        weight_BT=row(weight or [1.0 / len(logp)] * len(logp)),
        sampler_logp_BT=row(optional.pop("sampler_logp", None)),
        advantage_BT=row(advantage),
        **{f"{name}_BT": row(values) for name, values in optional.items()},
    )
    return Scores(row(logp), row(entropy), None if value is None else row(value)), batch


def test_surrogate_and_metrics_by_hand():
    """Ratios 2, 0.5 and 1 with advantages 1, -1 and 3, weights 1/2, 1/4, 1/4; bounds 0.8 and 1.3.

    loss = -(1.3 / 2 - 0.8 / 4 + 3 / 4) = -1.2. The upper bound decides at one token of three, the lower at
    one. KL from the sampler: (2 - 1 - log 2 + 0.5 - 1 + log 2) / 3 = 1/6.
    """
    scores, batch = problem(
        [np.log(2), np.log(0.5), 0.0],
        weight=[0.5, 0.25, 0.25],
        advantage=[1.0, -1.0, 3.0],
        entropy=[0.3, 0.6, 0.9],
    )
    loss, metrics = PLAIN(scores, batch, 3)
    expected = {
        "loss": -1.2,
        "entropy": 0.6,
        "ratio_max": 2.0,
        "clip_fraction": 2 / 3,
        "clip_fraction_low": 1 / 3,
        "clip_fraction_high": 1 / 3,
        "mismatch_kl": 1 / 6,
    }
    np.testing.assert_allclose(loss, -1.2, rtol=1e-6)
    assert metrics.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, rtol=1e-5, err_msg=name)


def test_ratio_is_to_the_learner_of_old_and_the_weight_does_the_rest():
    """log old - log sampler = log 3 and -log 3; ratios 1.2 and 1 to old; advantages 1 and 2.

    Truncated at 2: -(2 * 1.2 * 1 + 2 / 3) / 2. Masked at 2: both are dropped.
    """
    scores, batch = problem(
        [np.log(1.2), 0.0],
        advantage=[1.0, 2.0],
        old_logp=[0.0, 0.0],
        sampler_logp=[-np.log(3), np.log(3)],
    )
    loss, metrics = replace(PLAIN, weighting=truncated, importance_cap=2.0)(scores, batch, 2)
    np.testing.assert_allclose(loss, -(2.4 + 2 / 3) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["importance_weight"], (2 + 1 / 3) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["ratio_max"], 1.2, rtol=1e-5)
    loss, metrics = replace(PLAIN, weighting=masked, importance_cap=2.0)(scores, batch, 2)
    assert (loss, metrics["importance_dropped"], metrics["importance_weight"]) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize(("estimator", "of_double"), [(k2, 0.5 * np.log(2) ** 2), (k3, 0.5 - 1 + np.log(2))])
def test_kl_in_the_loss_by_hand(estimator, of_double):
    """Twice as likely as under the reference at the first token, equally likely at the second."""
    scores, batch = problem([np.log(2), 0.0], weight=[0.75, 0.25], reference_logp=[0.0, 0.0])
    loss, metrics = replace(PLAIN, kl=estimator, kl_coefficient=0.1)(scores, batch, 2)
    np.testing.assert_allclose(loss, 0.1 * 0.75 * of_double, rtol=1e-5)
    np.testing.assert_allclose(metrics["kl_reference"], (np.log(2) - 0.5) / 2, rtol=1e-5)


def test_a_reference_without_an_estimator_is_only_measured():
    scores, batch = problem([np.log(2)], reference_logp=[0.0])
    loss, metrics = PLAIN(scores, batch, 1)
    assert loss == 0.0 and metrics["kl_reference"] > 0.0


def test_entropy_bonus_by_hand():
    scores, batch = problem([0.0, 0.0], weight=[0.75, 0.25], entropy=[1.0, 2.0])
    np.testing.assert_allclose(
        replace(PLAIN, entropy_coefficient=0.1)(scores, batch, 2)[0], -0.125, rtol=1e-6
    )


def test_value_loss_by_hand():
    """Errors max(0.01, 0.09) and 0.16 as in `test_critic`, weights 1/2, coefficient 1/2."""
    scores, batch = problem([0.0, 0.0], value=[0.9, 0.6], old_value=[0.5, 0.5], **{"return": [1.0, 1.0]})
    loss, metrics = replace(PLAIN, value_coefficient=0.5, value_clip=0.2)(scores, batch, 2)
    np.testing.assert_allclose(loss, 0.0625, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_loss"], 0.125, rtol=1e-5)
    np.testing.assert_allclose(metrics["value_clip_fraction"], 0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weighting": truncated}, "an importance weighting needs old_logp_BT"),
        ({"kl": k3, "kl_coefficient": 0.1}, "a KL divergence needs reference_logp_BT"),
        ({"value_coefficient": 0.5}, "a critic needs scores.value_BT"),
    ],
    ids=["importance", "kl", "critic"],
)
def test_what_is_missing_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **settings)(*problem([0.0]), 1)


def tempered_problem():
    """All three actions of a policy, weighted as often as a sampler of half the temperature draws them."""
    logits_V = jnp.array([0.2, -0.3, 0.5])
    sampler_V = jax.nn.log_softmax(2.0 * logits_V)
    rewards = [1.0, -2.0, 0.5]
    _, batch = problem(
        [0.0] * 3, weight=np.exp(sampler_V).tolist(), advantage=rewards, sampler_logp=sampler_V.tolist()
    )

    def gradient(objective, batch):
        def loss(logits_V):
            logp_BT = jax.nn.log_softmax(logits_V)[None]
            return objective(Scores(logp_BT, jnp.zeros_like(logp_BT)), batch, 3)[0]

        return jax.grad(loss)(logits_V)

    expected_reward = lambda x_V: (jax.nn.softmax(x_V) * jnp.array(rewards)).sum()  # noqa: E731
    return logits_V, batch, gradient, -jax.grad(expected_reward)(logits_V)


def test_a_ratio_to_the_tempered_sampler_gives_the_gradient_of_the_unmodified_policy():
    _, batch, gradient, exact_V = tempered_problem()
    np.testing.assert_allclose(gradient(replace(PLAIN, clip=FREE), batch), exact_V, atol=1e-6)


def test_a_ratio_to_the_learner_needs_the_weight_for_that():
    logits_V, batch, gradient, exact_V = tempered_problem()
    batch = batch._replace(old_logp_BT=jax.nn.log_softmax(logits_V)[None])
    weighted = replace(PLAIN, weighting=truncated, importance_cap=1e6)
    np.testing.assert_allclose(gradient(weighted, batch), exact_V, atol=1e-6)
    assert np.abs(gradient(PLAIN, batch) - exact_V).max() > 0.05


def test_mismatch_kl_estimates_the_divergence_from_samples_of_the_sampler():
    """Metrics are means over tokens, so each stands there as often as the sampler draws it."""
    sampler, policy = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    drawn = np.repeat([0, 1, 2], [5, 3, 2])
    scores, batch = problem(np.log(policy[drawn]).tolist(), sampler_logp=np.log(sampler[drawn]).tolist())
    _, metrics = PLAIN(scores, batch, 10)
    np.testing.assert_allclose(metrics["mismatch_kl"], (sampler * np.log(sampler / policy)).sum(), rtol=1e-5)


def test_k1_would_be_noise_in_a_loss():
    """All actions as often as the policy draws them: the gradients cancel."""
    logits_V = jnp.array([0.2, -0.3, 0.5])
    drawn = jax.nn.softmax(logits_V).tolist()
    _, batch = problem([0.0] * 3, weight=drawn, reference_logp=[-1.0, -2.0, -0.5])

    def loss(logits_V):
        logp_BT = jax.nn.log_softmax(logits_V)[None]
        objective = replace(PLAIN, kl=k1, kl_coefficient=1.0)
        return objective(Scores(logp_BT, jnp.zeros_like(logp_BT)), batch, 3)[0]

    np.testing.assert_allclose(jax.grad(loss)(logits_V), np.zeros(3), atol=1e-6)
