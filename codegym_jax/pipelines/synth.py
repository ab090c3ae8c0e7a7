"""Coding problems to a task set: outline -> verify -> choose -> split -> write."""

import dataclasses
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from codegym_jax.config import ConfigError, RunConfig, digest
from codegym_jax.data.splits import split_tasks
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.records import Rejection
from codegym_jax.synthesis import bundle
from codegym_jax.synthesis.environments import Made, extend, make, open_sandbox
from codegym_jax.synthesis.learnable import rank
from codegym_jax.synthesis.problems import load_problems

_Item = TypeVar("_Item")
ITEM_DEADLINE_S = 300.0  # host backstop for one problem; its fuel runs out long before


def synthesize(config: RunConfig, cache_dir: Path, console: Console | None = None) -> Path:
    """Makes the task set of a config, or finds it in the cache.

    Args:
      config: `seed`, `sandbox`, `synthesis` and `data` decide the task set, byte for byte.
      cache_dir: task sets lie in it by digest.
      console: where progress and the summary go.

    Returns:
      The folder of the task set.

    Raises:
      ProblemError: when a corpus is not installed.
      ConfigError: when no learnable environment is left to train on.
    """
    console = console or Console()
    synthesis = config.synthesis
    folder = cache_dir / f"task_set-{task_set_digest(config)}"
    if (folder / "manifest.json").is_file():
        console.print(f"task set: {folder} (made before)")
        return folder

    problems = load_problems(synthesis.sources, synthesis.problems_per_source, synthesis.seed)
    setup = {
        "workers": synthesis.workers,
        "initializer": open_sandbox,
        "initargs": (config.sandbox, synthesis, synthesis.seed),
        "deadline_s": ITEM_DEADLINE_S,
    }
    made: dict[str, Made] = {}
    rejections: Counter[str] = Counter()
    results = parallel_map(make, problems, **setup)
    for result in _progress(results, len(problems), "outline and verify", console):
        if isinstance(result, Made):
            made[result.spec.env_id] = result
        else:
            rejections[_reason(result)] += 1

    chosen: list[str] = []
    extended: set[str] = set()
    choosable = {env_id: one.features for env_id, one in made.items()}
    while True:  # until every chosen environment has its many tasks
        chosen = rank(choosable, synthesis.learnable_environments)
        waiting = [env_id for env_id in chosen if env_id not in extended]
        if not waiting:
            break
        results = parallel_map(extend, [made[env_id] for env_id in waiting], **setup)
        tracked = _progress(results, len(waiting), "tasks for a tiny policy", console)
        for env_id, result in zip(waiting, tracked, strict=True):
            if isinstance(result, Made):
                made[env_id] = result
                extended.add(env_id)
            else:
                rejections[_reason(result)] += 1
                del choosable[env_id]
    if len(chosen) <= config.data.heldout_environments:
        raise ConfigError(
            f"data.heldout_environments must be below the number of learnable environments, got"
            f" {config.data.heldout_environments} of {len(chosen)}; raise synthesis.problems_per_source"
        )

    environments = [made[env_id] for env_id in sorted(made)]
    for one in environments:
        rejections.update(rejection.reason for rejection in one.rejections)
    tasks = [task for one in environments for task in one.tasks]
    split_of = split_tasks(
        {task.task_id: task.env_id for task in tasks},
        learnable_env_ids=chosen,
        seed=synthesis.seed,
        heldout_environments=config.data.heldout_environments,
        validation_configs=config.data.validation_configs,
        test_configs=config.data.test_configs,
    )
    spec_of = {one.spec.env_id: one.spec for one in environments}
    manifest = {
        "digest": task_set_digest(config),
        "guest_hash": find_artefact().wasm_sha256,
        "problems": len(problems),
        "environments": len(environments),
        "tasks": len(tasks),
        "learnable": chosen,
        "rejections": dict(sorted(rejections.items())),
        "environments_by_origin": dict(sorted(Counter(one.spec.origin for one in environments).items())),
    }
    write_task_set(
        folder,
        [one.spec for one in environments],
        tasks,
        {one.spec.env_id: one.features | {"learnable": one.spec.env_id in chosen} for one in environments},
        split_of,
        manifest,
        rows=(task_row(spec_of[task.env_id], task, index) for index, task in enumerate(tasks)),
    )
    console.print(summary(manifest))
    return folder


def export(folder: Path, target: Path) -> Path:
    """Copies a task set to a new folder.

    Raises:
      ConfigError: when there is something at `target` already.
    """
    if target.exists():
        raise ConfigError(f"--out must name a new folder, but {target} exists")
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder, partial)
    return partial.rename(target)


def task_set_digest(config: RunConfig) -> str:
    """Changes with everything that a task set's bytes depend on; the number of workers is not among it."""
    sources = hashlib.sha256(repr(bundle.sources()).encode()).hexdigest()
    synthesis = dataclasses.replace(config.synthesis, workers=0)
    return digest(config.sandbox, synthesis, config.data, find_artefact().wasm_sha256, sources)


def summary(manifest: dict) -> str:
    """What was made and what was refused, for people."""
    lines = [
        f"{manifest['environments']} environments with {manifest['tasks']} verified tasks"
        f" from {manifest['problems']} problems; {len(manifest['learnable'])} of them for a tiny policy",
        "refused:",
    ]
    for reason, count in sorted(manifest["rejections"].items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"  {count:4d}  {reason.replace('_', ' ')}")
    return "\n".join(lines)


def _reason(result: Rejection | WorkerFailure) -> str:
    return result.reason if isinstance(result, Rejection) else "worker_failure"


def _progress(results: Iterable[_Item], total: int, title: str, console: Console) -> Iterator[_Item]:
    """The results with a progress bar, which is silent when the console is no terminal."""
    silent = not console.is_terminal
    return iter(track(results, title, total=total, console=console, transient=True, disable=silent))
