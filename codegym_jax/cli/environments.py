"""Commands about environments in the published format: verify and check-env."""

import argparse
import json
import pathlib
import sys
from typing import Any

from codegym_jax.cli.host import cache_dir

_EXAMPLES = """examples:
  codegym check-env Own_1__MyEnv.py                           with the class's default config
  codegym check-env Own_1__MyEnv.py --tasks rows.jsonl        with the rows of this environment: finds most
  codegym check-env Own_1__MyEnv.py --config '{"n": 7}'
  codegym check-env Own_1__MyEnv.py --tasks rows.jsonl --json | jq .conclusion

exit code: 0 accepted, perhaps with warnings; 1 refused; 2 a file or a config could not be read
"""


def add(commands: Any) -> None:
    """Adds them."""
    verify = commands.add_parser("verify", help="Verify environments in the published format.")
    verify.add_argument(
        "paths", nargs="+", type=pathlib.Path, metavar="PATH", help="environment .py files or folders"
    )
    verify.add_argument("--tasks", type=pathlib.Path, help="rows like training_instance.jsonl")
    verify.add_argument("--json", type=pathlib.Path, help="write the full result here")
    verify.set_defaults(call=_verify)
    summary = "Tell an author what is wrong with an environment, or worth a look."
    check_env = commands.add_parser(
        "check-env",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check_env.add_argument("file", type=pathlib.Path, help="an environment, <code_id>__<Class>.py")
    configs = check_env.add_mutually_exclusive_group()
    configs.add_argument("--config", metavar="JSON", help="try this config")
    configs.add_argument(
        "--tasks", type=pathlib.Path, help="try the configs of rows like training_instance.jsonl"
    )
    check_env.add_argument("--json", action="store_true", help="print JSON instead of a table")
    check_env.set_defaults(call=_check_env)


def _verify(options: argparse.Namespace) -> int:
    from codegym_jax.envs.check import verify_paths
    from codegym_jax.envs.sandbox import Sandbox

    paths = [
        path
        for given in options.paths
        for path in (sorted(given.glob("*.py")) if given.is_dir() else [given])
    ]
    report = verify_paths(paths, options.tasks, Sandbox(cache_dir=cache_dir()), progress=print)
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_dict(), indent=2, ensure_ascii=False) + "\n")
    for rejection in report.rejections:
        print(f"{rejection.subject}: {rejection.reason}: {rejection.detail}", file=sys.stderr)
    print(f"verified {sum(task['ok'] for task in report.tasks)} tasks, rejected {len(report.rejections)}")
    return 0 if report.ok else 2 if report.has_bad_input else 1


def _check_env(options: argparse.Namespace) -> int:
    from codegym_jax.envs.audit import audit_file, two_builds
    from codegym_jax.envs.audit.table import show

    report = audit_file(
        options.file,
        *two_builds(cache_dir()),
        config_json=options.config,
        rows=options.tasks,
    )
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        show(report)
    return 0 if report.accepted else 1
