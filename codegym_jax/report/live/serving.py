"""Serves the pages of `codegym view`."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from codegym_jax.config import UserError
from codegym_jax.report.live.server import Site, make_app


@contextlib.contextmanager
def server(runs: Sequence[Path], cache: Path) -> Iterator[uvicorn.Server]:
    """A server of these runs; `run(sockets=[...])` serves until a signal, or until `should_exit` is set.

    Args:
      runs: run folders.
      cache: where the indexes of their episodes are kept.
    """
    with Site(runs, cache) as site:
        app = make_app(site, [socket.gethostname().lower()])
        yield uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens: its port is known before anything is served, and who calls early waits.

    Args:
      host: a name or an address of this machine.
      port: 0 for any that is free.

    Raises:
      UserError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as undo:
            bound = undo.enter_context(socket.socket(family, kind, protocol))
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(place)
            bound.listen()
            undo.pop_all()
    except OSError as error:
        raise UserError(f"cannot serve at {host}:{port}: {error}") from error
    return bound


def address(bound: socket.socket) -> str:
    """What to type into a browser."""
    host, port = bound.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"
