"""Do episodes scale over worker processes, over threads, or over neither? One JSON line per figure.

    python -m benchmarks.scaling --episodes 400 --runs 5

An episode is a fresh guest, loading, 40 calls one by one (an oracle's, over and over, then its `Done`), and
closing, with fuel on. Each round runs every variant in turn, so that other load on the machine hits all of
them alike. The control hashes blocks, for which Python gives the interpreter lock away: where the control
does not scale, the machine had no second core to give.

Two rates, medians over the rounds. One is by the clock. The other leaves out the time for which a worker was
ready to run but had no core, as the kernel counts it: what the rate would be if nobody else used the machine,
but for shared caches. Waiting for the parent, for the interpreter lock or for memory stays in. A speed-up is
the median over the rounds of a rate with all workers over that with one in the same round.
"""

import argparse
import functools
import hashlib
import itertools
import json
import pathlib
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from benchmarks.published_tasks import published_tasks
from codegym_jax.envs.env import Env
from codegym_jax.envs.pool import parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task

STEPS = 40
BLOCK = bytes(2**20)
HASHES_PER_JOB = 4
WARM_UP_S = 1.0  # longer than one worker starts after another
WARM_JOBS = 52  # as many as there are scripts: each is compiled once in each process

_SCHEDULING = pathlib.Path("/proc/thread-self/schedstat")  # ns on a core, ns waiting for one, turns

Script = tuple[EnvSpec, str, tuple[str, ...]]
Job = Callable[[int], object]


class Mark(NamedTuple):
    """When a worker ended a job, and for how long it has waited for a core so far."""

    worker: int
    time_s: float
    waited_s: float


class Rates(NamedTuple):
    """Jobs a second."""

    by_clock: float
    on_core: float


def main() -> None:
    """Parses the command line, measures, prints."""
    parser = argparse.ArgumentParser(description="How episodes scale over processes and threads.")
    parser.add_argument("--episodes", type=int, default=400, help="per measurement")
    parser.add_argument("--runs", type=int, default=5, help="rounds")
    parser.add_argument("--workers", type=int, default=2, help="compared with one")
    arguments = parser.parse_args()
    for line in measure(arguments.episodes, arguments.runs, arguments.workers):
        print(json.dumps(line), flush=True)


def measure(episodes: int, runs: int, workers: int) -> Iterator[dict[str, object]]:
    """Runs all variants `runs` times in turn; yields the lines that `main` prints."""
    scripts = [_script(spec, task) for spec, task in published_tasks(_sandbox())]
    jobs: dict[str, Job] = {"episode": functools.partial(play, scripts), "control": hash_blocks}
    ways = {"processes": _over_processes, "threads": _over_threads}
    rates: dict[tuple[str, str, int], list[Rates]] = {}
    for _ in range(runs):
        for (kind, job), (way, run), count in itertools.product(jobs.items(), ways.items(), (1, workers)):
            rates.setdefault((kind, way, count), []).append(run(job, episodes, count))
    for name in Rates._fields:
        for (kind, way, count), found in rates.items():
            yield _line(kind, name, way, count, [getattr(one, name) for one in found], f"{kind}s/s")
        for kind, way in itertools.product(jobs, ways):
            pairs = zip(rates[kind, way, workers], rates[kind, way, 1], strict=True)
            speed_ups = [getattr(many, name) / getattr(one, name) for many, one in pairs]
            yield _line(kind, name, way, workers, speed_ups, "times one worker")


def play(scripts: Sequence[Script], index: int) -> float:
    """One episode; returns its reward."""
    spec, config_json, actions = scripts[index % len(scripts)]
    env = Env(_sandbox(), spec, config_json)
    try:
        for action in actions:
            env.step(action)
        return env.reward
    finally:
        env.close()


def hash_blocks(_: int) -> str:
    """Work of about an episode's length that holds no lock."""
    digest = hashlib.sha256()
    for _ in range(HASHES_PER_JOB):
        digest.update(BLOCK)
    return digest.hexdigest()


def _script(spec: EnvSpec, task: Task) -> Script:
    *calls, done = task.oracle_actions
    return spec, task.config_json, (*itertools.islice(itertools.cycle(calls), STEPS - 1), done)


@functools.cache
def _sandbox() -> Sandbox:
    """One per process."""
    return Sandbox()


def _over_processes(job: Job, count: int, workers: int) -> Rates:
    return _rates(parallel_map(functools.partial(_do, job), range(-workers, count), workers=workers), workers)


def _over_threads(job: Job, count: int, workers: int) -> Rates:
    with ThreadPoolExecutor(workers) as pool:
        return _rates(pool.map(functools.partial(_do, job), range(-workers, count)), workers)


def _do(job: Job, index: int) -> Mark:
    """The job; but the first item of each worker makes it ready, and waits for the others to be."""
    if index >= 0:
        job(index)
    else:
        for one in range(WARM_JOBS):
            job(one)
        time.sleep(WARM_UP_S)
    waited_ns = int(_SCHEDULING.read_text(encoding="ascii").split()[1])
    return Mark(threading.get_native_id(), time.monotonic(), waited_ns / 10**9)


def _rates(marks: Iterable[Mark], workers: int) -> Rates:
    """The rates of all jobs after the first of each worker."""
    marks = list(marks)
    start_s = max(mark.time_s for mark in marks[:workers])
    by_worker: dict[int, list[Mark]] = {}
    for mark in sorted(marks, key=lambda mark: mark.time_s):
        by_worker.setdefault(mark.worker, []).append(mark)
    assert len(by_worker) == workers, "a worker had not started in time"
    on_core = 0.0
    for first, *others in by_worker.values():
        last = others[-1]
        on_core += len(others) / (last.time_s - first.time_s - (last.waited_s - first.waited_s))
    return Rates((len(marks) - workers) / (max(mark.time_s for mark in marks) - start_s), on_core)


def _line(
    kind: str, rate: str, way: str, workers: int, found: Sequence[float], unit: str
) -> dict[str, object]:
    return {
        "benchmark": f"scaling_{kind}_{rate}",
        "variant": way,
        "workers": workers,
        "value": round(statistics.median(found), 3),
        "unit": unit,
        "runs": len(found),
    }


if __name__ == "__main__":
    main()
