"""What a command is told of an experiment: its file and overrides, or a run folder that remembers them."""

import argparse
import json
import pathlib
from collections.abc import Callable
from typing import Any

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
        command.add_argument("--run", type=pathlib.Path, help="the run folder; default: runs/NAME_OF_CONFIG")
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
        "several processes", "Start the same command once for each process, on one run folder that all see."
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
    return apply_overrides(apply_presets(load(options.config), options.preset), options.set)


def run_config(run: pathlib.Path) -> RunConfig:
    """The config that a run folder was made with.

    Raises:
      UserError: when it is none.
    """
    path = run / "config.json"
    if not path.is_file():
        raise UserError(f"{run} is not a run folder: it has no config.json")
    return from_dict(json.loads(path.read_text()))
