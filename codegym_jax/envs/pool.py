"""Work spread over processes: results in order, bounded queues, and a lost process costs one item.

Processes rather than threads, because the Python around a guest's short calls holds the interpreter lock: on
two cores two processes play 1.86 times the episodes of one, two threads 1.55 times those of one (waiting for
a core on the busy machine left out; `python -m benchmarks.scaling --episodes 120 --runs 7`).

The parent never blocks on one worker: it reads and writes without waiting, and waits for all of them at
once. A worker with short items has the next ones lying in its pipe, so it does not wait for the parent; when
it is lost, those go to others.
"""

import multiprocessing
import os
import pickle
import selectors
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.context import SpawnProcess
from typing import Any, BinaryIO

from codegym_jax.envs.guest import HostFailure

START_DEADLINE_S = 300.0
"""A worker that takes longer to set up has failed; compiling a guest for the first time takes about 20 s."""
MAX_FAILED_STARTS = 3
"""So many workers in a row that do not start end the run: the next one would not either."""
WINDOW = 16
"""Items per worker that are taken and not yet yielded, at most."""

_AHEAD = 3  # items that lie in a worker's pipe beside the one that it works on ...
_SHORT_S = 0.05  # ... while its last item took less: waiting behind a long one would cost more than it saves
_HEADER_BYTES = 8  # of a message: its length
_PARENTS = (
    signal.SIGINT,
    signal.SIGTERM,
)  # sent to all of a job's processes; what they mean the parent decides
_READ_BYTES = 2**18


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

    An item gives a `WorkerFailure` when `function` raises, when its worker dies or overruns the deadline
    over it, or when the item or its result cannot be pickled. A lost worker is replaced, and what lay in its
    pipe is given to others. Closing the iterator kills the workers.

    Args:
      function: of one item; pickled once, as are `initializer` and `initargs`.
      items: consumed lazily, when a worker can take one, at most `WINDOW` per worker ahead of the consumer.
      workers: processes; 0 means one per CPU core.
      initializer: run once in each worker, with `initargs`.
      deadline_s: a worker that works on one item for longer is killed; None waits for ever. It is looked
        at only while the consumer waits for a result.

    Raises:
      HostFailure: when `MAX_FAILED_STARTS` workers in a row did not start.
    """
    count = workers if workers > 0 else os.cpu_count() or 1
    crew = _Crew(_pack((function, initializer, initargs)), count, deadline_s)
    source = enumerate(items)
    done: dict[int, Any] = {}
    taken = yielded = 0
    exhausted = False
    try:
        while not exhausted or yielded < taken:
            before = taken
            enough = min(taken + count, yielded + WINDOW * count)  # a slow producer must not hold results up
            while not exhausted and taken < enough and crew.has_room():
                index, item = next(source, (-1, None))
                if index < 0:
                    exhausted = True
                else:
                    crew.give(index, item)
                    taken += 1
            if yielded < taken:
                done.update(crew.collect(wait=taken == before and yielded not in done))
            if yielded in done:
                yield done.pop(yielded)
                yielded += 1
    finally:
        crew.dismiss()


@dataclass(slots=True)
class _Job:
    index: int
    message: bytes


@dataclass(slots=True, eq=False)
class _Worker:
    process: SpawnProcess
    pipe: socket.socket
    ready: bool = False
    jobs: deque[_Job] = field(default_factory=deque)  # the first is worked on, the others lie in the pipe
    since_s: float = 0.0  # when the worker was last heard of, or got the first of its jobs
    has_short_jobs: bool = False  # going by its last one
    outgoing: bytearray = field(default_factory=bytearray)
    incoming: bytearray = field(default_factory=bytearray)

    @property
    def room(self) -> int:
        """How many more jobs it can take; one while it starts or has long ones."""
        return (1 + _AHEAD if self.has_short_jobs else 1) - len(self.jobs)

    def messages(self) -> Iterator[bytearray]:
        """Takes the complete messages out of what came in."""
        while len(self.incoming) >= _HEADER_BYTES:
            end = _HEADER_BYTES + int.from_bytes(self.incoming[:_HEADER_BYTES], "little")
            if len(self.incoming) < end:
                return
            message = self.incoming[_HEADER_BYTES:end]
            del self.incoming[:end]
            yield message


class _Crew:
    """The workers, and the jobs that none of them has."""

    def __init__(self, setup: bytes, size: int, deadline_s: float | None):
        self._setup = setup
        self._size = size
        self._deadline_s = deadline_s
        self._workers: list[_Worker] = []
        self._backlog: deque[_Job] = deque()
        self._results: dict[int, Any] = {}
        self._failed_starts = 0
        self._selector = selectors.DefaultSelector()

    def has_room(self) -> bool:
        """Whether one more job would be begun, or lie in a pipe, at once."""
        if self._backlog:
            return False
        return len(self._workers) < self._size or any(worker.room > 0 for worker in self._workers)

    def give(self, index: int, item: Any) -> None:
        try:
            self._backlog.append(_Job(index, _pack(item)))
        except Exception as error:  # whatever an item's own pickling raises, only this item suffers
            self._results[index] = WorkerFailure(f"the item cannot be pickled: {_text(error)}")
        self._assign()

    def collect(self, *, wait: bool) -> dict[int, Any]:
        """Index -> result of what has come in; waits for at least one of them if told to."""
        while True:
            heard = set()
            patience_s = self._patience_s() if wait and not self._results else 0.0
            for key, events in self._selector.select(patience_s):
                worker = key.data
                if events & selectors.EVENT_WRITE:
                    self._flush(worker)
                if events & selectors.EVENT_READ:
                    heard.add(worker)
                    self._receive(worker)
            for worker in list(self._workers):
                if worker not in heard and self._patience_of(worker) < 0:
                    self._lose(worker, f"took longer than {self._limit_of(worker)} s")
            self._assign()
            if self._results or not wait:
                results, self._results = self._results, {}
                return results

    def dismiss(self) -> None:
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            _bury(worker)
        self._workers.clear()
        self._selector.close()

    def _assign(self) -> None:
        """Gives the backlog away as far as there is room, each job to the worker with the least to do."""
        while self._backlog:
            if len(self._workers) < self._size and all(worker.jobs for worker in self._workers):
                self._hire()
            workers = [worker for worker in self._workers if worker.room > 0]
            if not workers:
                return
            worker = min(workers, key=lambda worker: (not worker.ready, len(worker.jobs)))
            job = self._backlog.popleft()
            if worker.ready and not worker.jobs:
                worker.since_s = time.monotonic()
            worker.jobs.append(job)
            worker.outgoing += job.message
            self._flush(worker)

    def _hire(self) -> None:
        try:
            ours, process = _spawn()
        except OSError as error:
            raise HostFailure(f"no worker process can be made: {error}") from error
        worker = _Worker(process, ours, since_s=time.monotonic(), outgoing=bytearray(self._setup))
        self._selector.register(ours, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        self._flush(worker)

    def _flush(self, worker: _Worker) -> None:
        """Writes what fits, and has the selector tell when more does."""
        try:
            while worker.outgoing:
                del worker.outgoing[: worker.pipe.send(worker.outgoing)]
        except BlockingIOError:
            pass
        except OSError:  # it is dead; reading finds that out, after the results that it still sent
            worker.outgoing.clear()
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.outgoing else 0)
        if self._selector.get_key(worker.pipe).events != interest:
            self._selector.modify(worker.pipe, interest, worker)

    def _receive(self, worker: _Worker) -> None:
        try:
            data = worker.pipe.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        worker.since_s = time.monotonic()
        if not data:
            self._lose(worker, f"exit code {_exit_code(worker.process)}")
            return
        worker.incoming += data
        for message in worker.messages():
            if not worker.ready:
                self._start(worker, message)
                continue
            took_s, result = _unpack(message)
            worker.has_short_jobs = took_s < _SHORT_S
            self._results[worker.jobs.popleft().index] = result

    def _start(self, worker: _Worker, message: bytearray) -> None:
        trouble = pickle.loads(message)
        if trouble:
            self._lose(worker, trouble)
        else:
            worker.ready = True
            self._failed_starts = 0

    def _lose(self, worker: _Worker, why: str) -> None:
        """Takes a worker out; its first job fails if it was at work, the others wait for another worker."""
        self._workers.remove(worker)
        self._selector.unregister(worker.pipe)
        worker.process.kill()
        _bury(worker)
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= MAX_FAILED_STARTS:
                raise HostFailure(f"a worker process does not start: {why}")
        elif worker.jobs:
            failure = WorkerFailure(f"the worker process was lost: {why}")
            self._results[worker.jobs.popleft().index] = failure
        self._backlog.extendleft(reversed(worker.jobs))

    def _limit_of(self, worker: _Worker) -> float | None:
        return self._deadline_s if worker.ready else START_DEADLINE_S

    def _patience_of(self, worker: _Worker) -> float:
        """Seconds until a worker is overdue; negative when it is."""
        limit_s = self._limit_of(worker)
        if limit_s is None or (worker.ready and not worker.jobs):
            return float("inf")
        return worker.since_s + limit_s - time.monotonic()

    def _patience_s(self) -> float | None:
        soonest = min(map(self._patience_of, self._workers), default=0.0)
        return None if soonest == float("inf") else max(soonest, 0.0) + 0.001


def _spawn() -> tuple[socket.socket, SpawnProcess]:
    """A worker process, and our end of the pipe to it."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = multiprocessing.get_context("spawn").Process(target=_work, args=(theirs,), daemon=True)
        resource_tracker.ensure_running()  # else `start` does it, and unblocks the signals
        blocked = signal.pthread_sigmask(
            signal.SIG_BLOCK, _PARENTS
        )  # by the worker, too, until it ignores them
        try:
            process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    ours.setblocking(False)
    return ours, process


