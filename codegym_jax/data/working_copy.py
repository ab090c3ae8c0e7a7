"""A run folder on a bucket, and the local folder in which a process works on it.

A run appends to files and renames them, which a bucket cannot. So every process works in a local folder in
this machine's cache, and process 0 copies it to the bucket: before a checkpoint becomes one, which may
refer to these files, and at the end of stages. Checkpoints themselves go straight to the bucket and are
never here.

The bucket is what counts. `pull` makes the local folder what the bucket holds, so a machine that was used
before goes on exactly as a fresh one does. While a process works in the folder it holds a lock; who only
looks (`codegym report`) then reads what lies there, which is newer than what the bucket holds.

There are no locks between machines: the start that came last has the run. It leaves its name in `OWNER`,
and another process that writes there finds it before its next checkpoint and stops. So a machine that was
taken away and perhaps still runs needs no waiting for, and no person to clear up after it. Between that
look and the commit lies a moment in which a run that was taken can still commit a checkpoint: a whole one,
of the same run.
"""

import base64
import getpass
import hashlib
import json
import os
import pathlib
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterable

from codegym_jax.config import UserError
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.folder_lock import lock_folder
from codegym_jax.data.store import Store, is_remote

ORIGIN = ".origin"
"""File of a working copy that holds its address."""
OWNER = "owner.json"
"""Object on the bucket: which process may write there."""
CHECKPOINTS = "checkpoints"
_HERE_ALONE = re.compile(r"lock|(.*/)?\.[^/]*(/.*)?|(.*/)?[^/]*\.(partial|tmp)(/.*)?|(tensorboard|wandb)/.*")
"""Hidden and unfinished files, and those of tools that append to them."""
_THERE_ALONE = re.compile(rf"{CHECKPOINTS}/.*|{re.escape(OWNER)}")
_WHEN_ASKED = re.compile(r"(episodes|transcripts|profile)/.*")
"""Files that only some work needs: `pull` removes what is out of date of them, `fetch` brings them."""
_LAST = "manifest.json"
"""A folder with one of this name is whole when it is there; so it is copied last."""


class RunTaken(UserError):
    """Another process has begun to work on the run."""


def run_path(text: str, cache: pathlib.Path) -> pathlib.Path:
    """The local folder of a run: the path itself; of one on a bucket its working copy, made if need be.

    Touches no bucket.

    Args:
      text: as a user gives it.
      cache: where working copies are kept.

    Raises:
      StoreError: for an address that is not of a bucket, or where the package for buckets is missing.
    """
    if not is_remote(text):
        return pathlib.Path(text)
    url = text.rstrip("/")
    Store(url)
    name = url.rpartition("/")[2]
    return _made(cache / "runs" / f"{name}-{hashlib.sha256(url.encode()).hexdigest()[:12]}", url)


def _made(folder: pathlib.Path, url: str) -> pathlib.Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ORIGIN).exists():
        write_atomically(folder / ORIGIN, url)
    return folder


def own_folder(folder: pathlib.Path, process: int) -> pathlib.Path:
    """The folder that a process of a run works in: of a run on a bucket its own, so that several of them may
    be on one machine; else the one that all share.

    Args:
      folder: as `run_path` gave it.
      process: its index.
    """
    url = origin_of(folder)
    return _made(folder.with_name(f"{folder.name}-{process}"), url) if url and process else folder


def origin_of(folder: pathlib.Path) -> str:
    """The address on a bucket of which a folder is a working copy; empty where it is none."""
    origin = folder / ORIGIN
    return origin.read_text(encoding="utf-8") if origin.is_file() else ""


def find_copy(folder: pathlib.Path) -> "WorkingCopy | None":
    """The working copy that a folder is; None for a run folder that is local."""
    url = origin_of(folder)
    return WorkingCopy(folder, url) if url else None


def checkpoint_place(folder: pathlib.Path, stage: str) -> str:
    """Where a stage of a run has its checkpoints: below the run folder, wherever that is."""
    return f"{origin_of(folder) or folder}/{CHECKPOINTS}/{stage}"


def looked_at(folder: pathlib.Path, *, episodes: bool = True) -> pathlib.Path:
    """The folder again, brought up to date for a command that only looks.

    Left as it is where the run is local, or goes on on this machine.

    Args:
      folder: as `run_path` gave it.
      episodes: whether to bring them, and transcripts, too.

    Raises:
      StoreError: when the bucket cannot be used.
    """
    copy = find_copy(folder)
    if copy is not None and copy.lock():
        copy.require_bucket()
        copy.pull()
        if episodes:
            copy.fetch_all()
        copy.unlock()
    return folder


