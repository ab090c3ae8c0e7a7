"""Reads single keys from a terminal, without waiting for the end of a line."""

import contextlib
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """A function that waits so many seconds for a key, and returns it; "" where none was pressed.

    The terminal is as before afterwards. Where the input is no terminal, no key is ever pressed.
    """
    if not sys.stdin.isatty():
        yield lambda wait_s: _ready([], wait_s)
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield lambda wait_s: _ready([sys.stdin], wait_s)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _ready(inputs: list, wait_s: float) -> str:
    return sys.stdin.read(1) if select.select(inputs, [], [], wait_s)[0] else ""
