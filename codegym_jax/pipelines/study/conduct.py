"""All runs of a study: each a process of its own, several at a time; what is done is not done again."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from codegym_jax.config import ConfigError, ExitCode, UserError, to_json
from codegym_jax.config.study import StudyConfig
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.folder_lock import lock_folder
from codegym_jax.data.task_set import TaskSet
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.study.pool import POOL, facts, make_pool, make_set
from codegym_jax.pipelines.study.runs import RUNS, WARM, Run, make_run, run_of, start_of

RESULTS = "results.jsonl"
_LOOK_S = 0.2
_ORPHANED = "the study's process is gone"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is asked of a study."""

    file: Path
    """The study, which the processes of runs read again."""
    study: StudyConfig
    folder: Path
    cache: Path
    seeds: tuple[int, ...]
    only: tuple[str, ...]
    """Arms."""
    workers: int
    """Runs at a time."""


def runs_of(plan: Plan) -> list[list[Run]]:
    """Warm starts, then arms."""
    arms = {name: arm for name, arm in plan.study.arms.items() if name in plan.only}
    arm_runs = [run_of(name, arm, seed) for seed in plan.seeds for name, arm in arms.items()]
    return [list({start.label: start for start in map(start_of, arm_runs)}.values()), arm_runs]


def conduct(plan: Plan) -> list[str]:
    """Makes all runs that are not there, and `results.jsonl`.

    Returns:
      Why runs failed, a line each.

    Raises:
      ConfigError: when the folder belongs to another study.
      Stopped: when the command is to stop; the runs are, too.
    """
    adopt(plan)
    pool = make_pool(plan.study, plan.folder, plan.cache)
    for phase in runs_of(plan):
        for run in phase:
            make_set(pool, plan.folder, run.environments, run.seed)
    failures: list[str] = []
    for phase in runs_of(plan):
        waiting = [run for run in phase if not result_path(plan.folder, run).exists()]
        with ThreadPoolExecutor(plan.workers) as threads:
            failures += filter(None, threads.map(lambda run: _start(plan, run), waiting))
        write_results(plan)
        preemption.check("runs that are done are kept, and the others go on")
        if failures:
            break  # an arm without its warm start cannot begin
    return failures


def adopt(plan: Plan) -> None:
    """Ties a folder to a study.

    Raises:
      ConfigError: when it belongs to another one; names the settings that differ.
    """
    path, text = plan.folder / "study.json", to_json(plan.study)
    if path.exists():
        there, given = json.loads(path.read_text()), json.loads(text)
        different = [key for key in given if there.get(key) != given[key] and key != "seeds"]
        if different:
            raise ConfigError(
                f"{plan.folder} holds a study with another {', '.join(different)}; give another --out"
            )
        return
    write_atomically(path, text)


def result_path(folder: Path, run: Run) -> Path:
    """What came of a run."""
    return folder / "results" / f"{run.label}.json"


def write_results(plan: Plan) -> None:
    """Writes `results.jsonl`: the pool, then every run that is done, whatever was asked for now."""
    order = {name: place for place, name in enumerate(plan.study.arms)}
    rows = [json.loads(path.read_text()) for path in (plan.folder / "results").glob("*.json")]
    rows.sort(
        key=lambda row: (
            row["method"] != WARM,
            row["environments"] if row["method"] == WARM else order.get(row["arm"], len(order)),
            row["seed"],
        )
    )
    head = {"pool": facts(TaskSet.open(plan.folder / POOL / "task_set")), "budget": plan.study.budget}
    write_atomically(plan.folder / RESULTS, "".join(json.dumps(row) + "\n" for row in [head, *rows]))


def _start(plan: Plan, run: Run) -> str:
    """Makes a run in a process of its own; returns why it failed, if it did."""
    if preemption.requested():
        return ""
    log = plan.folder / "logs" / f"{run.label}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "codegym_jax.cli", "study", str(plan.file), "--out", str(plan.folder)]
    command += ["--one", run.name, str(run.seed)]
    if plan.study.base.data.task_set:
        command += ["--task-set", plan.study.base.data.task_set]
    threads = {"NPROC": str(max(1, (os.cpu_count() or 1) // plan.workers))} if plan.workers > 1 else {}
    begun_s = time.monotonic()
    with log.open("a") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            env=os.environ | threads,
            start_new_session=True,  # Ctrl-C is told by us, once
        )
        told = False
        while process.poll() is None:
            time.sleep(_LOOK_S)
            if preemption.requested() and not told:
                process.send_signal(signal.SIGTERM)
                told = True
    assert process.stdin
    process.stdin.close()
    if process.returncode == ExitCode.DONE:
        say(f"{run.label}: done in {time.monotonic() - begun_s:.0f} s")
        return ""
    return "" if told else f"{run.label} ended with code {process.returncode}; see {log}"


def make_one(plan: Plan, name: str, seed: str) -> None:
    """One run, in this process, which another one watches; it stops when that one is gone.

    Raises:
      UserError: when there is no such run, or another process is making it.
    """
    known = {run.label: run for phase in runs_of(plan) for run in phase}
    if f"{name}-{seed}" not in known:
        raise UserError(f"--one: this study has no run {name} of seed {seed}")
    run = known[f"{name}-{seed}"]
    with _alone(plan.folder / "locks" / run.label):
        if result_path(plan.folder, run).exists():
            return
        threading.Thread(target=_stop_with_parent, daemon=True).start()
        row = make_run(plan.study, plan.folder, plan.cache, run)
        write_atomically(result_path(plan.folder, run), json.dumps(row) + "\n")


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds a run for the time of a `with` block; one whose study was killed has a while to stop."""
    end_s = time.monotonic() + preemption.GRACE_S
    while (lock := lock_folder(folder)) is None:
        if time.monotonic() > end_s:
            raise UserError(f"another process is making this run: it holds {folder}")
        time.sleep(_LOOK_S)
    try:
        yield
    finally:
        os.close(lock)


def _stop_with_parent() -> None:
    """Waits until the study's process closes our standard input, or is gone and so has closed it."""
    while os.read(0, 4096):  # not sys.stdin, whose lock this thread would hold when the process ends
        pass
    preemption.NOTICE.give(_ORPHANED)


def seconds_of(plan: Plan, runs: Sequence[Run]) -> dict[str, float]:
    """What the finished of these runs took, by name."""
    found: dict[str, float] = {}
    for run in runs:
        timing = plan.folder / RUNS / run.label / "timing.json"
        if result_path(plan.folder, run).exists() and timing.exists():
            found[run.label] = sum(json.loads(timing.read_text()).values())
    return found