class WorkingCopy:
    """Of one process.

    Args:
      folder: with an `ORIGIN`.
      url: of the run folder on the bucket.
    """

    def __init__(self, folder: pathlib.Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._store = Store(url)
        self._there: dict[str, str] = {}
        self._pushed: dict[str, tuple[int, int]] = {}
        self._token = ""
        self._lock: int | None = None
        self._turn = threading.Lock()  # checkpoints are written by a thread, which pushes, too

    def require_bucket(self) -> None:
        """Checks that the bucket can be used; see `Store`."""
        self._store.require_bucket()

    def lock(self) -> bool:
        """Takes the folder for this process; False when another one has it."""
        if self._lock is None:
            self._lock = lock_folder(self.folder)
        return self._lock is not None

    def unlock(self) -> None:
        """Gives it back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def pull(self) -> None:
        """Makes the folder what the bucket holds, less the files that are brought when asked for.

        Of those, and of all others, what differs here is removed.
        """
        with self._turn:
            found = self._store.digests()
            self._there = _whole({name: found[name] for name in found if _shared(name)})
            for name in self._local():
                if self._there.get(name) != _md5(self.folder / name):
                    (self.folder / name).unlink()
            for name in _in_order(self._there):
                if not _WHEN_ASKED.fullmatch(name):
                    self._bring(name)

    def fetch(self, path: pathlib.Path) -> pathlib.Path:
        """A file of the folder again, brought from the bucket unless it is here or nowhere."""
        with self._turn:
            name = path.relative_to(self.folder).as_posix()
            if name in self._there:
                self._bring(name)
        return path

    def fetch_all(self) -> None:
        """Brings all files that are not here."""
        with self._turn:
            for name in _in_order(self._there):
                self._bring(name)

    def push(self) -> None:
        """Copies to the bucket what has changed here since the last time.

        Raises:
          RunTaken: when another process has taken the run; nothing is copied then.
        """
        with self._turn:
            changed = [name for name in _in_order(self._local()) if self._changed(name)]
            if changed:
                self._require_own()
            for name in changed:
                stamp, data = _stamp(self.folder / name), (self.folder / name).read_bytes()
                if self._there.get(name) != _md5_of(data):
                    self._store.write(name, data)
                self._there[name], self._pushed[name] = _md5_of(data), stamp

    def put(self, name: str, text: str) -> None:
        """Writes a file here and on the bucket, where the run is this process's by `take`.

        Raises:
          RunTaken: when another process has taken the run; nothing is written then.
        """
        with self._turn:
            if not self._token:
                return
            self._require_own()
            write_atomically(self.folder / name, text)
            self._store.write(name, text.encode())
            self._there[name], self._pushed[name] = _md5_of(text.encode()), _stamp(self.folder / name)

    def remove(self, name: str) -> None:
        """Removes a file here and on the bucket."""
        with self._turn:
            (self.folder / name).unlink(missing_ok=True)
            self._store.remove(name)
            self._there.pop(name, None)
            self._pushed.pop(name, None)

    def take(self) -> str:
        """Makes this process the one that writes on the bucket, from now on.

        Returns:
          Who was it before, for people; empty when nobody, or this process.
        """
        if self._token:
            return ""
        before = self._owner()
        self._token = uuid.uuid4().hex
        now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        who = {"host": socket.gethostname(), "process": os.getpid(), "user": getpass.getuser(), "since": now}
        self._store.write(OWNER, json.dumps({"token": self._token} | who, indent=1).encode())
        return _told(before) if before else ""

    def require_own(self) -> None:
        """Checks that no other process has taken the run since.

        Raises:
          RunTaken: naming it.
        """
        with self._turn:
            self._require_own()

    def _require_own(self) -> None:
        owner = self._owner() if self._token else {}
        if self._token and owner.get("token") != self._token:
            raise RunTaken(
                f"{self.url} was taken over by {_told(owner)}; this process stops, and what it did since its"
                " last checkpoint is dropped. Start a run once at a time, or give another folder with --run"
            )

    def _owner(self) -> dict[str, str]:
        try:
            return json.loads(self._store.read(OWNER))
        except FileNotFoundError:
            return {}

    def _local(self) -> list[str]:
        """Names of the files here that the bucket has, too, or will have."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return [name for path in files if _shared(name := path.relative_to(self.folder).as_posix())]

    def _changed(self, name: str) -> bool:
        return self._pushed.get(name) != _stamp(self.folder / name)

    def _bring(self, name: str) -> None:
        if not (self.folder / name).exists():
            self._store.download(name, self.folder / name)
            self._pushed[name] = _stamp(self.folder / name)


def _shared(name: str) -> bool:
    return not (_HERE_ALONE.fullmatch(name) or _THERE_ALONE.fullmatch(name))


def _in_order(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: (name.endswith(f"/{_LAST}"), name))


def _whole(found: dict[str, str]) -> dict[str, str]:
    """Without a task set whose copying was cut short."""
    if f"task_set/{_LAST}" in found:
        return found
    return {name: digest for name, digest in found.items() if not name.startswith("task_set/")}


def _stamp(file: pathlib.Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns


def _md5(file: pathlib.Path) -> str:
    return _md5_of(file.read_bytes())


def _md5_of(data: bytes) -> str:
    """As `Store.digests` gives it of an object."""
    return f"md5 {base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}"


def _told(owner: dict[str, str]) -> str:
    if not owner:
        return "somebody who removed its owner.json"
    return f"process {owner['process']} of {owner['user']} on {owner['host']} at {owner['since']}"
