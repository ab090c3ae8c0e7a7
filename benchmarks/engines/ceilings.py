"""What the device gives at best: bytes a second through a pass that reads and writes, and matrix products."""

from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.engines.jax_side import versions
from benchmarks.engines.worker import Job, serve

_REPEATS = 5
# (numbers in the array, sides of the matrices): beyond every cache, and enough to fill the device.
_SIZES = {"cpu": (2**26, 2048), "gpu": (2**29, 8192)}
_SMALL = (2**16, 128)


class _Ceilings:
    def __init__(self, job: Job) -> None:
        small = job.shape == "tiny"
        count, side = _SMALL if small else _SIZES[job.device]
        dtype = jnp.dtype(job.dtype)
        keys = jax.random.split(jax.random.key(0), 3)
        self.array = jax.random.normal(keys[0], (count,), dtype)
        self.left = jax.random.normal(keys[1], (side, side), dtype)
        self.right = jax.random.normal(keys[2], (side, side), dtype)
        self.copy = jax.jit(lambda array: array + jnp.ones((), dtype))
        self.multiply = jax.jit(lambda left, right: left @ right)

    def versions(self) -> dict[str, str]:
        """As `worker.Engine` says."""
        return versions(("jax",))

    def round(self, number: int) -> dict[str, Any]:
        copied_s = min(self._time_s(self.copy, self.array) for _ in range(_REPEATS))
        multiplied_s = min(self._time_s(self.multiply, self.left, self.right) for _ in range(_REPEATS))
        return {
            "copy_bandwidth": 2 * self.array.nbytes / copied_s,
            "matmul_rate": 2 * self.left.shape[0] ** 3 / multiplied_s,
        }

    @staticmethod
    def _time_s(function: Any, *arguments: jax.Array) -> float:
        start_s = perf_counter()
        jax.block_until_ready(function(*arguments))
        return perf_counter() - start_s


if __name__ == "__main__":
    serve(dict.fromkeys(("decode", "multi_turn", "rl_step", "train_step"), _Ceilings))
