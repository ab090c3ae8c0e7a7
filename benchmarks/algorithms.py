"""How the presets learn the smoke run's tasks, and whether dynamic sampling and curricula help.

    python -m benchmarks.algorithms --folder FOLDER [--seeds 0 1 2] [--steps 32] > results.jsonl
    python -m benchmarks.algorithms_page results.jsonl --out docs > tables.md

Every seed has one warm start, that of `configs/smoke_cpu.py`, which also attempts every training task. From
there each arm (`ARMS`) learns with a preset's settings and the smoke run's sizes (`SIZES`), and is then
evaluated on `test_config` as the smoke run is. The last arms learn once more from the episodes of another
arm, but only from as many of its steps as make the base's number of episodes, or of updates.

Each run is a process of its own with one thread, `--at-a-time` of them at once; its folder stays in FOLDER.
Prints a JSON line for each. What was measured is not measured again, and a run that was killed goes on.
"""

import argparse
import dataclasses
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import machine
from codegym_jax.config import (
    PRESETS,
    AlgorithmConfig,
    RunConfig,
    apply_overrides,
    apply_presets,
    load,
)
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TRAIN
from codegym_jax.data.task_set import TaskSet, write_task_set
from codegym_jax.metrics import read_metrics
from codegym_jax.rollout.episode_log import logged_steps, read_episodes, step_path

_ROOT = Path(__file__).resolve().parents[1]
BASE = "codegym-paper"
"""The arm that the others are held against: GRPO with a mean over tokens and without a KL."""
SIZES = (
    "rollout.tasks_per_step",
    "rollout.attempts_per_task",
    "rollout.temperature",
    "train.episodes_per_update",
    "train.learning_rate",
    "train.warmup_steps",
)
"""Settings that are the smoke run's in every arm, whatever a preset says: a preset's are for large models."""
FEW_TASKS = "few-tasks"
WARM = "warm"
_RATES = "train_rates.json"
_TRIES = 4  # of the warm start at every training task
_FEW = 96  # all come again every six steps; `prefer_learnable` goes by how a task went before


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to learn."""

    preset: str = BASE
    settings: tuple[str, ...] = ()
    """After the preset, in the form of `--set`."""
    share: float = 1.0
    """Of the steps that were asked for."""
    record: str = ""
    """The arm whose episodes it learns from; empty: it plays its own."""
    same: str = ""
    """With a record: the metric of which it has as much as `BASE`, all steps together, and then stops."""
    train_tasks: int = 0
    """So many of the training tasks, of all environments alike; 0: all."""


_DYNAMIC = ("curriculum.dynamic_sampling=true",)
ARMS = {
    **{name: Arm(preset=name) for name in PRESETS},
    "grpo-no-kl": Arm(preset="grpo", settings=("algorithm.kl=none", "algorithm.kl_coefficient=0")),
    "easy-first": Arm(settings=("curriculum.order=easy_first", "curriculum.easy_first_steps=16")),
    # Plays up to three times as many episodes a step, and fills all of its updates: fewer steps will do.
    "dynamic-sampling": Arm(settings=_DYNAMIC, share=0.625),
    FEW_TASKS: Arm(train_tasks=_FEW),
    f"{FEW_TASKS}-prefer": Arm(settings=("curriculum.prefer_learnable=1.0",), train_tasks=_FEW),
    "dynamic-same-episodes": Arm(settings=_DYNAMIC, record="dynamic-sampling", same="drawn_groups"),
    "dynamic-same-updates": Arm(settings=_DYNAMIC, record="dynamic-sampling", same="updates"),
}
"""Every preset; then variants of one. Those with a record come last."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status: 1 when a run failed."""
    parser = argparse.ArgumentParser(description="The presets on the smoke run's tasks, and three curricula.")
    parser.add_argument("--folder", type=Path, required=True, help="where the runs lie, gigabytes of them")
    parser.add_argument("--config", default=str(_ROOT / "configs" / "smoke_cpu.py"), help="the experiment")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=32, help="of reinforcement learning")
    parser.add_argument("--at-a-time", type=int, default=2, help="runs at once, of one thread each")
    parser.add_argument("--only", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="NAME")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help="one run, in this process")
    options = parser.parse_args(arguments)
    if options.one:
        name, seed = options.one[0], int(options.one[1])
        row = _warm_start(options, seed) if name == WARM else _learn(options, name, seed)
        write_atomically(_result_path(options.folder, name, seed), json.dumps(row) + "\n")
        return 0
    arms = [name for name in ARMS if name in options.only]
    phases = (
        [WARM],
        [name for name in arms if not ARMS[name].record],
        [name for name in arms if ARMS[name].record],
    )
    failed = False
    _print({"machine": machine.describe(("jax",))})
    for phase in phases:
        jobs = [(name, seed) for seed in options.seeds for name in phase]
        with ThreadPoolExecutor(options.at_a_time) as threads:
            for job, row in zip(jobs, threads.map(lambda job: _ran(options, *job), jobs), strict=True):
                failed |= "error" in row
                _print({"arm": job[0], "seed": job[1], **row})
    return int(failed)


