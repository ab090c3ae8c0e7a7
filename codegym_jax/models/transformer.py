"""A Llama-like decoder in Flax: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU.

One set of parameters, two ways through it: `hidden` reads whole sequences (learning), `extend` appends
to a key-value cache at per-row offsets (sampling). Both run the same blocks, so the graph that samples
is the graph that learns. `ModelConfig` makes it a Llama, a Qwen2 or a Qwen3; `Compute` says how it computes.
Knows nothing of tools, tokenizers or losses.

Parameters are matrices `[in, out]`: hidden @ matrix. See `layers_layout` for the tree. A model whose field
`transposed` is set takes them as `transpose` gives them, `[out, in]`, and computes the same.

Source: Touvron et al. 2023, https://arxiv.org/abs/2302.13971 (architecture); Shazeer 2020,
https://arxiv.org/abs/2002.05202 (SwiGLU); Henry et al. 2020, https://arxiv.org/abs/2010.04245 (norms of
queries and keys).
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from codegym_jax.models import attention, kv_cache, layers_layout, sharding
from codegym_jax.models.attention import Cached, Causal
from codegym_jax.models.compute import REMAT, Compute
from codegym_jax.models.kv_cache import KVCache
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.rope import rotate


def _initializer(initializer: Any, *axes: str) -> Any:
    """An initializer whose parameter carries the logical axes that `models.sharding` places."""
    return nn.with_logical_partitioning(initializer, axes)


class RMSNorm(nn.Module):
    """Root-mean-square normalization over the last axis, in float32. Source: Zhang & Sennrich 2019,
    https://arxiv.org/abs/1910.07467."""

    eps: float
    param_dtype: str = "float32"

    @nn.compact
    def __call__(self, x: Array) -> Array:
        init = _initializer(nn.initializers.ones, "norm")
        scale_D = self.param("scale", init, (x.shape[-1],), jnp.dtype(self.param_dtype))
        x32 = x.astype(jnp.float32)
        normal = x32 * jax.lax.rsqrt(jnp.mean(x32 * x32, axis=-1, keepdims=True) + self.eps)
        return normal.astype(x.dtype) * scale_D.astype(x.dtype)[(None,) * (x.ndim - 1)]


