"""Laws that `algorithms.advantages` must obey, each under jit and without."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.advantages import globally_normalized, group_relative, leave_one_out, no_baseline

REWARDS_PG = jnp.array([[1.0, 0.0, 0.0, 1.0], [0.25, 0.5, 0.5, 0.75]])
ALL_VALID_PG = jnp.ones((2, 4), bool)

FUNCTIONS = {
    "grpo": partial(group_relative, normalize=True),
    "dr_grpo": partial(group_relative, normalize=False),
    "leave_one_out": leave_one_out,
}


@pytest.fixture(params=[True, False], ids=["jit", "eager"])
def under(request):
    """Applies jit, or nothing."""
    return jax.jit if request.param else (lambda function: function)


@pytest.fixture(params=FUNCTIONS, ids=str)
def advantages(request, under):
    return under(FUNCTIONS[request.param])


def test_leave_one_out_matches_hand_computation(under):
    """Row 0, attempt 0: 1 - (0 + 0 + 1) / 3 = 2/3. Row 1, attempt 0: 1/4 - (1/2 + 1/2 + 3/4) / 3 = -1/3."""
    expected_PG = [[2 / 3, -2 / 3, -2 / 3, 2 / 3], [-1 / 3, 0, 0, 1 / 3]]
    np.testing.assert_allclose(under(leave_one_out)(REWARDS_PG, ALL_VALID_PG), expected_PG, atol=1e-6)


def test_centered_matches_hand_computation(under):
    """Both means are 1/2."""
    expected_PG = [[0.5, -0.5, -0.5, 0.5], [-0.25, 0, 0, 0.25]]
    actual_PG = under(FUNCTIONS["dr_grpo"])(REWARDS_PG, ALL_VALID_PG)
    np.testing.assert_allclose(actual_PG, expected_PG, atol=1e-6)


def test_normalized_matches_hand_computation(under):
    """Row 0 deviates by 1/2 from 1/2 everywhere; row 1 has variance (1/16 + 0 + 0 + 1/16) / 4 = 1/32."""
    expected_PG = [[1, -1, -1, 1], [-(2**0.5), 0, 0, 2**0.5]]
    actual_PG = under(FUNCTIONS["grpo"])(REWARDS_PG, ALL_VALID_PG)
    np.testing.assert_allclose(actual_PG, expected_PG, atol=1e-5)


def test_normalized_advantages_ignore_the_unit_of_reward(under):
    normalized = under(FUNCTIONS["grpo"])
    np.testing.assert_allclose(
        normalized(100.0 * REWARDS_PG, ALL_VALID_PG), normalized(REWARDS_PG, ALL_VALID_PG), atol=1e-4
    )


def test_shifting_all_rewards_changes_nothing(advantages):
    np.testing.assert_allclose(
        advantages(REWARDS_PG + 7.0, ALL_VALID_PG), advantages(REWARDS_PG, ALL_VALID_PG), atol=1e-4
    )


def test_permuting_attempts_permutes_advantages(advantages):
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        advantages(REWARDS_PG[:, order], ALL_VALID_PG),
        advantages(REWARDS_PG, ALL_VALID_PG)[:, order],
        atol=1e-6,
    )


def test_tasks_do_not_see_one_another(advantages):
    alone_PG = advantages(REWARDS_PG[1:], ALL_VALID_PG[1:])
    np.testing.assert_allclose(advantages(REWARDS_PG, ALL_VALID_PG)[1:], alone_PG, atol=1e-6)


@pytest.mark.parametrize("garbage", [1e9, float("nan"), float("inf"), float("-inf")])
def test_an_invalid_attempt_neither_learns_nor_teaches(advantages, garbage):
    valid_PG = ALL_VALID_PG.at[0, 3].set(False)
    dirty_PG = advantages(REWARDS_PG.at[0, 3].set(garbage), valid_PG)
    three_PG = advantages(REWARDS_PG[:1, :3], valid_PG[:1, :3])
    np.testing.assert_array_equal(dirty_PG[0, 3], 0.0)
    np.testing.assert_allclose(dirty_PG[:1, :3], three_PG, atol=1e-6)


def test_a_lone_valid_attempt_gets_zero(advantages):
    valid_PG = jnp.array([[True, False, False, False]] * 2)
    np.testing.assert_array_equal(advantages(REWARDS_PG, valid_PG), jnp.zeros((2, 4)))


def test_a_task_without_valid_attempts_gets_zero(advantages):
    nothing_PG = jnp.zeros((2, 4), bool)
    np.testing.assert_array_equal(advantages(jnp.full((2, 4), jnp.nan), nothing_PG), jnp.zeros((2, 4)))


@pytest.mark.parametrize("reward", [0.0, 0.1, 1 / 3, 1.0])
def test_equal_rewards_give_exactly_zero(advantages, reward):
    """Rounding in the mean must not be blown up by dividing by a deviation near 0."""
    equal_PG = advantages(jnp.full((3, 7), reward), jnp.ones((3, 7), bool))
    np.testing.assert_array_equal(equal_PG, jnp.zeros((3, 7)))


@pytest.mark.parametrize("group_baseline", [False, True])
def test_global_normalization_matches_hand_computation(group_baseline):
    """Rewards 1, 0 | 0, 0 without a baseline: mean 1/4, deviation sqrt(3)/4. With one: 1/2, -1/2 | 0, 0, of
    deviation sqrt(2)/4."""
    actual_PG = globally_normalized(
        jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.ones((2, 2), bool), group_baseline=group_baseline
    )
    low = -1 / 3**0.5
    expected_PG = [[2**0.5, -(2**0.5)], [0, 0]] if group_baseline else [[3**0.5, low], [low, low]]
    np.testing.assert_allclose(actual_PG, expected_PG, atol=1e-5)


@pytest.mark.parametrize("group_baseline", [False, True])
def test_global_normalization_shares_only_the_scale_between_tasks(group_baseline):
    """Unit and origin do not matter; attempts may come in any order; an invalid one counts nowhere."""
    advantages = partial(globally_normalized, group_baseline=group_baseline)
    valid_PG = ALL_VALID_PG.at[0, 3].set(False)
    dirty_PG = advantages(REWARDS_PG.at[0, 3].set(jnp.nan), valid_PG)
    np.testing.assert_array_equal(dirty_PG[0, 3], 0.0)
    np.testing.assert_allclose(dirty_PG, advantages(10.0 * REWARDS_PG + 7.0, valid_PG), atol=1e-4)
    order = jnp.array([2, 0, 3, 1])
    np.testing.assert_allclose(
        advantages(REWARDS_PG[:, order], valid_PG[:, order]), dirty_PG[:, order], atol=1e-5
    )
    np.testing.assert_allclose(jnp.square(dirty_PG).sum() / 7.0, 1.0, atol=1e-4)
    np.testing.assert_array_equal(advantages(jnp.full((2, 4), 0.1), valid_PG), jnp.zeros((2, 4)))


def test_a_group_baseline_leaves_groups_without_signal_at_zero():
    rewards_PG = jnp.array([[1.0, 0.0, 0.0, 1.0], [0.1, 0.1, 0.1, 0.1]])
    baselined_PG = globally_normalized(rewards_PG, ALL_VALID_PG, group_baseline=True)
    np.testing.assert_array_equal(baselined_PG[1], jnp.zeros(4))
    assert (globally_normalized(rewards_PG, ALL_VALID_PG, group_baseline=False)[1] < 0.0).all()


def test_without_a_baseline_rewards_are_left_to_the_critic():
    valid_PG = ALL_VALID_PG.at[0, 3].set(False)
    kept_PG = no_baseline(REWARDS_PG.at[0, 3].set(jnp.nan), valid_PG)
    np.testing.assert_array_equal(kept_PG, REWARDS_PG.at[0, 3].set(0.0))