def settings(config: RunConfig, arm: Arm, *, seed: int, steps: int) -> RunConfig:
    """The experiment of an arm: the preset's algorithm, its own settings, and the sizes of `config`."""
    sizes = (f"{name}={json.dumps(_setting(config, name))}" for name in SIZES)
    plain = dataclasses.replace(config, seed=seed, algorithm=AlgorithmConfig())
    learned = apply_overrides(apply_presets(plain, [arm.preset]), arm.settings)
    return apply_overrides(learned, [*sizes, f"train.steps={steps}", f"train.checkpoint_every={steps}"])


def matched_steps(amounts: Sequence[float], target: float) -> int:
    """How many of the steps come nearest to a target when what they have is added up; at least one."""
    totals = list(itertools.accumulate(amounts))
    return 1 + min(range(len(totals)), key=lambda index: abs(totals[index] - target))


def gains(folder: Path, rates: Mapping[str, float]) -> list[float]:
    """By how much the success of each step's episodes is above that of the warm start on the same tasks.

    Which tasks a step draws moves its success more than learning does; this takes that out.

    Args:
      folder: of the steps' episodes.
      rates: task id -> success of the warm start.
    """
    found = []
    for step in logged_steps(folder):
        valid = [episode for episode in read_episodes(step_path(folder, step)) if episode.valid]
        found.append(statistics.fmean((one.reward >= 1.0) - rates[one.task_id] for one in valid))
    return found


def _print(row: dict[str, Any]) -> None:
    print(json.dumps({"benchmark": "algorithms", **row}), flush=True)


def _setting(config: RunConfig, name: str) -> Any:
    section, field = name.split(".")
    return getattr(getattr(config, section), field)


def _ran(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """The result of a run, which is made in a process of its own unless it is there."""
    path = _result_path(options.folder, name, seed)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "benchmarks.algorithms", "--folder", str(options.folder)]
        command += ["--config", options.config, "--steps", str(options.steps), "--one", name, str(seed)]
        with (path.parent / f"{name}-{seed}.log").open("a") as log:
            done = subprocess.run(command, env=os.environ | {"NPROC": "1"}, stdout=log, stderr=log)
        if done.returncode:
            return {"error": f"ended with code {done.returncode}; see {path.parent / f'{name}-{seed}.log'}"}
    row = json.loads(path.read_text())
    if name != WARM and row["steps_asked"] != options.steps:
        return {"error": f"{path} was measured with --steps {row['steps_asked']}; give another --folder"}
    return row


def _warm_start(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """The task set and the supervised stage of the experiment, and how good that is on every task."""
    from codegym_jax.cli.host import cache_dir, with_jax
    from codegym_jax.pipelines.evaluate import run_evaluation
    from codegym_jax.pipelines.experiment import prepare
    from codegym_jax.pipelines.sft import run_sft
    from codegym_jax.rollout.agent import EpisodeRequest

    with_jax()
    config = dataclasses.replace(load(options.config), seed=seed)
    bench = prepare(config, _run_folder(options.folder, WARM, seed), cache_dir())
    params = run_sft(bench)
    evaluated = run_evaluation(bench, params, "before", [TEST_CONFIG])
    requests = [
        EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=attempt)
        for task in bench.tasks(TRAIN)
        for attempt in range(_TRIES)
    ]
    rates: dict[str, float] = {}
    for episode in bench.play(params, requests, temperature=config.rollout.temperature):
        rates[episode.task_id] = rates.get(episode.task_id, 0.0) + (episode.reward >= 1.0) / _TRIES
    write_atomically(bench.folder / _RATES, json.dumps(rates) + "\n")
    return {"after": _evaluated(evaluated)}


