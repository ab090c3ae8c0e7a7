"""How a model computes, apart from what it is: types, layers scanned or unrolled, rematerialization, kernels.

The same parameters serve every choice, up to a cast and to `layers_layout`, which converts between two trees.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

DTYPES = ("float32", "bfloat16")

REMAT: dict[str, Callable[..., Any] | None] = {
    "none": None,  # keep every activation for the backward pass
    "full": jax.checkpoint_policies.nothing_saveable,  # keep each layer's input
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,  # and what its weights multiply out to
}
"""What a layer keeps for the backward pass, by name; the rest is computed again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Settings that change speed, memory and rounding of a model, and nothing else.

    `scan_layers` compiles one layer instead of all. On two CPU cores, 6 layers of SmolLM2-135M's width learn
    1.2 times slower in the loop than unrolled (4 rows of 128 tokens; medians of 7 interleaved), equally fast
    with remat "full", and decode 1.7 times slower (`Transformer.extend` says what to do about it). Elsewhere,
    and with more layers, it is not measured.

    Raises:
      ValueError: when a name is unknown. `attention.choose` checks `attention`: it knows the device.
    """

    param_dtype: str = "float32"  # of the parameters that `init` makes
    compute_dtype: str = "float32"  # of activations and the KV cache; norms, softmax and logits are float32
    scan_layers: bool = False  # layers stacked (`layers_layout`), and a loop over them
    remat: str = "none"  # a key of `REMAT`
    attention: str = "auto"  # a key of `attention.BACKENDS`, or "auto"

    def __post_init__(self) -> None:
        for name in ("param_dtype", "compute_dtype"):
            if getattr(self, name) not in DTYPES:
                raise ValueError(
                    f"policy.{name} must be one of {', '.join(DTYPES)}, got {getattr(self, name)!r}"
                )
        if self.remat not in REMAT:
            raise ValueError(f"policy.remat must be one of {', '.join(REMAT)}, got {self.remat!r}")

    @property
    def dtype(self) -> Any:
        """`compute_dtype`, as jax.numpy knows it."""
        return jnp.dtype(self.compute_dtype)
