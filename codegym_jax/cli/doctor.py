"""The command doctor: whether a run would work here."""

import argparse
import contextlib
import os
import pathlib
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from codegym_jax.cli.experiment_file import add_processes
from codegym_jax.cli.host import cache_dir
from codegym_jax.config import PRESETS, RunConfig, UserError, apply_overrides, apply_presets, load

_AUTOMATIC = "auto"
_EXAMPLES = """examples:
  codegym doctor                                             this machine: versions, devices, sandbox, disk
  codegym doctor configs/smoke_cpu.py --run runs/smoke       the same, and what this config needs
  codegym doctor CONFIG --run gs://bucket/run --json | jq .ok
  codegym doctor CONFIG --distributed --coordinator auto     on every process: do all of them see each other?

exit code: 0 nothing failed, perhaps with warnings; 1 something did; 2 the config or an option is wrong
"""


def add(commands: Any) -> None:
    """Adds it."""
    summary = "Tell whether a run would work here, and what to do where it would not."
    doctor = commands.add_parser(
        "doctor",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    doctor.add_argument("config", nargs="?", help="an experiment file; without one, only the machine")
    doctor.add_argument(
        "--run", help="the run folder, a path or gs://; default: runs/NAME_OF_CONFIG, or runs"
    )
    doctor.add_argument(
        "--preset",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help=f"settings of published algorithms: {', '.join(PRESETS)}",
    )
    doctor.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="override settings"
    )
    doctor.add_argument("--json", action="store_true", help="print JSON instead of a table")
    doctor.add_argument("--distributed", action="store_true", help="of all processes, which check each other")
    doctor.add_argument(
        "--timeout",
        type=float,
        default=120.0,
        metavar="S",
        help="for processes to come; default: 120 seconds",
    )
    add_processes(doctor)
    doctor.set_defaults(call=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    if options.distributed != bool(options.coordinator):
        raise UserError("--distributed and --coordinator HOST:PORT|auto go together")
    from codegym_jax.pipelines.doctor.examination import Subject, examine
    from codegym_jax.pipelines.doctor.finding import Row

    subject = Subject(config=_config(options), run=_run_folder(options), cache=cache_dir())
    if options.distributed:
        return _distributed(options, subject)
    return _tell([Row(finding) for finding in examine(subject)], options.json)


def _config(options: argparse.Namespace) -> RunConfig | None:
    """Nothing of the run folder is touched: the doctor may be there to say why it cannot be."""
    if not options.config:
        return None
    return apply_overrides(apply_presets(load(options.config), options.preset), options.set)


def _run_folder(options: argparse.Namespace) -> str:
    """Where `codegym run` would write."""
    return options.run or (f"runs/{pathlib.Path(options.config).stem}" if options.config else "runs")


def _distributed(options: argparse.Namespace, subject: Any) -> int:
    """The roll call, then what only joined processes can find out, then the checks of each."""
    from codegym_jax.pipelines.doctor.attendance import judge
    from codegym_jax.pipelines.doctor.cluster import find_place
    from codegym_jax.pipelines.doctor.examination import facts
    from codegym_jax.pipelines.doctor.finding import Row, fail, failed
    from codegym_jax.pipelines.doctor.roll_call import NoRoll, Present, call_roll

    address, index, count = options.coordinator, options.process_id, options.process_count
    if address == _AUTOMATIC:
        place = find_place(options.timeout)
        address, index, count = place.address, place.index, place.count
    if not 0 <= index < count:
        raise UserError(f"--process-id must be in 0 to --process-count - 1, got {index} of {count}")
    if options.timeout <= 0:
        raise UserError(f"--timeout must be above 0, got {options.timeout:g}")
    here = Present(index=index, count=count, host=socket.gethostname(), pid=os.getpid(), facts=facts(subject))
    try:
        attendance = judge(call_roll(address, here, options.timeout), address, options.timeout)
    except NoRoll as error:
        fix = f"start process 0 with the same command; open {address} to the other hosts; or take a free port"
        attendance = [fail("processes", f"process {index} of {count}: {error}", fix)]
    rows = [Row(finding) for finding in attendance]
    if failed(attendance):
        return _tell(rows, options.json)
    return _joined(options, subject, rows, index)


def _joined(options: argparse.Namespace, subject: Any, rows: list[Any], index: int) -> int:
    from codegym_jax.pipelines import processes
    from codegym_jax.pipelines.doctor import exchange
    from codegym_jax.pipelines.doctor.finding import Row, fail

    aside = _Aside()

    def too_late() -> None:
        aside.close()
        found = f"process {index} was not joined with the others in {options.timeout:g} s"
        fix = "all came, so ports are closed: open all TCP ports between the hosts to each other"
        _tell([*rows, Row(fail("join", found, fix))], options.json)

    with (
        _deadline(options.timeout, too_late) as joined_in_time,
        contextlib.closing(aside),
        processes.joined(options.coordinator, options.process_id, options.process_count) as together,
    ):
        joint = exchange.joint_rows(together, subject.run)
        joined_in_time()
        found = [*rows, *joint, *exchange.rows_of_all(together, subject)]
    return _tell(found, options.json, index)


class _Aside:
    """Sends standard output to standard error until it is closed: Gloo prints there whom it met."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._kept = os.dup(1)
        os.dup2(2, 1)

    def close(self) -> None:
        """May be called twice."""
        if self._kept >= 0:
            sys.stdout.flush()
            os.dup2(self._kept, 1)
            os.close(self._kept)
            self._kept = -1


@contextmanager
def _deadline(timeout_s: float, too_late: Any) -> Iterator[Any]:
    """Ends this process with exit code 1 after `too_late`, unless what is given is called before."""

    def end() -> None:
        too_late()
        sys.stdout.flush()
        os._exit(1)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield timer.cancel
    finally:
        timer.cancel()


def _tell(rows: Sequence[Any], as_json: bool, index: int = 0) -> int:
    """Prints what was found; of processes that know the same, the first one does."""
    from codegym_jax.pipelines.doctor import table

    if index == 0 and as_json:
        print(table.as_json(rows))
    elif index == 0:
        table.show(rows)
    else:
        print(f"process {index}: {table.conclusion(rows)}; the table is told by process 0", file=sys.stderr)
    return 0 if table.passed(rows) else 1
