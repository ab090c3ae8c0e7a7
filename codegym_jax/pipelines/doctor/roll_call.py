"""Who of a run's processes is there, before JAX joins them: it would wait for all, then abort and name none.

Process 0 listens where JAX's coordinator will; the others come to it and say who they are and what they have.
When all are there, or the time is over, it tells each of them the whole roll, and the port is free again.
"""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from time import monotonic, sleep, time
from typing import Any

from codegym_jax.config import UserError

_GREETING = "codegym-doctor-1"
_LONGEST_LINE = 1 << 20
_PATIENCE_S = 5.0
"""For a line of somebody who has connected."""
_RETRY_S = 0.2
_PINGS = 5


class NoRoll(RuntimeError):
    """This process could not take part in the roll call; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """A process that came."""

    index: int
    count: int
    """Of processes, as it was told."""
    host: str
    pid: int
    facts: dict[str, str]
    """What it has -> which; the same on all processes of a run."""
    ping_s: float = 0.0
    """To process 0 and back, the shortest of a few."""
    ahead_s: float = 0.0
    """Of its clock, before that of process 0; known to within `ping_s`."""

    def __str__(self) -> str:
        return f"{self.index} (process id {self.pid} on {self.host})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Roll:
    """Who was there when the time was over."""

    count: int
    """How many were expected."""
    present: list[Present]
    """By index; process 0 is always there."""
    twice: list[Present] = field(default_factory=list)
    """Came under an index that another one had."""

    @property
    def missing(self) -> list[int]:
        """Indices of those that did not come."""
        came = {each.index for each in self.present}
        return [index for index in range(self.count) if index not in came]


def split_address(address: str) -> tuple[str, int]:
    """Host and port.

    Raises:
      UserError: when it is no HOST:PORT.
    """
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdigit() and int(port) < 1 << 16):
        raise UserError(f"--coordinator takes HOST:PORT or auto, got {address!r}")
    return host.strip("[]"), int(port)


def call_roll(address: str, here: Present, timeout_s: float) -> Roll:
    """Takes part in the roll call.

    Args:
      address: host and port of process 0.
      here: this process.
      timeout_s: for which process 0 waits for the others, and they for it.

    Raises:
      NoRoll: when process 0 cannot listen there, or another one does not reach it.
      UserError: when the address is none.
    """
    host, port = split_address(address)
    deadline_s = monotonic() + timeout_s
    if here.index == 0:
        return _listen(address, port, here, deadline_s)
    with _reached(address, (host, port), deadline_s) as connection:
        return _answer(address, connection, here, timeout_s)


def _listen(address: str, port: int, here: Present, deadline_s: float) -> Roll:
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    try:
        server = socket.create_server(
            ("", port), family=family, backlog=here.count, dualstack_ipv6=family == socket.AF_INET6
        )
    except OSError as error:
        raise NoRoll(f"process 0 cannot listen at port {port} of {address}: {error.strerror}") from error
    connections: dict[int, _Line] = {}
    present, twice = {0: here}, []
    with server:
        while len(present) < here.count and (left_s := deadline_s - monotonic()) > 0:
            server.settimeout(left_s)
            try:
                line = _Line(server.accept()[0])
            except TimeoutError:
                break
            who = _hello(line)
            if who is None:
                line.close()
            elif who.index in present:
                twice.append(who)
                line.close()
            else:
                present[who.index], connections[who.index] = who, line
    measured = [here]
    for index, line in sorted(connections.items()):
        try:
            measured.append(_measured(present[index], line))
        except (OSError, ValueError):
            continue  # it left: then it is missing
    roll = Roll(count=here.count, present=measured, twice=twice)
    for line in connections.values():
        line.tell(json.dumps({"roll": asdict(roll)}))
    for line in connections.values():
        line.drain()  # so that they hang up, and the port is free at once
    return roll


def _measured(who: Present, line: "_Line") -> Present:
    """With its ping and how far its clock is ahead, by the quickest of a few questions for the time."""
    best = (float("inf"), 0.0)
    for _ in range(_PINGS):
        asked_s, start_s = time(), monotonic()
        line.write("ping")
        there_s = float(line.read(_PATIENCE_S))
        ping_s = monotonic() - start_s
        best = min(best, (ping_s, there_s - asked_s - ping_s / 2))
    return Present(
        index=who.index,
        count=who.count,
        host=who.host,
        pid=who.pid,
        facts=who.facts,
        ping_s=best[0],
        ahead_s=best[1],
    )


def _answer(address: str, connection: socket.socket, here: Present, timeout_s: float) -> Roll:
    line = _Line(connection)
    try:
        line.write(json.dumps({"hello": _GREETING, **asdict(here)}))
        while (told := line.read(timeout_s + _PATIENCE_S * here.count)) == "ping":
            line.write(repr(time()))
        return _roll(json.loads(told)["roll"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NoRoll(
            f"what listens at {address} is not process 0 of this roll call, or it ended; is a run on there?"
        ) from error


@contextmanager
def _reached(address: str, place: tuple[str, int], deadline_s: float) -> Iterator[socket.socket]:
    """A connection to process 0, which may come later than this one."""
    why = ""
    while (left_s := deadline_s - monotonic()) > 0:
        try:
            connection = socket.create_connection(place, timeout=left_s)
        except OSError as error:
            why = error.strerror or str(error)
            sleep(min(_RETRY_S, left_s))
            continue
        with connection:
            yield connection
        return
    raise NoRoll(f"process 0 did not answer at {address}: {why or 'time is over'}")


class _Line:
    """A connection that says and hears lines of text."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def write(self, text: str) -> None:
        self._connection.sendall(text.encode() + b"\n")

    def tell(self, text: str) -> None:
        """As `write`, to somebody who may have left."""
        try:
            self.write(text)
        except OSError:
            self.close()

    def read(self, timeout_s: float) -> str:
        """The next line.

        Raises:
          OSError: when none comes, or too much of one.
          ValueError: when it is no text.
        """
        deadline_s = monotonic() + timeout_s
        while b"\n" not in self._rest:
            self._connection.settimeout(max(deadline_s - monotonic(), 1e-3))
            piece = self._connection.recv(1 << 16)
            if not piece or len(self._rest) > _LONGEST_LINE:
                raise ConnectionResetError("no whole line")
            self._rest += piece
        text, _, self._rest = self._rest.partition(b"\n")
        return text.decode()

    def drain(self) -> None:
        """Waits a little until the other side has hung up."""
        try:
            self._connection.settimeout(_PATIENCE_S)
            while self._connection.recv(1 << 16):
                pass
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self._connection.close()


def _hello(line: _Line) -> Present | None:
    """Who somebody says to be; None for one who is not of this roll call, or says nothing."""
    try:
        said = json.loads(line.read(_PATIENCE_S))
        if said.pop("hello") != _GREETING:
            return None
        return _present(said)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _present(values: Mapping[str, Any]) -> Present:
    return Present(
        index=int(values["index"]),
        count=int(values["count"]),
        host=str(values["host"]),
        pid=int(values["pid"]),
        facts={str(key): str(value) for key, value in values["facts"].items()},
        ping_s=float(values["ping_s"]),
        ahead_s=float(values["ahead_s"]),
    )


def _roll(values: Mapping[str, Any]) -> Roll:
    present: Sequence[Any] = values["present"]
    return Roll(
        count=int(values["count"]),
        present=[_present(each) for each in present],
        twice=[_present(each) for each in values["twice"]],
    )
