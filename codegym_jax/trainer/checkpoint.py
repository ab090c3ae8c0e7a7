"""Checkpoints that are whole or absent, and that show it when they are not.

A checkpoint is a folder such as `0003_step_00000030`, the third that was saved, with what Orbax wrote
(`state`, the pytree; `extra`, JSON), `leaves.json`, the shape and type of each leaf, and `manifest.json`, the
digest of every other file. It is written under another name and renamed when complete, and none is ever
replaced; so a process killed at any moment leaves the checkpoints before it as they were. The digests tell a
file that was cut or changed afterwards; then the checkpoint before it is used. Files are not synced to disk
one by one: what a power failure loses, the digests find.
"""

import hashlib
import json
import logging
import shutil
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from codegym_jax.config import UserError

logger = logging.getLogger(__name__)

Tree = TypeVar("Tree")

MANIFEST = "manifest.json"
LEAVES = "leaves.json"
WRITING = ".writing"
_NAME_BYTES = 64


class CheckpointMismatch(UserError):
    """An intact checkpoint of something else: another model, or another optimizer."""


class Checkpointer:
    """Saves to one folder, and restores from it. Of several processes each calls every method alike."""

    def __init__(self, folder: Path | str, *, keep: int = 2) -> None:
        """Touches nothing yet.

        Args:
          folder: of these checkpoints alone; made when the first is saved.
          keep: how many to keep, the newest. One more than is needed guards against damage.
        """
        self.folder = Path(folder).absolute()
        self.keep = keep
        self._damaged: set[Path] = set()

    def save(self, step: int, state: Any, extra: dict[str, Any]) -> Path:
        """Writes a checkpoint, the newest from now on, and returns its folder once it can be restored.

        Then removes all but the newest `keep`, and those that were found damaged.

        Args:
          step: for the name alone; after a restart from an older checkpoint it may come again.
          state: a pytree of arrays, on any devices.
          extra: whatever else a restart needs, as JSON.
        """
        serial = max(map(_serial, self._paths()), default=0) + 1
        path = self.folder / f"{serial:04d}_step_{step:08d}"
        unfinished = self.folder / WRITING / path.name
        if _is_primary():
            shutil.rmtree(self.folder / WRITING, ignore_errors=True)
            unfinished.parent.mkdir(parents=True)
        _barrier(f"{path.name} begins")
        with _orbax() as checkpointer:
            items = ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
            checkpointer.save(unfinished, items)
        if _is_primary():
            (unfinished / LEAVES).write_text(json.dumps(_leaves(state), indent=1))
            (unfinished / MANIFEST).write_text(json.dumps(_digests(unfinished), indent=1))
            unfinished.rename(path)
            self._remove_old()
        _barrier(f"{path.name} is there")
        return path

    def latest(self) -> Path | None:
        """The newest intact checkpoint, or None. A damaged one is named in the log and passed over.

        Of several processes the first looks, and all take what it found.

        Raises:
          CheckpointMismatch: when another process does not see what the first found.
        """
        found = self._newest_intact() if _is_primary() else None
        name = _from_primary(found.name if found else "")
        if not name:
            return None
        if not (self.folder / name / MANIFEST).is_file():
            raise CheckpointMismatch(
                f"process {jax.process_index()} does not see {self.folder / name}, which process 0 restores;"
                " the run folder must be on a path that all processes share"
            )
        return self.folder / name

    def _newest_intact(self) -> Path | None:
        for path in reversed(self._paths()):
            damage = _damage(path)
            if damage is None:
                return path
            self._damaged.add(path)
            logger.warning("checkpoint %s is damaged (%s); the one before it is used", path, damage)
        return None

    def restore(self, like: Tree) -> tuple[Tree, dict[str, Any]] | None:
        """The state and the extra of the newest intact checkpoint; None when there is none.

        Args:
          like: a pytree of arrays, or of `jax.ShapeDtypeStruct` with shardings: shapes, types and the place
            of each leaf. The mesh may differ from the one that saved.

        Raises:
          CheckpointMismatch: when the checkpoint's leaves are not those of `like`, naming the first that
            differs.
        """
        path = self.latest()
        if path is None:
            return None
        _require_same_leaves(path, json.loads((path / LEAVES).read_text()), _leaves(like))
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        with _orbax() as checkpointer:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(target), extra=ocp.args.JsonRestore())
            restored = checkpointer.restore(path, items)
        return restored["state"], restored["extra"]

    def _paths(self) -> list[Path]:
        """The published checkpoints, oldest first."""
        return sorted(self.folder.glob("[0-9]*_step_[0-9]*"), key=_serial)

    def _remove_old(self) -> None:
        """A checkpoint loses its name before its files, so that none is ever seen half removed."""
        kept = [path for path in self._paths() if path not in self._damaged][-self.keep :]
        for path in self._paths():
            if path not in kept:
                path.rename(self.folder / WRITING / path.name)
        shutil.rmtree(self.folder / WRITING)


def _serial(path: Path) -> int:
    return int(path.name.partition("_")[0])


def _orbax() -> ocp.Checkpointer:
    """A synchronous checkpointer of one pytree and one JSON object."""
    return ocp.Checkpointer(
        ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(), extra=ocp.JsonCheckpointHandler()
        )
    )


def _leaves(tree: Any) -> dict[str, str]:
    """Path -> shape and type of each leaf."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _require_same_leaves(path: Path, saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, "missing"), wanted.get(name, "missing")
        if there != here:
            raise CheckpointMismatch(
                f"{path} does not fit this model and optimizer: {name} is {there} there and {here} here; "
                "use the config it was saved with, or another run folder"
            )


def _digests(path: Path) -> dict[str, str]:
    """Relative path -> sha256 of every file under `path` but the manifest."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and file != path / MANIFEST)
    return {file.relative_to(path).as_posix(): _sha256(file) for file in files}


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _damage(path: Path) -> str | None:
    """What is wrong with the checkpoint at `path`, or None."""
    try:
        recorded = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        recorded = None
    if not isinstance(recorded, dict):
        return f"{MANIFEST} is missing or unreadable"
    found = _digests(path)
    for name in sorted(recorded.keys() | found.keys()):
        if name not in found:
            return f"{name} is missing"
        if recorded.get(name) != found[name]:
            return f"{name} is not what was written"
    return None


def _from_primary(name: str) -> str:
    """What process 0 gives, on every process; at most `_NAME_BYTES`."""
    if jax.process_count() == 1:
        return name
    padded = np.frombuffer(name.encode().ljust(_NAME_BYTES, b"\0"), np.uint8)
    return multihost_utils.broadcast_one_to_all(padded).tobytes().rstrip(b"\0").decode()


def _is_primary() -> bool:
    return jax.process_index() == 0


def _barrier(name: str) -> None:
    """Waits for the other processes, if any."""
    ocp.multihost.sync_global_processes(name)
