"""What people see while a command runs: one clear line a step, and a bar where there is a terminal."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

CONSOLE = Console(highlight=False, soft_wrap=True)


def say(line: str) -> None:
    """Prints one line, as it is."""
    CONSOLE.print(line, markup=False)


class Bar:
    """A progress bar that advances; silent where the output is not a terminal."""

    def __init__(self, progress: Progress, label: str, total: int, done: int) -> None:
        self._progress, self._task = progress, progress.add_task(label, total=total, completed=done)

    def advance(self, count: int = 1) -> None:
        """Moves the bar on."""
        self._progress.advance(self._task, count)


@contextmanager
def bar(label: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar for the time of a `with` block, `done` of `total` at first; it leaves no trace when it ends."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as progress:
        yield Bar(progress, label, total, done)
