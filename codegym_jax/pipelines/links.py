"""Connections between the processes of a run, apart from JAX's: bytes for everybody, and who is still there.

A star: every process is connected with process 0. Nothing here touches a device, so a thread may exchange
episodes while another one runs programs over all devices, whose order must be the same in every process.

A process that ends, or says nothing for `SILENCE_S`, ends the run: each of the others is told which it was,
and what to exit with: what that process said (`stop`), or that the run can be resumed.
"""

import os
import socket
import struct
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

from codegym_jax.config import ExitCode, Outage

SILENCE_S = 30.0
"""A process is given up when it sent nothing for so long: its machine or the network is gone."""
BEAT_S = 3.0
"""How often a process says that it is there. A process that ends is noticed at once, by its connection."""

_HEAD = struct.Struct("!BBQ")  # kind, bytes of the channel's name, bytes that follow it
_BEAT, _DATA, _STOPPED, _NOTICE = 0, 1, 2, 3
_PIECE = 1 << 20
_LEAVING = "leaving"


class ProcessLost(Outage):
    """Another process of the run has ended."""


class _Frame(NamedTuple):
    kind: int
    channel: str
    payload: bytes


class Links:
    """One process's connections.

    Args:
      index: of this process.
      count: of processes.
      peers: process -> a connected socket. Process 0 has one to each of the others, they have one to it.
      on_loss: called once, in any thread, with what happened in words, and what to exit with; ends this
        process, or else every call of `gather` raises `ProcessLost`.
      on_notice: called once, in any thread, when another process passed on that all are to stop (`notify`),
        with its name.
      silence_s: see `SILENCE_S`.
      beat_s: see `BEAT_S`.
    """

    def __init__(
        self,
        index: int,
        count: int,
        peers: Mapping[int, socket.socket],
        *,
        on_loss: Callable[[str, ExitCode], None],
        on_notice: Callable[[str], None] = lambda name: None,
        silence_s: float = SILENCE_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self.index, self.count = index, count
        self._peers, self._beat_s = dict(peers), beat_s
        self._on_loss, self._on_notice = on_loss, on_notice
        self._arrived: dict[tuple[int, str], deque[bytes]] = defaultdict(deque)
        self._news = threading.Condition()
        self._sending = {peer: threading.Lock() for peer in peers}
        self._names = {peer: f"process {peer} of {count}" for peer in range(count)}
        self._lost = ""
        self._notified = threading.Event()
        self._leaving = threading.Event()
        for peer, connection in self._peers.items():
            connection.settimeout(silence_s)
            threading.Thread(target=self._listen, args=(peer,), daemon=True).start()
        threading.Thread(target=self._beat, daemon=True).start()
        own = f"process {index} of {count} (process id {os.getpid()} on {socket.gethostname()})"
        self._names = {peer: name.decode() for peer, name in enumerate(self.gather(own.encode(), "names"))}

    def gather(self, data: bytes, channel: str = "main") -> list[bytes]:
        """What every process gave, in their order; each must call it.

        Args:
          data: of this process.
          channel: calls of one channel are made in the same order by all; other channels do not matter.

        Raises:
          ProcessLost: when one of them has ended.
        """
        if self.index:
            self._send(0, _DATA, channel, data)
            return _split(self._take(0, channel))
        parts = [data] + [self._take(peer, channel) for peer in sorted(self._peers)]
        if channel == _LEAVING:
            self._leaving.set()
        for peer in self._peers:
            self._send(peer, _DATA, channel, _join(parts))
        return parts

    def notify(self) -> None:
        """Tells the others that all are to stop, without waiting for them; only the first call counts."""
        self._pass_on(self._names[self.index])

    def leave(self) -> None:
        """Waits until all others leave too, then closes the connections."""
        self.gather(b"", _LEAVING)
        self._leaving.set()
        self.close()

    def stop(self, why: str, code: ExitCode) -> None:
        """Tells the others that this process ends, why, and with what; then closes the connections."""
        self._leaving.set()
        self._tell_all(f"{self._names[self.index]} stopped: {why}", code)
        self.close()

    def close(self) -> None:
        """Closes the connections. To the others, unless they leave too, this process is then gone."""
        self._leaving.set()
        for connection in self._peers.values():
            connection.close()

    def _listen(self, peer: int) -> None:
        try:
            while True:
                frame = _receive(self._peers[peer])
                if frame.kind == _STOPPED:
                    self._lose(frame.payload[1:].decode(), ExitCode(frame.payload[0]))
                elif frame.kind == _NOTICE:
                    if not self._notified.is_set():
                        self._on_notice(frame.payload.decode())
                        self._pass_on(frame.payload.decode())
                elif frame.kind == _DATA:
                    if self.index and frame.channel == _LEAVING:
                        self._leaving.set()
                    with self._news:
                        self._arrived[peer, frame.channel].append(frame.payload)
                        self._news.notify_all()
        except TimeoutError:
            self._lose(f"{self._names[peer]} has been silent for {self._peers[peer].gettimeout():.0f} s")
        except OSError:
            self._lose(f"{self._names[peer]} is gone")

    def _beat(self) -> None:
        while not self._leaving.wait(self._beat_s):
            for peer in self._peers:
                self._send(peer, _BEAT, "", b"")

    def _send(self, peer: int, kind: int, channel: str, payload: bytes) -> None:
        name = channel.encode()
        try:
            with self._sending[peer]:
                _send_all(self._peers[peer], _HEAD.pack(kind, len(name), len(payload)) + name)
                _send_all(self._peers[peer], payload)
        except TimeoutError:
            self._lose(f"{self._names[peer]} takes nothing any more")
        except OSError:
            pass  # it has ended; who listens to it reads its last words first, or finds that it is gone

    def _pass_on(self, name: str) -> None:
        if not self._notified.is_set():
            self._notified.set()
            for peer in self._peers:
                self._send(peer, _NOTICE, "", name.encode())

    def _take(self, peer: int, channel: str) -> bytes:
        with self._news:
            self._news.wait_for(lambda: self._arrived[peer, channel] or self._lost)
            if not self._arrived[peer, channel]:
                raise ProcessLost(self._lost)
            return self._arrived[peer, channel].popleft()

    def _lose(self, what: str, code: ExitCode = ExitCode.RESUMABLE) -> None:
        with self._news:
            if self._leaving.is_set() or self._lost:
                return
            self._lost = what
            self._news.notify_all()
        self._tell_all(what, code)
        self._on_loss(what, code)

    def _tell_all(self, what: str, code: ExitCode) -> None:
        for peer, connection in self._peers.items():
            try:
                with self._sending[peer]:
                    data = bytes([code]) + what.encode()
                    _send_all(connection, _HEAD.pack(_STOPPED, 0, len(data)) + data)
            except OSError:  # it is gone itself
                continue


def _send_all(connection: socket.socket, data: bytes) -> None:
    """As `sendall`, whose time-out is for all of the data; this one's is for each piece."""
    view = memoryview(data)
    while view:
        view = view[connection.send(view[:_PIECE]) :]


def _receive(connection: socket.socket) -> _Frame:
    kind, name_bytes, payload_bytes = _HEAD.unpack(_exactly(connection, _HEAD.size))
    name = _exactly(connection, name_bytes).decode()
    return _Frame(kind, name, _exactly(connection, payload_bytes))


def _exactly(connection: socket.socket, count: int) -> bytes:
    pieces = bytearray()
    while len(pieces) < count:
        piece = connection.recv(min(_PIECE, count - len(pieces)))
        if not piece:
            raise ConnectionResetError("closed by the other side")
        pieces += piece
    return bytes(pieces)


def _join(parts: list[bytes]) -> bytes:
    """One string of bytes from several; `_split` takes it apart."""
    lengths = struct.pack(f"!I{len(parts)}Q", len(parts), *map(len, parts))
    return lengths + b"".join(parts)


def _split(joined: bytes) -> list[bytes]:
    (count,) = struct.unpack_from("!I", joined)
    lengths = struct.unpack_from(f"!{count}Q", joined, 4)
    parts, start = [], 4 + 8 * count
    for length in lengths:
        parts.append(joined[start : start + length])
        start += length
    return parts
