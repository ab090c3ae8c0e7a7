"""One process at a time works in a folder."""

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
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock
