"""Stopping in good order when a machine is taken away: SIGTERM, and Ctrl-C.

A signal ends nothing by itself: it is noted, and the stages ask at their safe points whether they are to stop
(`requested`, `check`; of several processes `Processes.stop_if_told`, where all agree). They keep what is done
and raise `Stopped`. A second signal ends the process at once, as if nothing were installed.

SIGTERM is the notice of all that takes machines away: Google's machines on shutdown, Kubernetes, Slurm. It is
what JAX's preemption service listens to as well; that is left off, since it would take the signal away from
here, and its way is to go on until a step that no process has reached: a rollout may take longer than there
is time.

What is kept when a process is killed anywhere is no less exact. Stopping in good order only loses less.
"""

import functools
import math
import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from codegym_jax.config import ExitCode, UserError
from codegym_jax.pipelines.last_word import LAST_WORD

GRACE_S = 25.0
"""From a notice until the process ends, wherever it is: 5 s less than Google's spot machines, Kubernetes and
Slurm give unless told otherwise. A checkpoint that is being written is no part of it: it is whole or absent
should the machine be gone first."""
GRACE_VARIABLE = "CODEGYM_GRACE_S"
"""The environment variable by which a launcher gives another grace period, in seconds."""
AHEAD_SHARE = 0.4
"""Of that, how long to wait for a step that is sampled ahead. Without it the step before cannot be saved."""

_AT_ONCE = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}
_NO_SIGNAL = b"\0"  # in the watching thread's inbox: have the clock looked at
_AGAIN = {signal.SIGTERM.name: "a second one", signal.SIGINT.name: "Ctrl-C again"}


class Stopped(BaseException):
    """The command was told to stop, and has; the message says what is kept, or nothing.

    As with `KeyboardInterrupt`, no `except Exception` may take it for an error.
    """


