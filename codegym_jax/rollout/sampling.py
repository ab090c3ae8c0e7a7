"""From logits to a token, and when a message ends: temperature, truncation, stop sequences, random keys.

The key of a token is a function of (run seed, task, attempt, position) alone, so an episode is the same
whatever shares its batch, slot, host or mesh.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32


class Truncation(NamedTuple):
    """Which tokens may be drawn; the defaults allow all.

    Numbers are fixed when a program is compiled. Arrays have a number for each row; then what no row asks for
    costs nothing, and a row's tokens are those that the same numbers give when fixed.
    """

    top_k: int | Int[Array, " B"] | Int[np.ndarray, " B"] = 0
    """Keep the k largest; 0 keeps all."""
    top_p: float | Float[Array, " B"] | Float[np.ndarray, " B"] = 1.0
    """Keep the smallest set of largest tokens whose probability reaches this; 1.0 keeps all."""
    min_p: float | Float[Array, " B"] | Float[np.ndarray, " B"] = 0.0
    """Keep tokens at least this many times as likely as the likeliest; 0.0 keeps all."""


def token_keys(episode_key_B4: UInt32[Array, "B 4"], position_B: Int[Array, " B"]) -> Array:
    """One random key per row, for the token at `position_B`."""

    def one(words: Array, position: Array) -> Array:
        key = jax.random.wrap_key_data(words[:2], impl="threefry2x32")
        return jax.random.fold_in(jax.random.fold_in(jax.random.fold_in(key, words[2]), words[3]), position)

    return jax.vmap(one)(episode_key_B4, position_B)


def truncate(logits_BV: Float[Array, "B V"], truncation: Truncation) -> Float[Array, "B V"]:
    """Sets to -inf what is not kept; ties at a threshold stay.

    Top-k acts first, then top-p on the distribution of what is left. Min-p compares with the likeliest token,
    which always stays, so that its place in the order makes no difference to it.

    Args:
      logits_BV: after temperature.
      truncation: see there.

    Source: Holtzman et al. 2019, https://arxiv.org/abs/1904.09751 (top-p, or nucleus, sampling); Nguyen et
    al. 2024, https://arxiv.org/abs/2407.01082 (min-p).
    """
    top_k, top_p, min_p = truncation

    def cut_top_k(logits_BV: Array) -> Array:
        return _keep(logits_BV, _threshold(logits_BV, jnp.ones_like(logits_BV), _bound(top_k, top_k > 0)))

    def cut_top_p(logits_BV: Array) -> Array:
        probability_BV = jax.nn.softmax(logits_BV, axis=-1)
        return _keep(logits_BV, _threshold(logits_BV, probability_BV, _bound(top_p, top_p < 1.0)))

    def cut_min_p(logits_BV: Array) -> Array:
        log_min_p = np.float32(np.log(min_p)) if isinstance(min_p, int | float) else jnp.log(min_p)[:, None]
        return _keep(logits_BV, logits_BV.max(axis=-1, keepdims=True) + log_min_p)

    logits_BV = _where_asked(top_k > 0, cut_top_k, logits_BV)
    logits_BV = _where_asked(top_p < 1.0, cut_top_p, logits_BV)
    return _where_asked(min_p > 0.0, cut_min_p, logits_BV)


def _where_asked(asked: Any, cut: Callable[[Array], Array], logits_BV: Array) -> Array:
    """Cuts where a setting asks for it: known now for a number, on the device where each row has its own."""
    if isinstance(asked, bool):
        return cut(logits_BV) if asked else logits_BV
    return jax.lax.cond(asked.any(), cut, lambda logits_BV: logits_BV, logits_BV)


def _bound(setting: Any, asked: Any) -> Any:
    """What the weight above a threshold must stay below, as "B 1" where each row has its own."""
    if isinstance(asked, bool):
        return float(setting)
    return jnp.where(asked, setting.astype(jnp.float32), jnp.inf)[:, None]  # infinity keeps all


def _keep(logits_BV: Array, threshold_B1: Array) -> Array:
    return jnp.where(logits_BV < threshold_B1, -jnp.inf, logits_BV)


def _threshold(logits_BV: Array, weight_BV: Array, bound: Any) -> Array:
    """The smallest logit above which there is less than `bound` of weight, as "B 1".

    Found by bisection, which at a vocabulary of 150,000 takes a fourteenth of the time of sorting. Floats are
    ordered as integers once the bits of negative ones are turned over, and the weight above a threshold falls
    as the threshold rises; so 32 halvings end between two neighboring floats.
    """
    order_BV = _ordered(jax.lax.bitcast_convert_type(logits_BV, jnp.int32))
    high_B1 = order_BV.max(axis=-1, keepdims=True)  # nothing lies above
    low_B1 = jnp.full_like(high_B1, _ordered(np.float32(-np.inf).view(np.int32)))

    def halve(_: Array, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low_B1, high_B1 = bounds
        middle_B1 = (low_B1 >> 1) + (high_B1 >> 1) + (low_B1 & high_B1 & 1)
        above_B1 = jnp.where(order_BV > middle_B1, weight_BV, 0.0).sum(axis=-1, keepdims=True)
        enough_B1 = above_B1 >= bound
        return jnp.where(enough_B1, middle_B1, low_B1), jnp.where(enough_B1, high_B1, middle_B1)

    _, high_B1 = jax.lax.fori_loop(0, 32, halve, (low_B1, high_B1))
    return jax.lax.bitcast_convert_type(_ordered(high_B1), jnp.float32)


def _ordered(bits):
    """A float32's bits as an integer that orders as the float does, and back: it is its own inverse."""
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def sample(
    logits_BV: Float[Array, "B V"],
    keys_B: Array,
    temperature: Float[Array, ""] | Float[Array, " B"],
    truncation: Truncation,
) -> tuple[Int[Array, " B"], Float[Array, " B"], Float[Array, " B"]]:
    """Draws one token per row.

    Args:
      logits_BV: the unmodified policy's.
      keys_B: one key per row.
      temperature: of all rows, or of each. 0 is greedy, and then the sampled distribution is a point mass
        (log-probability 0).
      truncation: see `truncate`.

    Returns:
      Tokens; their log-probability under the distribution really sampled; and under the unmodified policy.
    """
    logits_BV = logits_BV.astype(jnp.float32)
    greedy = temperature <= 0.0
    divisor = jnp.where(greedy, 1.0, temperature)
    scaled_BV = truncate(logits_BV / _column(divisor), truncation)
    noisy_BV = scaled_BV + gumbel(keys_B, logits_BV.shape[-1])
    token_B = _largest(jnp.where(_column(greedy), logits_BV, noisy_BV))

    def of_token(logp_BV: Array) -> Array:
        return jnp.take_along_axis(logp_BV, token_B[:, None], axis=1)[:, 0]

    sampler_logp_B = jnp.where(greedy, 0.0, of_token(jax.nn.log_softmax(scaled_BV, axis=-1)))
    return token_B, sampler_logp_B, of_token(jax.nn.log_softmax(logits_BV, axis=-1))


