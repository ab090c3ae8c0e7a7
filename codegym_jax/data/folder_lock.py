"""One process at a time works in a folder, or several that know of each other."""

import fcntl
import os
import pathlib

_LOCK = "lock"


def lock_folder(folder: pathlib.Path) -> int | None:
    """Makes a folder and locks it.

    Returns:
      A descriptor that holds the lock until it is closed, or the process ends; None when another process
      has the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = _open(folder)
    if not _take(lock, fcntl.LOCK_EX | fcntl.LOCK_NB):
        os.close(lock)
        return None
    return lock


class SharedLock:
    """Held by every process that works in a folder, until it is closed or the process ends.

    Where the file system has no locks, nobody is alone.

    Args:
      folder: that is there.
    """

    def __init__(self, folder: pathlib.Path) -> None:
        self._lock = _open(folder)
        self._is_held = _take(self._lock, fcntl.LOCK_SH)

    def is_mine_alone(self) -> bool:
        """Whether no other process works in the folder."""
        alone = self._is_held and _take(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._is_held = _take(self._lock, fcntl.LOCK_SH)  # lost where the other one could not be had
        return alone

    def close(self) -> None:
        """Lets it go."""
        os.close(self._lock)


def _open(folder: pathlib.Path) -> int:
    return os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)


def _take(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind)
    except OSError:
        return False
    return True
