"""Checkpoints that are whole or absent, and that show it when they are not.

A checkpoint is a folder such as `0003_step_00000030`, the third that was begun, with what Orbax wrote
(`state`, the pytree; `extra`, JSON), `leaves.json`, the shape and type of each leaf, and `manifest.json`, the
digest of every other file. The manifest is written last, at once, and it alone makes the checkpoint one; none
is ever renamed or replaced, so that one rule serves a local disk and a bucket. A process killed at any moment
leaves the checkpoints before as they were, and at most a folder without a manifest, which the next save
removes. The digests tell a file that was cut or changed afterwards; then the checkpoint before it is used.
Files are not synced to disk one by one: what a power failure loses, the digests find.

Saving is asynchronous: `save` returns when the state is on the host, and a thread writes it while training
goes on. The next `save`, and everything that looks at checkpoints, waits for that thread.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from codegym_jax.config import UserError
from codegym_jax.data.store import Place, Store, told

logger = logging.getLogger(__name__)

Tree = TypeVar("Tree")

MANIFEST = "manifest.json"
LEAVES = "leaves.json"
_NAME = re.compile(r"([0-9]+)_step_([0-9]+)")
_NAME_BYTES = 64
_INCOMPLETE = f"has no {MANIFEST}: its process ended while it was written, or the file was lost"


class CheckpointMismatch(UserError):
    """An intact checkpoint of something else: another model, or another optimizer."""


class Checkpointer(contextlib.AbstractContextManager["Checkpointer"]):
    """Saves to one folder, and restores from it. Of several processes each calls every method alike."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        keep: int = 2,
        keep_every: int = 0,
        before_commit: Callable[[], object] = lambda: None,
    ) -> None:
        """Touches nothing yet.

        Args:
          folder: of these checkpoints alone, local or on a bucket; made when the first is saved.
          keep: how many to keep, the newest. One more than is needed guards against damage.
          keep_every: those of steps that this divides are kept for good, but step 0; 0: none.
          before_commit: called by process 0, in the thread that writes, before the checkpoint becomes one:
            for what must not be lost when it is there. What it raises is raised by the next call.
        """
        self._store = Store(folder)
        self.folder: Place = self._store.place
        self._keep, self._keep_every, self._before_commit = keep, keep_every, before_commit
        self._damaged: set[str] = set()
        self._writing: _Writing | None = None

    def save(self, step: int, state: Any, extra: dict[str, Any]) -> Place:
        """Begins a checkpoint, the newest once it is complete, and returns its folder.

        When this returns, the state may be donated. Once complete, the checkpoints that are not to be kept
        are removed, and those that were found damaged.

        Args:
          step: for the name alone; after a restart from an older checkpoint it may come again.
          state: a pytree of arrays, on any devices.
          extra: whatever else a restart needs, as JSON.
        """
        self.wait()
        name = _from_primary(self._next_name(step) if _is_primary() else "")
        path = self.folder / name
        checkpointer = _orbax()
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), extra=ocp.args.JsonSave(extra))
        with told(path):
            checkpointer.save(path, items)
        leaves = _leaves(state)

        def finish() -> None:
            with told(path):
                checkpointer.close()  # waits until all processes have written their parts
            if _is_primary():
                self._commit(name, leaves)

        self._writing = _Writing(finish)
        return path

    def wait(self) -> None:
        """Waits until what `save` began is complete; raises what went wrong with it."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.end()
            _barrier("the checkpoint is there")

    close = wait

    def __exit__(self, *_: object) -> None:
        self.close()

    def latest(self) -> Place | None:
        """The newest intact checkpoint, or None. A damaged one is named in the log and passed over.

        Of several processes the first looks, and all take what it found.

        Raises:
          CheckpointMismatch: when another process does not see what the first found.
        """
        self.wait()
        name = _from_primary(self._newest_intact() if _is_primary() else "")
        if not name:
            return None
        if f"{name}/{MANIFEST}" not in self._store.names(name):
            raise CheckpointMismatch(
                f"process {jax.process_index()} does not see {self.folder / name}, which process 0 restores;"
                " the run folder must be on a bucket, or on a path that all processes share"
            )
        return self.folder / name

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
        saved = json.loads(self._store.read(f"{path.name}/{LEAVES}"))
        _require_same_leaves(path, saved, _leaves(like))
        target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), like)
        with told(path), _orbax() as checkpointer:
            items = ocp.args.Composite(state=ocp.args.StandardRestore(target), extra=ocp.args.JsonRestore())
            restored = checkpointer.restore(path, items)
        return restored["state"], restored["extra"]

    def copy_latest(self, target: Path) -> Path | None:
        """Copies the newest intact checkpoint into a local folder of checkpoints.

        Args:
          target: the folder that will hold it, under its own name.

        Returns:
          Where it is; None when there is none.
        """
        path = self.latest()
        if path is None:
            return None
        shutil.rmtree(target / path.name, ignore_errors=True)
        for name in self._store.names(path.name):
            self._store.download(name, target / name)
        if self._store.is_remote:  # its manifest held the bucket's checksums
            _write_manifest(Store(target), path.name)
        return target / path.name

    def _next_name(self, step: int) -> str:
        serial = max((_serial(name) for name in self._present()), default=0) + 1
        return f"{serial:04d}_step_{step:08d}"

    def _present(self) -> list[str]:
        """Names of the folders of checkpoints, complete or not, oldest first."""
        return sorted(filter(_NAME.fullmatch, self._store.folders()), key=_serial)

    def _newest_intact(self) -> str:
        """Its name; empty when there is none."""
        for name in reversed(self._present()):
            damage = self._damage(name)
            if damage is None:
                return name
            self._damaged.add(name)
            logger.warning(
                "checkpoint %s is damaged (%s); the one before it is used", self.folder / name, damage
            )
        return ""

    def _damage(self, name: str) -> str | None:
        """What is wrong with a checkpoint, or None."""
        try:
            recorded = json.loads(self._store.read(f"{name}/{MANIFEST}"))
        except FileNotFoundError:
            return _INCOMPLETE
        except ValueError:
            recorded = None
        if not isinstance(recorded, dict):
            return f"{MANIFEST} is not readable"
        found = _digests(self._store, name)
        for file in sorted(recorded.keys() | found.keys()):
            if file not in found:
                return f"{file} is missing"
            if recorded.get(file) != found[file]:
                return f"{file} is not what was written"
        return None

    def _commit(self, name: str, leaves: dict[str, str]) -> None:
        self._before_commit()
        self._store.write(f"{name}/{LEAVES}", json.dumps(leaves, indent=1).encode())
        _write_manifest(self._store, name)
        self._remove_old()

    def _remove_old(self) -> None:
        """A checkpoint loses its manifest before its files, so that none is ever taken for whole."""
        files, present = set(self._store.names()), self._present()
        whole = [name for name in present if f"{name}/{MANIFEST}" in files and name not in self._damaged]
        kept = set(whole[-self._keep :]) | self._kept_for_good(whole)
        for name in present:
            if name not in kept:
                self._store.remove(f"{name}/{MANIFEST}")
                self._store.remove(name)

    def _kept_for_good(self, whole: list[str]) -> set[str]:
        """Of a step that was saved again, the newer one."""
        if not self._keep_every:
            return set()
        newest = {_step(name): name for name in whole}
        return {name for step, name in newest.items() if step and step % self._keep_every == 0}


class _Writing:
    """A thread that writes a checkpoint. An interpreter that ends waits for it."""

    def __init__(self, finish: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._finish = finish
        self._thread = threading.Thread(target=self._run, name="checkpoint")
        self._thread.start()

    def end(self) -> None:
        """Waits for it, and raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._finish()
        except BaseException as error:
            self._error = error


