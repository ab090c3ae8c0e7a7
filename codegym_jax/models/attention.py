"""Grouped-query attention behind one interface: `attend`, by a reference or by a device's own kernel.

A mask is a rule, not an array, so that a kernel may skip what nobody sees: `Causal` for whole sequences
(learning), `Cached` for appends to a key-value cache (sampling).

Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245 (grouped-query attention).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Int

TPU_LANES = 128  # the width of a TPU's vector registers, which blocks must be a multiple of
PAGE_SLOTS = 128  # of the cache, as the paged kernel fetches it


class Causal(NamedTuple):
    """Whole sequences: position t sees 0 to t of its row, and of its segment where there are some."""

    segment_BT: Int[Array, "B T"] | None = None


class Cached(NamedTuple):
    """Appends to a cache: a query at position p of its row sees slots 0 to p."""

    positions_BT: Int[Array, "B T"]


Mask = Causal | Cached


def attend(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Mask,
    backend: str = "xla",
) -> Float[Array, "B T N H"]:
    """Each query's mean of the values it sees, weighted by softmax(q . k / sqrt(H)).

    Query head n reads key-value head n // (N/K).

    Args:
      q_BTNH: queries.
      k_BKCH: keys; slot c is position c of the row.
      v_BKCH: values.
      mask: what each query sees.
      backend: a key of `BACKENDS` that `choose` gave. The compiler divides "xla" over a mesh by itself, but
        no other kernel: those run on each device's rows and heads.
    """
    kernel = BACKENDS[backend].kernel
    mesh = jax.typeof(q_BTNH).sharding.mesh  # of the arrays that the program was called with
    if backend == "xla" or mesh.empty or mesh.size == 1:
        return kernel(q_BTNH, k_BKCH, v_BKCH, mask)
    return divided(kernel, mesh, q_BTNH, k_BKCH, v_BKCH, mask)


def divided(
    kernel: Callable[..., Any],
    mesh: Mesh | AbstractMesh,
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Mask,
) -> Float[Array, "B T N H"]:
    """Runs a kernel on each device's share: rows over (data, fsdp), heads over tensor, where they divide.

    With fewer key-value heads than devices along tensor, each device takes the one head that its query heads
    read.
    """
    B, _, N, _ = q_BTNH.shape
    K, tensor = k_BKCH.shape[1], mesh.shape["tensor"]
    rows = ("data", "fsdp") if B % (mesh.shape["data"] * mesh.shape["fsdp"]) == 0 else None
    splits = K % tensor == 0 or (tensor % K == 0 and N % tensor == 0)
    heads, kv_heads = "tensor" if splits else None, "tensor" if K % tensor == 0 else None

    def on_a_device(q: Array, k: Array, v: Array, mask: Mask) -> Array:
        if heads and not kv_heads:
            mine = jax.lax.axis_index("tensor") * K // tensor
            k, v = (jax.lax.dynamic_slice_in_dim(x, mine, 1, axis=1) for x in (k, v))
        return kernel(q, k, v, mask)

    q_spec, kv_spec = P(rows, None, heads, None), P(rows, kv_heads, None, None)
    return jax.shard_map(
        on_a_device,
        mesh=mesh,
        in_specs=(q_spec, kv_spec, kv_spec, jax.tree.map(lambda _: P(rows, None), mask)),
        out_specs=q_spec,
        check_vma=False,
    )(q_BTNH, k_BKCH, v_BKCH, mask)


def visible(mask: Mask, rows: int, slots: int) -> Bool[Array, "B T C"]:
    """The mask as an array."""
    if isinstance(mask, Cached):
        return jnp.arange(slots)[None, None, :] <= mask.positions_BT[:, :, None]
    causal_BTC = jnp.broadcast_to(jnp.tril(jnp.ones((slots, slots), bool))[None], (rows, slots, slots))
    if mask.segment_BT is None:
        return causal_BTC
    return causal_BTC & (mask.segment_BT[:, :, None] == mask.segment_BT[:, None, :])


def xla(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Mask,
) -> Float[Array, "B T N H"]:
    """The reference, on any device: scores and softmax in float32, all scores at once in memory."""
    return grouped(q_BTNH, k_BKCH, v_BKCH, visible(mask, k_BKCH.shape[0], k_BKCH.shape[2]))


def grouped(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    visible_BTC: Bool[Array, "B T C"],
) -> Float[Array, "B T N H"]:
    """Attention under any mask. A query that sees nothing gets the mean of all values."""
    B, T, N, H = q_BTNH.shape
    K = k_BKCH.shape[1]
    # [B, K, T * N/K, H]: with one matrix product per key-value head, no key is ever repeated in memory.
    q = q_BTNH.reshape(B, T, K, N // K, H).transpose(0, 2, 1, 3, 4).reshape(B, K, T * (N // K), H)
    scores = jnp.einsum("bkqh,bkch->bkqc", q, k_BKCH, preferred_element_type=jnp.float32) * H**-0.5
    scores = scores.reshape(B, K, T, N // K, -1)
    scores = jnp.where(visible_BTC[:, None, :, None, :], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BKCH.dtype).reshape(B, K, T * (N // K), -1)
    mixed = jnp.einsum("bkqc,bkch->bkqh", weights, v_BKCH)
    return mixed.reshape(B, K, T, N // K, H).transpose(0, 2, 1, 3, 4).reshape(B, T, N, H)


def dot_product(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Mask,
    implementation: Literal["xla", "cudnn"] = "cudnn",
) -> Float[Array, "B T N H"]:
    """JAX's own attention; "cudnn" is NVIDIA's fused kernel, which keeps no scores in memory.

    Segments and appends of several tokens reach it as an array of T x C booleans.
    """
    T = q_BTNH.shape[1]
    k, v = k_BKCH.swapaxes(1, 2), v_BKCH.swapaxes(1, 2)
    attention = functools.partial(jax.nn.dot_product_attention, implementation=implementation)
    if isinstance(mask, Cached):
        if T == 1:
            return attention(q_BTNH, k, v, key_value_seq_lengths=_live(mask, k.shape[1]))
        return attention(q_BTNH, k, v, mask=visible(mask, *k.shape[:2])[:, None])
    if mask.segment_BT is None:
        return attention(q_BTNH, k, v, is_causal=True)
    q, k, v, segment_BT = _padded(q_BTNH, k, v, mask.segment_BT, multiple=2)  # its backward pass wants even
    same = segment_BT[:, None, :, None] == segment_BT[:, None, None, :]
    return attention(q, k, v, mask=same, is_causal=True)[:, :T]


def splash(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Causal,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """The TPU kernel for whole sequences: skips blocks above the diagonal and keeps no scores in memory.

    Rows are padded to blocks; what is padded lies after all that is real, where nobody looks.

    Args:
      q_BTNH: queries.
      k_BKCH: keys.
      v_BKCH: values.
      mask: what each query sees.
      interpret: run the kernel's program step by step, on any device; for tests.
    """
    # Imported where it is used: the kernels live in an experimental place, which only a TPU needs to find.
    from jax.experimental.pallas.ops.tpu import splash_attention

    B, T, N, H = q_BTNH.shape
    segment_BT = jnp.zeros((B, T), jnp.int32) if mask.segment_BT is None else mask.segment_BT
    k, v = k_BKCH.swapaxes(1, 2), v_BKCH.swapaxes(1, 2)
    q, k, v, segment_BT = _padded(q_BTNH, k, v, segment_BT.astype(jnp.int32), multiple=TPU_LANES)
    length = q.shape[1]
    block = next(size for size in (512, 256, TPU_LANES) if length % size == 0)
    kernel = splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([splash_attention.CausalMask((length, length))] * N),
        block_sizes=splash_attention.BlockSizes(
            **dict.fromkeys(("block_q", "block_kv", "block_q_dkv", "block_kv_dkv"), block),
            **dict.fromkeys(("block_q_dq", "block_kv_dq"), block),
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )
    segments = splash_attention.SegmentIds(segment_BT, segment_BT) if mask.segment_BT is not None else None
    heads_first = (x.swapaxes(1, 2) for x in (q * jnp.asarray(H**-0.5, q.dtype), k, v))
    mixed_BNTH: Any = jax.vmap(kernel)(*heads_first, segments)
    return mixed_BNTH.swapaxes(1, 2)[:, :T]


def paged(
    q_BTNH: Float[Array, "B T N H"],
    k_BKCH: Float[Array, "B K C H"],
    v_BKCH: Float[Array, "B K C H"],
    mask: Cached,
) -> Float[Array, "B T N H"]:
    """The TPU kernel for one new token a row: reads the live part of each cache row instead of all slots.

    Our cache is a table of pages as it lies in memory: the pages of a row and key-value head are consecutive,
    so that to the kernel each (row, head) is a sequence with one head. Appends of several tokens, and caches
    whose slots are no multiple of the page, go to `xla`.
    """
    from jax.experimental.pallas.ops.tpu import paged_attention

    B, T, N, H = q_BTNH.shape
    K, C = k_BKCH.shape[1:3]
    if T != 1 or C % PAGE_SLOTS:
        return xla(q_BTNH, k_BKCH, v_BKCH, mask)
    count = C // PAGE_SLOTS
    with jax.numpy_dtype_promotion("standard"):  # the kernel multiplies float32 by bfloat16
        mixed = paged_attention.paged_attention(
            q_BTNH.reshape(B * K, N // K, H) * jnp.asarray(H**-0.5, q_BTNH.dtype),
            *(x.reshape(1, B * K * count, PAGE_SLOTS, H) for x in (k_BKCH, v_BKCH)),
            jnp.repeat(_live(mask, C), K),
            jnp.arange(B * K * count, dtype=jnp.int32).reshape(B * K, count),
            pages_per_compute_block=max(size for size in (1, 2, 4, 8) if count % size == 0),
        )
    return mixed.reshape(B, 1, N, H).astype(q_BTNH.dtype)


def _live(mask: Cached, slots: int) -> Int[Array, " B"]:
    """Slots that the one query of each row sees."""
    return jnp.clip(mask.positions_BT[:, 0] + 1, 1, slots).astype(jnp.int32)


def _padded(q: Array, k: Array, v: Array, segment_BT: Array, multiple: int) -> tuple[Array, ...]:
    """Positions added at the end, in a segment of their own; q, k and v are [B, T, heads, H]."""
    more = -q.shape[1] % multiple
    q, k, v = (jnp.pad(x, ((0, 0), (0, more), (0, 0), (0, 0))) for x in (q, k, v))
    return q, k, v, jnp.pad(segment_BT, ((0, 0), (0, more)), constant_values=-1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A kernel, and where it can run."""

    kernel: Callable[..., Any]
    masks: tuple[type, ...]  # the rules that it follows
    platforms: tuple[str, ...] = ()  # of `jax.default_backend()`; empty: all
    dtypes: tuple[str, ...] = ()  # of queries, keys and values; empty: all
    head_multiple: int = 2  # head widths must be multiples of it
    max_head_width: int = 0  # 0: any
    automatic: tuple[type, ...] = ()  # the rules that "auto" gives it

    def refusal(self, platform: str, dtype: str, head_width: int) -> str:
        """Why it cannot run there; empty when it can."""
        if self.platforms and platform not in self.platforms:
            return f"runs on {' or '.join(self.platforms)}, and this is {platform}"
        if self.dtypes and dtype not in self.dtypes:
            return f"needs policy.compute_dtype {' or '.join(self.dtypes)}, got {dtype}"
        if head_width % self.head_multiple:
            return f"needs heads of a multiple of {self.head_multiple} channels, got {head_width}"
        if self.max_head_width and head_width > self.max_head_width:
            return f"needs heads of at most {self.max_head_width} channels, got {head_width}"
        return ""


