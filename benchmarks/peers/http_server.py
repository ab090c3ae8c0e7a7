"""A plain environment server: the episodes live in the server's process, a step is one POST."""

import itertools
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.peers.native_class import construct, load_class
from benchmarks.peers.serving import until_parent_ends


class Start(BaseModel):
    """A new episode; `source` is executed once for each text."""

    source: str
    class_name: str
    config: str


class Step(BaseModel):
    """One action of an episode."""

    session: int
    action: str


class Stop(BaseModel):
    """Forgets an episode."""

    session: int


def make_app() -> FastAPI:
    """The server's application, with its sessions."""
    app = FastAPI(lifespan=until_parent_ends)
    classes: dict[str, Any] = {}
    sessions: dict[int, Any] = {}
    numbers = itertools.count()

    @app.post("/start")
    async def start(request: Start) -> dict[str, int]:
        if request.source not in classes:
            classes[request.source] = load_class(request.source, request.class_name)
        number = next(numbers)
        sessions[number] = construct(classes[request.source], request.config)
        return {"session": number}

    @app.post("/step")
    async def step(request: Step) -> dict[str, Any]:
        status, observation = sessions[request.session].step(request.action)
        return {"status": status, "observation": observation}

    @app.post("/stop")
    async def stop(request: Stop) -> dict[str, bool]:
        return {"stopped": sessions.pop(request.session, None) is not None}

    return app
