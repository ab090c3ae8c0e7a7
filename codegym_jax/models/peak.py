"""How many floating-point operations a run's devices could do in a second: as stated, else as measured."""

from collections.abc import Sequence
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from codegym_jax.models.devices import ACCELERATORS

KINDS = {
    "TPU v4": "v4",
    "TPU v5 lite": "v5e",
    "TPU v5e": "v5e",
    "TPU v5": "v5p",
    "TPU v5p": "v5p",
    "TPU v6 lite": "v6e",
    "TPU v6e": "v6e",
    "NVIDIA A100-SXM4-80GB": "a100",
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
}
"""`jax.Device.device_kind` -> key of `devices.ACCELERATORS`. Other forms of a chip have other peaks."""


class Peak(NamedTuple):
    """What a utilization is a share of."""

    flops: float
    """A second, of all devices together."""
    source: str
    """Where the number comes from, in words."""


def peak_of(devices: Sequence[Any], dtype: str) -> Peak:
    """The peak of all devices of a run.

    That of a known accelerator is its vendor's for dense bfloat16 matrices, whatever the run computes in.
    Elsewhere matrices are multiplied for about a second on this process's first device, once. The devices of
    a CPU share its cores: each process counts as one.

    Args:
      devices: `jax.Device`s of all processes, all of one kind.
      dtype: what the run computes in.
    """
    first = devices[0]
    name = KINDS.get(first.device_kind)
    if name is not None:
        peak = ACCELERATORS[name].peak_flops * len(devices)
        return Peak(peak, f"the stated bfloat16 peak of {len(devices)} x {first.device_kind}")
    own = next(device for device in devices if device.process_index == jax.process_index())
    on_cpu = first.platform == "cpu"
    size = 1024 if on_cpu else 8192
    count = len({device.process_index for device in devices}) if on_cpu else len(devices)
    measured = _matmul_rate(own, dtype, size)
    return Peak(
        measured * count, f"measured on {size} x {size} {dtype} matrices, {count} x {first.device_kind}"
    )


def _matmul_rate(device: Any, dtype: str, size: int, tries: int = 8) -> float:
    """The best of a few products of square matrices, in operations a second."""
    left = jax.device_put(jnp.ones((size, size), dtype), device)
    multiply = jax.jit(jnp.matmul)
    multiply(left, left).block_until_ready()
    best_s = float("inf")
    for _ in range(tries):
        start_s = perf_counter()
        multiply(left, left).block_until_ready()
        best_s = min(best_s, perf_counter() - start_s)
    return 2.0 * size**3 / best_s
