"""What the workers of `test_pool.py` run; spawned processes import it by name."""

import fcntl
import os
import pathlib
import signal
import socket
import sys
import termios
import threading
import time

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.sandbox import Sandbox

BIG = 2**24
_factor = 1


def set_factor(factor: int) -> None:
    """Prepares a worker."""
    global _factor
    if factor < 0:
        raise ValueError("the factor is negative")
    _factor = factor


def work(item):
    """Multiplies a number; a word names what else to do."""
    return item * _factor if isinstance(item, int) else DEEDS[item]()


def echo(item: bytes) -> bytes:
    """Gives an item back."""
    return item


def wait_for(path: pathlib.Path, item: int) -> int:
    """The item; item 0 is done only when there is a file at `path`."""
    while item == 0 and not path.exists():
        time.sleep(0.01)
    return item


def start_unless(folder: pathlib.Path, fatal: frozenset[int]) -> None:
    """An initializer that kills the process when it is one of the `fatal` starts, counted from 0."""
    start = len(list(folder.iterdir()))
    (folder / str(os.getpid())).touch()
    if start in fatal:
        os._exit(9)


class Unreadable:
    """Pickles well, and raises in the process that reads it."""

    def __reduce__(self):
        return _refuse, (os.getpid(),)


def _refuse(writer: int) -> None:
    if os.getpid() != writer:
        raise ValueError("unreadable")


def _die() -> None:
    os._exit(7)


def _raise() -> None:
    raise ValueError("fourteen")


def _sleep() -> None:
    time.sleep(600)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _be_told_to_end() -> list[int]:
    """As when a signal goes to all of a job's processes; what is blocked afterwards."""
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(os.getpid(), number)
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _spin_in_a_guest() -> None:
    """Burns fuel that lasts for days."""
    guest = Sandbox(SandboxConfig(fuel_per_call=2**62)).guest()
    guest.load(guest.compile("while True: pass"), "Never", "{}")


def _die_while_sending() -> bytes:
    """A big result, and a thread that kills the process while it is on its way."""
    threading.Thread(target=_kill_when_sending, args=(threading.get_ident(),), daemon=True).start()
    return bytes(BIG)


def _kill_when_sending(main_thread: int) -> None:
    while True:
        pipe = sys._current_frames()[main_thread].f_locals.get("pipe")
        if pipe is not None and _unread_bytes(pipe) > 1000:  # more than earlier results
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0)


def _unread_bytes(pipe: socket.socket) -> int:
    return int.from_bytes(fcntl.ioctl(pipe.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)


DEEDS = {
    "die": _die,
    "raise": _raise,
    "be told to end": _be_told_to_end,
    "sleep": _sleep,
    "stop": _stop,
    "spin": _spin_in_a_guest,
    "die while sending": _die_while_sending,
    "return what cannot be pickled": lambda: lambda: 0,
    "return what cannot be read": Unreadable,
}
