"""Runs a FastAPI application as a server process that cannot outlive the benchmark.

    python -m benchmarks.peers.serving benchmarks.peers.http_server

The module's `make_app` gives the application. The server takes a free port of the loopback interface, prints
one JSON line {"port", "loop", "http"}, and ends when its standard input does.
"""

import asyncio
import contextlib
import importlib
import json
import os
import socket
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn


@contextlib.asynccontextmanager
async def until_parent_ends(app: Any) -> AsyncIterator[None]:
    """The lifespan of an application: the process ends when its standard input is closed."""
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), os._exit, 0)
    yield


def main() -> None:
    app = importlib.import_module(sys.argv[1]).make_app()
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_keep_alive=3600)
    config.load()
    chosen = {"loop": _name(config.get_loop_factory()), "http": _name(config.http_protocol_class)}
    print(json.dumps({"port": listener.getsockname()[1], **chosen}), flush=True)
    uvicorn.Server(config).run(sockets=[listener])


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


if __name__ == "__main__":
    main()