def _serial(name: str) -> int:
    return int(name.partition("_")[0])


def _step(name: str) -> int:
    return int(name.rpartition("_")[2])


def _orbax() -> ocp.AsyncCheckpointer:
    """A checkpointer of one pytree and one JSON object, which writes in place."""
    return ocp.AsyncCheckpointer(
        ocp.CompositeCheckpointHandler(
            state=ocp.StandardCheckpointHandler(), extra=ocp.JsonCheckpointHandler()
        ),
        atomicity_options=ocp.options.AtomicityOptions(mode=ocp.options.AtomicityMode.COMMIT_FILE),
    )


def _leaves(tree: Any) -> dict[str, str]:
    """Path -> shape and type of each leaf."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _require_same_leaves(path: Place, saved: dict[str, str], wanted: dict[str, str]) -> None:
    for name in sorted(saved.keys() | wanted.keys()):
        there, here = saved.get(name, "missing"), wanted.get(name, "missing")
        if there != here:
            raise CheckpointMismatch(
                f"{path} does not fit this model and optimizer: {name} is {there} there and {here} here; "
                "use the config it was saved with, or another run folder"
            )


def _digests(store: Store, name: str) -> dict[str, str]:
    """Path within the checkpoint -> digest of every file of it but the manifest."""
    found = {file.removeprefix(f"{name}/"): digest for file, digest in store.digests(name).items()}
    return {file: digest for file, digest in found.items() if file != MANIFEST}


def _write_manifest(store: Store, name: str) -> None:
    store.write(f"{name}/{MANIFEST}", json.dumps(_digests(store, name), indent=1).encode())


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