def _learn(options: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """One arm from the seed's warm start, and what became of it."""
    from codegym_jax.cli.host import cache_dir, with_jax
    from codegym_jax.pipelines.evaluate import run_evaluation
    from codegym_jax.pipelines.experiment import prepare
    from codegym_jax.pipelines.sft import STAGE as SFT
    from codegym_jax.pipelines.stages import stage_params
    from codegym_jax.pipelines.train import run_train

    with_jax()
    start_s, load_average = time.monotonic(), machine.load_average()
    arm, record = ARMS[name], None
    steps = round(arm.share * options.steps)
    if arm.record:
        record = _run_folder(options.folder, arm.record, seed)
        base = _run_folder(options.folder, BASE, seed)
        steps = matched_steps(_amounts(record, arm.same), sum(_amounts(base, arm.same)))
    warm, folder = (_run_folder(options.folder, which, seed) for which in (WARM, name))
    _adopt(warm, folder, arm.train_tasks)
    bench = prepare(settings(load(options.config), arm, seed=seed, steps=steps), folder, cache_dir())
    params = stage_params(bench, SFT)
    resumed, cpu_s = (folder / "metrics.jsonl").exists(), time.process_time()
    params = run_train(bench, params, record=record)
    cpu_s = time.process_time() - cpu_s
    evaluated = run_evaluation(bench, params, "after", [TEST_CONFIG])
    rows = _steps(folder)
    return {
        "steps_asked": options.steps,
        "steps": steps,
        "after": _evaluated(evaluated),
        "gain": gains(folder / "episodes" / "train", json.loads((warm / _RATES).read_text())),
        "entropy": [row.get("entropy") for row in rows],
        "groups": [row["drawn_groups"] for row in rows],
        "signal": [row["signal_share"] for row in rows],
        "updates": [row.get("updates", 0.0) for row in rows],
        "clipped": _mean(rows, "clip_fraction"),
        "step_s": statistics.median(row["step_s"] for row in rows),
        "cpu_step_s": None if resumed else cpu_s / steps,
        "wall_s": time.monotonic() - start_s,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "load_average": load_average,
    }


def _adopt(warm: Path, folder: Path, train_tasks: int) -> None:
    """Gives a run the task set (all or some of its training tasks), the tokenizer and the supervised stage of
    the warm start."""
    if (folder / "checkpoints").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "task_set").exists():
        if train_tasks:
            _thin(TaskSet.open(warm / "task_set"), folder / "task_set", train_tasks)
        else:
            (folder / "task_set").symlink_to(os.path.relpath(warm / "task_set", folder))
    shutil.copy(warm / "tokenizer.json", folder)
    copied = folder / "checkpoints.tmp"
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(warm / "checkpoints", copied)
    copied.rename(folder / "checkpoints")


def _thin(task_set: TaskSet, folder: Path, train_tasks: int) -> None:
    """Writes a task set with fewer training tasks; what is held out stays."""
    from codegym_jax.pipelines.evaluate import spread

    tasks = {split: list(task_set.source(split)) for split in task_set.counts}
    tasks[TRAIN] = spread(tasks[TRAIN], train_tasks)
    split_of = {task.task_id: split for split, members in tasks.items() for task in members}
    write_task_set(
        folder,
        list(task_set.specs.values()),
        [task for members in tasks.values() for task in members],
        task_set.features,
        split_of,
        {key: value for key, value in task_set.manifest.items() if key not in ("version", "counts", "files")},
    )


def _evaluated(result: dict[str, Any]) -> dict[str, Any]:
    return {mode: result[mode][TEST_CONFIG] for mode in ("sampled", "greedy")}


def _steps(folder: Path) -> list[dict[str, Any]]:
    return [row for row in read_metrics(folder / "metrics.jsonl") if row["stage"] == "train"]


def _amounts(folder: Path, metric: str) -> list[float]:
    """Of each step; a step without an update has none of an update's metrics."""
    return [row.get(metric) or 0.0 for row in _steps(folder)]


def _mean(rows: Sequence[dict[str, Any]], name: str) -> float | None:
    values = [row[name] for row in rows if row.get(name) is not None]
    return statistics.fmean(values) if values else None


def _run_folder(folder: Path, name: str, seed: int) -> Path:
    return folder / "runs" / f"{name}-{seed}"


def _result_path(folder: Path, name: str, seed: int) -> Path:
    return folder / "results" / f"{name}-{seed}.json"


if __name__ == "__main__":
    sys.exit(main())
