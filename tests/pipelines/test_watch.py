"""Where there is no terminal, a line for every so many items; where there is one, no line stays."""

import io

import pytest
from rich.console import Console

from codegym_jax.pipelines.watch import LINE_EVERY_ITEMS, watch


@pytest.mark.parametrize("terminal", [False, True])
def test_lines(terminal):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=200)
    with watch("outline", 2 * LINE_EVERY_ITEMS, console, done=10, accepted=4) as progress:
        for number in range(LINE_EVERY_ITEMS + 1):
            progress.advance(number % 2 == 0)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    line = (
        f"outline: {LINE_EVERY_ITEMS + 10} of {2 * LINE_EVERY_ITEMS}, {LINE_EVERY_ITEMS // 2 + 4} accepted, "
    )
    assert (line in printed) != terminal
    assert printed.count("\noutline: ") == 0
