"""Reads on in a file that grows: the whole lines since the last look, and whether it is the same file."""

import os
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

_WITNESS_BYTES = 256


class Mark(NamedTuple):
    """How far a file was read, and by what it is known again."""

    end: int = 0
    """Bytes read; always the end of a line."""
    inode: int = 0
    size: int = -1
    """The whole file's, a line that was not finished included."""
    mtime_ns: int = 0
    witness: int = 0
    """A checksum of the last bytes that were read."""


class Line(NamedTuple):
    """One line without its end."""

    start: int
    """Bytes before it in the file."""
    text: bytes


class Look(NamedTuple):
    """What a look at the file found."""

    anew: bool
    """The file is not the one that was read before, or was cut: the lines are all that it has."""
    lines: list[Line]
    mark: Mark


def read_on(path: Path, mark: Mark) -> Look | None:
    """The lines that were finished since `mark`; None where nothing changed.

    A last line without its end is being written, or was cut by a kill: it is left for a later look.

    Raises:
      FileNotFoundError: the file is gone.
    """
    with path.open("rb") as file:
        stat = os.fstat(file.fileno())
        if (stat.st_ino, stat.st_size, stat.st_mtime_ns) == (mark.inode, mark.size, mark.mtime_ns):
            return None
        anew = (
            stat.st_ino != mark.inode or stat.st_size < mark.end or _witness(file, mark.end) != mark.witness
        )
        begin = 0 if anew else mark.end
        file.seek(begin)
        fresh = file.read()
        fresh = fresh[: fresh.rfind(b"\n") + 1]
        end = begin + len(fresh)
        seen = Mark(end, stat.st_ino, stat.st_size, stat.st_mtime_ns, _witness(file, end))
    return Look(anew, _lines(fresh, begin), seen)


def _witness(file: BinaryIO, end: int) -> int:
    begin = max(0, end - _WITNESS_BYTES)
    file.seek(begin)
    return zlib.crc32(file.read(end - begin))


def _lines(block: bytes, start: int) -> list[Line]:
    found = []
    for text in block.split(b"\n")[:-1]:
        found.append(Line(start, text))
        start += len(text) + 1
    return found
