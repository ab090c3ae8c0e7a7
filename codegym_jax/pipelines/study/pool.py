"""The environments of a study: those that its policy can hold, those held out, and choices of the others."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import ConfigError
from codegym_jax.config.study import PoolConfig, StudyConfig
from codegym_jax.data.chat import training_texts
from codegym_jax.data.splits import SPLITS, TEST_CONFIG, TEST_ENV, TRAIN, hold_out, hold_out_families
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.data.style import RenderError
from codegym_jax.data.task_set import TaskSet, write_task_set
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.workbench import Workbench, check_task_set
from codegym_jax.records import EnvSpec, Task
from codegym_jax.synthesis.outline.features import Steps, measure_all

POOL, SETS = "pool", "sets"
_TASK_SET = "task_set"
_TESTED = (TEST_CONFIG, TEST_ENV)


def make_pool(study: StudyConfig, folder: Path, cache: Path) -> TaskSet:
    """The pool of a study, which is made unless it is there, with the tokenizer of all its runs.

    Raises:
      ConfigError: when the task set has too few environments for the study.
    """
    place = folder / POOL
    if not (place / _TASK_SET).exists():
        source = _source(study, cache)
        _write(study, source, place / _TASK_SET)
    bench = Workbench(study.base, place, cache)
    _ = bench.renderer  # trains the tokenizer, or copies it from the weights
    pool = bench.task_set
    counts = pool.counts
    learnable = sum(bool(features.get("learnable")) for features in pool.features.values())
    trained = len(trainable(pool))
    say(
        f"pool: {trained} environments to train on, {len(pool.specs) - trained} held out;"
        f" {counts[TRAIN]} tasks to train on, {counts[TEST_CONFIG]} unseen configs, {counts[TEST_ENV]} tasks"
        f" of unseen environments; {learnable} of the environments were chosen for a tiny policy"
    )
    return pool


def trainable(pool: TaskSet) -> list[str]:
    """The environments of a pool that may be trained on."""
    return sorted({task.env_id for task in pool.source(TRAIN)})


def chosen(env_ids: Iterable[str], count: int, seed: int) -> frozenset[str]:
    """So many environments, by hash, another choice for every seed; a smaller one is part of a larger one."""
    return hold_out(list(env_ids), count, seed=seed, purpose="study")


def set_path(folder: Path, environments: int, seed: int) -> Path:
    """Where the task set of a number of environments lies."""
    return folder / SETS / f"{environments}-{seed}"


def make_set(pool: TaskSet, folder: Path, environments: int, seed: int) -> Path:
    """The task set of so many training environments and of all held-out ones; made unless it is there."""
    out = set_path(folder, environments, seed)
    if out.exists():
        return out
    used = chosen(trainable(pool), environments, seed)
    tasks = {split: list(pool.source(split)) for split in (TRAIN, TEST_CONFIG, TEST_ENV)}
    kept = {
        split: [task for task in members if split == TEST_ENV or task.env_id in used]
        for split, members in tasks.items()
    }
    _write_tasks(out, pool, kept, {"study": {"environments": environments, "seed": seed}})
    return out


def fits(style: str, spec: EnvSpec, task: Task, settings: PoolConfig) -> bool:
    """Whether a policy can hold a task, as its oracle plays it."""
    if len(task.oracle_actions) > settings.max_calls:
        return False
    if settings.copied_only and computes(task):
        return False
    try:
        texts = list(training_texts(style, spec, task.oracle_actions, task.oracle_observations))
    except RenderError:  # a call that the style cannot write
        return False
    return sum(map(len, texts)) <= settings.max_chars


def computes(task: Task) -> bool:
    """Whether a task's oracle works out by itself anything that it hands to a tool, or hands in."""
    steps: Steps = []
    for action, observation in zip(task.oracle_actions, task.oracle_observations, strict=True):
        call = json.loads(action)
        result = None if call["name"] == "Done" else json.loads(observation)
        steps.append(("call", call["parameters"], result))  # the answer counts as a parameter
    return measure_all([steps])["computed_share"] > 0


