"""Token log-probabilities from hidden states, a chunk of the sequence at a time.

The logits of a whole batch, `[B, T, V]` in float32, are the largest array that a language model's loss could
make. Here they exist for one chunk only, in the forward pass and again in the backward pass, which recomputes
them.

This is also the one place where positions shift: the hidden state at t - 1 predicts token t, and everybody
else only sees `logp_BT[b, t]`, that of `tokens_BT[b, t]` given what precedes it.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class Scores(NamedTuple):
    """What a policy says about the tokens of a batch, each given the tokens before it.

    The first token of a packed episode is judged by the episode before it: mask it, as position 0.
    """

    logp_BT: Float[Array, "B T"]
    """Log-probability of `tokens_BT[b, t]` under the unmodified policy, in nats; 0 at position 0."""
    entropy_BT: Float[Array, "B T"]
    """Entropy of the distribution that `tokens_BT[b, t]` was judged by, in nats; 0 at position 0."""
    value_BT: Float[Array, "B T"] | None = None
    """Return that the critic expects before `tokens_BT[b, t]` is chosen, in reward units; 0 at position 0.
    None without a critic."""


def token_scores(
    hidden_BTD: Float[Array, "B T D"],
    head_DV: Float[Array, "D V"],
    tokens_BT: Int[Array, "B T"],
    *,
    chunk_tokens: int,
    value_D: Float[Array, " D"] | None = None,
    entropy_gradient: bool = False,
) -> Scores:
    """Scores each token by the hidden state of the position before it.

        logp[b, t]  = log softmax(hidden[b, t-1] @ head)[tokens[b, t]]
        value[b, t] = hidden[b, t-1] @ value

    This is the unmodified policy, at temperature 1 and without truncation. The sampler's `sampler_logp` is
    of the distribution that it drew from, tempered or truncated; `objective.Objective` says which of the two
    a ratio takes.

    Args:
      hidden_BTD: the model's last hidden states; position t has read tokens 0 to t of its episode.
      head_DV: logits = hidden @ head, accumulated in float32 whatever the inputs are.
      tokens_BT: ids in [0, V). Padding is scored like anything else; mask the result.
      chunk_tokens: how many positions of every row have logits at the same time. At B=64, T=192, D=192, V=512
        on two CPU cores 8 to 32 take 0.15 s forward and backward, and the whole row at once 0.19 s.
      value_D: the critic, linear in the hidden state and computed in float32; its error also reaches the
        layers below. None: no critic.
      entropy_gradient: lets the entropy be raised or lowered; costs a softmax more in the backward pass.
    """
    batch, length, width = hidden_BTD.shape
    chunk_tokens = min(chunk_tokens, length)
    chunk_count = -(-length // chunk_tokens)
    padding = chunk_count * chunk_tokens - length
    next_BT = jnp.pad(tokens_BT[:, 1:], ((0, 0), (0, padding + 1)))
    padded_BTD = jnp.pad(hidden_BTD, ((0, 0), (0, padding), (0, 0)))
    chunks = (
        padded_BTD.reshape(batch, chunk_count, chunk_tokens, width).swapaxes(0, 1),
        next_BT.reshape(batch, chunk_count, chunk_tokens).swapaxes(0, 1),
    )
    # `checkpoint` makes the backward pass of a chunk compute its logits again instead of keeping those of all
    # chunks.
    score = jax.checkpoint(lambda chunk: _score_next(chunk[0], head_DV, chunk[1], entropy_gradient))
    logp_BT, entropy_BT = (_in_order(scored, length) for scored in jax.lax.map(score, chunks))
    return Scores(logp_BT, entropy_BT, None if value_D is None else _values(hidden_BTD, value_D))


def _score_next(
    hidden_BTD: Float[Array, "B T D"],
    head_DV: Float[Array, "D V"],
    next_BT: Int[Array, "B T"],
    entropy_gradient: bool,
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
    """Log-probability of the next token at each position, and the entropy there."""
    logits_BTV = jnp.einsum("btd,dv->btv", hidden_BTD, head_DV, preferred_element_type=jnp.float32)
    normalizer_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
    logp_BT = jnp.take_along_axis(logits_BTV, next_BT[..., None], axis=-1)[..., 0] - normalizer_BT
    if not entropy_gradient:
        logits_BTV, normalizer_BT = jax.lax.stop_gradient((logits_BTV, normalizer_BT))
    probability_BTV = jnp.exp(logits_BTV - normalizer_BT[..., None])
    return logp_BT, normalizer_BT - (probability_BTV * logits_BTV).sum(axis=-1)


def _values(hidden_BTD: Float[Array, "B T D"], value_D: Float[Array, " D"]) -> Float[Array, "B T"]:
    """The critic's value before each token; 0 before the first, which nobody chose."""
    after_BT = jnp.einsum("btd,d->bt", hidden_BTD.astype(jnp.float32), value_D.astype(jnp.float32))
    return jnp.pad(after_BT[:, :-1], ((0, 0), (1, 0)))


def _in_order(chunks: Array, length: int) -> Float[Array, "B T"]:
    """Chunks (chunk, row, position) of scores of the next token, as rows of scores of the token itself."""
    next_BT = chunks.swapaxes(0, 1).reshape(chunks.shape[1], -1)[:, : length - 1]
    return jnp.pad(next_BT, ((0, 0), (1, 0)))
