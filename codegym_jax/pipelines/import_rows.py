"""Rows that somebody else made to a task set: read -> verify -> split -> write; `codegym import`.

Every environment is parsed, checked and played in guests as `codegym verify` does it, whatever the row claims
of itself. What was verified lies in a journal beside the task set until that is written, so the same command
goes on where a killed one was.
"""

import hashlib
import os
import pickle
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegym_jax.config import ConfigError, DataConfig, SandboxConfig, digest
from codegym_jax.data.splits import SPLITS, split_all_trainable
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.check import TaskBounds, verify_environment, verify_task
from codegym_jax.envs.codegym_format import FormatError, parse_source, task_row
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.envs.published_rows import TaskRow
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.console import CONSOLE
from codegym_jax.pipelines.journal import Journal
from codegym_jax.pipelines.read_rows import Environment, Gathered, gather
from codegym_jax.pipelines.watch import watch
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.report.card import card
from codegym_jax.report.funnel import funnel_table
from codegym_jax.synthesis.filters import similar

COMMAND = "codegym import FILE... --out TASK_SET"
ITEM_DEADLINE_S = 3600.0  # host backstop for one environment with all its tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult:
    """What an import came to."""

    folder: Path | None
    """The task set; None when nothing was verified, so that none was written."""
    environments: int
    tasks: int
    funnel: tuple[Mapping[str, Any], ...]
    rejections: tuple[Rejection, ...]
    """Rows, environments and tasks that were refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One environment with its tasks, verified."""

    spec: EnvSpec | None
    tasks: tuple[tuple[Task, TaskRow], ...] = ()
    signature: similar.Signature = field(default_factory=dict)
    """What near duplicates are found by; empty when no task was verified."""
    fault: Rejection | None = None
    """Why the environment was refused, and with it all its tasks."""
    refused: tuple[Rejection, ...] = ()


def import_rows(
    files: Sequence[Path],
    out: Path,
    *,
    license: str = "",
    data: DataConfig | None = None,
    sandbox: SandboxConfig | None = None,
    bounds: TaskBounds | None = None,
    seed: int = 0,
    workers: int = 0,
    cache_dir: Path | None = None,
) -> ImportResult:
    """Makes a task set of rows.

    The task set's bytes depend on the rows and the settings, not on the number of workers.

    Args:
      files: of task rows, environment rows or both, and environment files, as `gather` takes them.
      out: the task set's folder, which must not exist.
      license: of rows that name none.
      data: how many environments and configs are held out, where the rows do not all tell their split.
      sandbox: limits of the guests.
      bounds: what a task may measure; a row may allow less calls.
      seed: of the splits.
      workers: processes; 0 means one per CPU core.
      cache_dir: where compiled guests are kept.

    Raises:
      ConfigError: when there is something at `out`, or a row has no license and none is given.
      UserError: when a file cannot be read.
      JournalError: when another process makes the same task set.
    """
    if out.exists():
        raise ConfigError(f"--out must name a new folder, but {out} exists")
    data, sandbox, bounds = data or DataConfig(), sandbox or SandboxConfig(), bounds or TaskBounds()
    gathered = gather(files, license)
    with Journal(out.with_name(f".{out.name}.import")) as journal:
        judged = _judge_all(gathered.environments, journal, sandbox, bounds, workers, cache_dir)
        funnel = _funnel(gathered, judged)
        rejections = [*gathered.refused]
        for one in judged:
            rejections += [one.fault] if one.fault else one.refused
        good = [one for one in judged if one.tasks]
        if good:
            name = digest(
                sandbox, bounds, data, seed, find_artefact().wasm_sha256, _sha256(gathered.environments)
            )
            _write(out, good, data, seed, name, funnel, rejections)
        journal.remove()
    CONSOLE.print(funnel_table(funnel))
    return ImportResult(
        folder=out if good else None,
        environments=len(good),
        tasks=sum(len(one.tasks) for one in good),
        funnel=tuple(funnel),
        rejections=tuple(rejections),
    )


class _Checker:
    """The sandbox of a worker process, set up once."""

    def __init__(self, sandbox: SandboxConfig, bounds: TaskBounds, cache_dir: Path | None):
        self._sandbox = Sandbox(sandbox, cache_dir)
        self._bounds = bounds

    def judge(self, given: Environment) -> _Judged:
        """Verifies an environment and its tasks."""
        code_id, _, class_name = given.env_id.rpartition("__")
        try:
            spec = parse_source(
                given.source,
                code_id=code_id,
                class_name=class_name,
                statement=given.statement,
                license=given.license,
                origin=given.origin,
            )
        except FormatError as error:
            fault = Rejection(reason="bad_environment", detail=str(error), subject=given.env_id)
            return _Judged(spec=None, fault=fault)
        faults = verify_environment(spec)
        if faults:
            return _Judged(spec=None, fault=faults[0])
        tasks, refused = [], []
        for row in given.tasks:
            result = verify_task(
                self._sandbox,
                spec,
                row.config_json,
                min_calls=self._bounds.min_calls,
                max_calls=min(self._bounds.max_calls, row.max_round),
                max_answer_chars=self._bounds.max_answer_chars,
            )
            if isinstance(result, Task):
                tasks.append((result, replace(row, source="", statement="")))  # the spec has them
            else:
                refused.append(result)
        signature = similar.signature(spec, [task for task, _ in tasks]) if tasks else {}
        return _Judged(spec=spec, tasks=tuple(tasks), signature=signature, refused=tuple(refused))


