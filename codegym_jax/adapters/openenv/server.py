"""OpenEnv's server of a task set, with limits on sessions and on what they send."""

import functools

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from openenv.core.env_server import (
    CallToolAction,
    CallToolObservation,
    ConcurrencyConfig,
    HTTPEnvServer,
    ServerMode,
)

from codegym_jax.adapters.openenv.environment import EpisodeState, TaskObservation, TaskSetEnvironment
from codegym_jax.adapters.openenv.tasks import Tasks
from codegym_jax.config import UserError

NAME = "codegym"
"""Of the environment in the paths of the task provider: `/codegym/splits`."""
_MAX_MESSAGE_BYTES = 2**20


def make_app(tasks: Tasks, *, max_sessions: int, idle_s: float) -> FastAPI:
    """The application.

    Args:
      tasks: what may be played.
      max_sessions: at a time; more are refused with OpenEnv's `CAPACITY_REACHED`.
      idle_s: a session that sends nothing for so long is ended, and its guest freed. OpenEnv looks every
        quarter of it, but at most every 5 s.
    """
    server = HTTPEnvServer(
        functools.partial(TaskSetEnvironment, tasks),
        CallToolAction,
        CallToolObservation,
        concurrency_config=ConcurrencyConfig(max_concurrent_envs=max_sessions, session_timeout=idle_s),
        env_name=NAME,
        state_cls=EpisodeState,
        reset_observation_cls=TaskObservation,
    )
    app = FastAPI(title="codegym")
    server.register_routes(app, ServerMode.SIMULATION)
    app.add_exception_handler(UserError, _told)
    app.add_exception_handler(IndexError, _told)
    return app


def make_server(app: FastAPI) -> uvicorn.Server:
    """Serves until a signal, or until `should_exit` is set; `run(sockets=[...])` starts it."""
    return uvicorn.Server(uvicorn.Config(app, log_level="warning", ws_max_size=_MAX_MESSAGE_BYTES))


async def _told(_: Request, error: Exception) -> JSONResponse:
    """A user's mistake over plain HTTP; over WebSocket, OpenEnv itself tells it."""
    return JSONResponse({"detail": str(error)}, status_code=400)