def _work(pipe: socket.socket) -> None:
    """A worker's life: set up, then one item after the other, until the parent closes the pipe."""
    for number in _PARENTS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PARENTS)  # for the processes that it starts
    with pipe, pipe.makefile("rb") as incoming, suppress(OSError):  # the parent is gone
        try:
            function, initializer, initargs = pickle.loads(_read(incoming))
            if initializer is not None:
                initializer(*initargs)
        except Exception as error:  # told to the parent, which counts it
            pipe.sendall(_pack(_text(error)))
            return
        pipe.sendall(_pack(""))
        while message := _read(incoming):
            pipe.sendall(_attempt(function, message))


def _attempt(function: Callable[[Any], Any], message: bytes) -> bytes:
    """(seconds, result) as a message. The one place where any exception of an item is caught: the parent
    counts it as the host's failure.
    """
    start_s = time.monotonic()
    try:
        result = function(pickle.loads(message))
    except Exception as error:
        result = WorkerFailure(_text(error))
    took_s = time.monotonic() - start_s
    try:
        return _pack((took_s, result))
    except Exception as error:
        return _pack((took_s, WorkerFailure(f"the result cannot be pickled: {_text(error)}")))


def _pack(value: Any) -> bytes:
    data = pickle.dumps(value)
    return len(data).to_bytes(_HEADER_BYTES, "little") + data


def _read(incoming: BinaryIO) -> bytes:
    """The next message; empty at the end."""
    return incoming.read(int.from_bytes(incoming.read(_HEADER_BYTES), "little"))


def _unpack(message: bytearray) -> tuple[float, Any]:
    try:
        return pickle.loads(message)
    except Exception as error:  # whatever a result's own unpickling raises, only this item suffers
        return 0.0, WorkerFailure(f"the result cannot be unpickled: {_text(error)}")


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _exit_code(process: SpawnProcess) -> int | None:
    process.join(timeout=5.0)
    return process.exitcode


def _bury(worker: _Worker) -> None:
    worker.process.join()
    worker.process.close()
    worker.pipe.close()
