"""Hand-worked numbers and laws of `algorithms.credit`."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.credit import at_last_token, gae, reward_to_go, turn_discounts, whiten
from tests.algorithms.packed import (
    APART,
    IS_POLICY,
    OTHER_ORDER,
    TOGETHER,
    close,
    episodes,
    gathered,
    lay_out,
)

GAE = jax.jit(partial(gae, discount=0.9, lambda_=0.8))


def by_double_loop(rewards, values, discount, lambda_):
    """The definition: a discounted sum of all later errors of the critic, one token at a time."""
    values = [*values, 0.0]
    errors = [r + discount * values[k + 1] - values[k] for k, r in enumerate(rewards)]
    return [
        sum((discount * lambda_) ** (later - k) * errors[later] for later in range(k, len(errors)))
        for k in range(len(errors))
    ]


@pytest.mark.parametrize("rows", [APART, TOGETHER, OTHER_ORDER])
def test_gae_matches_the_definition_wherever_an_episode_stands(rows):
    """What tools wrote, and padding, hold NaN. Rewards are the advantages of `packed`: any numbers do."""
    parts = episodes()
    _, batch = lay_out(parts, rows, fill=np.nan)
    advantage_BT, return_BT = GAE(
        batch.advantage_BT, batch.old_value_BT, batch.is_policy_BT, batch.segment_BT
    )
    taken = [part["is_policy"] > 0 for part in parts]
    values = [part["old_value"][mask] for part, mask in zip(parts, taken, strict=True)]
    rewards = [part["advantage"][mask] for part, mask in zip(parts, taken, strict=True)]
    expected = [np.array(by_double_loop(r, v, 0.9, 0.8)) for r, v in zip(rewards, values, strict=True)]
    close(gathered(advantage_BT, rows), expected)
    close(gathered(return_BT, rows), [a + v for a, v in zip(expected, values, strict=True)])
    for array_BT in (advantage_BT, return_BT):
        np.testing.assert_array_equal(np.asarray(array_BT)[np.asarray(batch.is_policy_BT) == 0.0], 0.0)


def test_gae_by_hand():
    """Two policy tokens around a tool's; values 0.5 and 0.6, reward 1 at the end, discount 1/2, lambda 1/2.

    A_2 = 1 - 0.6 = 0.4; delta_1 = 0.3 - 0.5 = -0.2; A_1 = -0.2 + 0.4 / 4 = -0.1.
    """
    advantage_BT, return_BT = gae(
        jnp.array([[0.0, 9.0, 1.0]]),
        jnp.array([[0.5, 9.0, 0.6]]),
        jnp.array([[1.0, 0.0, 1.0]]),
        jnp.ones((1, 3), jnp.int32),
        discount=0.5,
        lambda_=0.5,
    )
    close(advantage_BT, [[-0.1, 0.0, 0.4]])
    close(return_BT, [[0.4, 0.0, 1.0]])


def test_a_perfect_critic_leaves_no_advantage():
    """Reward 1 at the end of every episode, and the critic knows."""
    reward = [at_last_token(1.0, np.array(mask, bool)) for mask in IS_POLICY]
    parts = [part | {"advantage": earned} for part, earned in zip(episodes(), reward, strict=True)]
    _, batch = lay_out(parts, TOGETHER)
    arrays = batch.advantage_BT, batch.is_policy_BT, batch.is_policy_BT, batch.segment_BT
    advantage_BT, return_BT = gae(*arrays, discount=1.0, lambda_=0.8)
    close(advantage_BT, jnp.zeros_like(advantage_BT))
    close(return_BT, batch.is_policy_BT)


def test_reward_to_go_by_hand():
    """Two episodes in one row: 1 + 2 + 4, 2 + 4, 4; and 8 + 16, 16. The tool's 100 counts nowhere."""
    to_go_BT = reward_to_go(
        jnp.array([[1.0, 100.0, 2.0, 4.0, 8.0, 16.0, 100.0]]),
        jnp.array([[1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]),
        jnp.array([[1, 1, 1, 1, 2, 2, 0]]),
    )
    close(to_go_BT, [[7.0, 0.0, 6.0, 4.0, 24.0, 16.0, 0.0]])


def test_turn_discounts_by_hand():
    """Three turns, of 2, 1 and 1 tokens."""
    factors_T = turn_discounts(np.array([0, 1, 1, 0, 0, 1, 0, 1], bool), discount=0.5)
    np.testing.assert_array_equal(factors_T, [0.0, 0.25, 0.25, 0.0, 0.0, 0.5, 0.0, 1.0])


@pytest.mark.parametrize("mask", [[0, 1, 1, 0, 1], [1, 0, 1], [0, 1, 0], [1]])
def test_turn_discounts_at_the_ends_of_their_range(mask):
    """Without a discount all tokens count alike; with a full one only the last turn does."""
    is_policy_T = np.array(mask, bool)
    np.testing.assert_array_equal(turn_discounts(is_policy_T, discount=1.0), is_policy_T)
    expected_T = is_policy_T.copy()
    others = np.flatnonzero(~is_policy_T[: np.flatnonzero(is_policy_T)[-1]])
    expected_T[: others[-1] + 1 if len(others) else 0] = False
    np.testing.assert_array_equal(turn_discounts(is_policy_T, discount=0.0), expected_T)


def test_an_episode_without_turns_has_no_credit():
    np.testing.assert_array_equal(turn_discounts(np.zeros(3, bool), discount=0.5), np.zeros(3))


def test_a_reward_goes_to_the_last_token_of_the_policy():
    np.testing.assert_array_equal(at_last_token(0.5, np.array([0, 1, 1, 0], bool)), [0, 0, 0.5, 0])
    np.testing.assert_array_equal(at_last_token(0.5, np.zeros(2, bool)), [0, 0])


def test_whiten_by_hand():
    """1, 3 and a masked NaN: mean 2, deviation 1."""
    white_BT = whiten(jnp.array([[1.0, 3.0, jnp.nan]]), jnp.array([[1.0, 1.0, 0.0]]))
    close(white_BT, [[-1.0, 1.0, 0.0]])


def test_whiten_ignores_unit_and_origin():
    _, batch = lay_out(episodes())
    white = partial(whiten, is_policy_BT=batch.is_policy_BT)
    close(white(100.0 * batch.advantage_BT + 7.0), white(batch.advantage_BT), 1e-4)


@pytest.mark.parametrize("same", [0.0, 0.1, 1 / 3])
def test_equal_advantages_whiten_to_exactly_zero(same):
    _, batch = lay_out(episodes())
    white_BT = whiten(jnp.full_like(batch.advantage_BT, same), batch.is_policy_BT)
    np.testing.assert_array_equal(white_BT, jnp.zeros_like(white_BT))
