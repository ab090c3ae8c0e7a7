"""The parent's side: starts one engine a process, asks it for one round at a time."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, Any

from benchmarks.engines.worker import Job

_ROOT = pathlib.Path(__file__).resolve().parents[2]
PEERS = _ROOT / "build" / "peers"
"""One virtual environment a peer; `make bench-peers` makes them."""
OWN = "codegym"


class EngineFailed(Exception):
    """A worker answered with an error or ended; the text is its last words."""


@dataclass(frozen=True, slots=True)
class Variant:
    """One engine in one way of use.

    Attributes:
      python: whose interpreter runs it: `OWN`, or a folder of `PEERS`.
      module: of `benchmarks.engines`.
    """

    name: str
    python: str
    module: str


def interpreter(name: str, given: dict[str, str]) -> str | None:
    """The Python that an engine runs on; None where its environment was not made.

    Args:
      given: name -> interpreter, for those that the command line names.
    """
    if name in given:
        return given[name]
    if name == OWN:
        return sys.executable
    path = PEERS / name / "bin" / "python"
    return str(path) if path.exists() else None


class Worker:
    """A running engine. `warm` is its first answer: versions, seconds of warm-up, the first round's reply.

    Raises:
      EngineFailed: when it cannot load or fails in its first round.
    """

    def __init__(self, python: str, variant: Variant, job: Job) -> None:
        self._errors: IO[str] = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in `close`)
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.engines.{variant.module}", job.text()],
            cwd=_ROOT,
            env=_environment(job),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            bufsize=1,
        )
        _bind(self._process.pid, job)
        self.warm = self._answer()

    def round(self, number: int) -> dict[str, Any]:
        """One repetition; blocks until it is done.

        Raises:
          EngineFailed: when the worker fails.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, and the answer says so
            self._process.stdin.write(f"{number}\n")
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        reply = json.loads(line) if line else {"error": self._last_words()}
        if "error" in reply:
            self.close()
            raise EngineFailed(reply["error"])
        return reply

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        return f"ended with code {code}\n{self._errors.read()[-2000:]}"


def _environment(job: Job) -> dict[str, str]:
    """Thread pools take their size from the cores that a process may use, or from these variables."""
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC")
    return {
        **os.environ,
        **dict.fromkeys(pools, str(job.threads)),
        "JAX_PLATFORMS": "cuda" if job.device == "gpu" else "cpu",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several engines share the device's memory
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def _bind(pid: int, job: Job) -> None:
    """Keeps a process that has just started, and the threads it will have, on as many cores as threads."""
    if job.device == "cpu" and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(0))[: job.threads])
