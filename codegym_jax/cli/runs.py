"""Commands about a whole run: run makes one, replay and report look at one that is there."""

import argparse
import pathlib
from typing import Any

from codegym_jax.cli.experiment_file import add_experiment, load_config, run_config
from codegym_jax.cli.host import cache_dir, with_jax


def add_run(commands: Any) -> None:
    """Adds what makes one."""
    add_experiment(
        commands, "run", "Every stage: synthesize, warm-start, reinforce, evaluate, replay, report.", _run
    )


def add_looks(commands: Any) -> None:
    """Adds what looks at one."""
    replay = commands.add_parser("replay", help="Re-execute a run's episodes and compare every byte.")
    replay.add_argument("run", type=pathlib.Path, help="a run folder")
    replay.set_defaults(call=_replay)
    report = commands.add_parser("report", help="Write RUN/report.html again.")
    report.add_argument("run", type=pathlib.Path, help="a run folder")
    report.set_defaults(call=_report)


def _run(options: argparse.Namespace) -> int:
    config = load_config(options)
    with_jax()
    from codegym_jax.pipelines.experiment import run_experiment

    result = run_experiment(config, options.run, cache_dir())
    return 0 if result["replay_identical"] else 1


def _replay(options: argparse.Namespace) -> int:
    config = run_config(options.run)
    from codegym_jax.pipelines.replay import run_replay

    report = run_replay(options.run, config.sandbox, cache_dir())
    for difference in report.differences[:10]:
        print(difference)
    same = "all identical" if report.identical else f"{report.different} differ"
    skipped = f" ({report.skipped_invalid} invalid ones skipped)" if report.skipped_invalid else ""
    print(f"replayed {report.replayed} episodes: {same}{skipped}")
    return 0 if report.identical else 1


def _report(options: argparse.Namespace) -> int:
    run_config(options.run)
    from codegym_jax.report import write_report

    print(write_report(options.run))
    return 0
