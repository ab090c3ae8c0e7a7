"""From logits to a token: temperature, top-k, top-p, and random keys that know only their episode.

The key of a token is a function of (run seed, task, attempt, position) alone, so an episode is the same
whatever shares its batch, slot, host or mesh.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32


def episode_key(seed: int, task_id: str, attempt: int) -> UInt32[np.ndarray, " 4"]:
    """Four words that name an episode's random stream; made on the host, at no device call per episode."""
    name = f"{seed}\0{task_id}\0{attempt}".encode()
    return np.frombuffer(hashlib.sha256(name).digest()[:16], dtype="<u4").astype(np.uint32)


def token_keys(episode_key_B4: UInt32[Array, "B 4"], position_B: Int[Array, " B"]) -> Array:
    """One random key per row, for the token at `position_B`."""

    def one(words: Array, position: Array) -> Array:
        key = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, words[2]), words[3]), position)

    return jax.vmap(one)(episode_key_B4, position_B)


def truncate(logits_BV: Float[Array, "B V"], *, top_k: int, top_p: float) -> Float[Array, "B V"]:
    """Sets to -inf what neither top-k nor top-p (nucleus) keeps; ties at the threshold stay.

    Args:
      logits_BV: after temperature.
      top_k: keep the k largest; 0 keeps all.
      top_p: keep the smallest set of largest tokens whose probability reaches this; 1.0 keeps all.

    Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751 (nucleus sampling).
    """
    if top_k > 0:
        threshold_B1 = jax.lax.top_k(logits_BV, min(top_k, logits_BV.shape[-1]))[0][:, -1:]
        logits_BV = jnp.where(logits_BV < threshold_B1, -jnp.inf, logits_BV)
    if top_p < 1.0:
        sorted_BV = -jnp.sort(-logits_BV, axis=-1)
        probability_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(probability_BV, axis=-1) - probability_BV
        kept_BV = jnp.where(before_BV < top_p, sorted_BV, jnp.inf)
        logits_BV = jnp.where(logits_BV < kept_BV.min(axis=-1, keepdims=True), -jnp.inf, logits_BV)
    return logits_BV


def sample(
    logits_BV: Float[Array, "B V"],
    keys_B: Array,
    temperature: Float[Array, ""],
    *,
    top_k: int,
    top_p: float,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """Draws one token per row.

    Args:
      logits_BV: the unmodified policy's.
      keys_B: one key per row.
      temperature: 0 is greedy, and then the sampled distribution is a point mass (log-probability 0).
      top_k: see `truncate`.
      top_p: see `truncate`.

    Returns:
      Tokens; their log-probability under the distribution really sampled; and under the unmodified policy.
    """
    logits_BV = logits_BV.astype(jnp.float32)
    greedy = temperature <= 0.0
    scaled_BV = truncate(logits_BV / jnp.where(greedy, 1.0, temperature), top_k=top_k, top_p=top_p)
    noise_BV = jax.vmap(lambda key: jax.random.gumbel(key, (logits_BV.shape[-1],), jnp.float32))(keys_B)
    token_B = jnp.argmax(jnp.where(greedy, logits_BV, scaled_BV + noise_BV), axis=-1).astype(jnp.int32)

    def of_token(logp_BV: Array) -> Array:
        return jnp.take_along_axis(logp_BV, token_B[:, None], axis=1)[:, 0]

    sampler_logp_B = jnp.where(greedy, 0.0, of_token(jax.nn.log_softmax(scaled_BV, axis=-1)))
    return token_B, sampler_logp_B, of_token(jax.nn.log_softmax(logits_BV, axis=-1))
