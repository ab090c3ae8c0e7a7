"""A Llama-like decoder in Flax: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, tied head.

One set of parameters, two ways through it: `hidden` reads whole sequences (learning), `extend` appends
to a key-value cache at per-row offsets (sampling). Both run the same blocks, so the graph that samples
is the graph that learns. Knows nothing of tools, tokenizers or losses.

Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971 (architecture); Ainslie et al. 2023,
https://arxiv.org/abs/2305.13245 (grouped-query attention); Shazeer 2020,
https://arxiv.org/abs/2002.05202 (SwiGLU).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from codegym_jax.models import kv_cache
from codegym_jax.models.kv_cache import KVCache
from codegym_jax.models.presets import ModelConfig


def rotate(
    x_BTNH: Float[Array, "B T N H"], positions_BT: Int[Array, "B T"], theta: float
) -> Float[Array, "B T N H"]:
    """Rotary position embedding, halves convention: pairs (i, i + H/2) turn by position * theta^(-2i/H).

    Source: RoFormer, Su et al. 2021, https://arxiv.org/abs/2104.09864, eq. 34.
    """
    half = x_BTNH.shape[-1] // 2
    frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions_BT[:, :, None, None].astype(jnp.float32) * frequency[None, None, None, :]
    cos, sin = jnp.cos(angle).astype(x_BTNH.dtype), jnp.sin(angle).astype(x_BTNH.dtype)
    low, high = jnp.split(x_BTNH, 2, axis=-1)
    return jnp.concatenate([low * cos - high * sin, high * cos + low * sin], axis=-1)


def attend(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    visible_BTC: Bool[Array, "B T C"],
) -> Float[Array, "B T N H"]:
    """Grouped-query attention; query head n reads key-value head n // (N/K). Softmax in float32."""
    B, T, N, H = q_BTNH.shape
    K = k_BKCH.shape[1]
    # [B, K, T * N/K, H]: with one matrix product per key-value head, no key is ever repeated in memory.
    q = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 1, 3, 4).reshape(B, K, T * (N // K), H)
    scores = jnp.einsum("bkqh,bkch->bkqc", q, k_BKCH).astype(jnp.float32) * H**-0.5
    scores = scores.reshape(B, K, T, N // K, -1)
    scores = jnp.where(visible_BTC[:, None, :, None, :], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BKCH.dtype).reshape(B, K, T * (N // K), -1)
    mixed = jnp.einsum("bkqc,bkch->bkqh", weights, v_BKCH)
    return mixed.reshape(B, K, T, N // K, H).transpose(0, 2, 1, 3, 4).reshape(B, T, N, H)


def _kernel(axes: tuple[str, ...], std: float) -> Any:
    """A normal initializer whose parameter carries the logical axes that `models.sharding` places."""
    return nn.with_logical_partitioning(nn.initializers.normal(std), axes)


class RMSNorm(nn.Module):
    """Root-mean-square normalization, in float32. Source: Zhang & Sennrich 2019, arXiv 1910.07467."""

    eps: float

    @nn.compact
    def __call__(self, x_BTD: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        init: Any = nn.with_logical_partitioning(nn.initializers.ones, ("norm",))
        scale_D = self.param("scale", init, (x_BTD.shape[-1],))
        x32 = x_BTD.astype(jnp.float32)
        normal = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return normal.astype(x_BTD.dtype) * scale_D[None, None, :]


class Block(nn.Module):
    """One decoder layer: x + attention(norm(x)), then x + swiglu(norm(x))."""

    config: ModelConfig

    def setup(self) -> None:
        c = self.config
        std, out_std = c.width**-0.5, (2 * c.layers) ** -0.5
        heads, kv = c.query_heads * c.head_width, c.kv_heads * c.head_width
        self.attention_norm = RMSNorm(c.norm_eps)
        self.ffn_norm = RMSNorm(c.norm_eps)
        self.q = self.param("q", _kernel(("embed", "heads"), std), (c.width, heads))
        self.k = self.param("k", _kernel(("embed", "kv_heads"), std), (c.width, kv))
        self.v = self.param("v", _kernel(("embed", "kv_heads"), std), (c.width, kv))
        self.o = self.param("o", _kernel(("heads", "embed"), heads**-0.5 * out_std), (heads, c.width))
        self.gate = self.param("gate", _kernel(("embed", "ffn"), std), (c.width, c.ffn_width))
        self.up = self.param("up", _kernel(("embed", "ffn"), std), (c.width, c.ffn_width))
        self.down = self.param(
            "down", _kernel(("ffn", "embed"), c.ffn_width**-0.5 * out_std), (c.ffn_width, c.width)
        )

    def __call__(
        self,
        x_BTD: Float[Array, "B T D"],
        positions_BT: Int[Array, "B T"],
        visible_BTC: Bool[Array, "B T C"],
        cached: tuple[Array, Array] | None = None,
        write_BT: Int[Array, "B T"] | None = None,
    ) -> tuple[Float[Array, "B T D"], tuple[Array, Array]]:
        """Returns the layer's output and its keys and values ("B K C H").

        With `cached` keys and values, new ones are written at `write_BT` before attention reads them;
        without, attention reads only this call's.
        """
        c = self.config
        B, T, _ = x_BTD.shape
        h_BTD = self.attention_norm(x_BTD)
        q_BTNH = rotate((h_BTD @ self.q).reshape(B, T, -1, c.head_width), positions_BT, c.rope_theta)
        k_BTKH = rotate((h_BTD @ self.k).reshape(B, T, -1, c.head_width), positions_BT, c.rope_theta)
        k, v = k_BTKH.swapaxes(1, 2), (h_BTD @ self.v).reshape(B, T, -1, c.head_width).swapaxes(1, 2)
        if cached is not None and write_BT is not None:
            k, v = kv_cache.write(cached[0], k, write_BT), kv_cache.write(cached[1], v, write_BT)
        mixed_BTNH = attend(q_BTNH, k, v, visible_BTC)
        x_BTD = x_BTD + mixed_BTNH.reshape(B, T, -1) @ self.o
        h_BTD = self.ffn_norm(x_BTD)
        x_BTD = x_BTD + (jax.nn.silu(h_BTD @ self.gate) * (h_BTD @ self.up)) @ self.down
        return x_BTD, (k, v)


class Transformer(nn.Module):
    """The decoder. `__call__` maps token ids to logits; `hidden`, `head` and `extend` are its parts."""

    config: ModelConfig
    vocabulary_size: int

    def setup(self) -> None:
        c = self.config
        init = _kernel(("vocabulary", "embed"), c.embedding_std)
        self.embedding = self.param("embedding", init, (self.vocabulary_size, c.width))
        if c.token_shift:
            self.previous = self.param("previous", init, (self.vocabulary_size, c.width))
        self.blocks = [Block(c) for _ in range(c.layers)]
        self.norm = RMSNorm(c.norm_eps)

    def __call__(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """Next-token logits: position t sees tokens 0..t."""
        return self.hidden(tokens_BT) @ self.head()

    def hidden(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        """Final hidden states of whole sequences, each starting at position 0; causal."""
        B, T = tokens_BT.shape
        previous_BT = jnp.pad(tokens_BT, ((0, 0), (1, 0)))[:, :-1]
        x_BTD = self._embed(tokens_BT, previous_BT)
        positions_BT = jnp.broadcast_to(jnp.arange(T)[None, :], (B, T))
        visible_BTC = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool))[None], (B, T, T))
        for block in self.blocks:
            x_BTD, _ = block(x_BTD, positions_BT, visible_BTC)
        return self.norm(x_BTD)

    def head(self) -> Float[Array, "D V"]:
        """The output projection: logits = hidden @ head."""
        return self.embedding.T * self.config.logit_scale

    def extend(
        self,
        cache: KVCache,
        tokens_BT: Int[Array, "B T"],
        previous_BT: Int[Array, "B T"],
        offset_B: Int[Array, " B"],
        count_B: Int[Array, " B"],
    ) -> tuple[KVCache, Float[Array, "B T D"]]:
        """Appends `tokens_BT[b, :count_B[b]]` to row b at position `offset_B[b]` (a ragged append).

        Args:
          cache: holds positions below `offset_B`; what lies beyond is ignored.
          tokens_BT: columns at or past the row's count are padding and leave the cache untouched.
          previous_BT: the token before each, which may lie outside this call; used by `token_shift`.
          offset_B: position of the row's first new token.
          count_B: new tokens of the row, 0 to T.

        Returns:
          The extended cache, and final hidden states (garbage in padding columns).
        """
        C = cache.keys[0].shape[2]
        column_1T = jnp.arange(tokens_BT.shape[1])[None, :]
        positions_BT = offset_B[:, None] + column_1T
        write_BT = jnp.where(column_1T < count_B[:, None], positions_BT, C)
        visible_BTC = jnp.arange(C)[None, None, :] <= positions_BT[:, :, None]
        x_BTD = self._embed(tokens_BT, previous_BT)
        keys, values = [], []
        for layer, block in enumerate(self.blocks):
            cached = (cache.keys[layer], cache.values[layer])
            x_BTD, (k, v) = block(x_BTD, positions_BT, visible_BTC, cached, write_BT)
            keys.append(k)
            values.append(v)
        return KVCache(tuple(keys), tuple(values)), self.norm(x_BTD)

    def _embed(self, tokens_BT: Int[Array, "B T"], previous_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        x_BTD = self.embedding[tokens_BT]
        return x_BTD + self.previous[previous_BT] if self.config.token_shift else x_BTD
