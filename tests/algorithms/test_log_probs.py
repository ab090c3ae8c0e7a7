"""Laws of `algorithms.log_probs`: the chunks change nothing but the memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.algorithms.log_probs import token_scores

B, T, D, V = 3, 10, 8, 50


def problem(length=T):
    """Hidden states, a head and tokens, without structure."""
    keys = jax.random.split(jax.random.key(0), 3)
    hidden_BTD = jax.random.normal(keys[0], (B, length, D))
    head_DV = jax.random.normal(keys[1], (D, V))
    tokens_BT = jax.random.randint(keys[2], (B, length), 0, V)
    return hidden_BTD, head_DV, tokens_BT


def reference(hidden_BTD, head_DV, tokens_BT):
    """The definition, in float64, one token at a time."""
    hidden, head = np.asarray(hidden_BTD, np.float64), np.asarray(head_DV, np.float64)
    logp_BT, entropy_BT = np.zeros(tokens_BT.shape), np.zeros(tokens_BT.shape)
    for b in range(tokens_BT.shape[0]):
        for t in range(1, tokens_BT.shape[1]):
            logits = hidden[b, t - 1] @ head
            probabilities = np.exp(logits) / np.exp(logits).sum()
            logp_BT[b, t] = np.log(probabilities[tokens_BT[b, t]])
            entropy_BT[b, t] = -(probabilities * np.log(probabilities)).sum()
    return logp_BT, entropy_BT


@pytest.mark.parametrize("chunk_tokens", [1, 3, 5, T, 64])
def test_matches_the_definition_whatever_the_chunk(chunk_tokens):
    scores = token_scores(*problem(), chunk_tokens=chunk_tokens)
    logp_BT, entropy_BT = reference(*problem())
    np.testing.assert_allclose(scores.logp_BT, logp_BT, atol=1e-5)
    np.testing.assert_allclose(scores.entropy_BT, entropy_BT, atol=1e-5)


def test_two_tokens_by_hand():
    """Logits (0, log 3) after the first token: probabilities 1/4 and 3/4."""
    hidden_BTD, head_DV = jnp.ones((1, 2, 1)), jnp.array([[0.0, np.log(3.0)]])
    scores = token_scores(hidden_BTD, head_DV, jnp.array([[0, 1]]), chunk_tokens=4)
    entropy = 0.25 * np.log(4) + 0.75 * np.log(4 / 3)
    np.testing.assert_allclose(scores.logp_BT, [[0.0, np.log(0.75)]], atol=1e-6)
    np.testing.assert_allclose(scores.entropy_BT, [[0.0, entropy]], atol=1e-6)


def test_probabilities_of_all_continuations_add_up_to_one():
    hidden_BTD, head_DV, tokens_BT = problem()

    def logp_B(token):
        scores = token_scores(hidden_BTD, head_DV, tokens_BT.at[:, 4].set(token), chunk_tokens=4)
        return scores.logp_BT[:, 4]

    total_B = jnp.exp(jax.lax.map(logp_B, jnp.arange(V))).sum(axis=0)
    np.testing.assert_allclose(total_B, np.ones(B), atol=1e-5)


@pytest.mark.parametrize("position", [0, 3, T - 1])
def test_a_score_depends_on_the_hidden_state_before_it_and_no_other(position):
    hidden_BTD, head_DV, tokens_BT = problem()

    def score(hidden_BTD):
        return token_scores(hidden_BTD, head_DV, tokens_BT, chunk_tokens=4).logp_BT[:, position].sum()

    moved_T = np.abs(jax.grad(score)(hidden_BTD)).sum(axis=(0, 2)) > 0
    assert np.flatnonzero(moved_T).tolist() == ([position - 1] if position else [])


def test_chunks_give_the_same_gradients():
    hidden_BTD, head_DV, tokens_BT = problem()
    weight_BT = jax.random.normal(jax.random.key(1), (B, T))

    def loss(hidden_BTD, head_DV, chunk_tokens):
        scores = token_scores(hidden_BTD, head_DV, tokens_BT, chunk_tokens=chunk_tokens)
        return (weight_BT * scores.logp_BT).sum()

    whole = jax.grad(loss, argnums=(0, 1))(hidden_BTD, head_DV, T)
    chunked = jax.grad(loss, argnums=(0, 1))(hidden_BTD, head_DV, 3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, chunked)


def test_entropy_carries_no_gradient():
    hidden_BTD, head_DV, tokens_BT = problem()
    grads = jax.grad(
        lambda h, w: token_scores(h, w, tokens_BT, chunk_tokens=4).entropy_BT.sum(), argnums=(0, 1)
    )
    for grad in grads(hidden_BTD, head_DV):
        np.testing.assert_array_equal(grad, np.zeros_like(grad))


def test_entropy_carries_its_gradient_where_asked():
    hidden_BTD, head_DV, tokens_BT = problem()

    def total(hidden_BTD):
        return token_scores(
            hidden_BTD, head_DV, tokens_BT, chunk_tokens=4, entropy_gradient=True
        ).entropy_BT.sum()

    def by_definition(hidden_BTD):
        logp_BTV = jax.nn.log_softmax(hidden_BTD[:, :-1] @ head_DV)
        return -(jnp.exp(logp_BTV) * logp_BTV).sum()

    np.testing.assert_allclose(jax.grad(total)(hidden_BTD), jax.grad(by_definition)(hidden_BTD), atol=1e-4)


def test_the_value_of_a_token_is_read_before_it():
    """At b, t it is hidden[b, t-1] @ value, in float32 whatever the hidden states are; 0 at position 0."""
    hidden_BTD, head_DV, tokens_BT = problem()
    value_D = jnp.arange(D, dtype=jnp.float32)
    low_BTD = hidden_BTD.astype(jnp.bfloat16)
    scores = token_scores(low_BTD, head_DV, tokens_BT, chunk_tokens=4, value_D=value_D)
    expected_BT = np.zeros((B, T))
    expected_BT[:, 1:] = (np.asarray(low_BTD, np.float64) @ np.asarray(value_D, np.float64))[:, :-1]
    np.testing.assert_allclose(scores.value_BT, expected_BT, rtol=1e-5, atol=1e-4)
    assert scores.value_BT.dtype == jnp.float32


def test_without_a_critic_there_is_no_value():
    assert token_scores(*problem(), chunk_tokens=4).value_BT is None


def test_packed_episodes_are_scored_as_if_alone():
    """But for the first token of each, which stands behind another episode and is masked."""
    hidden_BTD, head_DV, tokens_BT = problem()
    value_D = jnp.ones(D)
    apart = token_scores(hidden_BTD, head_DV, tokens_BT, chunk_tokens=4, value_D=value_D)
    row_BTD, row_BT = hidden_BTD.reshape(1, B * T, D), tokens_BT.reshape(1, B * T)
    packed = token_scores(row_BTD, head_DV, row_BT, chunk_tokens=4, value_D=value_D)
    for alone_BT, joined_BT in zip(apart, packed, strict=True):
        np.testing.assert_allclose(joined_BT.reshape(B, T)[:, 1:], alone_BT[:, 1:], atol=1e-5)


def test_low_precision_inputs_are_accumulated_in_float32():
    hidden_BTD, head_DV, tokens_BT = problem()
    low = hidden_BTD.astype(jnp.bfloat16), head_DV.astype(jnp.bfloat16)
    scores = token_scores(*low, tokens_BT, chunk_tokens=4)
    logp_BT, entropy_BT = reference(*(x.astype(jnp.float32) for x in low), tokens_BT)
    np.testing.assert_allclose(scores.logp_BT, logp_BT, atol=1e-5)
    np.testing.assert_allclose(scores.entropy_BT, entropy_BT, atol=1e-5)


def largest_float_array(hlo):
    """Elements of the largest floating-point array that a compiled program mentions."""
    shapes = re.findall(r"\b(?:f32|bf16|f16|f64)\[([\d,]+)\]", hlo)
    return max(int(np.prod([int(size) for size in shape.split(",")])) for shape in shapes)


@pytest.mark.parametrize(("chunk_tokens", "materialized"), [(8, False), (64, True)])
def test_logits_of_the_whole_batch_are_never_materialized(chunk_tokens, materialized):
    """Read from the compiled gradient. With one chunk for all they are, so the reading can fail."""
    hidden_BTD, head_DV, tokens_BT = problem(length=64)
    logits = hidden_BTD.shape[0] * 64 * V

    def log_prob_sum(params):
        return token_scores(*params, tokens_BT, chunk_tokens=chunk_tokens).logp_BT.sum()

    compiled = jax.jit(jax.grad(log_prob_sum)).lower((hidden_BTD, head_DV)).compile().as_text()
    assert compiled is not None
    assert (largest_float_array(compiled) >= logits) == materialized
