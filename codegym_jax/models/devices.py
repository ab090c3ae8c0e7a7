"""Accelerators by name: how much memory a chip has, how fast it multiplies, and how many a process has.
Starts no device.

Vendors' GB are taken as 10^9 bytes, the smaller reading.

Sources, read November 2026: https://docs.cloud.google.com/tpu/docs/v4, and v5e, v5p and v6e there (memory and
bfloat16 peak of a chip; how slices are named, and how many chips a virtual machine has);
https://www.nvidia.com/en-us/data-center/a100, and h100 and h200 there (SXM modules; bfloat16 peak of dense
matrices).
"""

import re
from dataclasses import dataclass

from codegym_jax.config import UserError


@dataclass(frozen=True, kw_only=True, slots=True)
class Accelerator:
    """One chip, which JAX shows as one device."""

    platform: str  # as `jax.default_backend()`
    memory_bytes: int
    peak_flops: float  # bfloat16, per second; 0: not stated
    named_by: int = 1  # how many of what a slice is named by make one chip
    per_process: int = 0  # devices of one process, which has a machine for itself; 0: all that there are
    alone: int = 0  # so many may belong to one process where there is no other


ACCELERATORS: dict[str, Accelerator] = {
    # A v4 or v5p slice is named by its TensorCores, of which a chip has two: v5p-64 is 32 chips.
    "v4": Accelerator(platform="tpu", memory_bytes=32 * 10**9, peak_flops=275e12, named_by=2, per_process=4),
    "v5p": Accelerator(platform="tpu", memory_bytes=95 * 10**9, peak_flops=459e12, named_by=2, per_process=4),
    # A v5e or v6e slice is named by its chips, which have one TensorCore: v6e-64 is 64 chips.
    "v5e": Accelerator(platform="tpu", memory_bytes=16 * 10**9, peak_flops=197e12, per_process=4, alone=8),
    "v6e": Accelerator(platform="tpu", memory_bytes=32 * 10**9, peak_flops=918e12, per_process=4, alone=8),
    "a100": Accelerator(platform="gpu", memory_bytes=80 * 10**9, peak_flops=312e12, per_process=8),
    "h100": Accelerator(platform="gpu", memory_bytes=80 * 10**9, peak_flops=989e12, per_process=8),
    "h200": Accelerator(platform="gpu", memory_bytes=141 * 10**9, peak_flops=989e12, per_process=8),
    # A host has the memory that it has; this stands for a common one, shared by everything that runs there.
    "cpu": Accelerator(platform="cpu", memory_bytes=16 * 10**9, peak_flops=0.0),
}

ALIASES = {"v5litepod": "v5e", "v5lite": "v5e"}
"""What Google's tools call them too."""


@dataclass(frozen=True, slots=True)
class Devices:
    """What a plan is for."""

    name: str
    accelerator: Accelerator
    count: int
    """Devices as JAX counts them: chips."""

    @property
    def processes(self) -> int:
        """Processes that run on them, one on each machine."""
        accelerator = self.accelerator
        if not accelerator.per_process or self.count <= max(accelerator.per_process, accelerator.alone):
            return 1
        return -(-self.count // accelerator.per_process)


def parse_devices(name: str) -> Devices:
    """Devices by name and number, such as "v5p-64", "v6e-64", "h100-8" or "cpu-1".

    Raises:
      UserError: when there is no such accelerator, or the number does not make whole chips.
    """
    match = re.fullmatch(r"(\w+?)-(\d+)", name.strip().lower())
    kind = ALIASES.get(match[1], match[1]) if match else ""
    if match is None or kind not in ACCELERATORS or int(match[2]) < 1:
        known = ", ".join(ACCELERATORS)
        raise UserError(
            f"--devices takes a name and a number, such as v5p-64 or h100-8, got {name!r}; known: {known}"
        )
    accelerator, number = ACCELERATORS[kind], int(match[2])
    if number % accelerator.named_by:
        raise UserError(
            f"--devices {name}: {kind} slices are named by TensorCores, {accelerator.named_by} a chip;"
            f" {number} is not a multiple"
        )
    return Devices(name, accelerator, number // accelerator.named_by)
