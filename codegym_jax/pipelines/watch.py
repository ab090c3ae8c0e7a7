"""How far a long stage is: a bar with rate and time left on a terminal, elsewhere a line now and then."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

LINE_EVERY_ITEMS = 500
LINE_EVERY_S = 60.0


class Watch:
    """Counts what is done and what was accepted of it."""

    def __init__(
        self, title: str, total: int, done: int, accepted: int, console: Console, progress: Progress
    ):
        self._title, self._total = title, total
        self._first, self._done, self._accepted = done, done, accepted
        self._console, self._progress = console, progress
        self._task = progress.add_task(title, total=total, completed=done, note=self._note(0.0))
        self._start_s = self._line_s = monotonic()
        self._line_done = done

    def advance(self, accepted: bool) -> None:
        """One more is done."""
        self._done += 1
        self._accepted += accepted
        now_s = monotonic()
        rate = (self._done - self._first) / max(now_s - self._start_s, 1e-9)
        if not self._progress.disable:
            self._progress.update(self._task, completed=self._done, note=self._note(rate))
        elif self._done - self._line_done >= LINE_EVERY_ITEMS or now_s - self._line_s >= LINE_EVERY_S:
            self._line_done, self._line_s = self._done, now_s
            left_s = (self._total - self._done) / rate
            line = f"{self._title}: {self._done} of {self._total}, {self._note(rate)}, {left_s:.0f} s left"
            self._console.print(line, markup=False, highlight=False)

    def _note(self, rate: float) -> str:
        return f"{self._accepted} accepted, {rate:.1f}/s"


@contextmanager
def watch(title: str, total: int, console: Console, *, done: int = 0, accepted: int = 0) -> Iterator[Watch]:
    """A watch for the time of a `with` block.

    Args:
      title: what is being done.
      total: how many there are.
      console: where the bar or the lines go.
      done: how many of them are done already.
      accepted: how many of those were accepted.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as progress:
        yield Watch(title, total, done, accepted, console, progress)
