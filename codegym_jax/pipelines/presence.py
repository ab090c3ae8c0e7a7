"""A process at work in a run folder: clears up after the one before, and leaves word of how it ended.

Several may be at work in one folder, such as `codegym eval` on a run that goes on. Each holds a lock for that
time, shared with the others; only who is alone clears up, or says how the work ended. On a bucket the run is
one process's (`data.working_copy`), and so is the local folder in which it works.
"""

import pathlib

from codegym_jax.config import ExitCode
from codegym_jax.data.atomic import remove_unfinished, write_atomically
from codegym_jax.data.folder_lock import SharedLock
from codegym_jax.data.working_copy import WorkingCopy
from codegym_jax.pipelines.last_word import FILE, LAST_WORD


class Presence:
    """Of this process, from now until its command is over.

    Args:
      folder: the run.
      copy: where it is one.
    """

    def __init__(self, folder: pathlib.Path, copy: WorkingCopy | None) -> None:
        self._folder, self._copy = folder, copy
        self._lock = None if copy else SharedLock(folder)
        if self._is_alone():
            remove_unfinished(folder)
            self._remove_word()
        LAST_WORD.goes_to(self._leave, self._close)

    def _is_alone(self) -> bool:
        return self._lock is None or self._lock.is_mine_alone()

    def _remove_word(self) -> None:
        if not (self._folder / FILE).exists():
            return
        if self._copy is None:
            (self._folder / FILE).unlink()
        else:
            self._copy.remove(FILE)

    def _leave(self, code: int, word: str) -> None:
        """A complete run says by its result that it is."""
        if (code == ExitCode.DONE and (self._folder / "result.json").exists()) or not self._is_alone():
            return
        if self._copy is None:
            write_atomically(self._folder / FILE, word)
        else:
            self._copy.put(FILE, word)

    def _close(self) -> None:
        if self._lock is not None:
            self._lock.close()
