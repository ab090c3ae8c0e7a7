"""Commands that put tasks behind other projects' interfaces: openenv, mcp."""

import argparse
import contextlib
import functools
import pathlib
from typing import Any

from codegym_jax.cli.host import cache_dir
from codegym_jax.config import UserError
from codegym_jax.data.splits import SPLITS, TRAIN

_IDLE_S = 600.0
_MAX_SESSIONS = 64


def add(commands: Any) -> None:
    """Adds them."""
    summary = "Serve a task set to OpenEnv's clients; sessions are ended when idle."
    openenv = commands.add_parser("openenv", help=summary, description=summary)
    openenv.add_argument("task_set", type=pathlib.Path, metavar="TASK_SET", help="the folder of a task set")
    _add_serving(openenv, "default: any that is free")
    openenv.set_defaults(call=_openenv)

    summary = "Serve one task's tools to an MCP client: on standard streams, or over HTTP."
    mcp = commands.add_parser("mcp", help=summary, description=summary)
    mcp.add_argument("task_set", type=pathlib.Path, metavar="TASK_SET", help="the folder of a task set")
    mcp.add_argument(
        "--env", required=True, metavar="ID", help="an environment, such as HumanEval_52__BelowEnv"
    )
    mcp.add_argument("--split", choices=SPLITS, default=TRAIN, help=f"of the task; default: {TRAIN}")
    mcp.add_argument("--task", type=int, default=0, metavar="N", help="which of its tasks there, from 0")
    mcp.add_argument("--http", action="store_true", help="over streamable HTTP, not on standard streams")
    _add_serving(mcp, "with --http; default: any that is free")
    mcp.set_defaults(call=_mcp)


def _add_serving(command: argparse.ArgumentParser, port: str) -> None:
    command.add_argument(
        "--host", default="127.0.0.1", help="where to listen; default: for this machine alone"
    )
    command.add_argument("--port", type=int, default=0, help=port)
    command.add_argument(
        "--max-sessions",
        type=_positive_int,
        default=_MAX_SESSIONS,
        help=f"at a time; default: {_MAX_SESSIONS}",
    )
    command.add_argument(
        "--idle-s",
        type=_positive_float,
        default=_IDLE_S,
        help=f"seconds without a request that end a session; default: {_IDLE_S:g}",
    )


def _openenv(options: argparse.Namespace) -> int:
    with _extra("openenv"):
        from codegym_jax.adapters.openenv.server import make_app, make_server
    from codegym_jax.adapters.openenv.tasks import Tasks
    from codegym_jax.envs.sandbox import Sandbox

    tasks = Tasks(options.task_set, Sandbox(cache_dir=cache_dir()))
    app = make_app(tasks, max_sessions=options.max_sessions, idle_s=options.idle_s)
    return _serve(make_server(app), options, "")


def _mcp(options: argparse.Namespace) -> int:
    with _extra("mcp"):
        import anyio

        from codegym_jax.adapters.mcp_server import TaskServer, open_task
    from codegym_jax.envs.sandbox import Sandbox

    spec, task = open_task(options.task_set, options.split, options.env, options.task)
    server = TaskServer(Sandbox(cache_dir=cache_dir()), spec, task)
    if not options.http:
        anyio.run(server.serve_stdio)
        return 0
    served = server.http_server(options.host, max_sessions=options.max_sessions, idle_s=options.idle_s)
    return _serve(served, options, "mcp")


def _serve(server: Any, options: argparse.Namespace, path: str) -> int:
    from codegym_jax.report.live.serving import address, listen

    with contextlib.closing(listen(options.host, options.port)) as bound:
        print(f"{address(bound)}{path}  (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[bound])
    return 0


@contextlib.contextmanager
def _extra(name: str) -> Any:
    """Tells what to install where an import within fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'codegym-jax[{name}]'") from error


def _positive(kind: Any, text: str) -> Any:
    value = kind(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be more than 0, not {text}")
    return value


_positive_int = functools.partial(_positive, int)
_positive_float = functools.partial(_positive, float)
