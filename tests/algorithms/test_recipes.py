"""Laws that every algorithm obeys, whatever makes it itself."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.log_probs import Scores
from codegym_jax.algorithms.recipes import ALGORITHMS, make_objective
from codegym_jax.records import PackedBatch
from tests.algorithms.packed import (
    APART,
    OTHER_ORDER,
    TOGETHER,
    TOKEN_COUNT,
    close,
    episodes,
    gathered,
    lay_out,
)


def full_objective(name):
    """The algorithm with everything on that it knows."""
    return make_objective(
        ALGORITHMS[name],
        clip_low=0.2,
        clip_high=0.3,
        dual_clip=0.0 if name == "cispo" else 3.0,
        kl="k3",
        kl_coefficient=0.1,
        entropy_coefficient=0.01,
        importance="truncated",
        value_coefficient=0.5,
        value_clip=0.2,
    )


@cache
def compiled(name):
    """`(scores, batch) -> ((loss, metrics), gradients)`, compiled once for all laws."""
    objective = full_objective(name)
    return jax.jit(
        jax.value_and_grad(lambda scores, batch: objective(scores, batch, TOKEN_COUNT), has_aux=True)
    )


@pytest.fixture(params=ALGORITHMS)
def name(request):
    return request.param


@pytest.mark.parametrize("rows", [TOGETHER, OTHER_ORDER], ids=["together", "other order"])
def test_packing_and_order_change_nothing(name, rows):
    """Loss, metrics and the gradient at every token, with padding and tools' tokens full of NaN."""
    parts = episodes()
    apart, gradients = compiled(name)(*lay_out(parts, APART))
    packed, packed_gradients = compiled(name)(*lay_out(parts, rows, fill=np.nan))
    close(packed, apart)
    for field in ("logp_BT", "entropy_BT", "value_BT"):
        actual, expected = getattr(packed_gradients, field), getattr(gradients, field)
        close(gathered(actual, rows), gathered(expected, APART))
        assert np.isfinite(actual).all()


def test_masked_tokens_have_no_gradient(name):
    scores, batch = lay_out(episodes(), TOGETHER, fill=5.0)
    _, gradients = compiled(name)(scores, batch)
    for gradient_BT in gradients:
        np.testing.assert_array_equal(np.asarray(gradient_BT)[np.asarray(batch.is_policy_BT) == 0.0], 0.0)


def test_batches_of_an_update_add_up_to_the_whole(name):
    """Each episode in a batch of its own; of metrics named `*_max` the largest counts."""
    parts = episodes()
    (_, whole), _ = compiled(name)(*lay_out(parts))
    alone = [compiled(name)(*lay_out(parts, rows))[0][1] for rows in ([[0]], [[1]], [[2]])]
    for metric, value in whole.items():
        combine = max if metric.endswith("_max") else sum
        close(combine(part[metric] for part in alone), value)


def test_a_learner_that_has_not_moved_follows_the_policy_gradient(name):
    """At a ratio of 1: -weight * importance * advantage at each token, plus the pull of the reference."""
    scores, batch = lay_out(episodes(drift=0.0))
    batch = batch._replace(reference_logp_BT=batch.old_logp_BT)
    (_, metrics), gradients = compiled(name)(scores, batch)
    importance_BT = jnp.minimum(jnp.exp(batch.old_logp_BT - batch.sampler_logp_BT), 2.0)
    close(gradients.logp_BT, -batch.weight_BT * importance_BT * batch.advantage_BT)
    close(gradients.entropy_BT, -0.01 * batch.weight_BT)
    close([metrics[key] for key in ("ratio_max", "clip_fraction", "kl_reference")], [1.0, 0.0, 0.0])


@pytest.mark.parametrize("far", [60.0, -60.0, 1e4, -1e4])
def test_absurd_ratios_stay_finite(name, far):
    scores, batch = lay_out(episodes())
    results = compiled(name)(scores._replace(logp_BT=batch.old_logp_BT + far), batch)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(results))


def test_learns_which_of_two_actions_is_rewarded(name):
    """From rewards to parameters: four attempts at one task, the two that chose action 1 succeeded."""
    actions = jnp.array([0, 1, 1, 0])
    rewards_PG = jnp.array([[0.0, 1.0, 1.0, 0.0]])
    advantages_PG = ALGORITHMS[name].advantages(rewards_PG, jnp.ones((1, 4), bool))
    ones_BT = jnp.ones((4, 1))
    batch = PackedBatch(
        tokens_BT=actions[:, None],
        segment_BT=ones_BT.astype(jnp.int32),
        is_policy_BT=ones_BT,
        weight_BT=ones_BT / 4.0,
        sampler_logp_BT=jnp.log(0.5) * ones_BT,
        advantage_BT=advantages_PG.T,
    )
    objective = make_objective(ALGORITHMS[name], clip_low=0.2, clip_high=0.2)

    def loss(logits_V):
        logp_BT = jax.nn.log_softmax(logits_V)[actions][:, None]
        return objective(Scores(logp_BT, jnp.zeros((4, 1))), batch, 4)[0]

    logits_V = jnp.zeros(2)
    for _ in range(3):
        logits_V = logits_V - 0.2 * jax.grad(loss)(logits_V)
    assert jax.nn.softmax(logits_V)[1] > 0.51


def test_k1_in_the_loss_is_refused():
    settings = partial(make_objective, ALGORITHMS["grpo"], clip_low=0.2, clip_high=0.2)
    with pytest.raises(ValueError, match="kl 'k1' has no gradient in a loss"):
        settings(kl="k1", kl_coefficient=0.1)


def test_only_a_critic_has_a_value_loss():
    for name, recipe in ALGORITHMS.items():
        objective = make_objective(recipe, clip_low=0.2, clip_high=0.2, value_coefficient=0.5)
        assert (objective.value_coefficient > 0.0) == recipe.critic == (name == "ppo")
