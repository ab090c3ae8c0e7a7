"""Commands that watch runs, from their files alone: status, view, top."""

import argparse
import contextlib
import dataclasses
import json
import pathlib
import sys
from time import time
from typing import Any

from codegym_jax.cli.experiment_file import run_folder
from codegym_jax.cli.host import cache_dir
from codegym_jax.config import UserError

_FRAME_S = 1.0
_WIDTH = 200
"""Of what no terminal shows, so that a path is in one piece."""


def add(commands: Any) -> None:
    """Adds them."""
    status = _add(commands, "status", "Where runs stand: stage, pace, rewards, checkpoint, alarms.", _status)
    status.add_argument("--json", action="store_true", help="as JSON, a list of one object a run")
    view = _add(commands, "view", "A local web page: curves, episodes, attempts side by side, tokens.", _view)
    view.add_argument("--host", default="127.0.0.1", help="where to listen; default: for this machine alone")
    view.add_argument("--port", type=int, default=0, help="default: any that is free")
    _add(commands, "top", "The same live facts in a terminal; q ends.", _top)


def _add(commands: Any, name: str, summary: str, call: Any) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=summary, description=summary)
    help = "a run folder, live or not; one at gs://... as it is now"
    command.add_argument("run", nargs="+", type=run_folder, metavar="RUN", help=help)
    command.set_defaults(call=call)
    return command


def _runs(options: argparse.Namespace) -> list[pathlib.Path]:
    """The run folders among what was named; what is none is told, unless nothing else was named."""
    from codegym_jax.data.working_copy import looked_at
    from codegym_jax.report.live.facts import require_run

    found: list[pathlib.Path] = []
    for path in options.run:
        try:
            found.append(require_run(looked_at(path, episodes=options.command == "view")))
        except UserError as error:
            if len(options.run) == 1:
                raise
            print(f"codegym {options.command}: {error}", file=sys.stderr)
    if not found:
        raise UserError("none of these is a run folder")
    return found


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from codegym_jax.report.live.facts import gather
    from codegym_jax.report.live.metrics_feed import MetricsFeed
    from codegym_jax.report.live.status import report

    runs = _runs(options)
    facts = [gather(run, MetricsFeed(run / "metrics.jsonl").all(), now_s=time()) for run in runs]
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in facts], indent=2))
    else:
        Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH).print(report(facts))
    return 0


def _view(options: argparse.Namespace) -> int:
    try:
        from codegym_jax.report.live.serving import address, listen, server
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed; pip install 'codegym-jax[view]'") from error

    runs = _runs(options)
    with (
        contextlib.closing(listen(options.host, options.port)) as bound,
        server(runs, cache_dir() / "view") as serve,
    ):
        print(f"{address(bound)}  (Ctrl-C ends)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            serve.run(sockets=[bound])
    return 0


def _top(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.live import Live

    from codegym_jax.report.live.facts import gather
    from codegym_jax.report.live.keys import keys
    from codegym_jax.report.live.metrics_feed import MetricsFeed
    from codegym_jax.report.live.terminal import frame

    feeds = [(run, MetricsFeed(run / "metrics.jsonl")) for run in _runs(options)]

    def now() -> Any:
        rows = [(run, feed.all()) for run, feed in feeds]
        return frame([(gather(run, there, now_s=time()), there) for run, there in rows])

    console = Console(highlight=False)
    if not console.is_terminal:
        console.print(now())
        return 0
    shown = Live(now(), console=console, screen=True, auto_refresh=False)
    with contextlib.suppress(KeyboardInterrupt), keys() as pressed, shown as live:
        while pressed(_FRAME_S) != "q":
            live.update(now(), refresh=True)
    return 0
