"""A process that lives runs, one life after the other: each a fork of it, and may end wherever it is told."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

import jax

ROOT = pathlib.Path(__file__).parents[2]


class Server:
    """Such a process, as its parent sees it.

    Args:
      module: whose `main` calls `serve`.
      log: a file for what the process itself says.
    """

    def __init__(self, module: str, log: pathlib.Path) -> None:
        cache = {
            "JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        }
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                cwd=ROOT,
                env=os.environ | cache,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
            )

    def live(self, life: Any) -> dict[str, Any]:
        """What became of a life, a dataclass: `died`, `code`, and `ended`, what it returned if it did."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(dataclasses.asdict(life)) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """Ends the process; a life that is under way ends first."""
        self._process.communicate(timeout=600)


def serve(live: Callable[[dict[str, Any]], Any]) -> None:
    """Answers each line on standard input, a life as JSON, with one line.

    Lives are forked after the slow imports and before JAX starts threads.

    Args:
      live: lives it; returns what `Server.live` gives as `ended`, JSON-able. What it says goes to the log of
        the run whose `folder` the life names.
    """
    for line in sys.stdin:
        values = json.loads(line)
        readable, writable = os.pipe()
        child = os.fork()
        if not child:
            _child(live, values, writable)
        os.close(writable)
        with os.fdopen(readable, "rb") as stream:
            said = stream.read()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        ended = json.loads(said) if code == 0 else None
        print(json.dumps({"died": code == -signal.SIGKILL, "code": code, "ended": ended}), flush=True)


def _child(live: Callable[[dict[str, Any]], Any], values: dict[str, Any], answer: int) -> None:
    """Lives, answers, and ends without the interpreter's farewell: threads of libraries may be anywhere."""
    log = os.open(log_path(pathlib.Path(values["folder"])), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 1
    try:
        os.write(answer, json.dumps(live(values)).encode())
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def log_path(folder: pathlib.Path) -> pathlib.Path:
    """What all lives of a run said."""
    return folder.with_name(f"{folder.name}.log")
