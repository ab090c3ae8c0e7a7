"""The command `codegym`: parse, build a config, call one function."""

import argparse
import logging
import sys
from collections.abc import Sequence

from codegym_jax.cli import doctor, environments, learning, runs, synthesis, task_sets, watching
from codegym_jax.config import UserError

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
  codegym view runs/smoke                                    curves and episodes in a browser, live
  codegym status runs/*                                      where each run stands
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Returns:
      The exit code: 0 for success, 1 when something checked was found wrong, 2 for a user's mistake.
    """
    parser = _parser()
    arguments, passed_on = _split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    options = parser.parse_args(arguments, argparse.Namespace(passed_on=passed_on))
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        return options.call(options)
    except (UserError, OSError) as error:
        print(f"codegym {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"codegym {options.command}: interrupted; the same command resumes", file=sys.stderr)
        return 130


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
    runs.add_looks(commands)
    watching.add(commands)
    task_sets.add(commands)
    environments.add(commands)
    doctor.add(commands)
    return parser
