"""A tutorial as steps: the files that it has its reader write, the commands, and what these print.

docs/README.md tells authors the rules that this module reads by.
"""

import pathlib
import re
from dataclasses import dataclass, field

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "tutorials"
_FENCE = re.compile(
    r"^(?P<ticks>```+)(?P<info>[^`\n]*)\n(?P<text>.*?)^(?P=ticks)[ ]*$", re.MULTILINE | re.DOTALL
)
_REMARK = re.compile(r"<!-- (?P<kind>not run|slow): (?P<reason>[^>]+?) -->\s*\Z")
_EXIT = re.compile(r"exit=(\d+)")


class BadTutorial(ValueError):
    """A block that the rules do not allow."""


@dataclass(slots=True)
class Step:
    """A block of a tutorial: a file to write, or commands to run."""

    line: int
    """Where the block begins, from 1."""
    text: str
    file: str = ""
    """Where the text is to be saved; empty: it is commands."""
    not_run: str = ""
    """Why the commands are only checked; empty: they are run."""
    slow: str = ""
    """Why they are left to `make test-slow`, with all that follows; empty: they are quick."""
    exit_code: int = 0
    expected: list[str] = field(default_factory=list)
    """Blocks of output that the tutorial shows below."""


def tutorials() -> list[pathlib.Path]:
    """All of them, by name."""
    return sorted(FOLDER.glob("*.md"))


def steps(page: str) -> list[Step]:
    """The steps of a page, in order.

    Raises:
      BadTutorial: for a block that the rules do not allow.
    """
    found: list[Step] = []
    for match in _FENCE.finditer(page):
        before = page[: match.start()]
        line = before.count("\n") + 1
        language, _, more = match["info"].strip().partition(" ")
        if language == "bash":
            found.append(_commands(match["text"], before, line, more))
        elif language == "text":
            if not found or found[-1].file:
                raise BadTutorial(f"line {line}: output, but of no command")
            found[-1].expected.append(match["text"])
        elif more:
            found.append(_file(match["text"], before, line, more))
    return found


def _commands(text: str, before: str, line: int, more: str) -> Step:
    step = Step(line, text)
    if remark := _REMARK.search(before):
        if remark["kind"] == "slow":
            step.slow = remark["reason"]
        else:
            step.not_run = remark["reason"]
    if more:
        code = _EXIT.fullmatch(more)
        if code is None:
            raise BadTutorial(f"line {line}: unknown words after bash: {more}")
        step.exit_code = int(code[1])
    return step


def _file(text: str, before: str, line: int, path: str) -> Step:
    if f"`{path}`" not in "".join(before.splitlines(keepends=True)[-4:]):
        raise BadTutorial(f"line {line}: the words above the block do not say that it is `{path}`")
    if pathlib.PurePath(path).is_absolute() or ".." in pathlib.PurePath(path).parts:
        raise BadTutorial(f"line {line}: {path} lies outside the checkout")
    return Step(line, text, file=path)


def difference(expected: str, printed: str) -> str:
    """Where what was printed is not what a page shows; empty: it is.

    A line `...` stands for any number of lines, `...` within a line for any characters. All other lines are
    compared whole, but for blanks: one is as good as many.
    """
    wanted = [" ".join(line.split()) for line in expected.strip("\n").split("\n")]
    got = [" ".join(line.split()) for line in printed.strip("\n").split("\n")]
    reached = {0}  # every number of printed lines that the wanted ones so far can have used up
    for line in wanted:
        if line == "...":
            after = set(range(min(reached), len(got) + 1))
        else:
            pattern = re.compile(".*".join(map(re.escape, line.split("..."))))
            after = {place + 1 for place in reached if place < len(got) and pattern.fullmatch(got[place])}
        if not after:
            at = min(reached)
            found = got[at] if at < len(got) else "(the end)"
            where = "where this was printed" if len(reached) == 1 else "nowhere after this line"
            return f"the page shows\n  {line}\n{where}\n  {found}"
        reached = after
    if len(got) not in reached:
        return f"the page shows nothing more, but this was printed\n  {got[max(reached)]}"
    return ""
