"""The command `codegym`: parse, build a config, call one function."""

import argparse
import contextlib
import logging
import sys
from collections.abc import Sequence

from codegym_jax.cli import (
    adapters,
    doctor,
    environments,
    learning,
    runs,
    suites,
    synthesis,
    task_sets,
    watching,
)
from codegym_jax.config import ExitCode, UserError
from codegym_jax.pipelines import preemption

_EXAMPLES = """examples:
  codegym run configs/smoke_cpu.py --run runs/smoke          every stage, resumes where it stopped
  codegym run configs/smoke_cpu.py --run runs/b --set seed=1 train.steps=20
  codegym synth configs/smoke_cpu.py                         coding problems to a verified task set
  codegym synth configs/smoke_cpu.py --runner direct         the same by Apache Beam
  codegym filter task_sets/all --policy runs/smoke --max-pass-rate 0.25 --tries 4 --out task_sets/hard
  codegym synth-llm --help                                   the same by a language model
  codegym verify envs/*.py --tasks rows.jsonl --json out.json
  codegym check-env envs/Own_1__MyEnv.py --tasks rows.jsonl  what its author wants to know
  codegym import rows.jsonl --out task_sets/mine             rows of others to a verified task set
  codegym plan configs/qwen2_5_7b_v5p.py --devices v5p-64     does it fit? exit code 1 when not
  codegym doctor configs/smoke_cpu.py                        would it work here, and what to do where not
  codegym reverify runs/smoke                                derive every stored episode again
  codegym eval configs/mine.py --suite bfcl,zebra            on suites made elsewhere; see codegym suites
  codegym view runs/smoke                                    curves and episodes in a browser, live
  codegym status runs/*                                      where each run stands

exit codes:
   0  done
   1  something checked was found wrong, or the run cannot go on
   2  a user's mistake, told in one line
  42  stopped since the machine is taken away (SIGTERM), or since another process of the run was lost: what is
      done is kept, and the same command goes on
 130  interrupted by Ctrl-C, in good order too; a second one ends at once. The same command goes on
"""
_STOP_IN_GOOD_ORDER = (
    "run",
    "sft",
    "train",
    "eval",
    "control",
    "synth",
    "synth-llm",
    "filter",
    "reverify",
    "suites",
)
"""Commands that ask at safe points whether to stop. The others end at once, and are soon done again."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      An `ExitCode`.
    """
    parser = _parser()
    arguments, passed_on = _split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(arguments, argparse.Namespace(passed_on=passed_on))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    in_order = options.command in _STOP_IN_GOOD_ORDER
    with preemption.in_good_order() if in_order else contextlib.nullcontext():
        try:
            return options.call(options)
        except (UserError, OSError) as error:
            _tell(options.command, str(error))
            return ExitCode.USER
        except preemption.Stopped as stop:
            _tell(options.command, f"stopped{f': {stop}' if str(stop) else ''}; the same command resumes")
            return preemption.exit_code()
        except KeyboardInterrupt:
            _tell(options.command, "interrupted; the same command resumes")
            return ExitCode.INTERRUPTED


def _tell(command: str, line: str) -> None:
    print(f"codegym {command}: {line}", file=sys.stderr)


def _split_at_dashes(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of `codegym synth` before `--`, and what follows it, which is Apache Beam's."""
    arguments = list(arguments)
    if arguments[:1] != ["synth"] or "--" not in arguments:
        return arguments, []
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="codegym",
        description="Coding problems to verified tool-use environments, and RL on them in JAX.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    runs.add_run(commands)
    synthesis.add(commands)
    learning.add(commands)
    suites.add(commands)
    runs.add_looks(commands)
    watching.add(commands)
    task_sets.add(commands)
    environments.add(commands)
    adapters.add(commands)
    doctor.add(commands)
    return parser
