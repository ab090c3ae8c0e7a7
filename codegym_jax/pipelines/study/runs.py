"""One run of a study: a warm start, or an arm from there to its end; and what came of it."""

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codegym_jax.config import ConfigError, RunConfig
from codegym_jax.config.study import DISTILL, RL, SFT, Arm, StudyConfig
from codegym_jax.data.splits import TRAIN
from codegym_jax.data.task_set import TaskSet
from codegym_jax.pipelines.demonstrations import ORACLE, NoneGood, demonstrations
from codegym_jax.pipelines.episode_rules import tokenizer_path
from codegym_jax.pipelines.experiment import prepare
from codegym_jax.pipelines.filter import PassRateBounds, filter_task_set
from codegym_jax.pipelines.pass_rates import PassRate
from codegym_jax.pipelines.sft import CONTROL, run_sft
from codegym_jax.pipelines.sft import STAGE as WARM_STAGE
from codegym_jax.pipelines.stages import stage_params
from codegym_jax.pipelines.study import budget, measure
from codegym_jax.pipelines.study.budget import Spent
from codegym_jax.pipelines.study.pool import POOL, SETS, adopt, chosen, set_path, trainable
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.training_episodes import save_rollouts
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.episode_log import logged_steps, read_episodes, step_path

RUNS = "runs"
WARM = "warm"
_ROLLOUTS = "rollouts"
_ALL = 1_000_000
"""Of demonstrations: more than there are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One of a study."""

    name: str
    environments: int
    seed: int
    arm: Arm | None = None
    """None: it is a warm start."""

    @property
    def label(self) -> str:
        """Names its files."""
        return f"{self.name}-{self.seed}"


def run_of(name: str, arm: Arm, seed: int) -> Run:
    """A run of an arm."""
    return Run(name=name, environments=arm.environments, seed=seed, arm=arm)


def start_of(run: Run) -> Run:
    """The warm start that an arm's run begins with."""
    return Run(name=start_name(run.environments), environments=run.environments, seed=run.seed)


def start_name(environments: int) -> str:
    """What the warm starts on so many environments are called."""
    return f"{WARM}-{environments}"


def make_run(study: StudyConfig, folder: Path, cache: Path, run: Run) -> dict[str, Any]:
    """Makes a run, from where a killed process left it.

    Returns:
      A row of `results.jsonl`; it depends on the study, the arm and the seed alone.
    """
    place = folder / RUNS / run.label
    tasks = _task_set(folder, cache, run)
    adopt(place, tasks.folder, tokenizer_path(folder / POOL))
    if run.arm is not None:
        _adopt_start(folder / RUNS / start_of(run).label, place)
    bench = prepare(run_config(study, run, place), place, cache)
    with bench.timed("learn"):
        learned = _learn(study, bench, run.arm, tasks)
    with bench.timed("eval"):
        first = min(arm.environments for arm in study.arms.values())
        names = chosen(trainable(TaskSet.open(folder / POOL / "task_set")), first, run.seed)
        success = measure.measure(bench, learned.params, measure.task_sets(bench, names))
        suites = measure.measure_suites(bench, learned.params, study.suites, cache)
    spent = learned.spent
    return {
        "arm": run.name,
        "seed": run.seed,
        "method": WARM if run.arm is None else run.arm.method,
        "environments": run.environments,
        "train_tasks": len(bench.tasks(TRAIN)) if learned.found else 0,
        "spent": {"sampled": spent.sampled, "learned": spent.learned, "total": spent.total},
        "success": success,
        "suites": suites,
    }


def run_config(study: StudyConfig, run: Run, place: Path) -> RunConfig:
    """The settings of a run in the folder `place`."""
    config = dataclasses.replace(study.base, seed=run.seed)
    if run.arm is None or run.arm.method == RL:
        return config
    whole = dataclasses.replace(
        config.sft,
        source=ORACLE if run.arm.method == SFT else str(place),
        demonstrations_per_environment=_ALL,
        max_demonstration_calls=config.rollout.max_turns,
    )
    sampling = dataclasses.replace(config.train, steps=study.distill_steps)
    return dataclasses.replace(config, sft=whole, train=sampling)


