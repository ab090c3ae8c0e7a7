"""Serves the application until it is told to stop: it then finishes what runs, and takes nothing new."""

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator

import uvicorn

from codegym_jax.adapters.serve.app import Service, make_app
from codegym_jax.config import UserError

_SHORTEST_TOKEN = 16


def require_token(bound: socket.socket, token: str) -> None:
    """Checks that only this machine can ask without a token.

    Raises:
      UserError: when others can, or the token could be guessed.
    """
    host = bound.getsockname()[0]
    if not token and not ipaddress.ip_address(host.partition("%")[0]).is_loopback:
        raise UserError(
            f"{host} can be reached by other machines, so clients must bring a token: set"
            " CODEGYM_SERVE_TOKEN, or name a file that holds it by --token-file"
        )
    if token and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UserError(f"the token must have {_SHORTEST_TOKEN} characters or more, all of them ASCII")


def server(service: Service) -> uvicorn.Server:
    """A server; `run(sockets=[...])` serves until SIGTERM, Ctrl-C, or `should_exit` is set."""
    config = uvicorn.Config(
        make_app(service),
        log_level="warning",
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=int(service.limits.drain_s),
    )
    return uvicorn.Server(config)


@contextlib.contextmanager
def ends_well() -> Iterator[None]:
    """A SIGTERM that was served ends the `with` block, not the process: uvicorn raises it again."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
