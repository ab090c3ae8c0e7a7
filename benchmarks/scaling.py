"""Do episodes scale over worker processes, over threads, or over neither? One JSON line per figure.

    python -m benchmarks.scaling --episodes 400 --runs 5

An episode is a fresh guest, loading, 40 calls one by one (an oracle's, over and over, then its `Done`), and
closing, with fuel on. Each round runs every variant in turn, so that other load on the machine hits all of
them alike. The control hashes blocks, for which Python gives the interpreter lock away: where the control
does not scale, the machine had no second core to give.

A rate is the median over the rounds. A speed-up is the median over the rounds of a variant's rate with all
workers over its rate with one in the same round.
"""

import argparse
import functools
import hashlib
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

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

Script = tuple[EnvSpec, str, tuple[str, ...]]
Job = Callable[[int], object]


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
    rates: dict[tuple[str, str, int], list[float]] = {}
    for _ in range(runs):
        for (kind, job), (way, run), count in itertools.product(jobs.items(), ways.items(), (1, workers)):
            rates.setdefault((kind, way, count), []).append(run(job, episodes, count))
    for (kind, way, count), found in rates.items():
        yield _line(kind, way, count, found, f"{kind}s/s")
    for kind, way in itertools.product(jobs, ways):
        pairs = zip(rates[kind, way, workers], rates[kind, way, 1], strict=True)
        yield _line(kind, way, workers, [many / one for many, one in pairs], "times one worker")


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


def _over_processes(job: Job, count: int, workers: int) -> float:
    """Jobs a second in the pool, once all its workers are at work."""
    results = parallel_map(functools.partial(_warm_or, job), range(-workers, count), workers=workers)
    return _rate(results, count, workers)


def _over_threads(job: Job, count: int, workers: int) -> float:
    with ThreadPoolExecutor(workers) as pool:
        return _rate(pool.map(functools.partial(_warm_or, job), range(-workers, count)), count, workers)


def _warm_or(job: Job, index: int) -> object:
    """The job, but for the first items of each worker, which make it ready and wait for the others."""
    if index >= 0:
        return job(index)
    for one in range(WARM_JOBS):
        job(one)
    time.sleep(WARM_UP_S)
    return None


def _rate(results: Iterable[object], count: int, workers: int) -> float:
    results = iter(results)
    for _ in range(workers):
        next(results)
    start_s = time.perf_counter()
    assert sum(1 for _ in results) == count
    return count / (time.perf_counter() - start_s)


def _line(kind: str, way: str, workers: int, found: Sequence[float], unit: str) -> dict[str, object]:
    value = round(statistics.median(found), 3)
    return {
        "benchmark": f"scaling_{kind}",
        "variant": way,
        "workers": workers,
        "value": value,
        "unit": unit,
        "runs": len(found),
    }


if __name__ == "__main__":
    main()
