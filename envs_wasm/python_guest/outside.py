"""Turns every reach for the outside world into a Python exception, and remembers that it happened.

This is for clear errors and for determinism only. What keeps programs in is that the artefact imports
nothing: a path that is overlooked here ends in a stub that traps.
"""

import _io
import _thread
import builtins
import inspect
import io
import linecache
import logging
import os
import posix
import random
import sys
import threading
import warnings

import clock
from exports import FORBIDDEN, OUT_OF_MEMORY, note_trouble

RECURSION_LIMIT = 1000
MAX_RECURSION_LIMIT = 20_000  # deeper Python frames may still fit, but C frames between them may not

# fmt: off
OUTSIDE_MODULES = frozenset((
    "asyncio", "concurrent", "ctypes", "fcntl", "ftplib", "glob", "http", "imaplib", "mmap",
    "multiprocessing", "pathlib", "poplib", "pty", "requests", "resource", "select", "selectors", "shutil",
    "signal", "smtplib", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile", "termios",
    "urllib", "webbrowser", "zoneinfo",
))
# fmt: on


class _Nothing(io.RawIOBase):
    def writable(self):
        return True

    def write(self, data):
        return len(data)


class _Silence(io.TextIOBase):
    """Standard output and error: accepts everything, keeps nothing."""

    encoding = "utf-8"
    errors = "backslashreplace"
    buffer = _Nothing()

    def writable(self):
        return True

    def write(self, text):
        return len(text)


class _OnlyPreloaded:
    """The one import finder left: what was not imported at build time does not exist."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in OUTSIDE_MODULES:
            note_trouble(FORBIDDEN, f"import {name}")
        raise ModuleNotFoundError(f"No module named {name!r} in the sandbox", name=name)


def _refusal(what):
    def refuse(*args, **kwargs):
        note_trouble(FORBIDDEN, what)
        raise PermissionError(f"{what} is not available in the sandbox")

    refuse.__name__ = what.rpartition(".")[2]
    return refuse


def _no_source(item):
    raise OSError("could not get source code")


def _fail_open(event, arguments):
    """Stops CPython's own C code before it opens a file, which a stub would answer with a trap."""
    if event == "open":
        raise PermissionError("there are no files in the sandbox")


def _close_files():
    keep = {"fspath", "strerror", "putenv", "unsetenv"}
    for name in dir(posix):
        value = getattr(posix, name)
        if callable(value) and not isinstance(value, type) and not name.startswith("_") and name not in keep:
            refusal = _refusal(f"os.{name}")
            setattr(posix, name, refusal)
            if hasattr(os, name):
                setattr(os, name, refusal)
    posix._exit = os._exit = _refusal("os._exit")
    for module in (builtins, io, _io):
        module.open = _refusal("open")
    io.open_code = _io.open_code = _refusal("open")
    io.FileIO = _io.FileIO = _refusal("io.FileIO")
    builtins.input = _refusal("input")
    # A traceback or a syntax error asks for the source line: it gets none, and that is nobody's fault.
    for name in ("getline", "getlines", "updatecache", "checkcache", "lazycache"):
        empty = "" if name == "getline" else []
        setattr(linecache, name, lambda *args, _empty=empty, **kwargs: _empty)
    inspect.findsource = _no_source
    sys.addaudithook(_fail_open)


def _replace_randomness():
    """Every guest starts from the same state, and what asks the system for entropy gets a fixed stream."""
    seed_from = random.Random.seed
    entropy = random.Random("codegym")

    def urandom(size):
        return entropy.randbytes(size)

    def seed(self, a=None, version=2):
        seed_from(self, int.from_bytes(urandom(32), "big") if a is None else a, version)

    os.urandom = posix.urandom = random._urandom = urandom
    random.Random.seed = seed
    random.seed = random._inst.seed
    random.seed(0)


def _close_threads():
    refusal = _refusal("threading.Thread.start")
    threading.Thread.start = refusal
    _thread.start_new_thread = _thread.start_joinable_thread = threading._start_joinable_thread = refusal


def _cap_recursion():
    set_limit = sys.setrecursionlimit
    sys.setrecursionlimit = lambda limit: set_limit(min(limit, MAX_RECURSION_LIMIT))
    set_limit(RECURSION_LIMIT)


def _watch_memory_errors():
    """Sees every MemoryError that a Python frame sees; costs nothing until something raises."""

    def note(code, offset, error):
        if isinstance(error, MemoryError):
            note_trouble(OUT_OF_MEMORY, "MemoryError")

    monitoring = sys.monitoring
    monitoring.use_tool_id(monitoring.OPTIMIZER_ID, "codegym")
    monitoring.register_callback(monitoring.OPTIMIZER_ID, monitoring.events.RAISE, note)
    monitoring.set_events(monitoring.OPTIMIZER_ID, monitoring.events.RAISE)


def close():
    """Shuts every door; called once, last, at build time."""
    sys.stdout = sys.stderr = sys.__stdout__ = sys.__stderr__ = _Silence()
    sys.stdin = sys.__stdin__ = io.StringIO("")
    sys.meta_path[:] = [_OnlyPreloaded]
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    _close_files()
    clock.restart()
    _replace_randomness()
    _close_threads()
    _cap_recursion()
    _watch_memory_errors()