def candidates(task_set: TaskSet, style: str, settings: PoolConfig) -> dict[str, list[Task]]:
    """Environment -> its tasks in the pool, of the environments that have enough that fit."""
    found: dict[str, dict[str, Task]] = defaultdict(dict)
    for split in SPLITS:
        for task in task_set.source(split):
            if fits(style, task_set.specs[task.env_id], task, settings):
                found[task.env_id][task.task_id] = task
    most = settings.max_tasks_per_environment
    return {
        env_id: [members[name] for name in sorted(hold_out(members, most, seed=0, purpose=f"pool {env_id}"))]
        for env_id, members in sorted(found.items())
        if len(members) >= settings.tasks_per_environment
    }


def _source(study: StudyConfig, cache: Path) -> TaskSet:
    if study.base.data.task_set:
        given = Path(study.base.data.task_set)
        check_task_set(given)
        return TaskSet.open(given)
    from codegym_jax.pipelines.synth import synthesize

    return TaskSet.open(synthesize(study.base, cache))


def _write(study: StudyConfig, source: TaskSet, out: Path) -> None:
    settings, most = study.pool, max(arm.environments for arm in study.arms.values())
    found = candidates(source, study.base.style, settings)
    families = {env_id: str(source.features[env_id].get("family", env_id)) for env_id in found}
    unseen = hold_out_families(
        found, found, settings.heldout_environments, seed=study.base.synthesis.seed, families=families
    )
    if len(found) - len(unseen) < most:
        raise ConfigError(
            f"an arm trains on {most} environments, but of {len(source.specs)} in the task set {len(found)}"
            f" have {settings.tasks_per_environment} tasks of at most {settings.max_calls} calls and"
            f" {settings.max_chars} characters, and {len(unseen)} of these are held out; loosen `pool`, give"
            " a larger task set, or name fewer environments"
        )
    split: dict[str, list[Task]] = {TRAIN: [], TEST_CONFIG: [], TEST_ENV: []}
    for env_id, tasks in found.items():
        names = [task.task_id for task in tasks]
        tested = hold_out(names, settings.test_configs, seed=0, purpose=TEST_CONFIG)
        for task in tasks:
            own = TEST_CONFIG if task.task_id in tested else TRAIN
            split[TEST_ENV if env_id in unseen else own].append(task)
    qualified = {"environments": len(source.specs), "qualified": len(found), "source": source.digest}
    _write_tasks(out, source, split, {"pool": qualified})


def _write_tasks(
    out: Path, source: TaskSet, tasks: Mapping[str, Sequence[Task]], manifest: Mapping[str, Any]
) -> None:
    """Writes a part of a task set, with what is known of its environments."""
    split_of = {task.task_id: split for split, members in tasks.items() for task in members}
    members = sorted((task for part in tasks.values() for task in part), key=_order)
    used = sorted({task.env_id for task in members})
    write_task_set(
        out,
        [source.specs[env_id] for env_id in used],
        members,
        {env_id: source.features[env_id] for env_id in used},
        split_of,
        {"guest_hash": source.manifest["guest_hash"], "command": "codegym study", **manifest},
    )


def _order(task: Task) -> tuple[int, str]:
    return stable_hash("study", task.task_id), task.task_id


def adopt(run: Path, task_set: Path, tokenizer: Path) -> None:
    """Gives a run folder its task set and its tokenizer."""
    run.mkdir(parents=True, exist_ok=True)
    link = run / _TASK_SET
    if not link.is_symlink():
        link.symlink_to(os.path.relpath(task_set, run))
    target = run / tokenizer.name
    if not target.exists():
        partial = run / f"{tokenizer.name}.tmp"
        partial.write_bytes(tokenizer.read_bytes())
        partial.rename(target)


def facts(pool: TaskSet) -> dict[str, Any]:
    """What a page tells of a pool."""
    return {
        **pool.manifest["pool"],
        "trainable": len(trainable(pool)),
        "heldout": pool.manifest["counts"]["environments_by_split"][TEST_ENV],
        "tasks": json.loads(json.dumps(pool.counts)),
        "learnable": sum(bool(one.get("learnable")) for one in pool.features.values()),
        "guess": guess(pool),
    }


def guess(pool: TaskSet) -> dict[str, Any]:
    """The commonest answer of the training tasks, and the share of each tested split that it would solve."""
    answers = {split: [task.answer_json for task in pool.source(split)] for split in (TRAIN, *_TESTED)}
    commonest, _ = max(Counter(answers[TRAIN]).items(), key=lambda item: (item[1], item[0]))
    return {"answer": commonest} | {
        split: answers[split].count(commonest) / len(answers[split]) for split in _TESTED
    }
