"""Files that are there complete or not at all."""

import contextlib
import pathlib
import re
import shutil
import uuid
from collections.abc import Iterator

_UNFINISHED = re.compile(r"\..+\.partial|[^.].*\.tmp")
"""Names under which a file or a folder is written that gets its own when it is whole."""


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A new path beside `path`, renamed to it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file under a temporary name and renames it."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes what processes that were killed had begun to write below a folder, in which none is at work."""
    found = [path for path in folder.rglob("*") if _UNFINISHED.fullmatch(path.name)]
    for path in found:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