class Block(nn.Module):
    """One decoder layer: x + attention(norm(x)), then x + swiglu(norm(x))."""

    config: ModelConfig
    compute: Compute
    transposed: bool = False

    def setup(self) -> None:
        c = self.config
        std, out_std = c.width**-0.5, (2 * c.layers) ** -0.5
        heads, kv = c.query_heads * c.head_width, c.kv_heads * c.head_width
        self.attention_norm, self.ffn_norm = self._norm(), self._norm()
        self.q = self._kernel("q", (c.width, heads), ("embed", "heads"), std)
        self.k = self._kernel("k", (c.width, kv), ("embed", "kv_heads"), std)
        self.v = self._kernel("v", (c.width, kv), ("embed", "kv_heads"), std)
        self.o = self._kernel("o", (heads, c.width), ("heads", "embed"), heads**-0.5 * out_std)
        self.gate = self._kernel("gate", (c.width, c.ffn_width), ("embed", "ffn"), std)
        self.up = self._kernel("up", (c.width, c.ffn_width), ("embed", "ffn"), std)
        self.down = self._kernel(
            "down", (c.ffn_width, c.width), ("ffn", "embed"), c.ffn_width**-0.5 * out_std
        )
        if c.qkv_bias:
            self.q_bias = self._bias("q_bias", heads, "heads")
            self.k_bias = self._bias("k_bias", kv, "kv_heads")
            self.v_bias = self._bias("v_bias", kv, "kv_heads")
        if c.qk_norm:
            self.q_norm, self.k_norm = self._norm(), self._norm()

    def _norm(self) -> RMSNorm:
        return RMSNorm(self.config.norm_eps, self.compute.param_dtype)

    def _kernel(self, name: str, shape: tuple[int, int], axes: tuple[str, str], std: float) -> Array:
        turn = -1 if self.transposed else 1
        init = _initializer(nn.initializers.normal(std), *axes[::turn])
        dtype = jnp.dtype(self.compute.param_dtype)
        return self.param(name, init, shape[::turn], dtype).astype(self.compute.dtype)

    def _bias(self, name: str, width: int, axis: str) -> Array:
        init = _initializer(nn.initializers.zeros, axis)
        dtype = jnp.dtype(self.compute.param_dtype)
        return self.param(name, init, (width,), dtype).astype(self.compute.dtype)

    def __call__(
        self, x_BTD: Float[Array, "B T D"], positions_BT: Int[Array, "B T"], mask: Causal
    ) -> tuple[Float[Array, "B T D"], None]:
        """The layer's output for whole sequences; the second value is what `scan` collects: nothing."""
        q_BTNH, k_BKTH, v_BKTH = self._qkv(x_BTD, positions_BT)
        backend = choose(self.config, self.compute).causal
        return self._close(x_BTD, attention.attend(q_BTNH, k_BKTH, v_BKTH, mask, backend)), None

    def extend(
        self,
        x_BTD: Float[Array, "B T D"],
        positions_BT: Int[Array, "B T"],
        cached: tuple[Array, Array],
        write_BT: Int[Array, "B T"],
    ) -> tuple[Float[Array, "B T D"], tuple[Array, Array]]:
        """Writes new keys and values at `write_BT`, then reads the cache ("B K C H"); returns both."""
        q_BTNH, k_BKTH, v_BKTH = self._qkv(x_BTD, positions_BT)
        k = kv_cache.write(cached[0], k_BKTH, write_BT)
        v = kv_cache.write(cached[1], v_BKTH, write_BT)
        backend = choose(self.config, self.compute).cached
        return self._close(x_BTD, attention.attend(q_BTNH, k, v, Cached(positions_BT), backend)), (k, v)

    def _qkv(
        self, x_BTD: Float[Array, "B T D"], positions_BT: Int[Array, "B T"]
    ) -> tuple[Float[Array, "B T N H"], Float[Array, "B K T H"], Float[Array, "B K T H"]]:
        """Queries, keys and values of this call's tokens; queries and keys are turned."""
        c = self.config
        h_BTD = self.attention_norm(x_BTD)
        q, k, v = (self._times(h_BTD, kernel) for kernel in (self.q, self.k, self.v))
        if c.qkv_bias:
            q, k, v = (
                y + bias[None, None] for y, bias in ((q, self.q_bias), (k, self.k_bias), (v, self.v_bias))
            )
        q, k, v = (y.reshape(*y.shape[:2], -1, c.head_width) for y in (q, k, v))
        if c.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        q, k = (rotate(y, positions_BT, c.rope_theta, c.rope_scaling) for y in (q, k))
        return q, k.swapaxes(1, 2), v.swapaxes(1, 2)

    def _close(
        self, x_BTD: Float[Array, "B T D"], mixed_BTNH: Float[Array, "B T N H"]
    ) -> Float[Array, "B T D"]:
        """What follows attention: the output projection and the feed-forward half."""
        x_BTD = x_BTD + self._times(mixed_BTNH.reshape(*x_BTD.shape[:2], -1), self.o)
        h_BTD = self.ffn_norm(x_BTD)
        gated_BTF = jax.nn.silu(self._times(h_BTD, self.gate)) * self._times(h_BTD, self.up)
        return x_BTD + self._times(gated_BTF, self.down)

    def _times(self, x: Array, kernel: Array) -> Array:
        return _times_transposed(x, kernel).astype(x.dtype) if self.transposed else x @ kernel


def choose(config: ModelConfig, compute: Compute) -> attention.Choice:
    """The attention backends of a model on this machine; see `attention.choose` for the error."""
    return attention.choose(compute.attention, compute.compute_dtype, config.head_width)


