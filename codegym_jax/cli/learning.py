"""Commands that learn by an experiment file, or measure or plan that: sft, train, eval, control, plan."""

import argparse
import json
import pathlib
import sys
from typing import Any

from codegym_jax.cli import suites
from codegym_jax.cli.experiment_file import (
    add_experiment,
    add_processes,
    add_profile,
    add_trackers,
    load_config,
)
from codegym_jax.cli.host import cache_dir, joined, trackers
from codegym_jax.config import UserError
from codegym_jax.data.splits import SPLITS


def add(commands: Any) -> None:
    """Adds them."""
    sft = add_experiment(commands, "sft", "Warm-start the policy on oracle episodes.", _sft)
    train = add_experiment(
        commands, "train", "Improve the warm-started policy by reinforcement learning.", _train
    )
    evaluate = add_experiment(
        commands,
        "eval",
        "Success on held-out tasks, greedy and sampled; or on suites made elsewhere.",
        _evaluate,
    )
    for command in (sft, train, evaluate):
        add_processes(command)
    for command in (sft, train):
        add_trackers(command)
        add_profile(command)
    train.add_argument(
        "--save-episodes",
        type=pathlib.Path,
        metavar="FOLDER",
        help="only sample: play the episodes of all steps with the warm-started policy, and learn nothing",
    )
    train.add_argument(
        "--load-episodes",
        type=pathlib.Path,
        metavar="RUN",
        help="only learn: from the episodes of another run, or of such a folder",
    )
    evaluate.add_argument(
        "--stage",
        choices=("start", "sft", "train", "control"),
        help="whose parameters; start: random or pretrained ones; default: of the last stage that saved any",
    )
    evaluate.add_argument(
        "--split", nargs="+", default=["validation_config"], choices=SPLITS, help="of the task set"
    )
    suites.add_to_eval(evaluate)
    control = add_experiment(
        commands,
        "control",
        "Spend the time of RL on more supervised learning instead, and evaluate that.",
        _control,
    )
    add_processes(control)

    plan = add_experiment(
        commands,
        "plan",
        "What a run needs on each device, from shapes alone, and whether it fits.",
        _plan,
        run=False,
    )
    plan.add_argument(
        "--devices",
        required=True,
        metavar="NAME-NUMBER",
        help="v5p-64, v6e-64, h100-8, cpu-1, ...; v4 and v5p slices are named by TensorCores, two a chip",
    )


def _sft(options: argparse.Namespace) -> int:
    config = load_config(options)
    with joined(options) as processes, trackers(options, config, processes) as sinks:
        from codegym_jax.pipelines.experiment import prepare
        from codegym_jax.pipelines.profiling import parse_profile
        from codegym_jax.pipelines.sft import run_sft
        from codegym_jax.trainer.state import params_hash

        profile = parse_profile(options.profile)
        bench = prepare(config, options.run, cache_dir(), processes, sinks, profile)
        with bench.timed("sft"):
            print(f"parameters {params_hash(run_sft(bench))}")
        return 0


def _train(options: argparse.Namespace) -> int:
    config = load_config(options)
    if options.save_episodes and options.load_episodes:
        raise UserError("--save-episodes samples and learns nothing, --load-episodes only learns; give one")
    with joined(options) as processes, trackers(options, config, processes) as sinks:
        from codegym_jax.pipelines.experiment import prepare
        from codegym_jax.pipelines.profiling import parse_profile
        from codegym_jax.pipelines.sft import run_sft
        from codegym_jax.pipelines.train import run_train
        from codegym_jax.pipelines.training_episodes import save_rollouts
        from codegym_jax.trainer.state import params_hash

        profile = parse_profile(options.profile)
        bench = prepare(config, options.run, cache_dir(), processes, sinks, profile)
        with bench.timed("sft"):
            params = run_sft(bench)
        if options.save_episodes:
            save_rollouts(bench, params, options.save_episodes)
            return 0
        with bench.timed("train"):
            params = run_train(bench, params, record=options.load_episodes)
        print(f"parameters {params_hash(params)}")
        return 0


def _evaluate(options: argparse.Namespace) -> int:
    config = load_config(options)
    if options.suite:
        return suites.evaluate_suites(options, config)
    with joined(options) as processes:
        from codegym_jax.pipelines.evaluate import run_evaluation
        from codegym_jax.pipelines.experiment import prepare
        from codegym_jax.pipelines.stages import newest_stage, stage_params

        bench = prepare(config, options.run, cache_dir(), processes)
        stage = options.stage or newest_stage(bench)
        params = stage_params(bench, stage)
        name = f"{stage}_{'_'.join(options.split)}"
        print(json.dumps(run_evaluation(bench, params, name, options.split), indent=2))
        bench.push()
        print(f"transcripts: {bench.folder / 'transcripts' / name}", file=sys.stderr)
        return 0


def _control(options: argparse.Namespace) -> int:
    config = load_config(options)
    from codegym_jax.data.working_copy import looked_at

    with joined(options) as processes:
        if processes.is_first and not (looked_at(options.run) / "result.json").exists():
            raise UserError(f"{options.run} holds no finished run; `codegym run` it first")
        from codegym_jax.pipelines.experiment import run_control

        run_control(config, options.run, cache_dir(), processes)
        return 0


def _plan(options: argparse.Namespace) -> int:
    config = load_config(options)
    from codegym_jax.pipelines.plan import make_plan, render

    plan = make_plan(config, options.devices)
    print(render(plan))
    return 0 if plan.fits else 1
