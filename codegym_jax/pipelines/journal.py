"""Results by key in one append-only file, so that a killed command goes on where it was.

A process killed while it writes leaves at most one damaged record at the end, which the next one cuts off.
Records are synced to the disk in chunks: a machine that loses power loses the last few, which are then made
again.
"""

import os
import pickle
import shutil
import struct
import zlib
from pathlib import Path

from codegym_jax.config import UserError
from codegym_jax.data.folder_lock import lock_folder

SYNC_EVERY = 16
"""Records between two syncs."""

_FILE = "journal"
_HEAD = struct.Struct("<II")  # length of the record, its CRC-32


class JournalError(UserError):
    """A journal that another process is using."""


class Journal:
    """The results in a folder; one process at a time."""

    def __init__(self, folder: Path):
        """Opens a journal, making it first where there is none.

        Raises:
          JournalError: when another process has it open.
        """
        self.folder = folder
        lock = lock_folder(folder)
        if lock is None:
            raise JournalError(f"{folder}: another process is making this; wait until it ends")
        self._lock = lock
        self._file = (folder / _FILE).open("a+b")
        self._unsynced = 0
        self.results = self._read()
        """Key -> result, of those that were here when it was opened."""

    def put(self, key: str, result: bytes) -> None:
        """Keeps a result."""
        record = pickle.dumps((key, result))
        self._file.write(_HEAD.pack(len(record), zlib.crc32(record)) + record)
        self._file.flush()
        self._unsynced += 1
        if self._unsynced >= SYNC_EVERY:
            self._sync()

    def close(self) -> None:
        """Lets another process have it."""
        self._sync()
        self._file.close()
        os.close(self._lock)

    def remove(self) -> None:
        """Deletes the folder: what the results were for is done."""
        shutil.rmtree(self.folder)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self) -> dict[str, bytes]:
        """All whole records; cuts off what follows them."""
        self._file.seek(0)
        data = self._file.read()
        results: dict[str, bytes] = {}
        end = 0
        while end + _HEAD.size <= len(data):
            length, checksum = _HEAD.unpack_from(data, end)
            record = data[end + _HEAD.size : end + _HEAD.size + length]
            if len(record) < length or zlib.crc32(record) != checksum:
                break
            key, result = pickle.loads(record)
            results[key] = result
            end += _HEAD.size + length
        self._file.truncate(end)
        self._sync()
        return results

    def _sync(self) -> None:
        os.fsync(self._file.fileno())
        self._unsynced = 0
