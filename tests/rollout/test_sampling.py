"""Laws of sampling: truncation keeps what it should, a key knows only its episode and position."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hypothesis_numpy

from codegym_jax.rollout.sampling import (
    Truncation,
    ends_message,
    gumbel,
    sample,
    token_keys,
    truncate,
)
from codegym_jax.rollout.token_sampler import episode_key, stop_of

LOGITS_BV = jnp.log(jnp.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4]]))


def kept(**truncation):
    return jnp.isfinite(truncate(LOGITS_BV, Truncation(**truncation))).tolist()


def test_top_k_keeps_the_k_largest():
    assert kept(top_k=2) == [[True, True, False, False], [False, False, True, True]]


@pytest.mark.parametrize(
    ("top_p", "expected"),
    [(0.5, [True, False, False, False]), (0.51, [True, True, False, False]), (0.96, [True] * 4)],
)
def test_top_p_keeps_the_smallest_set_that_reaches_p(top_p, expected):
    """0.5 alone reaches 0.5; 0.51 needs 0.5 + 0.3; 0.96 needs everything (0.95 without the last)."""
    assert kept(top_p=top_p)[0] == expected


@pytest.mark.parametrize(
    ("min_p", "expected"),
    [
        (0.05, [[True] * 4] * 2),
        (0.28, [[True, True, True, False], [False, True, True, True]]),
        (0.7, [[True, False, False, False], [False, False, True, True]]),
        (1.0, [[True, False, False, False], [False, False, False, True]]),
    ],
)
def test_min_p_keeps_what_is_likely_beside_the_likeliest(min_p, expected):
    """The ratios are 1, 0.6, 0.3, 0.1 and 0.25, 0.5, 0.75, 1."""
    assert kept(min_p=min_p) == expected


def test_more_than_there_are_keeps_all():
    assert kept(top_k=9) == [[True] * 4] * 2


def test_top_p_acts_on_what_top_k_left():
    """0.5 / 0.8 = 0.625 of what is left is with the first, 0.5 of the whole."""
    assert kept(top_k=2, top_p=0.6)[0] == [True, False, False, False]
    assert kept(top_p=0.6)[0] == [True, True, False, False]


def test_no_truncation_changes_nothing():
    np.testing.assert_array_equal(truncate(LOGITS_BV, Truncation()), LOGITS_BV)


def expected_kept(logits_V, top_k, top_p, min_p):
    """By sorting, in float64. Equal logits stay or go together."""
    keep = np.ones(logits_V.size, bool)
    if top_k:
        keep &= logits_V >= np.sort(logits_V)[-top_k]
    weight_V = np.where(keep, np.exp(logits_V.astype(np.float64) - logits_V.max()), 0.0)
    if top_p < 1:
        above_V = np.array([weight_V[logits_V > logit].sum() for logit in logits_V]) / weight_V.sum()
        keep &= above_V < top_p
    return keep & (weight_V >= min_p)


FINITE = st.floats(-40, 40, width=32) | st.sampled_from([0.0, -0.0, 1.0, 30.0])


@given(
    logits_V=hypothesis_numpy.arrays(np.float32, 12, elements=FINITE),
    top_k=st.sampled_from([0, 3]),
    top_p=st.sampled_from([1.0, 0.5, 0.9]),
    min_p=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=300)
def test_truncation_equals_sorting(logits_V, top_k, top_p, min_p):
    """Tokens whose probability is within 1e-5 of a threshold may fall on either side of it."""
    ours = np.isfinite(_truncated(logits_V[None], Truncation(top_k, top_p, min_p))[0])
    fewest = expected_kept(logits_V, top_k, top_p - 1e-5 * (top_p < 1), min_p * (1 + 1e-5))
    most = expected_kept(logits_V, top_k, top_p + 1e-5 * (top_p < 1), min_p * (1 - 1e-5))
    assert (fewest <= ours).all() and (ours <= most).all()


@given(
    logits_BV=hypothesis_numpy.arrays(np.float32, (4, 12), elements=FINITE),
    rows=st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.7, 1.0, 2.5]),
            st.sampled_from([0, 3]),
            st.sampled_from([1.0, 0.7]),
            st.sampled_from([0.0, 0.1]),
        ),
        min_size=4,
        max_size=4,
    ),
)
@settings(max_examples=50)
def test_settings_by_row_give_what_fixed_ones_give(logits_BV, rows):
    """Row by row: its token and its scores, whatever the other rows ask for."""
    logits_BV, keys_B = jnp.asarray(logits_BV), jax.random.split(jax.random.key(7), 4)
    temperature_B, *truncation = (np.array(column) for column in zip(*rows, strict=True))
    dtypes = (np.int32, np.float32, np.float32)
    of_rows = Truncation(*(column.astype(dtype) for column, dtype in zip(truncation, dtypes, strict=True)))
    together = _sampled_by_row(logits_BV, keys_B, jnp.asarray(temperature_B, jnp.float32), of_rows)
    for row, (temperature, *fixed) in enumerate(rows):
        alone = _sampled(logits_BV, keys_B, jnp.float32(temperature), Truncation(*fixed))
        assert together[0][row] == alone[0][row]
        for ours, theirs in zip(together[1:], alone[1:], strict=True):
            np.testing.assert_allclose(ours[row], theirs[row], rtol=1e-5, atol=1e-6)


_sampled = jax.jit(sample, static_argnums=3)
_sampled_by_row = jax.jit(sample)


@functools.partial(jax.jit, static_argnums=1)
def _truncated(logits_BV, truncation):
    return truncate(logits_BV, truncation)


def draw(logits_BV, count, temperature, **truncation):
    words = np.stack([episode_key(0, "task", attempt) for attempt in range(count)])
    keys = token_keys(jnp.asarray(words), jnp.full(count, 5))
    rows = jnp.broadcast_to(logits_BV[:1], (count, logits_BV.shape[1]))
    return sample(rows, keys, jnp.float32(temperature), Truncation(**truncation))


def test_tokens_come_with_the_probability_of_the_distribution_really_sampled():
    """At temperature 2 the weights are the square roots: sqrt(p) / sum of sqrt(p); n = 4000, three sigmas."""
    token_B, sampler_logp_B, policy_logp_B = draw(LOGITS_BV, 4000, 2.0)
    root = np.sqrt([0.5, 0.3, 0.15, 0.05])
    expected = root / root.sum()
    share = np.bincount(token_B, minlength=4) / 4000
    np.testing.assert_allclose(share, expected, atol=3 * np.sqrt(0.25 / 4000))
    np.testing.assert_allclose(jnp.exp(sampler_logp_B), expected[token_B], rtol=1e-5)
    np.testing.assert_allclose(policy_logp_B, LOGITS_BV[0][token_B], rtol=1e-5)


@pytest.mark.parametrize("truncation", [{"top_k": 2}, {"top_p": 0.7}, {"min_p": 0.5}])
def test_truncated_tokens_are_never_drawn_and_probabilities_are_renormalized(truncation):
    token_B, sampler_logp_B, policy_logp_B = draw(LOGITS_BV, 500, 1.0, **truncation)
    assert set(np.unique(token_B)) == {0, 1}
    np.testing.assert_allclose(jnp.exp(sampler_logp_B), np.array([0.5, 0.3])[token_B] / 0.8, rtol=1e-5)
    np.testing.assert_allclose(jnp.exp(policy_logp_B), np.array([0.5, 0.3])[token_B], rtol=1e-5)


def test_min_p_acts_after_temperature():
    """At temperature 2 the ratios are 1, 0.77, 0.55, 0.32: three tokens are at least half as likely."""
    token_B, *_ = draw(LOGITS_BV, 500, 2.0, min_p=0.5)
    assert set(np.unique(token_B)) == {0, 1, 2}


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


@pytest.mark.parametrize(
    ("tokens", "message", "ended"),
    [
        ([1, 2, 3], 0, True),  # 2, 3
        ([1, 9], 0, True),
        ([1, 2, 3, 4], 0, False),  # it is past
        ([1, 2, 3], 2, False),  # the 2 came before the message
        ([1, 2, 3], 1, True),
        ([3], 0, False),  # shorter than the sequence
    ],
)
def test_a_message_ends_with_a_stop_sequence_of_its_own(tokens, message, ended):
    """On the device, where stale tokens lie beyond the end, as on the host."""
    stops = ((9,), (2, 3))
    tokens_BC = jnp.array([[*tokens, 2, 3, 9]])
    (on_device,) = ends_message(tokens_BC, jnp.array([len(tokens)]), jnp.array([message]), stops)
    assert bool(on_device) == (stop_of(tokens[message:], stops) is not None) == ended


def test_the_longest_stop_sequence_counts():
    assert stop_of([1, 2, 3], ((3,), (2, 3), (9, 1, 2, 3))) == (2, 3)


@pytest.mark.parametrize("count", [1, 7, 50_000])
def test_noise_is_that_of_jax(count):
    """Episodes are a function of the generator; it must not change when it is computed faster."""
    keys_B = jax.random.split(jax.random.key(3), 5)
    drawn_BV = jax.jit(jax.vmap(lambda key: jax.random.gumbel(key, (count,), jnp.float32)))(keys_B)
    np.testing.assert_array_equal(jax.jit(gumbel, static_argnums=1)(keys_B, count), drawn_BV)


def test_of_equal_logits_the_first_is_drawn():
    """Greedily; a row of NaN gives a token of the vocabulary nonetheless."""
    logits_BV = jnp.array([[1.0, 3.0, 2.0, 3.0], [-jnp.inf, -jnp.inf, -jnp.inf, 0.0], [jnp.nan] * 4])
    keys_B = jax.random.split(jax.random.key(0), 3)
    token_B, _, _ = sample(logits_BV, keys_B, jnp.float32(0.0), Truncation())
    assert token_B[:2].tolist() == [1, 3]
    assert 0 <= int(token_B[2]) < 4
