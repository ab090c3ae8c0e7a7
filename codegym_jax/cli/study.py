"""`codegym study`: ways to learn beside each other at one budget, and a page of what came of it."""

import argparse
import dataclasses
import pathlib
from typing import Any

from codegym_jax.cli.host import cache_dir, with_jax
from codegym_jax.config import ExitCode, UserError
from codegym_jax.config.study import StudyConfig, load_study

_EXAMPLES = """examples:
  codegym study configs/study/miniature.py --out studies/miniature --workers 2
  codegym study configs/study/miniature.py --out studies/miniature --dry-run
  codegym study configs/study/miniature.py --out studies/miniature --seeds 0 1 2 3 --only rl-8 rl-512
  codegym study configs/study/gpu.py --out studies/gpu

The same command goes on after a kill; more seeds or arms are added to what is there. The exit code is 1 when
a run failed.
"""


def add(commands: Any) -> None:
    """Adds it."""
    summary = "Compare ways to learn at one budget, with several seeds; writes a page."
    study = commands.add_parser(
        "study",
        help=summary,
        description=summary,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    study.add_argument("study", type=pathlib.Path, help="a study file, such as configs/study/miniature.py")
    study.add_argument("--out", type=pathlib.Path, required=True, metavar="FOLDER", help="of the study")
    study.add_argument("--seeds", type=int, nargs="+", metavar="N", help="default: those of the study")
    study.add_argument("--only", nargs="+", metavar="ARM", help="these arms; default: all")
    study.add_argument("--task-set", metavar="FOLDER", help="in place of the one that the study synthesizes")
    study.add_argument("--dry-run", action="store_true", help="tell what would be run, and what is done")
    study.add_argument("--workers", type=int, default=1, metavar="N", help="runs at a time (default 1)")
    study.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # how the processes of runs are started
    study.set_defaults(call=_study)


def _study(options: argparse.Namespace) -> int:
    study = load_study(options.study)
    if options.task_set:
        data = dataclasses.replace(study.base.data, task_set=options.task_set)
        study = dataclasses.replace(study, base=dataclasses.replace(study.base, data=data))
    arms = _arms(study, options.only)
    if options.workers < 1:
        raise UserError(f"--workers must be at least 1, got {options.workers}")
    with_jax()
    from codegym_jax.pipelines.study.conduct import Plan, conduct, make_one
    from codegym_jax.pipelines.study.outlook import outlook
    from codegym_jax.pipelines.study.page import write_page

    seeds = (int(options.one[1]),) if options.one else tuple(options.seeds or study.seeds)
    plan = Plan(
        file=options.study,
        study=study,
        folder=options.out,
        cache=cache_dir(),
        seeds=seeds,
        only=arms,
        workers=options.workers,
    )
    if options.one:
        make_one(plan, *options.one)
        return ExitCode.DONE
    if options.dry_run:
        print(outlook(plan))
        return ExitCode.DONE
    failures = conduct(plan)
    for path in write_page(study, options.out):
        print(path)
    for line in failures:
        print(f"FAILED: {line}")
    return ExitCode.WRONG if failures else ExitCode.DONE


def _arms(study: StudyConfig, only: list[str] | None) -> tuple[str, ...]:
    unknown = [name for name in only or () if name not in study.arms]
    if unknown:
        raise UserError(f"--only: the study has no arm {unknown[0]!r}; it has {', '.join(study.arms)}")
    return tuple(name for name in study.arms if not only or name in only)
