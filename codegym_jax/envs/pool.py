"""Work spread over processes: results in order, bounded queues, and a lost process costs one item.

Processes rather than threads: short guest calls do not scale over threads, because the Python around them
holds the interpreter lock.
"""

import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

from codegym_jax.envs.guest import HostFailure

_READY = "ready"


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """Stands for the result of an item whose worker failed; a failure of the host, not of the item."""

    detail: str


def parallel_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    *,
    workers: int = 0,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
    deadline_s: float | None = None,
) -> Iterator[Any]:
    """Applies `function` to every item in spawned worker processes and yields the results in order.

    At most two items per worker are ahead of the consumer, so a slow consumer holds the producer back. A
    worker that dies, raises, or overruns its deadline gives a `WorkerFailure` for its item; a lost worker is
    replaced.

    Args:
      function: of one item; it, the items and the results are pickled.
      items: consumed lazily.
      workers: processes; 0 means one per CPU core.
      initializer: run once in each worker, with `initargs`.
      deadline_s: a worker that holds one item longer is killed; None waits for ever.

    Raises:
      HostFailure: when a worker cannot even start.
    """
    count = workers if workers > 0 else os.cpu_count() or 1
    crew = _Crew(function, initializer, initargs, deadline_s)
    waiting = enumerate(items)
    done: dict[int, Any] = {}
    pending: deque[int] = deque()  # indexes in order, from the next to be yielded
    exhausted = False
    try:
        while True:
            while not exhausted and len(pending) < 2 * count and crew.has_room(count):
                index, item = next(waiting, (-1, None))
                exhausted = index < 0
                if not exhausted:
                    pending.append(index)
                    crew.give(index, item)
            while pending and pending[0] in done:
                yield done.pop(pending.popleft())
            if exhausted and not pending:
                return
            if pending and pending[0] not in done:
                done.update(crew.collect())
    finally:
        crew.dismiss()


@dataclass(slots=True)
class _Worker:
    process: SpawnProcess
    pipe: Connection
    index: int = -1
    started_s: float = 0.0


class _Crew:
    """The workers, each with at most one item."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        initializer: Callable[..., None] | None,
        initargs: tuple[Any, ...],
        deadline_s: float | None,
    ):
        self._setup = (function, initializer, initargs)
        self._deadline_s = deadline_s
        self._idle: list[_Worker] = []
        self._busy: list[_Worker] = []

    def has_room(self, limit: int) -> bool:
        return bool(self._idle) or len(self._busy) < limit

    def give(self, index: int, item: Any) -> None:
        worker = self._idle.pop() if self._idle else self._hire()
        worker.index, worker.started_s = index, time.monotonic()
        self._busy.append(worker)
        with suppress(OSError):  # it died while idle; `collect` finds out
            worker.pipe.send((index, item))

    def collect(self) -> dict[int, Any]:
        """Waits for at least one result; index -> result."""
        results: dict[int, Any] = {}
        while not results:
            ready = set(wait([worker.pipe for worker in self._busy], self._patience_s()))
            for worker in list(self._busy):
                if worker.pipe in ready:
                    results.update(self._receive(worker))
                elif self._overdue(worker):
                    results[worker.index] = self._lose(worker, f"took longer than {self._deadline_s} s")
        return results

    def dismiss(self) -> None:
        for worker in [*self._idle, *self._busy]:
            worker.process.kill()
            worker.pipe.close()
        for worker in [*self._idle, *self._busy]:
            worker.process.join()
            worker.process.close()

    def _hire(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, *self._setup), daemon=True)
        process.start()
        theirs.close()
        worker = _Worker(process, ours)
        try:
            answer = ours.recv()
        except (EOFError, OSError):
            answer = f"exit code {_exit_code(process)}"
        if answer != _READY:
            process.kill()
            raise HostFailure(f"a worker process does not start: {answer}")
        return worker

    def _receive(self, worker: _Worker) -> dict[int, Any]:
        try:
            index, result = worker.pipe.recv()
        except (EOFError, OSError):
            return {worker.index: self._lose(worker, f"exit code {_exit_code(worker.process)}")}
        self._busy.remove(worker)
        self._idle.append(worker)
        return {index: result}

    def _lose(self, worker: _Worker, why: str) -> WorkerFailure:
        self._busy.remove(worker)
        worker.process.kill()
        worker.process.join()
        worker.process.close()
        worker.pipe.close()
        return WorkerFailure(f"the worker process was lost: {why}")

    def _overdue(self, worker: _Worker) -> bool:
        return self._deadline_s is not None and time.monotonic() - worker.started_s > self._deadline_s

    def _patience_s(self) -> float | None:
        if self._deadline_s is None:
            return None
        soonest = min(worker.started_s for worker in self._busy) + self._deadline_s
        return max(soonest - time.monotonic(), 0.0) + 0.01


def _exit_code(process: SpawnProcess) -> int | None:
    process.join(timeout=5.0)
    return process.exitcode


def _work(
    pipe: Connection,
    function: Callable[[Any], Any],
    initializer: Callable[..., None] | None,
    initargs: tuple[Any, ...],
) -> None:
    """A worker's life: set up, then one item after the other. The one place where any exception is caught."""
    try:
        if initializer is not None:
            initializer(*initargs)
    except Exception as error:  # told to the parent, which stops
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(_READY)
    while True:
        try:
            message = pipe.recv()
        except EOFError:
            return
        index, item = message
        try:
            result = function(item)
        except Exception as error:  # counted by the parent as the host's failure
            result = WorkerFailure(f"{type(error).__name__}: {error}")
        pipe.send((index, result))
