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
    serving,
    study,
    suites,
    synthesis,
    task_sets,
    watching,
)
from codegym_jax.config import CannotGoOn, ExitCode, Outage, UserError, exit_code_of
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.last_word import LAST_WORD

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
  codegym replay runs/smoke                                  make the update again that ended a run by NaN
  codegym eval configs/smollm2_135m_cpu.py --suite bfcl      on suites made elsewhere; see codegym suites
  codegym study configs/study/tiny.py --out studies/tiny     ways to learn, at one budget, and a page
  codegym view runs/smoke                                    curves and episodes in a browser, live
  codegym serve runs/chat                                    the policy behind OpenAI's chat interface
  codegym status runs/*                                      where each run stands

exit codes:
   0  done
   1  something checked was found wrong, or the run cannot go on
   2  a user's mistake, told in one line
  42  stopped since the machine is taken away (SIGTERM), another process of the run was lost, or a bucket does
      not answer: what is done is kept, and the same command goes on
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
    "study",
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
    with LAST_WORD.of(options.command), contextlib.ExitStack() as in_order:
        try:
            if options.command in _STOP_IN_GOOD_ORDER:
                in_order.enter_context(preemption.in_good_order())
            code = options.call(options)
            LAST_WORD.say(code, "done" if code == ExitCode.DONE else "something was found wrong")
            return code
        except (UserError, OSError, CannotGoOn) as error:
            return _end(options.command, exit_code_of(error), str(error))
        except Outage as outage:
            return _end(options.command, ExitCode.RESUMABLE, f"{outage}; the same command resumes")
        except preemption.Stopped as stop:
            line = f"stopped{f': {stop}' if str(stop) else ''}; the same command resumes"
            return _end(options.command, preemption.exit_code(), line)
        except KeyboardInterrupt:
            return _end(options.command, ExitCode.INTERRUPTED, "interrupted; the same command resumes")


def _end(command: str, code: ExitCode, line: str) -> int:
    print(f"codegym {command}: {line}", file=sys.stderr)
    LAST_WORD.say(code, line)
    return code


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
    study.add(commands)
    runs.add_looks(commands)
    watching.add(commands)
    serving.add(commands)
    task_sets.add(commands)
    environments.add(commands)
    adapters.add(commands)
    doctor.add(commands)
    return parser
