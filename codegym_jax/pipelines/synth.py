"""Coding problems to a task set: make -> remove near duplicates -> choose and extend -> split -> write.

What is done lies in a journal beside the task set until that is written, so the same command goes on where a
killed one was. The task set's bytes depend on neither that nor on who did the work.
"""

import dataclasses
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from codegym_jax.config import ConfigError, RunConfig, digest
from codegym_jax.data.splits import split_tasks
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.pipelines.console import CONSOLE
from codegym_jax.pipelines.journal import Journal
from codegym_jax.pipelines.workers import EXTEND, MAKE, LocalWorkers, Site, Workers
from codegym_jax.records import Rejection
from codegym_jax.report.card import card
from codegym_jax.report.funnel import funnel_table
from codegym_jax.synthesis import funnel
from codegym_jax.synthesis.environments import Made
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.learnable import rank
from codegym_jax.synthesis.problems import Loaded, load
from codegym_jax.synthesis.stages import (
    SIGNATURE,
    environment_funnel,
    environments_of,
    near_duplicates,
    refusals_of,
    refused_duplicates,
    signatures_of,
    task_funnel,
)

LOCAL, DIRECT, DATAFLOW = RUNNERS = ("local", "direct", "dataflow")
"""Processes of this machine; Apache Beam in this process, to try it; Apache Beam on Google Cloud."""
_PACKAGE = Path(__file__).parents[1]
_DECISIVE = ("synthesis", "envs", "data", "pipelines/synth.py", "pipelines/workers.py", "records.py")
_NOT_DECISIVE = "synthesis/llm"


def synthesize(
    config: RunConfig,
    cache_dir: Path,
    console: Console = CONSOLE,
    *,
    runner: str = LOCAL,
    beam_options: Sequence[str] = (),
) -> Path:
    """Makes the task set of a config, or finds it in the cache.

    Args:
      config: `sandbox`, `synthesis` and `data` decide the task set, byte for byte.
      cache_dir: task sets lie in it by digest, and what there is of an unfinished one.
      console: where progress and the summary go.
      runner: one of `RUNNERS`; it changes no byte.
      beam_options: for Apache Beam, such as `--project=mine`.

    Returns:
      The folder of the task set.

    Raises:
      ProblemError: when a corpus is not installed.
      ConfigError: when no learnable environment is left to train on, or the runner cannot be had.
      JournalError: when another process is making the same task set.
    """
    if config.data.task_set:
        raise ConfigError(
            f"data.task_set names a task set that is there, {config.data.task_set}; leave it out"
        )
    workers = _workers(runner, config, beam_options)
    synthesis = config.synthesis
    loaded = load(
        synthesis.sources,
        synthesis.problems_per_source,
        synthesis.seed,
        synthesis.licenses,
        synthesis.own_license,
    )
    problems, unfit = loaded.problems, [funnel.at(funnel.PROBLEMS, one) for one in loaded.rejections]
    name = f"task_set-{task_set_digest(config, loaded)}"
    folder, partial = cache_dir / name, cache_dir / f"{name}.partial"
    if (folder / "manifest.json").is_file():
        shutil.rmtree(partial, ignore_errors=True)
        console.print(f"task set: {folder} (made before)", soft_wrap=True)
        return folder

    with Journal(partial) as journal:
        site = Site(workers, journal, console)
        outcomes = site.finish(MAKE, {problem.code_id: problem for problem in problems}, "outline and verify")
        made = {one.spec.env_id: one for outcome in outcomes.values() for one in environments_of(outcome)}
        duplicate_of = near_duplicates(made)
        kept = {env_id: one for env_id, one in sorted(made.items()) if env_id not in duplicate_of}
        chosen, tiny, rejected = choose_and_extend(site, kept, synthesis.learnable_environments)
        if synthesis.learnable_environments and len(chosen) <= config.data.heldout_environments:
            raise ConfigError(
                "data.heldout_environments must be below the number of learnable environments, got"
                f" {config.data.heldout_environments} of {len(chosen)}; raise synthesis.problems_per_source"
            )
        refused = [*unfit, *refusals_of(outcomes.values()), *refused_duplicates(duplicate_of)]
        manifest = {
            "digest": name.removeprefix("task_set-"),
            "guest_hash": find_artefact().wasm_sha256,
            "problems": len(problems) + len(unfit),
            "environments": len(kept),
            "learnable": chosen,
            "diversity": similar.diversity(signatures_of(kept)),
            "environments_by_origin": dict(sorted(Counter(one.spec.origin for one in kept.values()).items())),
            "rejections": _count([*refused, *rejected], {**made, **tiny}.values()),
            "funnel": [
                *environment_funnel(len(problems) + len(unfit), outcomes, refused),
                *task_funnel(made, duplicate_of, tiny),
            ],
        }
        families = similar.families(signatures_of(kept))
        _write(folder, config, kept | tiny, chosen, families, manifest)
        journal.remove()
    console.print(funnel_table(manifest["funnel"]))
    tasks = sum(len(one.tasks) for one in (kept | tiny).values())
    line = f"{len(kept)} environments with {tasks} verified tasks; {len(chosen)} of them for a tiny policy"
    console.print(line, highlight=False, soft_wrap=True)
    return folder


