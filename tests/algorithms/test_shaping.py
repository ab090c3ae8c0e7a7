"""Hand-worked numbers and laws of `algorithms.shaping`."""

import numpy as np
import pytest

from codegym_jax.algorithms.shaping import Conduct, overlong_penalty, shaped_rewards, valid_call_share

REWARDS_PG = np.array([[1.0, 0.0], [0.0, 0.0]], np.float32)
CONDUCT = Conduct(
    well_formed_PG=np.array([[True, False], [True, True]]),
    valid_call_share_PG=np.array([[1.0, 0.5], [0.25, 0.0]], np.float32),
    answered_PG=np.array([[True, True], [False, False]]),
    overlong_PG=np.array([[0.0, 0.0], [-0.5, -1.0]], np.float32),
)


def test_every_term_by_hand():
    """Row 0: 1 + 0.1 + 0.2 + 0.4 = 1.7 and 0 + 0 + 0.1 + 0.4. Row 1: 0.1 + 0.05 - 0.5 and 0.1 - 1."""
    shaped_PG = shaped_rewards(REWARDS_PG, CONDUCT, format_reward=0.1, valid_call_reward=0.2, done_reward=0.4)
    np.testing.assert_allclose(shaped_PG, [[1.7, 0.5], [-0.35, -0.9]], atol=1e-6)


def test_raw_rewards_stay_as_they_were():
    before_PG = REWARDS_PG.copy()
    shaped_PG = shaped_rewards(
        REWARDS_PG,
        CONDUCT._replace(overlong_PG=np.zeros((2, 2), np.float32)),
        format_reward=0.0,
        valid_call_reward=0.0,
        done_reward=0.0,
    )
    np.testing.assert_array_equal(shaped_PG, before_PG)
    shaped_PG += 1.0
    np.testing.assert_array_equal(REWARDS_PG, before_PG)


def test_overlong_penalty_by_hand():
    """Budget 100, buffer 20: nothing up to 80, half at 90, all at 100; cut off early is all, too."""
    penalty_PG = overlong_penalty(
        np.array([[10, 80, 90], [100, 120, 85]]),
        np.array([[False, False, False], [False, True, True]]),
        max_tokens=100,
        buffer_tokens=20,
    )
    np.testing.assert_allclose(penalty_PG, [[0.0, 0.0, -0.5], [-1.0, -1.0, -1.0]], atol=1e-6)


@pytest.mark.parametrize("buffer_tokens", [0, 101])
def test_a_buffer_that_does_not_fit_is_refused(buffer_tokens):
    with pytest.raises(
        ValueError, match=rf"buffer_tokens must be in \[1, max_tokens=100\], got {buffer_tokens}"
    ):
        overlong_penalty(np.array([[1]]), np.array([[False]]), max_tokens=100, buffer_tokens=buffer_tokens)


def test_valid_call_share_by_hand():
    share_PG = valid_call_share(np.array([[4, 1, 0]]), np.array([[1, 1, 0]]))
    np.testing.assert_array_equal(share_PG, [[0.75, 0.0, 0.0]])
