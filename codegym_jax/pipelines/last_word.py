"""How the process that worked on a run ended, left in the run folder for whoever looks at it.

`ended.json` is there from the end of a command until the next one works on the run. A run that is complete
needs none, and a process that is killed leaves none: who looks then goes by how long nothing was written.
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import time

from codegym_jax.config import ExitCode, Outage, UserError

FILE = "ended.json"
_MOST_LETTERS = 1000
_PATIENCE_S = 2.0
"""For what ends the process from a thread: it has no time for a bucket that does not answer."""


class LastWord:
    """Of one command; only the first counts."""

    def __init__(self) -> None:
        self._command = ""
        self._forget()

    @contextmanager
    def of(self, command: str) -> Iterator[None]:
        """Makes an error that ends the `with` block the last word of a command, unless another was said."""
        self._command = command
        try:
            yield
        except BaseException as error:
            self.say(ExitCode.WRONG, f"{type(error).__name__}: {error}")
            raise
        finally:
            self._close()
            self._forget()

    def goes_to(self, leave: Callable[[int, str], object], close: Callable[[], object]) -> None:
        """From now on the command works on a run.

        Args:
          leave: called once, with the exit code and the content of `FILE`.
          close: called when the command is over.
        """
        self._close()
        self._leave, self._close = leave, close

    def say(self, code: int, why: str) -> None:
        """Leaves the last word, where there is a run to leave it in; a disk or a bucket may refuse it."""
        leave, self._leave = self._leave, lambda code, text: None
        word = {"command": self._command, "code": code, "why": why[:_MOST_LETTERS], "at_s": time()}
        with suppress(OSError, UserError, Outage):
            leave(code, json.dumps(word, indent=1) + "\n")

    def say_soon(self, code: int, why: str) -> None:
        """The same in a thread that then ends the process, whatever the other threads hold."""
        thread = threading.Thread(target=self.say, args=(code, why), daemon=True)
        thread.start()
        thread.join(_PATIENCE_S)

    def _forget(self) -> None:
        self._leave: Callable[[int, str], object] = lambda code, text: None
        self._close: Callable[[], object] = lambda: None


LAST_WORD = LastWord()
"""Of this process, which a thread may end."""