class _Tasks(NamedTuple):
    """What a run learns from."""

    folder: Path
    """Of its task set, filtered where its arm says so."""
    spent: Spent
    """On the filter's attempts."""
    found: bool = True
    """Whether the filter kept any training task."""


class _Learned(NamedTuple):
    """What a run ends with."""

    params: Any
    spent: Spent
    """After the warm start."""
    found: bool = True
    """Whether there was anything to learn from; else the policy is the warm start."""


def _task_set(folder: Path, cache: Path, run: Run) -> _Tasks:
    whole = set_path(folder, run.environments, run.seed)
    keep = run.arm.keep if run.arm else None
    if keep is None:
        return _Tasks(whole, Spent())
    out = folder / SETS / run.label
    bounds = PassRateBounds(
        tries=keep.tries,
        min_pass_rate=keep.min_pass_rate,
        max_pass_rate=keep.max_pass_rate,
        seed=run.seed,
        splits=(TRAIN,),
    )
    start = folder / RUNS / start_of(run).label
    filter_task_set(whole, start, out, bounds, cache, stage=WARM_STAGE)
    kept = TaskSet.open(out).counts[TRAIN] > 0
    lines = (out.with_name(f"{out.name}.filter") / "pass_rates.jsonl").read_text().splitlines()
    tokens = sum(PassRate(**json.loads(line)).policy_tokens for line in lines)
    return _Tasks(out if kept else whole, Spent(sampled=tokens if keep.is_charged else 0), kept)


def _adopt_start(start: Path, place: Path) -> None:
    """Gives an arm the checkpoints of its warm start."""
    checkpoints = place / "checkpoints"
    if (checkpoints / WARM_STAGE).exists():
        return
    partial = checkpoints / f"{WARM_STAGE}.tmp"
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(start / "checkpoints" / WARM_STAGE, partial)
    partial.rename(checkpoints / WARM_STAGE)


def _learn(study: StudyConfig, bench: Workbench, arm: Arm | None, tasks: _Tasks) -> _Learned:
    if arm is None:
        return _Learned(run_sft(bench), Spent())
    params = stage_params(bench, WARM_STAGE)
    if not tasks.found:
        return _Learned(params, tasks.spent, found=False)
    if arm.method == RL:
        return _reinforce(study, bench, params, tasks.spent)
    return _supervise(study, bench, params, _sample(bench, params) if arm.method == DISTILL else Spent())


def _supervise(study: StudyConfig, bench: Workbench, params: Any, before: Spent) -> _Learned:
    if before.total >= study.budget:
        raise ConfigError(
            f"study.distill_steps: sampling alone took {before.total} tokens of a budget of {study.budget}"
        )
    try:
        found = demonstrations(bench)
    except NoneGood:
        return _Learned(params, before, found=False)
    steps = budget.affordable_steps(study.budget - before.total, found, bench.config.sft.rows)
    params = run_sft(bench, stage=CONTROL, start=params, steps=steps)
    return _Learned(params, before + budget.spent_by_sft(bench.folder, CONTROL))


def _reinforce(study: StudyConfig, bench: Workbench, params: Any, before: Spent) -> _Learned:
    def spent(step: int) -> Spent:
        return before + budget.spent_by_rl(bench.folder, step)

    if before.total >= study.budget:
        raise ConfigError(
            f"filter.tries: the filter alone took {before.total} tokens of a budget of {study.budget}"
        )
    params = run_train(bench, params, enough=lambda step: spent(step).total >= study.budget)
    most = bench.config.train.steps
    whole = spent(most)
    if whole.total < study.budget:
        raise ConfigError(
            f"base.train.steps: {most} steps took {whole.total} tokens of a budget of {study.budget};"
            " allow more steps"
        )
    return _Learned(params, whole)


def _sample(bench: Workbench, params: Any) -> Spent:
    """Plays the episodes that `distill` chooses from."""
    place = bench.folder / "episodes" / _ROLLOUTS
    save_rollouts(bench, params, place)
    steps = logged_steps(place)
    return sum((budget.sampled(list(read_episodes(step_path(place, step)))) for step in steps), Spent())
