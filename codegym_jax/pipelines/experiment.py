"""The whole way: synthesize, warm-start, reinforce, evaluate, reverify, report. Every stage resumes."""

import itertools
import json
import math
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.config import RunConfig
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV
from codegym_jax.data.working_copy import own_folder
from codegym_jax.evals.in_domain import told
from codegym_jax.metrics import Sink, read_metrics
from codegym_jax.pipelines import sft
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.evaluate import run_evaluation
from codegym_jax.pipelines.presence import Presence
from codegym_jax.pipelines.processes import ALONE, Processes
from codegym_jax.pipelines.profiling import Profile
from codegym_jax.pipelines.reverify import run_reverify
from codegym_jax.pipelines.synth import synthesize
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import (
    Workbench,
    check_task_set,
    device_line,
    open_run,
)
from codegym_jax.report import write_report
from codegym_jax.trainer.state import params_hash

_SPLIT_KEYS = {TEST_CONFIG: "heldout_config", TEST_ENV: "heldout_env"}


def prepare(
    config: RunConfig,
    folder: pathlib.Path,
    cache: pathlib.Path,
    processes: Processes = ALONE,
    sinks: Sequence[Sink] = (),
    profile: Profile | None = None,
) -> Workbench:
    """Opens the run folder and gives it its task set: the one that the config names, or a synthesized one.

    Raises:
      ConfigError: when the folder belongs to another config, or the task set that the config names cannot
        be trained on.
    """
    folder = own_folder(folder, processes.index)
    bench = Workbench(config, folder, cache, processes, sinks, profile if processes.is_first else None)
    bench.pull()
    adopted = (folder / "task_set").exists()
    given = pathlib.Path(config.data.task_set) if config.data.task_set else None
    if given and not adopted:
        check_task_set(given)
    open_run(config, folder, processes)
    if processes.is_first:
        Presence(folder, bench.copy)
    say(f"run {bench.copy.url if bench.copy else folder}: {device_line()}")
    bench.once(lambda: adopted or _give_task_set(bench, given))
    environments, tasks = len(bench.task_set.specs), sum(bench.task_set.counts.values())
    say(f"task set: {environments} environments, {tasks} verified tasks")
    return bench


def _give_task_set(bench: Workbench, given: pathlib.Path | None) -> None:
    with bench.timed("synth"):
        bench.copy_task_set(given or synthesize(bench.config, bench.cache))


def run_experiment(
    config: RunConfig,
    folder: pathlib.Path,
    cache: pathlib.Path,
    processes: Processes = ALONE,
    sinks: Sequence[Sink] = (),
    profile: Profile | None = None,
) -> dict[str, Any]:
    """Runs every stage that is not finished yet, and returns what `result.json` holds."""
    bench = prepare(config, folder, cache, processes, sinks, profile)
    with bench.timed("sft"):
        params = sft.run_sft(bench)
    with bench.timed("eval"):
        run_evaluation(bench, params, "before")
    with bench.timed("train"):
        params = run_train(bench, params)
    with bench.timed("eval"):
        run_evaluation(bench, params, "after")
    final_hash = params_hash(params)
    bench.once(lambda: finish(bench, final_hash))
    return json.loads(processes.from_first((bench.folder / "result.json").read_bytes))


def run_control(
    config: RunConfig, folder: pathlib.Path, cache: pathlib.Path, processes: Processes = ALONE
) -> dict[str, Any]:
    """Spends on more supervised learning the time that reinforcement learning took, and evaluates that.

    The number of updates is fixed when the control starts, so that it resumes to the same end.
    """
    bench = prepare(config, folder, cache, processes)
    params = sft.run_sft(bench)
    steps = json.loads(processes.from_first(lambda: _control_steps(bench.folder)))["steps"]
    say(f"control: {steps} more supervised updates, the time that reinforcement learning took")
    with bench.timed("control"):
        params = sft.run_sft(bench, stage=sft.CONTROL, start=params, steps=steps)
        run_evaluation(bench, params, "control")
    result = bench.folder / "result.json"
    bench.once(lambda: finish(bench, json.loads(result.read_text())["params_hash"]))
    return json.loads(processes.from_first(result.read_bytes))


def _control_steps(folder: pathlib.Path) -> bytes:
    path = folder / "control.json"
    if not path.exists():
        write_atomically(path, json.dumps({"steps": _equal_time_steps(folder)}) + "\n")
    return path.read_bytes()


def finish(bench: Workbench, final_hash: str) -> None:
    """Reverifies all episodes, then writes `result.json` and `report.html`."""
    bench.fetch_all()
    with bench.timed("reverify"):
        reverified = run_reverify(bench.folder, bench.config, bench.cache)
    for difference in reverified.differences[:10]:
        say(f"not as stored: {difference}")
    manifest = bench.task_set.manifest
    timing = json.loads((bench.folder / "timing.json").read_text())
    result = {
        "environments": manifest["counts"]["environments"],
        "tasks": sum(bench.task_set.counts.values()),
        "learnable_environments": len(manifest.get("learnable", ())),
        **_figures(bench.folder, "sampled"),
        "greedy": _figures(bench.folder, "greedy"),
        "reverified": reverified.episodes,
        "reverified_identical": reverified.identical,
        "compiled_programs": _evaluation(bench.folder, "after")["compiled_programs"],
        "params_hash": final_hash,
        "wall_s": {**timing, "total": round(math.fsum(timing.values()), 2)},
        "rejections": manifest.get("rejections", {}),
    }
    write_atomically(bench.folder / "result.json", json.dumps(result, indent=2) + "\n")
    report = write_report(bench.folder)
    for key in ("heldout_config", "heldout_env"):
        for when in ("before", "after", "control"):
            if f"{key}_{when}" in result:
                say(f"{key}_{when:8s} {told(result[f'{key}_{when}'])}")
    say(reverified.summary())
    say(f"sampler: {result['compiled_programs']} compiled programs; parameters {final_hash}")
    say(f"report: {report}")


def _figures(folder: pathlib.Path, mode: str) -> Mapping[str, Any]:
    """Success by split and time of evaluation, as `result.json` names them."""
    figures = {}
    for when in ("before", "after", "control"):
        for split, rate in _evaluation(folder, when).get(mode, {}).items():
            figures[f"{_SPLIT_KEYS[split]}_{when}"] = {key: rate[key] for key in ("success", "ci95", "n")}
    return figures


def _evaluation(folder: pathlib.Path, name: str) -> dict[str, Any]:
    """What `run_evaluation` kept, or nothing."""
    path = folder / "evaluations" / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def _equal_time_steps(folder: pathlib.Path) -> int:
    rows = read_metrics(folder / "metrics.jsonl")
    rl_s = math.fsum(row["rollout_s"] + row["update_s"] for row in rows if row["stage"] == "train")
    seconds = [row["wall_s"] for row in rows if row["stage"] == sft.STAGE]
    step_s = statistics.median(later - sooner for sooner, later in itertools.pairwise(seconds))
    return max(1, round(rl_s / step_s))
