"""Where a round's time goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Spent:
    """Seconds by name, added up; blocks of one name do not overlap."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def on(self, name: str) -> Iterator[None]:
        """Counts the seconds in the block."""
        start_s = perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - start_s