class Notice:
    """Whether this process is to stop, since when and why. A signal handler writes it, so it has no lock."""

    def __init__(self) -> None:
        self.grace_s = GRACE_S
        self._since_s = math.inf
        self._saving_since_s = self._saved_s = 0.0
        self._wake: Callable[[], None] = lambda: None
        self.reason = ""
        """The signal's name, or which process passed it on."""
        self.tell_others: Callable[[], None] = lambda: None
        """Passes it on to the other processes of the run."""

    @property
    def requested(self) -> bool:
        """Whether to stop at the next safe point."""
        return self._since_s < math.inf

    @property
    def overdue(self) -> bool:
        """Whether a step that is sampled ahead has had its time."""
        return monotonic() - self._since_s > AHEAD_SHARE * self.grace_s

    def left_s(self) -> float:
        """Seconds of the grace period, which stands still while a checkpoint is written; infinite without a
        notice, or where a person interrupted, who can wait."""
        if self._saving_since_s or self.reason == signal.SIGINT.name:
            return math.inf
        return self._since_s + self.grace_s + self._saved_s - monotonic()

    def give(self, reason: str) -> None:
        """Notes that this process is to stop; the first reason stays."""
        if not self.requested:
            self.reason, self._since_s = reason, monotonic()
            self._wake()

    @contextmanager
    def passed_on(self, tell: Callable[[], None]) -> Iterator[None]:
        """Has `tell` called when a notice comes, in any thread, perhaps twice, while a `with` block runs."""
        self.tell_others = tell
        if self.requested:
            tell()
        try:
            yield
        finally:
            self.tell_others = lambda: None

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Stops the clock of the grace period for the time of a `with` block."""
        self._saving_since_s = start_s = monotonic()
        try:
            yield
        finally:
            if self.requested:
                self._saved_s += monotonic() - max(start_s, self._since_s)
            self._saving_since_s = 0.0
            self._wake()

    @contextmanager
    def watched(self, wake: Callable[[], None]) -> Iterator[None]:
        """Has `wake` called whenever `left_s` changes; begins and ends without a notice."""
        self._forget(wake)
        try:
            yield
        finally:
            self._forget(lambda: None)

    def _forget(self, wake: Callable[[], None]) -> None:
        self._since_s, self._saved_s, self.reason, self._wake = math.inf, 0.0, "", wake


NOTICE = Notice()
"""Of this process, as signals are."""


def requested() -> bool:
    """Whether to stop at the next safe point."""
    return NOTICE.requested


def overdue() -> bool:
    """Whether to stop what is only worth its end, such as a step that is sampled ahead."""
    return NOTICE.overdue


def check(kept: str = "") -> None:
    """A safe point of work that one process does alone.

    Args:
      kept: what is kept of it, for people.

    Raises:
      Stopped: when this process is to stop.
    """
    if NOTICE.requested:
        raise Stopped(kept)


@contextmanager
def keeping(what: str) -> Iterator[None]:
    """Says of a `with` block that stops what is kept of it, unless that was said inside."""
    try:
        yield
    except Stopped as stop:
        raise Stopped(str(stop) or what) from None


def exit_code() -> ExitCode:
    """Of a command that stopped."""
    return ExitCode.INTERRUPTED if NOTICE.reason == signal.SIGINT.name else ExitCode.RESUMABLE


@contextmanager
def in_good_order() -> Iterator[None]:
    """Has SIGTERM and Ctrl-C noted for the time of a `with` block, around a command whose stages ask for it.

    A thread takes the note, which Python wakes even while the main thread waits for a device or a compiler;
    and that thread ends the process when the grace period is over. Worker processes are not told: their
    parent stops asking them. In any thread but the main one nothing is installed, for it cannot be.

    Raises:
      UserError: when `GRACE_VARIABLE` holds no number of seconds.
    """
    NOTICE.grace_s = _grace_s()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    inbox, outbox = socket.socketpair()
    outbox.setblocking(False)
    before = {number: signal.getsignal(number) for number in _AT_ONCE}
    with inbox, outbox, NOTICE.watched(lambda: _send(outbox)):
        thread = threading.Thread(target=_watch, args=(inbox,), name="preemption", daemon=True)
        thread.start()
        descriptor = signal.set_wakeup_fd(outbox.fileno(), warn_on_full_buffer=False)
        _leave_children_alone()
        signal.signal(signal.SIGTERM, _note)
        if before[signal.SIGINT] is signal.default_int_handler:  # else it is ignored, as by nohup
            signal.signal(signal.SIGINT, _note)
        try:
            yield
        finally:
            _handle(before)
            signal.set_wakeup_fd(descriptor)
            outbox.shutdown(socket.SHUT_WR)
            thread.join()


def _grace_s() -> float:
    given = os.environ.get(GRACE_VARIABLE) or str(GRACE_S)
    try:
        grace_s = float(given)
    except ValueError:
        grace_s = math.nan
    if not 0 < grace_s < math.inf:
        raise UserError(f"{GRACE_VARIABLE} must be a number of seconds, got {given!r}")
    return grace_s


def _note(number: int, _: object) -> None:
    """The handler of the first signal; runs in the main thread, when that comes to it."""
    _handle(_AT_ONCE)
    NOTICE.give(signal.Signals(number).name)


def _handle(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        if signal.getsignal(number) is _note:
            signal.signal(number, handler)


def _watch(inbox: socket.socket) -> None:
    """The watching thread: tells people and processes of a notice, and ends this process in the end."""
    signaled = told = False
    while True:
        left_s = NOTICE.left_s()
        if left_s <= 0:
            _end_late()
        if not select.select([inbox], (), (), left_s if left_s < math.inf else None)[0]:
            continue
        received = inbox.recv(4096)
        if not received:
            return
        for number in received:
            if number in _AT_ONCE:
                if signaled and number == signal.SIGTERM:  # the main thread is where no handler can run
                    _tell("a second SIGTERM")
                    os._exit(128 + signal.SIGTERM)
                signaled = True
                NOTICE.give(signal.Signals(number).name)
        if NOTICE.requested and not told:
            told = True
            again = _AGAIN.get(NOTICE.reason, "SIGTERM")
            _tell(f"{NOTICE.reason}: stopping at the next safe point; {again} ends it at once")
            threading.Thread(target=NOTICE.tell_others, daemon=True).start()  # may wait for the network


def _tell(line: str) -> None:
    os.write(2, f"codegym: {line}\n".encode())


def _end_late() -> None:
    """Ends this process as a kill would, but with an exit code of its own, and a word."""
    why = f"no safe point came within {NOTICE.grace_s:g} s; the same command resumes"
    _tell(why)
    LAST_WORD.say_soon(ExitCode.RESUMABLE, why)
    os._exit(ExitCode.RESUMABLE)


def _send(outbox: socket.socket) -> None:
    with suppress(OSError):  # full: then it is awake; or closed just now
        outbox.send(_NO_SIGNAL)


@functools.cache
def _leave_children_alone() -> None:
    """A forked child shares the inbox, but its signals are its own; until it is ready for one, none comes."""

    def hold() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _AT_ONCE)

    def release() -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AT_ONCE)

    def forget() -> None:
        if _note in map(signal.getsignal, _AT_ONCE):
            signal.set_wakeup_fd(-1)
            _handle(_AT_ONCE)
        release()

    os.register_at_fork(before=hold, after_in_parent=release, after_in_child=forget)
