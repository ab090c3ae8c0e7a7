"""Tells apart the time that the device samples from the time that it waits for tools."""

from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

import jax
import numpy as np
from jaxtyping import Int, UInt32

from codegym_jax.rollout.agent import TokenSampler
from codegym_jax.rollout.generate import Sampled


class TimedSampler:
    """A sampler that adds up the time spent in its calls; for an `Agent` in place of the sampler itself.

    What is spent elsewhere while episodes are played goes into tools, text and bookkeeping. Appends return
    before the device is done with them; `decode` then waits for it, so the sum is the device's.

    Args:
      sampler: does the work.
      clock: seconds.
    """

    def __init__(self, sampler: TokenSampler, clock: Callable[[], float] = monotonic) -> None:
        self._sampler, self._clock = sampler, clock
        self.slots, self.stop_sequences = sampler.slots, sampler.stop_sequences
        self._device_s = 0.0

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None:
        """See `Sampler.start`."""
        start_s = self._clock()
        self._sampler.start(slot_keys)
        self._device_s += self._clock() - start_s

    def append(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> None:
        """See `Sampler.append`."""
        start_s = self._clock()
        self._sampler.append(params, tokens_of)
        self._device_s += self._clock() - start_s

    def decode(self, params: Any, budget_B: Int[np.ndarray, " B"], temperature: float) -> Sampled:
        """See `Sampler.decode`."""
        start_s = self._clock()
        with jax.profiler.TraceAnnotation("sample"):
            sampled = self._sampler.decode(params, budget_B, temperature)
        self._device_s += self._clock() - start_s
        return sampled

    def lap(self) -> float:
        """Seconds spent in calls since the last lap, which ends here."""
        device_s, self._device_s = self._device_s, 0.0
        return device_s
