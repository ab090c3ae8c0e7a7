"""A small model of one worker of the published CodeGym server: a process per step on a pickled snapshot.

For each step, under one lock: dill the episode (its class by value, since its module is in no
`sys.modules`), fork a process that restores it, takes the step and puts status, observation and the new
state on a queue, wait for the queue and the process, collect garbage, restore the new state in the server.
Left out, in the peer's favor: the manager in front of the workers, the log lines of each step, the periodic
tasks, a new connection for each request.
Source: CodeGym, arXiv 2509.17325, section 4, and its `online_server`.
"""

import asyncio
import gc
import itertools
import multiprocessing
from typing import Any

import dill
from fastapi import FastAPI, HTTPException

from benchmarks.peers.http_server import Start, Step, Stop
from benchmarks.peers.native_class import construct, load_class
from benchmarks.peers.serving import until_parent_ends

_STEP_TIMEOUT_S = 28.0


def make_app() -> FastAPI:
    """The worker's application, with its sessions."""
    app = FastAPI(lifespan=until_parent_ends)
    lock = asyncio.Lock()
    classes: dict[str, Any] = {}
    sessions: dict[int, Any] = {}
    numbers = itertools.count()

    @app.post("/start")
    async def start(request: Start) -> dict[str, int]:
        if request.source not in classes:
            classes[request.source] = load_class(request.source, request.class_name)
        number = next(numbers)
        async with lock:
            sessions[number] = construct(classes[request.source], request.config)
        return {"session": number}

    @app.post("/step")
    async def step(request: Step) -> dict[str, Any]:
        async with lock:
            state = dill.dumps(sessions[request.session])
            try:
                status, observation, state = _step_in_child(state, request.action)
            except Exception as error:  # the server's boundary: the client is told
                raise HTTPException(status_code=500, detail=str(error)) from error
            sessions[request.session] = dill.loads(state)
        return {"status": status, "observation": observation}

    @app.post("/stop")
    async def stop(request: Stop) -> dict[str, bool]:
        async with lock:
            return {"stopped": sessions.pop(request.session, None) is not None}

    return app


def _step_in_child(state: bytes, action: str) -> tuple[bool, str, bytes]:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    process = context.Process(target=_step, args=(state, action, results))
    process.start()
    try:
        return results.get(timeout=_STEP_TIMEOUT_S)
    finally:
        process.join(timeout=1.0)
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
        results.close()
        results.join_thread()
        gc.collect()


def _step(state: bytes, action: str, results: Any) -> None:
    episode = dill.loads(state)
    status, observation = episode.step(action)
    results.put((status, observation, dill.dumps(episode)))