def choose_and_extend(
    site: Site, made: Mapping[str, Made], count: int
) -> tuple[list[str], dict[str, Made], list[Rejection]]:
    """Chooses environments that a tiny policy can learn, until each of them has its many tiny tasks.

    Returns:
      Their ids, the extended environments by id, and why others could not be extended.
    """
    choosable = {env_id: one.features for env_id, one in made.items()}
    tiny: dict[str, Made] = {}
    rejections: list[Rejection] = []
    while True:
        chosen = rank(choosable, count)
        waiting = {env_id: made[env_id] for env_id in chosen if env_id not in tiny}
        if not waiting:
            return chosen, {env_id: tiny[env_id] for env_id in chosen}, rejections
        for env_id, outcome in site.finish(EXTEND, waiting, "tasks for a tiny policy").items():
            extended = environments_of(outcome)
            if extended:
                tiny[env_id] = extended[0]
                choosable[env_id] = extended[0].features
            else:
                rejections += refusals_of([outcome])
                del choosable[env_id]


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


def task_set_digest(config: RunConfig, loaded: Loaded) -> str:
    """Changes with everything that a task set's bytes depend on; the number of workers is not among it.

    That is the settings, every field of every problem, both builds of the guest, and the source of the
    synthesizer, of the sandbox, of what splits and writes.
    """
    data = config.data
    return digest(
        config.sandbox,
        dataclasses.replace(config.synthesis, workers=0),
        data.heldout_environments,
        data.validation_configs,
        data.test_configs,
        *(find_artefact(build).wasm_sha256 for build in ("guest", "second")),
        hashlib.sha256(repr(loaded).encode("utf-8", "surrogatepass")).hexdigest(),
        _sources_sha256(),
    )


def _workers(runner: str, config: RunConfig, beam_options: Sequence[str]) -> Workers:
    if runner == LOCAL:
        return LocalWorkers(config.sandbox, config.synthesis)
    try:
        from codegym_jax.pipelines.beam import BeamWorkers
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--runner {runner} needs Apache Beam ({error}); install it: pip install -e .[synth]"
        ) from error
    return BeamWorkers(config.sandbox, config.synthesis, runner, beam_options)


def _count(refused: Sequence[Rejection], made: Iterable[Made]) -> dict[str, int]:
    """Reason -> how many problems, environments and configs were refused for it."""
    reasons = Counter(rejection.reason for rejection in refused)
    for one in made:
        reasons.update(rejection.reason for rejection in one.rejections)
    return dict(sorted(reasons.items()))


def _write(
    folder: Path,
    config: RunConfig,
    environments: Mapping[str, Made],
    chosen: Sequence[str],
    families: Mapping[str, str],
    manifest: Mapping[str, Any],
) -> None:
    tasks = [task for one in environments.values() for task in one.tasks]
    split_of = split_tasks(
        {task.task_id: task.env_id for task in tasks},
        learnable_env_ids=chosen,
        seed=config.synthesis.seed,
        heldout_environments=config.data.heldout_environments,
        validation_configs=config.data.validation_configs,
        test_configs=config.data.test_configs,
        families=families,
    )
    notes = {
        env_id: {key: value for key, value in one.features.items() if key != SIGNATURE}
        | {"learnable": env_id in chosen, "family": families[env_id]}
        for env_id, one in environments.items()
    }
    write_task_set(
        folder,
        [one.spec for one in environments.values()],
        tasks,
        notes,
        split_of,
        {**manifest, "tasks": len(tasks)},
        rows=(task_row(environments[task.env_id].spec, task, index) for index, task in enumerate(tasks)),
        card=card,
    )


def _sources_sha256() -> str:
    """Of the program text that decides a task set's bytes."""
    found = hashlib.sha256()
    for name in _DECISIVE:
        place = _PACKAGE / name
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            relative = path.relative_to(_PACKAGE).as_posix()
            if not relative.startswith(_NOT_DECISIVE):
                text = path.read_bytes()
                found.update(f"{relative} {len(text)}\n".encode() + text)
    return found.hexdigest()
