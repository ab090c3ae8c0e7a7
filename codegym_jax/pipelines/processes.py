"""The processes of one run: JAX joins their devices for learning, `links` carries what is not on a device.

Every process runs the same loop. Learning runs on the devices of all; episodes are played by each process on
its own devices and then given to all (`rollout.exchange`), so that all build the same batches. Only process 0
writes files. The run folder must be on a bucket, or on a path that all of them see.
"""

import atexit
import json
import os
import secrets
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from time import sleep
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from codegym_jax.config import ExitCode, Outage, UserError, exit_code_of
from codegym_jax.pipelines.console import CONSOLE
from codegym_jax.pipelines.last_word import LAST_WORD
from codegym_jax.pipelines.links import Links
from codegym_jax.pipelines.preemption import NOTICE, Stopped, requested

AUTOMATIC = "auto"
"""In place of a coordinator's address: as JAX finds it on TPU pods, and under Slurm or Open MPI."""

_JOIN_S = 300.0
"""How long the processes wait for each other at their start."""
_JAX_SILENCE_S = 100  # the second guard: `links` notices first, and can say who it was
_GRACE_S = 10.0  # until a failed collective is taken for this process's own failure
_ADDRESS_BYTES = 512
_TOKEN_BYTES = 16


class ProcessesDisagree(RuntimeError):
    """Processes that must hold the same hold different things, so that going on would mix two runs."""


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes of a run, as one of them sees them."""

    index: int = 0
    count: int = 1
    links: Links | None = None

    @property
    def is_first(self) -> bool:
        """True for process 0, which writes the files."""
        return self.index == 0

    def gather(self, data: bytes, channel: str = "main") -> list[bytes]:
        """What every process gave, in their order; see `Links.gather`."""
        return [data] if self.links is None else self.links.gather(data, channel)

    def from_first(self, make: Callable[[], bytes]) -> bytes:
        """What process 0 makes, on all of them."""
        return self.gather(make() if self.is_first else b"")[0]

    def once(self, action: Callable[[], object]) -> None:
        """Process 0 acts; the others wait until it has.

        Raises:
          Stopped: on all of them, when the action stopped in good order.
        """
        stopped = b""
        if self.is_first:
            try:
                action()
            except Stopped as stop:
                stopped = json.dumps(str(stop)).encode()
        told = self.gather(stopped)[0]
        if told:
            raise Stopped(json.loads(told))

    def stop_if_told(self) -> None:
        """A safe point at which all processes go on, or all stop.

        Raises:
          Stopped: on all of them, when any of them is to stop.
        """
        self.stop_if(requested(), "stop")

    def stop_if(self, stopping: bool, channel: str) -> None:
        """The same, where this process says by itself whether it stops; on a channel of `gather`."""
        if any(self.gather(b"1" if stopping else b"", channel)):
            raise Stopped

    def agree(self, values: dict[str, str]) -> None:
        """Checks that values are the same on all processes.

        Args:
          values: what it is -> its digest, or itself where it is short.

        Raises:
          ProcessesDisagree: naming the first that differs, and what each process holds.
        """
        for name, value in values.items():
            held = [each.decode() for each in self.gather(value.encode())]
            if len(set(held)) > 1:
                each = ", ".join(f"{text} on process {index}" for index, text in enumerate(held))
                raise ProcessesDisagree(
                    f"the processes of this run hold different things: {name} is {each}; they need one run"
                    " folder on a path that all of them see, and the same version of this program"
                )


ALONE = Processes()
"""A run of one process."""


class NoMetrics:
    """In place of a `MetricsWriter`, where another process writes the metrics, or they are there already.

    Args:
      cursor: for the checkpoints.
    """

    def __init__(self, cursor: int = 0) -> None:
        self.cursor = cursor

    def write(self, stage: str, step: int, values: Mapping[str, Any]) -> dict[str, Any]:
        """Writes nothing; the row without its clock."""
        return {"stage": stage, "step": step, **values}

    def __enter__(self) -> "NoMetrics":
        return self

    def __exit__(self, *_: object) -> None:
        pass


@contextmanager
def joined(coordinator: str = "", process_id: int = -1, process_count: int = 0) -> Iterator[Processes]:
    """Joins the processes of a run for the time of a `with` block; must come before any use of a device.

    When one of them ends before the block does, the others are ended too, with its exit code, and a message
    on standard error that names it; with `ExitCode.RESUMABLE` where it was lost, and where not all of them
    came at the start. When one is told to stop (`preemption`), all of them are; then
    they raise `Stopped` at the same safe point, and leave together.

    Args:
      coordinator: host and port of process 0, such as "10.0.0.1:1234"; `AUTOMATIC`; empty for one process.
      process_id: of this process, counted from 0; not for `AUTOMATIC`.
      process_count: of all of them; not for `AUTOMATIC`.

    Raises:
      UserError: when the arguments do not make a set of processes.
      Outage: when the processes cannot connect.
    """
    if not coordinator:
        if process_id != -1 or process_count != 0:
            raise UserError("--process-id and --process-count need --coordinator HOST:PORT")
        yield ALONE
        return
    with _in_time():
        _start_jax(coordinator, process_id, process_count)
        links = _connect(coordinator)
    CONSOLE.quiet = links.index != 0
    try:
        with NOTICE.passed_on(links.notify):
            yield Processes(links.index, links.count, links)
    except Stopped:
        _leave(links)
        raise
    except BaseException as error:
        if isinstance(error, jax.errors.JaxRuntimeError):  # perhaps since another one is gone: then this ends
            sleep(_GRACE_S)
        links.stop(f"{type(error).__name__}: {error}", exit_code_of(error))
        atexit.register(_exit_at_once, exit_code_of(error))
        raise
    finally:
        CONSOLE.quiet = False
    _leave(links)


def _leave(links: Links) -> None:
    """All processes are at their end."""
    links.leave()
    jax.distributed.shutdown()


@contextmanager
def _in_time() -> Iterator[None]:
    """Ends this process unless the `with` block ends in time. JAX's own time-out would abort it."""
    missing = (
        f"not all processes of the run came within {_JOIN_S:.0f} s; codegym doctor --distributed names them"
    )
    timer = threading.Timer(_JOIN_S, end_this_process, (missing, ExitCode.RESUMABLE))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _start_jax(coordinator: str, process_id: int, process_count: int) -> None:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM away: `preemption`
    patience: dict[str, Any] = {
        "initialization_timeout": int(10 * _JOIN_S),
        "heartbeat_timeout_seconds": _JAX_SILENCE_S,
    }
    if coordinator == AUTOMATIC:
        jax.distributed.initialize(**patience)
        return
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise UserError(f"--coordinator takes HOST:PORT or {AUTOMATIC}, got {coordinator!r}")
    if not 0 <= process_id < process_count:
        raise UserError(
            f"--process-id must be in 0 to --process-count - 1, got {process_id} of {process_count}"
        )
    jax.distributed.initialize(
        coordinator,
        num_processes=process_count,
        process_id=process_id,
        **patience,
    )