class Transformer(nn.Module):
    """The decoder. `__call__` maps token ids to logits; `hidden`, `head` and `extend` are its parts."""

    config: ModelConfig
    vocabulary_size: int
    compute: Compute = Compute()
    transposed: bool = False
    """Parameters are as `transpose` gives them; for layers by themselves."""

    def setup(self) -> None:
        c = self.config
        choose(c, self.compute)  # refuses an impossible backend before anything is computed
        shape, dtype = (self.vocabulary_size, c.width), jnp.dtype(self.compute.param_dtype)
        init = _initializer(nn.initializers.normal(c.embedding_std), "vocabulary", "embed")
        self.embedding = self.param("embedding", init, shape, dtype)
        if c.token_shift:
            self.previous = self.param("previous", init, shape, dtype)
        if not c.tied_head:
            turn = 1 if self.transposed else -1
            init = _initializer(nn.initializers.normal(c.width**-0.5), *("vocabulary", "embed")[::turn])
            self.output = self.param("head", init, shape[::turn], dtype)
        self.blocks: Any = self._scanned() if self.compute.scan_layers else self._unrolled()
        self.norm = RMSNorm(c.norm_eps, self.compute.param_dtype)

    def _unrolled(self) -> list[Block]:
        block = _rematerialized(self.compute)
        return [block(self.config, self.compute, self.transposed) for _ in range(self.config.layers)]

    def _scanned(self) -> Any:
        broadcast: Any = (nn.broadcast, nn.broadcast)
        scan = nn.scan(
            _rematerialized(self.compute),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=broadcast,
            length=self.config.layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        return scan(self.config, self.compute)

    def __call__(self, tokens_BT: Int[Array, "B T"]) -> Float[Array, "B T V"]:
        """Next-token logits: position t sees tokens 0..t."""
        return project(self.hidden(tokens_BT), self.head(), self.transposed)

    def hidden(
        self,
        tokens_BT: Int[Array, "B T"],
        segment_BT: Int[Array, "B T"] | None = None,
        positions_BT: Int[Array, "B T"] | None = None,
    ) -> Float[Array, "B T D"]:
        """Final hidden states of whole sequences; causal.

        Args:
          tokens_BT: a sequence a row, or several behind one another.
          segment_BT: tells them apart: a run of equal numbers is one sequence. None: all of the row is one.
          positions_BT: of each token in its sequence; None: counted from the sequence's start.
        """
        T = tokens_BT.shape[1]
        previous_BT = jnp.pad(tokens_BT, ((0, 0), (1, 0)))[:, :-1]
        counted_BT = jnp.broadcast_to(jnp.arange(T)[None, :], tokens_BT.shape)
        if segment_BT is not None:
            differs = segment_BT[:, 1:] != segment_BT[:, :-1]
            first_BT = jnp.pad(differs, ((0, 0), (1, 0)), constant_values=True)
            previous_BT = jnp.where(first_BT, 0, previous_BT)
            counted_BT = counted_BT - jax.lax.cummax(jnp.where(first_BT, counted_BT, 0), axis=1)
        positions_BT = counted_BT if positions_BT is None else positions_BT
        x_BTD = self._embed(tokens_BT, previous_BT)
        mask = Causal(segment_BT)
        if self.compute.scan_layers:
            x_BTD, _ = self.blocks(x_BTD, positions_BT, mask)
        else:
            for block in self.blocks:
                x_BTD, _ = block(x_BTD, positions_BT, mask)
        return self.norm(x_BTD)

    def head(self) -> Array:
        """The output projection, "D V" ("V D" of a transposed model), in the compute type; see `project`."""
        turn = -1 if self.transposed else 1
        if self.config.tied_head:
            head = self.embedding if self.transposed else self.embedding.T
        else:
            head = self.output
        # Gathered once, not for each chunk of logits.
        head = sharding.constrain(head.astype(self.compute.dtype), *(None, "vocabulary")[::turn])
        return head * self.config.logit_scale

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

        A stack of layers is copied at each call. To decode, take it apart once with `layers_layout.unstack`,
        for an unrolled model: 1.7 times faster at SmolLM2-135M's width (6 layers, 8 rows, two CPU cores; a
        loop over stacked layers and caches is in between).
        """
        C = cache.keys[0].shape[2]
        column_1T = jnp.arange(tokens_BT.shape[1])[None, :]
        positions_BT = offset_B[:, None] + column_1T
        write_BT = jnp.where(column_1T < count_B[:, None], positions_BT, C)
        x_BTD = self._embed(tokens_BT, previous_BT)
        keys, values = [], []
        for layer in range(self.config.layers):
            cached = (cache.keys[layer], cache.values[layer])
            x_BTD, (k, v) = self._extend_layer(layer, x_BTD, positions_BT, cached, write_BT)
            keys.append(k)
            values.append(v)
        return KVCache(tuple(keys), tuple(values)), self.norm(x_BTD)

    def _extend_layer(self, layer: int, *inputs: Any) -> Any:
        """`Block.extend` of one layer, which a stack has to be taken apart for."""
        if not self.compute.scan_layers:
            return self.blocks[layer].extend(*inputs)
        params = layers_layout.take(self.blocks.variables["params"], layer)
        block = Block(self.config, self.compute, parent=None)
        return block.apply({"params": params}, *inputs, method="extend")

    def _embed(self, tokens_BT: Int[Array, "B T"], previous_BT: Int[Array, "B T"]) -> Float[Array, "B T D"]:
        x_BTD = sharding.constrain(self.embedding[tokens_BT], "rows", None, None).astype(self.compute.dtype)
        if not self.config.token_shift:
            return x_BTD
        return x_BTD + self.previous[previous_BT].astype(self.compute.dtype)


def project(
    hidden_BTD: Float[Array, "B T D"], head: Array, transposed: bool = False
) -> Float[Array, "B T V"]:
    """Logits in float32, whatever type comes in: sums are not rounded to bfloat16.

    Args:
      hidden_BTD: what the last norm gave.
      head: as `Transformer.head` gives it.
      transposed: the model's field.
    """
    if transposed:
        return _times_transposed(hidden_BTD, head)
    return jnp.matmul(hidden_BTD, head, preferred_element_type=jnp.float32)


def transpose(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a transposed model: every matrix `[out, in]`, as the embedding is already.

    All else is handed on as it is.
    """

    def turned(path: tuple[Any, ...], leaf: Any) -> bool:
        return leaf.ndim == 2 and path[0].key not in ("embedding", "previous")

    leaves, tree = jax.tree_util.tree_flatten_with_path(dict(params))
    matrices = iter(_swapped([leaf for path, leaf in leaves if turned(path, leaf)]))
    return jax.tree.unflatten(tree, [next(matrices) if turned(path, leaf) else leaf for path, leaf in leaves])


@jax.jit
def _swapped(matrices: list[Array]) -> list[Array]:
    return [matrix.T for matrix in matrices]


def _times_transposed(x: Array, kernel: Array) -> Array:
    """x @ kernel.T for x "B T in" and a kernel "out in", in float32, with the kernel as the left operand.

    On a CPU a few rows take two thirds of the time of `x @ kernel` so (`LOG.md`). The barrier keeps the
    compiler from exchanging the operands.
    """
    columns = jnp.matmul(kernel, x.reshape(-1, x.shape[-1]).T, preferred_element_type=jnp.float32)
    return jax.lax.optimization_barrier(columns).T.reshape(*x.shape[:-1], -1)


def _rematerialized(compute: Compute) -> Any:
    """The block whose backward pass keeps what the policy says."""
    policy = REMAT[compute.remat]
    return Block if policy is None else nn.remat(Block, policy=policy, prevent_cse=not compute.scan_layers)
