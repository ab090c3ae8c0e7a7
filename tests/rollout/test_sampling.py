"""Laws of sampling: truncation keeps what it should, and a key knows only its episode and position."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.rollout.sampling import episode_key, sample, token_keys, truncate

LOGITS_BV = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))


def kept(logits_BV):
    return jnp.isfinite(logits_BV).tolist()


def test_top_k_keeps_the_k_largest():
    assert kept(truncate(LOGITS_BV, top_k=2, top_p=1.0)) == [
        [True, True, False, False],
        [False, False, True, True],
    ]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.5, [True, False, False, False]), (0.51, [True, True, False, False]), (0.96, [True] * 4)],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, expected):
    """0.5 alone reaches 0.5; 0.51 needs 0.5 + 0.3; 0.96 needs everything (0.95 without the last)."""
    assert kept(truncate(LOGITS_BV, top_k=0, top_p=top_p))[0] == expected


def test_no_truncation_changes_nothing():
    np.testing.assert_array_equal(truncate(LOGITS_BV, top_k=0, top_p=1.0), LOGITS_BV)


def draw(logits_BV, count, temperature, **settings):
    words = np.stack([episode_key(0, "task", attempt) for attempt in range(count)])
    keys = token_keys(jnp.asarray(words), jnp.full(count, 5))
    rows = jnp.broadcast_to(logits_BV[:1], (count, logits_BV.shape[1]))
    return sample(rows, keys, jnp.float32(temperature), **{"top_k": 0, "top_p": 1.0, **settings})


def test_tokens_come_with_the_probability_of_the_distribution_really_sampled():
    """At temperature 2 the weights are the square roots: sqrt(p) / sum of sqrt(p); n = 4000, three sigmas."""
    token_B, sampler_logp_B, policy_logp_B = draw(LOGITS_BV, 4000, 2.0)
    root = np.sqrt([0.5, 0.3, 0.15, 0.05])
    expected = root / root.sum()
    share = np.bincount(token_B, minlength=4) / 4000
    np.testing.assert_allclose(share, expected, atol=3 * np.sqrt(0.25 / 4000))
    np.testing.assert_allclose(jnp.exp(sampler_logp_B), expected[token_B], rtol=1e-5)
    np.testing.assert_allclose(policy_logp_B, LOGITS_BV[0][token_B], rtol=1e-5)


def test_truncated_tokens_are_never_drawn_and_probabilities_are_renormalized():
    token_B, sampler_logp_B, _ = draw(LOGITS_BV, 500, 1.0, top_k=2)
    assert set(np.unique(token_B)) == {0, 1}
    np.testing.assert_allclose(jnp.exp(sampler_logp_B), np.array([0.5, 0.3])[token_B] / 0.8, rtol=1e-5)


def test_greedy_takes_the_most_likely_and_says_so():
    token_B, sampler_logp_B, policy_logp_B = draw(LOGITS_BV, 3, 0.0)
    assert token_B.tolist() == [0, 0, 0]
    assert sampler_logp_B.tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(policy_logp_B, np.log(0.5), rtol=1e-6)


def test_a_key_is_a_function_of_seed_task_attempt_and_position():
    """Any of the four changed gives another key; the row's place in the batch does not."""
    names = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1)]
    words_B4 = jnp.asarray(np.stack([episode_key(*name) for name in names]))
    data = lambda keys: np.asarray(jax.random.key_data(keys))  # noqa: E731
    here = data(token_keys(words_B4, jnp.full(4, 3)))
    later = data(token_keys(words_B4, jnp.full(4, 4)))
    assert len({row.tobytes() for row in [*here, *later]}) == 8
    np.testing.assert_array_equal(data(token_keys(words_B4[::-1], jnp.full(4, 3)))[::-1], here)