BACKENDS: dict[str, Backend] = {
    "xla": Backend(kernel=xla, masks=(Causal, Cached), automatic=(Causal, Cached)),
    "cudnn": Backend(
        kernel=dot_product,
        masks=(Causal, Cached),
        platforms=("gpu",),
        dtypes=("bfloat16",),
        head_multiple=8,
        max_head_width=128,
        automatic=(Causal,),  # its layout would have the whole cache transposed at each token
    ),
    "splash": Backend(
        kernel=splash, masks=(Causal,), platforms=("tpu",), head_multiple=64, automatic=(Causal,)
    ),
    "paged": Backend(
        kernel=paged,
        masks=(Cached,),
        platforms=("tpu",),
        dtypes=("bfloat16",),  # to which it rounds keys and values
        head_multiple=TPU_LANES,
    ),
}
"""By name. "auto" takes the last that can run, for each kind of mask; never "paged", which is untimed."""


class Choice(NamedTuple):
    """The backends of a model, as keys of `BACKENDS`."""

    causal: str
    cached: str


def choose(attention: str, dtype: str, head_width: int, platform: str | None = None) -> Choice:
    """The backends that a model uses for whole sequences and for its cache.

    Args:
      attention: the setting `policy.attention`: a key of `BACKENDS`, or "auto" for what suits the device.
        "auto" also chooses for a kind of mask that a named backend does not follow.
      dtype: the compute type.
      head_width: H.
      platform: as `jax.default_backend()`, which is the default.

    Raises:
      ValueError: when the name is unknown, or the backend cannot run here.
    """
    platform = jax.default_backend() if platform is None else platform
    able = [name for name, kind in BACKENDS.items() if not kind.refusal(platform, dtype, head_width)]
    if attention != "auto" and attention not in able:
        kind = BACKENDS.get(attention)
        reason = kind.refusal(platform, dtype, head_width) if kind else "no such backend"
        raise ValueError(
            f"policy.attention: {attention!r}: {reason}; possible here: {', '.join(['auto', *able])}"
        )
    named = BACKENDS[attention].masks if attention != "auto" else ()
    causal, cached = (
        attention if mask in named else [name for name in able if mask in BACKENDS[name].automatic][-1]
        for mask in (Causal, Cached)
    )
    return Choice(causal, cached)
