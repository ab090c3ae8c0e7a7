"""Where the time of a step goes: named parts, the whole, and what was compiled meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Any

import jax

_COMPILED = "/jax/core/compile/backend_compile_duration"
"""The event that JAX records for each program that it compiles, or loads from its cache."""


class Stopwatch:
    """Times the parts of a step, from lap to lap.

    Listens to what JAX compiles in this process, in all threads, until it is closed.

    Args:
      parts: names; a lap tells each of them, 0 where it was not entered.
      clock: seconds.
    """

    def __init__(self, *parts: str, clock: Callable[[], float] = monotonic) -> None:
        self._clock, self._parts = clock, parts
        self._spent_s = dict.fromkeys(parts, 0.0)
        self._compiles, self._compile_s = 0, 0.0
        self._lap_s = clock()
        self._listener = self._note  # the same object for both: methods are made anew at each look
        jax.monitoring.register_event_duration_secs_listener(self._listener)

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        """Adds the time spent inside to a part, also when the inside raises; names it in a profile, too.

        Raises:
          KeyError: when there is no such part.
        """
        spent_s, start_s = self._spent_s[part], self._clock()
        try:
            with jax.profiler.TraceAnnotation(part):
                yield
        finally:
            self._spent_s[part] = spent_s + self._clock() - start_s

    def lap(self) -> dict[str, float]:
        """The metrics `<part>_s`, `step_s`, `compiles`, `compile_s` since the last lap, which ends here."""
        now_s = self._clock()
        values = {f"{part}_s": spent_s for part, spent_s in self._spent_s.items()}
        values |= {
            "step_s": now_s - self._lap_s,
            "compiles": float(self._compiles),
            "compile_s": self._compile_s,
        }
        self._spent_s = dict.fromkeys(self._parts, 0.0)
        self._compiles, self._compile_s, self._lap_s = 0, 0.0, now_s
        return values

    def close(self) -> None:
        """Stops listening; may be called twice."""
        if self._listener is not None:
            jax.monitoring.unregister_event_duration_listener(self._listener)
            self._listener = None

    def __enter__(self) -> "Stopwatch":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _note(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == _COMPILED:
            self._compiles += 1
            self._compile_s += duration_secs