def _connect(coordinator: str) -> Links:
    """This process's connections.

    Raises:
      Outage: when one of the others is gone already, or the network does not let them through.
    """
    index, count = jax.process_index(), jax.process_count()
    try:
        peers = _meet(coordinator, index, count)
    except (OSError, jax.errors.JaxRuntimeError) as error:
        atexit.register(_exit_at_once, ExitCode.RESUMABLE)
        raise Outage(f"process {index} of {count} cannot connect to the others: {error}") from error
    return Links(index, count, peers, on_loss=end_this_process, on_notice=NOTICE.give)


def _meet(coordinator: str, index: int, count: int) -> dict[int, socket.socket]:
    """The star around process 0, which tells the others by JAX where it listens and what to say there."""
    server = socket.create_server(("", 0), backlog=count) if index == 0 else None
    token = secrets.token_bytes(_TOKEN_BYTES)
    told = b""
    if server is not None:
        host = coordinator.rpartition(":")[0].strip("[]") or socket.gethostbyname(socket.gethostname())
        told = token + f"{host}:{server.getsockname()[1]}".encode()
    padded = np.frombuffer(told.ljust(_ADDRESS_BYTES, b"\0"), np.uint8)
    told = multihost_utils.broadcast_one_to_all(padded).tobytes()
    token, (host, _, port) = told[:_TOKEN_BYTES], told[_TOKEN_BYTES:].rstrip(b"\0").decode().rpartition(":")
    if server is None:
        peers = {0: socket.create_connection((host, int(port)), timeout=60.0)}
        peers[0].sendall(token + index.to_bytes(4, "big"))
    else:
        with server:
            peers = _accept(server, token, count)
    return peers


def _accept(server: socket.socket, token: bytes, count: int) -> dict[int, socket.socket]:
    """Process -> its connection, for all but process 0; who does not know the token is turned away."""
    server.settimeout(60.0)
    peers: dict[int, socket.socket] = {}
    while len(peers) < count - 1:
        connection, _ = server.accept()
        connection.settimeout(10.0)
        said = connection.recv(len(token) + 4, socket.MSG_WAITALL)
        if secrets.compare_digest(said[: len(token)], token):
            peers[int.from_bytes(said[len(token) :], "big")] = connection
        else:
            connection.close()
    return peers


def _exit_at_once(code: int) -> None:
    """Ends this process when all has been said: JAX would wait for the others, which are gone, and abort."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def end_this_process(what: str, code: ExitCode) -> None:
    """Says what happened, and ends this process as a kill would: a checkpoint is whole or absent."""
    message = f"codegym: {what}. The processes of a run go on only together, so this one ends too."
    LAST_WORD.say_soon(code, what)
    if code == ExitCode.RESUMABLE:
        message += " Start all of them again with the same command: the run resumes from its last checkpoint."
    sys.stdout.flush()
    os.write(2, f"{message}\n".encode())
    os._exit(code)
