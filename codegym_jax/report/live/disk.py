"""A run's files as files: what they weigh, when one was last written, and whether a checkpoint is whole."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

_MANIFEST = "manifest.json"
_CHECKPOINT = re.compile(r"(\d+)_step_(\d+)")
_CHECK_BYTES = 512 * 2**20
"""Of a checkpoint up to this size the digests are checked; of a larger one, that all files are there."""
_WATCHED = ("", "episodes", "episodes/*", "evaluations", "checkpoints/*")
"""Folders in which a run that is at work writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The newest checkpoint of a run."""

    name: str
    """Stage and folder."""
    step: int
    bytes: int
    age_s: float
    intact: bool | None
    """None: its files are there, but they are too large to be read for this."""
    damage: str
    """What is wrong with it; "" where nothing is known to be."""


def usage(folder: Path) -> tuple[dict[str, int], int]:
    """Bytes by part of the run, the largest first, and the bytes that are free on its disk."""
    parts: dict[str, int] = {}
    for path, stat in _files(folder):
        inside = path.relative_to(folder).parts
        part = inside[0] if len(inside) > 1 else "other files"
        parts[part] = parts.get(part, 0) + stat.st_size
    return dict(sorted(parts.items(), key=lambda item: -item[1])), shutil.disk_usage(folder).free


def newest_write_s(folder: Path) -> float:
    """When the run last wrote something, in seconds since 1970."""
    times = [
        path.stat().st_mtime
        for pattern in _WATCHED
        for path in (folder.glob(pattern) if pattern else [folder])
    ]
    metrics = folder / "metrics.jsonl"  # grows in place
    return max([*times, metrics.stat().st_mtime if metrics.exists() else 0.0])


def newest_checkpoint(folder: Path, now_s: float) -> Checkpoint | None:
    """The one that was completed last, of all stages; None where there is none.

    The manifest, which is written last, makes it one: a folder without it is being written, or was cut.
    """
    found = [
        (path.stat().st_mtime_ns, int(match[1]), path, int(match[2]))
        for path in folder.glob(f"*/*/{_MANIFEST}")
        if (match := _CHECKPOINT.fullmatch(path.parent.name))
    ]
    if not found:
        return None
    written_ns, _, manifest, step = max(found)
    path = manifest.parent
    size = sum(stat.st_size for _, stat in _files(path))
    damage = _damage(path, written_ns, size <= _CHECK_BYTES)
    return Checkpoint(
        name=f"{path.parent.name}/{path.name}",
        step=step,
        bytes=size,
        age_s=max(0.0, now_s - written_ns / 1e9),
        intact=False if damage else True if size <= _CHECK_BYTES else None,
        damage=damage,
    )


@lru_cache(maxsize=256)
def _damage(path: Path, written_ns: int, read: bool) -> str:
    """What is wrong with a checkpoint, by its manifest; `written_ns` tells one writing of it from another."""
    try:
        recorded = json.loads((path / _MANIFEST).read_text())
    except (OSError, ValueError):
        recorded = None
    if not isinstance(recorded, dict):
        return f"{_MANIFEST} is not readable"
    for name, digest in recorded.items():
        file = path / name
        if not file.is_file():
            return f"{name} is missing"
        if read and _sha256(file) != digest:
            return f"{name} is not what was written"
    return ""


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """All files below, but those that vanish meanwhile."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            try:
                yield path, path.stat()
            except FileNotFoundError:
                continue
