"""Hand-worked numbers and laws of `algorithms.surrogates`, and of the ratios that they use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.segments import mean_over_episode
from codegym_jax.algorithms.surrogates import Clip, clipped_ratio, clipped_weight, episode_ratio
from tests.algorithms.packed import APART, OTHER_ORDER, TOGETHER, close, episodes, gathered, lay_out

SURROGATES = {"token": clipped_ratio, "episode": episode_ratio, "weight": clipped_weight}
BOUNDS = Clip(low=0.2, high=0.3)


def at(surrogate, ratios, advantages, clip, segments=None):
    """The surrogate of tokens whose old log-probability is 0, and its gradient in the learner's."""
    ratio_BT, advantage_BT = jnp.array([ratios]), jnp.array([advantages])
    segment_BT = jnp.ones(ratio_BT.shape, jnp.int32) if segments is None else jnp.array([segments])

    def total(logp_BT):
        ones_BT = jnp.ones_like(logp_BT)
        earned = surrogate(logp_BT, 0.0 * ones_BT, advantage_BT, ones_BT, segment_BT, clip)
        return earned.objective_BT.sum(), earned

    (_, earned), grad_BT = jax.value_and_grad(total, has_aux=True)(jnp.log(ratio_BT))
    return jax.tree.map(lambda x: np.asarray(x)[0], earned), np.asarray(grad_BT)[0]


def test_token_ratio_by_hand():
    """Bounds 0.8 and 1.3. min(1.5, 1.3) = 1.3; min(-1.5, -1.3) = -1.5; min(0.5, 0.8) = 0.5;
    min(-0.5, -0.8) = -0.8; min(2.4, 2.4) = 2.4. The gradient in the log-ratio is w A, or 0 where a bound
    decided: the upper one for the first token, the lower one for the fourth."""
    earned, grad_T = at(clipped_ratio, [1.5, 1.5, 0.5, 0.5, 1.2], [1.0, -1.0, 1.0, -1.0, 2.0], BOUNDS)
    close(earned.objective_BT, [1.3, -1.5, 0.5, -0.8, 2.4])
    close(grad_T, [0.0, -1.5, 0.5, 0.0, 2.4])
    close(earned.ratio_BT, [1.5, 1.5, 0.5, 0.5, 1.2])
    assert earned.clipped_high_BT.tolist() == [True, False, False, False, False]
    assert earned.clipped_low_BT.tolist() == [False, False, False, True, False]


def test_the_dual_bound_by_hand():
    """With a dual bound of 3: max(-5, -3) = -3 without a gradient; -2.5 is above -3 and stays; a positive
    advantage never meets it."""
    clip = Clip(0.2, 0.3, dual=3.0)
    earned, grad_T = at(clipped_ratio, [5.0, 2.5, 5.0], [-1.0, -1.0, 1.0], clip)
    close(earned.objective_BT, [-3.0, -2.5, 1.3])
    close(grad_T, [0.0, -2.5, 0.0])
    assert earned.clipped_high_BT.tolist() == [True, False, True]


def test_episode_ratio_by_hand():
    """Ratios 4 and 1 in one episode: the geometric mean is 2, for both. In the other 1.1 and 1.1: 1.1.

    2 is above 1.3: with A = 1 both tokens earn 1.3, and neither has a gradient. The others earn 2.2 each,
    which is also their gradient.
    """
    earned, grad_T = at(episode_ratio, [4.0, 1.0, 1.1, 1.1], [1.0, 1.0, 2.0, 2.0], BOUNDS, [1, 1, 2, 2])
    close(earned.ratio_BT, [2.0, 2.0, 1.1, 1.1])
    close(earned.objective_BT, [1.3, 1.3, 2.2, 2.2])
    close(grad_T, [0.0, 0.0, 2.2, 2.2])
    assert earned.clipped_high_BT.tolist() == [True, True, False, False]


def test_episode_ratio_has_the_gradient_of_the_episode_objective():
    """Weighted by 1 / length, as a mean over episodes does it: that of s A, s the geometric mean itself."""
    _, grad_T = at(episode_ratio, [1.2, 0.9, 1.1], [0.7] * 3, Clip(1.0, 9.0))
    whole = jax.grad(lambda logp_T: 0.7 * jnp.exp(logp_T.mean()))(jnp.log(jnp.array([1.2, 0.9, 1.1])))
    close(grad_T / 3, whole)


def test_clipped_weight_by_hand():
    """Weights 1.3 (bounded), 0.8 (bounded) and 1.2, times A, times logp; the gradient lacks the last factor
    and never vanishes."""
    earned, grad_T = at(clipped_weight, [1.5, 0.5, 1.2], [1.0, 1.0, -1.0], BOUNDS)
    close(earned.objective_BT, [1.3 * np.log(1.5), 0.8 * np.log(0.5), -1.2 * np.log(1.2)])
    close(grad_T, [1.3, 0.8, -1.2])
    assert (earned.clipped_high_BT.tolist(), earned.clipped_low_BT.tolist()) == ([1, 0, 0], [0, 1, 0])


def test_clipped_weight_refuses_a_dual_bound():
    with pytest.raises(ValueError, match=r"no dual bound; it must be 0, got 3\.0"):
        at(clipped_weight, [1.0], [1.0], Clip(0.2, 0.2, dual=3.0))


def test_episodes_of_one_token_have_a_token_ratio():
    inputs = [1.5, 0.5, 1.1, 1.4], [1.0, -1.0, 0.5, -2.0], BOUNDS, [1, 2, 3, 4]
    close(at(episode_ratio, *inputs), at(clipped_ratio, *inputs))


@pytest.mark.parametrize("name", SURROGATES)
def test_at_the_old_policy_the_gradient_is_the_policy_gradient(name):
    advantages = [1.0, -2.0, 0.5]
    earned, grad_T = at(SURROGATES[name], [1.0] * 3, advantages, BOUNDS)
    close(grad_T, advantages)
    assert not (earned.clipped_low_BT | earned.clipped_high_BT).any()


@pytest.mark.parametrize("log_ratio", [80.0, -80.0, 1e4, -1e4])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
@pytest.mark.parametrize("name", SURROGATES)
def test_absurd_ratios_stay_finite(name, advantage, log_ratio):
    ones_BT = jnp.ones((1, 1))

    def total(logp_BT):
        segment_BT = jnp.ones((1, 1), jnp.int32)
        return SURROGATES[name](
            logp_BT, 0.0 * ones_BT, advantage * ones_BT, ones_BT, segment_BT, BOUNDS
        ).objective_BT.sum()

    value, grad_BT = jax.value_and_grad(total)(log_ratio * ones_BT)
    assert np.isfinite(value) and np.isfinite(grad_BT).all()


@pytest.mark.parametrize("rows", [APART, TOGETHER, OTHER_ORDER])
def test_means_are_those_of_each_episode_wherever_it_stands(rows):
    parts = episodes()
    scores, batch = lay_out(parts, rows, fill=np.nan)
    means_BT = mean_over_episode(scores.logp_BT, batch.is_policy_BT, batch.segment_BT)
    expected = [np.full(p["is_policy"].sum(), p["logp"][p["is_policy"] > 0].mean()) for p in parts]
    close(gathered(means_BT, rows), expected)
