"""How fast environments run in the sandbox, beside its peers.

    python -m benchmarks.env_runtime [--only NAME,...] [--quick] [--runs N] [> results.jsonl]
    python -m benchmarks.env_runtime --table results.jsonl

Prints JSON lines: the machine, the load average before each round, then per measure and variant the median
over rounds with the value of every round, and how many times better ours is than each peer, round by round. A
round runs every variant of every measure once, in an order that rotates, so that all see the same noise.
"""

import argparse
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import machine, report
from benchmarks.measures import GROUPS, QUICK, Run, Scale, unit_of
from benchmarks.tests_to_verify import make_tests
from benchmarks.variants import make_sandbox, missing_packages
from benchmarks.warehouse import make_workload

_SEED = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    if options.table is not None:
        lines = map(json.loads, options.table.read_text(encoding="utf-8").splitlines())
        print(report.table(lines), end="")
        return 0
    plan = _plan(options.only)
    missing = missing_packages([variant for variants in plan.values() for variant in variants])
    if missing:
        named = ", ".join(missing)
        print(f"missing: {named}; install the extra `bench`: pip install -e .[bench]", file=sys.stderr)
        return 2
    runs = options.runs or (2 if options.quick else 7)
    _print({"measure": "machine", **machine.describe(), "guest_hash": make_sandbox().guest_hash})
    for line in measure(plan, QUICK if options.quick else Scale(), runs):
        _print(line)
    return 0


def measure(plan: dict[str, list[str]], scale: Scale, runs: int) -> list[dict[str, Any]]:
    """Runs the rounds.

    Args:
      plan: group of measures -> its variants.
    """
    values: report.Values = {}
    run = Run(make_workload(_SEED), make_tests(scale.tests), scale)
    try:
        for number in range(runs):
            _print({"measure": "load_average", "round": number, "value": machine.load_average()})
            for group, variants in plan.items():
                if number >= (GROUPS[group].rounds or runs):
                    continue
                turn = number % len(variants)
                for variant in variants[turn:] + variants[:turn]:
                    for name, value in GROUPS[group].function(run, variant).items():
                        values.setdefault((name, variant), {})[number] = value
        for name, settings in run.server_settings().items():
            _print({"measure": "server", "name": name, **settings})
    finally:
        run.close()
    return report.lines(values, {name: unit_of(name) for name, _ in values})


def _plan(only: Sequence[str]) -> dict[str, list[str]]:
    """Group of measures -> its variants, of those that `--only` names, or all where it names none."""
    known = {*GROUPS, *(variant for group in GROUPS.values() for variant in group.variants)}
    unknown = sorted(set(only) - known)
    if unknown:
        raise SystemExit(
            f"--only: no measure or variant {', '.join(unknown)}; there are {', '.join(sorted(known))}"
        )
    groups = [name for name in GROUPS if name in only] or list(GROUPS)
    chosen = {name for name in only if name not in GROUPS}
    plan = {}
    for name in groups:
        variants = GROUPS[name].variants
        plan[name] = [variant for variant in variants if not chosen or variant in chosen]
    return {name: variants for name, variants in plan.items() if variants}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.env_runtime",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=[],
        metavar="NAME,...",
        help=f"measures and variants to run; measures: {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--quick", action="store_true", help="seconds instead of minutes; too few for figures"
    )
    parser.add_argument("--runs", type=int, default=0, help="rounds (7; 2 with --quick)")
    parser.add_argument(
        "--table", type=pathlib.Path, metavar="FILE", help="render the lines of a file as Markdown"
    )
    return parser.parse_args(arguments)


def _print(line: dict[str, Any]) -> None:
    print(json.dumps({"benchmark": "env_runtime", **line}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
