"""Suites of tests made elsewhere: `codegym suites` lists and installs them, `codegym eval --suite` plays."""

import argparse
import pathlib
import sys
from typing import Any

from codegym_jax.cli.host import cache_dir, joined
from codegym_jax.config import ExitCode, RunConfig, UserError

_EXAMPLES = """examples:
  codegym suites                                          what there is, and what is installed
  codegym suites install bfcl zebra                       each into an environment of its own
  codegym suites check zebra --limit 20                   its oracle (must be 100%) and no-op; no policy
  codegym suites check held_out --suite-data held_out=task_sets/mine
  codegym eval configs/smollm2_135m_cpu.py --stage start --suite bfcl,held_out --limit 8
  codegym eval configs/smollm2_135m_cpu.py --stage train --suite bfcl,held_out --limit 8   the table of both
"""


def add(commands: Any) -> None:
    """Adds `suites`."""
    summary = (
        "Suites of tests made elsewhere: list, install and check them; `codegym eval --suite` plays them."
    )
    suites = commands.add_parser(
        "suites",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    suites.set_defaults(call=_list)
    actions = suites.add_subparsers(dest="action", metavar="ACTION")
    install = actions.add_parser("install", help="make the environments of suites, in the cache folder")
    install.add_argument("names", nargs="+", metavar="NAME")
    install.set_defaults(call=_install)
    check = actions.add_parser(
        "check",
        help="play the oracle and the no-op; the exit code is 1 unless the oracle is right everywhere",
    )
    check.add_argument("suite", metavar="NAME[:SUBSET][,...]")
    check.add_argument(
        "--out", type=pathlib.Path, help="folder of the results; default: suites/check in the cache folder"
    )
    _add_shared(check)
    check.set_defaults(call=_check)


def add_to_eval(command: argparse.ArgumentParser) -> None:
    """Adds to `eval` what it is told of suites."""
    group = command.add_argument_group(
        "suites of tests made elsewhere",
        "In place of --split. The manner is the paper's: temperature 0.7, top-p 0.95, five runs.",
    )
    group.add_argument("--suite", default="", metavar="NAME[:SUBSET][,...]", help="see `codegym suites`")
    group.add_argument("--runs", type=int, default=5, metavar="N", help="attempts at each task")
    group.add_argument(
        "--context-tokens", type=int, default=8192, metavar="N", help="of one attempt, prompt included"
    )
    group.add_argument("--message-tokens", type=int, default=1024, metavar="N", help="of one message")
    _add_shared(group)


def _add_shared(command: Any) -> None:
    command.add_argument(
        "--limit", type=int, default=0, metavar="N", help="so many tasks of each subset, chosen by hash"
    )
    command.add_argument("--max-turns", type=int, default=60, metavar="N", help="messages of one attempt")
    command.add_argument("--slots", type=int, default=8, metavar="N", help="attempts at the same time")
    command.add_argument(
        "--suite-data",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=PATH",
        help="the data of a suite",
    )
    command.add_argument(
        "--user-endpoint", default="", metavar="URL", help="OpenAI-compatible: the user of suites with one"
    )
    command.add_argument("--user-model", default="", metavar="NAME", help="the model of that user")


def evaluate_suites(options: argparse.Namespace, config: RunConfig) -> int:
    """`codegym eval --suite`."""
    choices, given = _checked(options, config)
    if options.context_tokens < 2 or not 0 < options.message_tokens < options.context_tokens:
        raise UserError(
            "--message-tokens must be at least 1 and below --context-tokens, got"
            f" {options.message_tokens} and {options.context_tokens}"
        )
    if config.style != "hermes":
        raise UserError(
            "style: a suite's messages are chats that are no environment's, and only the style hermes has a"
            f" form for them, got {config.style!r}"
        )
    with joined(options) as processes:
        if processes.count > 1:
            raise UserError("--suite: suites are played by one process; start it alone")
        from codegym_jax.pipelines.experiment import prepare
        from codegym_jax.pipelines.stages import newest_stage
        from codegym_jax.pipelines.suite_policy import Manner, playing_policy
        from codegym_jax.pipelines.suites import play_suites

        bench = prepare(config, options.run, cache_dir(), processes)
        manner = Manner(max_message_tokens=options.message_tokens, context_tokens=options.context_tokens)
        given = given(str(bench.folder / "task_set"))
        with playing_policy(bench, options.stage or newest_stage(bench), manner, options.slots) as policy:
            played = play_suites(bench.folder, choices, given, _settings(options, options.runs), policy)
        bench.push()
        return _tell(played, bench.folder)


def _list(_: argparse.Namespace) -> int:
    from codegym_jax.evals.suites.environments import is_installed
    from codegym_jax.evals.suites.registry import SUITES

    for entry in SUITES.values():
        state = "installed" if is_installed(cache_dir(), entry.name) else "not installed"
        print(f"{entry.name:12s} {state if entry.own_process else 'needs no environment':22s} {entry.about}")
        if entry.data:
            print(f"{'':35s} --suite-data {entry.name}=...: {entry.data}")
        if entry.user_subsets:
            print(f"{'':35s} --user-endpoint, --user-model: for {', '.join(entry.user_subsets)}")
    return ExitCode.DONE


def _install(options: argparse.Namespace) -> int:
    from codegym_jax.evals.suites.environments import install
    from codegym_jax.evals.suites.registry import parse_suites

    for choice in parse_suites(",".join(options.names)):
        if choice.entry.own_process:
            install(cache_dir(), choice.entry.name, print)
        else:
            print(f"{choice.entry.name}: needs no environment")
    return ExitCode.DONE


def _check(options: argparse.Namespace) -> int:
    choices, given = _checked(options, RunConfig())
    from codegym_jax.pipelines.suites import play_suites

    folder = options.out or cache_dir() / "suites" / "check"
    return _tell(play_suites(folder, choices, given(""), _settings(options, 1)), folder)


def _checked(options: argparse.Namespace, config: RunConfig) -> tuple[Any, Any]:
    """The suites that were asked for, found playable; and the folder of a task set -> `SuiteOptions`."""
    import dataclasses

    from codegym_jax.evals.suites.registry import HELD_OUT, SuiteOptions, check_choice, parse_suites

    for name in ("limit", "max_turns", "slots", "runs"):
        least = 0 if name == "limit" else 1
        if getattr(options, name, least) < least:
            raise UserError(
                f"--{name.replace('_', '-')} must be at least {least}, got {getattr(options, name)}"
            )
    choices = parse_suites(options.suite)
    given = SuiteOptions(
        cache=cache_dir(),
        data=dict(_split(text) for text in options.suite_data),
        user_endpoint=options.user_endpoint,
        user_model=options.user_model,
        sandbox=config.sandbox,
    )

    def with_task_set(folder: str) -> SuiteOptions:
        return dataclasses.replace(given, data={HELD_OUT: folder, **given.data} if folder else given.data)

    has_run = options.command == "eval"
    for choice in choices:
        check_choice(choice, with_task_set("the run's own" if has_run else ""))
    return choices, with_task_set


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise UserError(f"--suite-data takes NAME=PATH, got {text!r}")
    return name, value


def _settings(options: argparse.Namespace, runs: int) -> Any:
    from codegym_jax.pipelines.suites import SuiteSettings

    return SuiteSettings(runs=runs, limit=options.limit, max_turns=options.max_turns, slots=options.slots)


def _tell(played: Any, folder: pathlib.Path) -> int:
    """The table, and what is wrong with it."""
    print(played.text)
    print(f"results: {folder / 'suites'}; transcripts: {folder / 'transcripts' / 'suites'}", file=sys.stderr)
    for line in played.wrong:
        print(f"WRONG: {line}", file=sys.stderr)
    return ExitCode.WRONG if played.wrong else ExitCode.DONE
