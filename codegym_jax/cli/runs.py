"""Commands about a whole run: run makes one, reverify, replay and report look at one that is there."""

import argparse
from typing import Any

from codegym_jax.cli.experiment_file import (
    add_experiment,
    add_processes,
    add_profile,
    add_trackers,
    load_config,
    run_config,
    run_folder,
)
from codegym_jax.cli.host import cache_dir, joined, trackers, with_jax

_MAX_SHOWN = 10
"""Differences that are printed; all are counted."""


def add_run(commands: Any) -> None:
    """Adds what makes one."""
    run = add_experiment(
        commands, "run", "Every stage: synthesize, warm-start, reinforce, evaluate, reverify, report.", _run
    )
    add_processes(run)
    add_trackers(run)
    add_profile(run)


def add_looks(commands: Any) -> None:
    """Adds what looks at one."""
    summary = "Derive a run's episodes again from their token ids, and compare every byte and reward."
    reverify = commands.add_parser("reverify", help=summary, description=summary)
    reverify.add_argument("run", type=run_folder, help="a run folder, or gs://BUCKET/FOLDER")
    reverify.set_defaults(call=_reverify)
    summary = "Make the update again whose gradient was not finite, and say what in it is not."
    replay = commands.add_parser(
        "replay",
        help=summary,
        description=f"{summary} With JAX_DEBUG_NANS=1 in the environment JAX stops at the operation itself.",
    )
    replay.add_argument("run", type=run_folder, help="a run folder, or gs://BUCKET/FOLDER")
    replay.set_defaults(call=_replay)
    report = commands.add_parser("report", help="Write RUN/report.html again.")
    report.add_argument("run", type=run_folder, help="a run folder, or gs://BUCKET/FOLDER")
    report.set_defaults(call=_report)


def _run(options: argparse.Namespace) -> int:
    config = load_config(options)
    with joined(options) as processes, trackers(options, config, processes) as sinks:
        from codegym_jax.pipelines.experiment import run_experiment
        from codegym_jax.pipelines.profiling import parse_profile

        profile = parse_profile(options.profile)
        result = run_experiment(config, options.run, cache_dir(), processes, sinks, profile)
        return 0 if result["reverified_identical"] else 1


def _reverify(options: argparse.Namespace) -> int:
    config = run_config(options.run)
    from codegym_jax.pipelines.reverify import run_reverify

    report = run_reverify(options.run, config, cache_dir())
    for difference in report.differences[:_MAX_SHOWN]:
        print(difference)
    print(f"{report.calls} calls and {report.tokens} tokens")
    print(report.summary())
    return 0 if report.identical else 1


def _replay(options: argparse.Namespace) -> int:
    config = run_config(options.run)
    with_jax()
    from codegym_jax.pipelines.replay import run_replay
    from codegym_jax.pipelines.workbench import Workbench

    replay = run_replay(Workbench(config, options.run, cache_dir()))
    print("\n".join(replay.lines))
    return 0 if replay.finite else 1


def _report(options: argparse.Namespace) -> int:
    run_config(options.run)
    from codegym_jax.report import write_report

    print(write_report(options.run))
    return 0
