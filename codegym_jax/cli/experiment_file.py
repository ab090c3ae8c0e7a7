"""What a command is told of an experiment: its file and overrides, or a run folder that remembers them."""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

from codegym_jax.cli.host import cache_dir
from codegym_jax.config import (
    PRESETS,
    RunConfig,
    UserError,
    apply_overrides,
    apply_presets,
    from_dict,
    load,
)
from codegym_jax.metrics import SINKS


def add_experiment(
    commands: Any, name: str, summary: str, call: Callable[[argparse.Namespace], int], *, run: bool = True
) -> argparse.ArgumentParser:
    """Adds a command that takes an experiment file, overrides of it and, where `run`, a run folder."""
    command = commands.add_parser(name, help=summary, description=summary)
    command.add_argument("config", help="an experiment file, such as configs/smoke_cpu.py")
    if run:
        command.add_argument(
            "--run",
            type=run_folder,
            help="the run folder, or gs://BUCKET/FOLDER; default: runs/NAME_OF_CONFIG",
        )
    command.add_argument(
        "--preset",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"settings of published algorithms: {', '.join(PRESETS)}",
    )
    command.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override settings"
    )
    command.set_defaults(call=call)
    return command


def run_folder(text: str) -> pathlib.Path:
    """The local folder of the run that an argument names; one on a bucket is worked on in a copy."""
    from codegym_jax.data.working_copy import run_path

    try:
        return run_path(text, cache_dir())
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_trackers(command: argparse.ArgumentParser) -> None:
    """Adds where else the metrics of a command that learns go; see `host.trackers`."""
    command.add_argument(
        "--log",
        nargs="+",
        default=[],
        choices=sorted(SINKS),
        metavar="TOOL",
        help=f"show the metrics to other tools, too: {', '.join(sorted(SINKS))}",
    )


def add_profile(command: argparse.ArgumentParser) -> None:
    """Adds which steps of a command that learns are traced; see `pipelines.profiling`."""
    command.add_argument(
        "--profile",
        default="",
        metavar="steps=N[,first=K]",
        help="trace N steps of each stage, from its third or K-th, into RUN/profile for XProf or TensorBoard",
    )


def add_processes(command: argparse.ArgumentParser) -> None:
    """Adds what a command that runs on several processes is told of them; see `host.joined`."""
    group = command.add_argument_group(
        "several processes",
        "Start the same command once for each process, on one run folder that all see: a shared path, or gs://.",
    )
    group.add_argument(
        "--coordinator",
        default="",
        metavar="HOST:PORT",
        help="where process 0 listens; auto: as JAX finds it on TPU pods, under Slurm and under Open MPI",
    )
    group.add_argument("--process-id", type=int, default=-1, metavar="I", help="of this one, from 0")
    group.add_argument("--process-count", type=int, default=0, metavar="N", help="of all of them")


def load_config(options: argparse.Namespace) -> RunConfig:
    """The experiment that was asked for, presets and overrides applied; names the run folder if none is."""
    if getattr(options, "run", pathlib.Path()) is None:
        options.run = pathlib.Path("runs") / pathlib.Path(options.config).stem
    if getattr(options, "run", None):
        _require_bucket(options.run)
    return apply_overrides(apply_presets(load(options.config), options.preset), options.set)


def _require_bucket(run: pathlib.Path) -> None:
    """Before anything slow: a run that is on a bucket must be able to get there."""
    from codegym_jax.data.working_copy import find_copy

    if copy := find_copy(run):
        copy.require_bucket()


def run_config(run: pathlib.Path) -> RunConfig:
    """The config that a run folder was made with. One on a bucket is first brought to this machine.

    Raises:
      UserError: when it is none.
    """
    from codegym_jax.data.working_copy import looked_at, origin_of

    path = looked_at(run) / "config.json"
    if not path.is_file():
        raise UserError(f"{origin_of(run) or run} is not a run folder: it has no config.json")
    return from_dict(json.loads(path.read_text()))