_checker: _Checker | None = None


def open_checker(sandbox: SandboxConfig, bounds: TaskBounds, cache_dir: Path | None) -> None:
    """Sets up this process for `judge`."""
    global _checker
    _checker = _Checker(sandbox, bounds, cache_dir)


def judge(given: Environment) -> _Judged:
    """Verifies an environment and its tasks in this process."""
    assert _checker is not None
    return _checker.judge(given)


def _judge_all(
    environments: Sequence[Environment],
    journal: Journal,
    sandbox: SandboxConfig,
    bounds: TaskBounds,
    workers: int,
    cache_dir: Path | None,
) -> list[_Judged]:
    """In the order given; those in the journal are not judged again."""
    settings = digest(sandbox, bounds, find_artefact().wasm_sha256)
    keys = [f"{settings} {_sha256(one)}" for one in environments]
    done = {key: pickle.loads(journal.results[key]) for key in keys if key in journal.results}
    waiting = [(key, one) for key, one in zip(keys, environments, strict=True) if key not in done]
    results = parallel_map(
        judge,
        [one for _, one in waiting],
        workers=min(workers or os.cpu_count() or 1, len(waiting)),
        initializer=open_checker,
        initargs=(sandbox, bounds, cache_dir),
        deadline_s=ITEM_DEADLINE_S,
    )
    accepted = sum(bool(one.tasks) for one in done.values())
    with watch("verify", len(keys), CONSOLE, done=len(done), accepted=accepted) as progress:
        for (key, given), result in zip(waiting, results if waiting else (), strict=True):
            if isinstance(result, WorkerFailure):  # not kept: the next command tries again
                fault = Rejection(reason="worker_failure", detail=result.detail, subject=given.env_id)
                result = _Judged(spec=None, fault=fault)
            else:
                journal.put(key, pickle.dumps(result))
            done[key] = result
            progress.advance(bool(result.tasks))
    return [done[key] for key in keys]


def _funnel(gathered: Gathered, judged: Sequence[_Judged]) -> list[dict[str, Any]]:
    """Environments, then tasks; every row is accounted for."""
    of_env = {one.env_id: len(one.tasks) for one in gathered.environments}
    faults: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    verify: Counter[str] = Counter()
    for given, one in zip(gathered.environments, judged, strict=True):
        if one.fault:
            faults[one.fault.reason] += 1
            lost[one.fault.reason] += of_env[given.env_id]
        verify.update(rejection.reason for rejection in one.refused)
    idle = sum(1 for one in judged if one.fault is None and not one.tasks)
    read = Counter(rejection.reason for rejection in gathered.refused)
    return [
        *_stages("environments", len(judged), {"parse": faults, "tasks": Counter(no_task_verified=idle)}),
        *_stages("tasks", gathered.rows, {"read": read, "environment": lost, "verify": verify}),
    ]


def _stages(things: str, entered: int, left: Mapping[str, Counter[str]]) -> list[dict[str, Any]]:
    found = []
    for stage, reasons in left.items():
        kept = {reason: count for reason, count in sorted(reasons.items()) if count}
        passed = entered - sum(kept.values())
        found.append({"stage": stage, "things": things, "entered": entered, "left": kept, "passed": passed})
        entered = passed
    return found


def _write(
    out: Path,
    good: Sequence[_Judged],
    data: DataConfig,
    seed: int,
    name: str,
    funnel: Sequence[Mapping[str, Any]],
    rejections: Sequence[Rejection],
) -> None:
    specs = {one.spec.env_id: one.spec for one in good if one.spec}
    families = similar.families({one.spec.env_id: one.signature for one in good if one.spec})
    pairs = [pair for one in good for pair in one.tasks]
    tasks = [task for task, _ in pairs]
    split_of = {task.task_id: row.split for task, row in pairs}
    if any(split not in SPLITS for split in split_of.values()):
        split_of = split_all_trainable(
            {task.task_id: task.env_id for task in tasks},
            seed=seed,
            heldout_environments=data.heldout_environments,
            validation_configs=data.validation_configs,
            test_configs=data.test_configs,
            families=families,
        )
    calls: dict[str, list[int]] = defaultdict(list)
    for task in tasks:
        calls[task.env_id].append(len(task.oracle_actions))
    reasons = Counter(rejection.reason for rejection in rejections)
    manifest = {
        "command": COMMAND,
        "digest": name,
        "guest_hash": find_artefact().wasm_sha256,
        "environments": len(specs),
        "tasks": len(tasks),
        "learnable": list(specs),
        "rejections": dict(sorted(reasons.items())),
        "environments_by_origin": dict(sorted(Counter(spec.origin for spec in specs.values()).items())),
        "funnel": list(funnel),
    }
    write_task_set(
        out,
        list(specs.values()),
        tasks,
        {
            env_id: {"oracle_calls": sorted(calls[env_id]), "learnable": True, "family": families[env_id]}
            for env_id in specs
        },
        split_of,
        manifest,
        rows=(
            task_row(specs[task.env_id], task, index, row.max_round)
            for index, (task, row) in enumerate(pairs)
        ),
        card=card,
    )


def _sha256(value: object) -> str:
    """Of plain records, through how they print."""
    return hashlib.sha256(repr(value).encode("utf-8", "surrogatepass")).hexdigest()
