"""Random episodes with traps and killed workers for a while: none lost, none wrong, and memory stays flat.

    python -m benchmarks.soak --minutes 30 --workers 2 --seed 0 [--task-set FOLDER]

Episodes (`soak_episodes`) run over the pool; each is played once carelessly and once for the referee, by
whichever worker takes it. Workers are killed at random moments, all but the oldest, whose memory is watched.
What a killed worker was at is invalid: it is tried again, and must then be right.

Prints a line every half minute, and at the end one JSON line. The exit status is 1 when an episode was wrong
or lost, when a worker failed for another reason than being killed, or when something grew beyond its
allowance (`soak_watch`); it is 2 when there is no such task set, or it was made on another guest.
"""

import argparse
import functools
import json
import multiprocessing
import os
import pathlib
import random
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.published_tasks import published_tasks
from benchmarks.soak_episodes import LIMITS, Outcome, Stage, attempt, difference, make_plan, referee
from benchmarks.soak_watch import Watch
from codegym_jax.config import ConfigError, UserError
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task

LEDGER = pathlib.Path(__file__).parent / "environments" / "Soak_1__LedgerEnv.py"
ITEM_DEADLINE_S = 120.0
KILLED = "the worker process was lost: exit code -9"
PROGRESS_S = 30.0
LOOK_S = 5.0

_MAX_TASKS = 500
_MAX_SHOWN = 20  # wrong episodes that are described

Job = tuple[str, int]


def main() -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Random episodes with traps and killed workers.")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--task-set", type=pathlib.Path, help="play tasks of this folder too")
    options = parser.parse_args()
    try:
        stage = make_stage(options.seed, options.task_set)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    soak = Soak(stage, options.workers, options.seed)
    soak.run(60 * options.minutes)
    summary = soak.summary()
    settings = {"minutes": options.minutes, "workers": options.workers, "seed": options.seed}
    print(json.dumps({"benchmark": "soak", **settings, **summary}), flush=True)
    return 0 if summary["ok"] else 1


def make_stage(seed: int, task_set: pathlib.Path | None) -> Stage:
    """The published tasks, and a random choice of a task set's.

    Raises:
      ConfigError: when the task set was verified on another guest, whose sets have another order.
    """
    sandbox = Sandbox(LIMITS)
    tasks: list[tuple[EnvSpec, Task]] = published_tasks(sandbox)
    if task_set is not None:
        opened = TaskSet.open(task_set)
        made_on = opened.manifest.get("guest_hash")
        if made_on != sandbox.guest_hash:
            raise ConfigError(f"{task_set} was made on guest {made_on}, expected {sandbox.guest_hash}")
        more = [task for split in opened.counts for task in opened.source(split)]
        chosen = random.Random(f"{seed}/tasks").sample(more, min(_MAX_TASKS, len(more)))
        tasks += [(opened.specs[task.env_id], task) for task in chosen]
    return Stage(seed=seed, ledger=load_environment(LEDGER), tasks=tuple(tasks))


def play(stage: Stage, job: Job) -> Outcome:
    """What a worker does."""
    kind, index = job
    return attempt(stage, index) if kind == "attempt" else referee(stage, index)