def _column(setting: Array) -> Array:
    """A setting beside logits: a scalar as it is, one number a row as "B 1"."""
    return setting[:, None] if setting.ndim else setting


def gumbel(keys_B: Array, count: int) -> Float[Array, "B V"]:
    """What `jax.random.gumbel` draws with each key, bit for bit, as one pass over the output.

    Its Threefry is a loop over whole arrays on a CPU, where this takes a third of the time.

    Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (Threefry-2x32, 20 rounds).
    """
    key_2B1 = jax.random.key_data(keys_B).T[:, :, None]
    schedule = (key_2B1[0], key_2B1[1], key_2B1[0] ^ key_2B1[1] ^ np.uint32(0x1BD11BDA))
    counter_1V = jax.lax.broadcasted_iota(jnp.uint32, (1, count), 1)
    high, low = jnp.zeros_like(counter_1V) + schedule[0], counter_1V + schedule[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            high = high + low
            low = high ^ ((low << np.uint32(turn)) | (low >> np.uint32(32 - turn)))
        high = high + schedule[(group + 1) % 3]
        low = low + schedule[(group + 2) % 3] + np.uint32(group + 1)
    mantissa_BV = ((high ^ low) >> np.uint32(9)) | np.uint32(0x3F800000)  # of a number from 1 to 2
    tiny = np.finfo(np.float32).tiny
    uniform_BV = jnp.maximum(jax.lax.bitcast_convert_type(mantissa_BV, jnp.float32) - np.float32(1.0), tiny)
    return -jnp.log(-jnp.log(uniform_BV))


def _largest(x_BV: Float[Array, "B V"]) -> Int[Array, " B"]:
    """`argmax`, which XLA computes number by number on a CPU: two plain passes take a quarter of the time."""

    def two_passes(x_BV: Array) -> Array:
        largest_B1 = x_BV.max(axis=-1, keepdims=True)
        at_BV = jax.lax.broadcasted_iota(jnp.int32, x_BV.shape, 1)
        last = x_BV.shape[-1] - 1  # and of a row of NaN, which equals nothing
        return jnp.where(x_BV == largest_B1, at_BV, last).min(axis=-1)

    def one_pass(x_BV: Array) -> Array:
        return jnp.argmax(x_BV, axis=-1).astype(jnp.int32)

    return jax.lax.platform_dependent(x_BV, cpu=two_passes, default=one_pass)


def ends_message(
    tokens_BC: Int[Array, "B C"],
    length_B: Int[Array, " B"],
    message_B: Int[Array, " B"],
    stop_sequences: Sequence[Sequence[int]],
) -> Bool[Array, " B"]:
    """Whether rows end with a stop sequence that lies wholly in the message that begins at `message_B`."""
    ended_B = jnp.zeros(length_B.shape, bool)
    for sequence in stop_sequences:
        stop_1T = jnp.asarray(sequence, jnp.int32)[None, :]
        at_BT = length_B[:, None] - stop_1T.shape[1] + jnp.arange(stop_1T.shape[1])[None, :]
        last_BT = jnp.take_along_axis(tokens_BC, jnp.maximum(at_BT, 0), axis=1)
        ended_B |= (last_BT == stop_1T).all(axis=1) & (at_BT[:, 0] >= message_B)
    return ended_B
