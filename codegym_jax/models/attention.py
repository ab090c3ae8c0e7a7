"""Grouped-query attention behind one interface: `attend`, by a reference or by a device's own kernel.

A mask is a rule, not an array, so that a kernel may skip what nobody sees: `Causal` for whole sequences
(learning), `Cached` for appends to a key-value cache (sampling).

Source: Ainslie et al. 2023, https://arxiv.org/abs/2305.13245 (grouped-query attention).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


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
      backend: a key of `BACKENDS` that `choose` gave.
    """
    return BACKENDS[backend].kernel(q_BTNH, k_BKCH, v_BKCH, mask)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Backend:
    """A kernel, and where it can run."""

    kernel: Callable[..., Any]
    masks: tuple[type, ...]  # the rules that it follows; "xla" takes the others' place
    platforms: tuple[str, ...] = ()  # of `jax.default_backend()`; empty: all
    dtypes: tuple[str, ...] = ()  # of queries, keys and values; empty: all
    head_multiple: int = 2  # head widths must be multiples of it
    max_head_width: int = 0  # 0: any

    def refusal(self, platform: str, dtype: str, head_width: int) -> str:
        """Why it cannot run there; empty when it can."""
        if self.platforms and platform not in self.platforms:
            return f"needs {' or '.join(self.platforms)}, and this is {platform}"
        if self.dtypes and dtype not in self.dtypes:
            return f"needs policy.compute_dtype {' or '.join(self.dtypes)}, got {dtype}"
        if head_width % self.head_multiple:
            return f"needs heads of a multiple of {self.head_multiple} channels, got {head_width}"
        if self.max_head_width and head_width > self.max_head_width:
            return f"needs heads of at most {self.max_head_width} channels, got {head_width}"
        return ""


BACKENDS: dict[str, Backend] = {
    "xla": Backend(kernel=xla, masks=(Causal, Cached)),
}
"""By name; "auto" takes the last that can run, for each kind of mask."""


class Choice(NamedTuple):
    """The backends of a model, as keys of `BACKENDS`."""

    causal: str
    cached: str


def choose(attention: str, dtype: str, head_width: int, platform: str | None = None) -> Choice:
    """The backends that a model uses for whole sequences and for its cache.

    Args:
      attention: the setting `policy.attention`: a key of `BACKENDS`, or "auto" for what suits the device.
        What a named backend does not cover falls to "xla".
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
    wanted = able if attention == "auto" else ["xla", attention]
    causal, cached = (
        [name for name in wanted if mask in BACKENDS[name].masks][-1] for mask in (Causal, Cached)
    )
    return Choice(causal, cached)