@dataclass(slots=True)
class Soak:
    """The books of a run: what was given out, what came back, and what it must have been."""

    stage: Stage
    workers: int
    seed: int
    episodes: int = 0
    """Given out; each must be judged in the end."""
    judged: int = 0
    wrong: list[str] = field(default_factory=list)
    out_of_order: int = 0
    invalid: int = 0
    """Jobs whose worker was killed."""
    retried: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Jobs that failed for another reason."""
    traps: Counter[str] = field(default_factory=Counter)
    detours: int = 0
    due: deque[Job] = field(default_factory=deque)
    """Jobs to be given out before any new episode: for the referee, or once more."""
    unjudged: dict[int, Outcome] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)
    killer: "Killer" = field(init=False)

    def __post_init__(self) -> None:
        self.killer = Killer(random.Random(f"{self.seed}/kills"), spare_oldest=self.workers > 1)

    def run(self, seconds: float) -> None:
        """Plays for a time with kills, then without until every episode is judged."""
        start_s = shown_s = looked_s = time.monotonic()
        for outcome in self._results(self._jobs(start_s + seconds)):
            if isinstance(outcome, Outcome):
                self.killer.saw(outcome.pid)
            self.killer.maybe_kill()
            now_s = time.monotonic()
            if now_s - looked_s >= min(LOOK_S, seconds / 10) and self.killer.oldest:
                looked_s = now_s
                self.watch.look(self.killer.oldest)
            if now_s - shown_s >= PROGRESS_S:
                shown_s = now_s
                self._show((now_s - start_s) / 60)
        while self.due:
            for _ in self._results(self._jobs(0.0)):
                pass

    def summary(self) -> dict[str, Any]:
        """What is printed at the end."""
        held = self.watch.summary() if self.watch.looks else {"grown": []}
        lost = self.episodes - self.judged
        unexplained = max(0, self.invalid - self.killer.kills)
        bad = self.wrong or lost or self.failures or unexplained or self.out_of_order or held["grown"]
        return {
            "ok": not bad,
            "episodes": self.episodes,
            "wrong": len(self.wrong),
            "lost": lost,
            "invalid": self.invalid,
            "retried": self.retried,
            "kills": self.killer.kills,
            "failures": dict(self.failures),
            "out_of_order": self.out_of_order,
            "traps": dict(sorted(self.traps.items())),
            "detours": self.detours,
            "held": held,
        }

    def _jobs(self, end_s: float) -> Iterator[Job]:
        """New episodes until the time is up, with the referee behind them; then what is left."""
        while True:
            if self.due:
                yield self.due.popleft()
            elif time.monotonic() < end_s:
                self.episodes += 1
                yield "attempt", self.episodes - 1
            else:
                return

    def _results(self, jobs: Iterable[Job]) -> Iterator[Outcome | WorkerFailure]:
        """Plays jobs, and enters what comes back."""
        given: deque[Job] = deque()

        def noted() -> Iterator[Job]:
            for job in jobs:
                given.append(job)
                yield job

        function = functools.partial(play, self.stage)
        results = parallel_map(function, noted(), workers=self.workers, deadline_s=ITEM_DEADLINE_S)
        for result in results:
            self._enter(given.popleft(), result)
            yield result
        self.out_of_order += len(given)

    def _enter(self, job: Job, result: Outcome | WorkerFailure) -> None:
        kind, index = job
        if isinstance(result, WorkerFailure):
            if result.detail == KILLED:
                self.invalid += 1
                self.retried += 1
                self.due.append(job)
            else:
                self.failures[result.detail] += 1
        elif result.index != index:
            self.out_of_order += 1
        elif kind == "attempt":
            self.unjudged[index] = result
            self.due.append(("referee", index))
        else:
            self._judge(index, self.unjudged.pop(index), result)

    def _judge(self, index: int, played: Outcome, right: Outcome) -> None:
        self.judged += 1
        self.detours += len(played.detours)
        self.traps.update(error.value for error in played.traps)
        found = difference(make_plan(self.stage, index), played, right)
        if found is not None:
            self.wrong.append(f"episode {index}: {found}")
            if len(self.wrong) <= _MAX_SHOWN:
                print(self.wrong[-1], flush=True)

    def _show(self, minutes: float) -> None:
        look = self.watch.looks[-1]
        print(
            f"minute {minutes:.1f}: {self.judged} episodes, {len(self.wrong)} wrong, {self.invalid} invalid,"
            f" {self.killer.kills} kills, {self.traps.total()} traps, {self.detours} detours;"
            f" parent {look.parent_bytes / 2**20:.1f} MiB, oldest worker {look.worker_bytes / 2**20:.1f} MiB,"
            f" {look.files} files, {look.children} children",
            flush=True,
        )


class Killer:
    """Kills workers at random moments; sometimes the one that replaces them too, while it starts."""

    def __init__(self, rng: random.Random, *, spare_oldest: bool):
        self.kills = 0
        self._rng = rng
        self._spare_oldest = spare_oldest
        self._seen: dict[int, None] = {}  # workers that have given a result, by age
        self._wait = 50  # results until the next kill
        self._follows_up = False  # the next one is for a worker that starts

    @property
    def oldest(self) -> int:
        """The process that has lived longest; 0 when there is none yet."""
        return next(iter(self._seen), 0)

    def saw(self, pid: int) -> None:
        """Notes that a worker is at work."""
        self._seen[pid] = None

    def maybe_kill(self) -> None:
        """To be called for each result."""
        self._wait -= 1
        if self._wait > 0:
            return
        alive = {child.pid for child in multiprocessing.active_children() if child.pid is not None}
        self._seen = {pid: None for pid in self._seen if pid in alive}
        starting = sorted(alive - self._seen.keys())
        working = list(self._seen)[self._spare_oldest :]
        victims = starting if self._follows_up else working
        if victims:
            os.kill(self._rng.choice(victims), signal.SIGKILL)
            self.kills += 1
        # Never three starts in a row, at which the pool gives up.
        self._follows_up = not self._follows_up and self._rng.random() < 0.3
        self._wait = self._rng.randint(1, 10) if self._follows_up else self._rng.randint(100, 600)


if __name__ == "__main__":
    sys.exit(main())
