"""Commands about task sets: card shows one, export and import are for other tools."""

import argparse
import pathlib
import sys
from typing import Any

from codegym_jax.cli.experiment_file import run_config, run_folder
from codegym_jax.cli.host import cache_dir
from codegym_jax.config import UserError
from codegym_jax.data.splits import SPLITS, TRAIN

_MAX_SHOWN = 20
"""Refusals that are printed; more are only counted."""


_EXPORT_EXAMPLES = """examples:
  codegym export task_sets/mine --format jsonl --out mine.jsonl
  codegym export task_sets/mine --format parquet --out train.parquet --split train --license MIT Apache-2.0
  codegym export task_sets/mine --format published --out mine/
  codegym export task_sets/mine --format messages --out oracle.jsonl --split train
  codegym export runs/mine --format messages --out good.parquet     episodes that earned the reward
  codegym export task_sets/mine --format prompts --out prompts.parquet --split train

`codegym import` takes the first three back. The next two are chats (rows of messages and tools) for trainers
of all kinds, this one among them: `--set sft.source=oracle.jsonl`. The last is for trainers that play
themselves: rows of prompt, tools, answer and info.
"""


_IMPORT_EXAMPLES = """examples:
  codegym import training_instance.jsonl --out task_sets/codegym --license CC-BY-NC-4.0
  codegym import tasks/*.parquet --environments envs.parquet --out task_sets/codegym --license CC-BY-NC-4.0
  codegym run configs/smoke_cpu.py --run runs/a --set data.task_set=task_sets/codegym

The same command goes on after a kill. The exit code is 1 when nothing was verified.
"""


def add(commands: Any) -> None:
    """Adds them."""
    summary = "Write a task set's card again: README.md, card.html, funnel.svg."
    card = commands.add_parser("card", help=summary, description=summary)
    card.add_argument("task_set", type=pathlib.Path, metavar="TASK_SET", help="the folder of a task set")
    card.add_argument("--out", type=pathlib.Path, help="another folder for the card")
    card.set_defaults(call=_card)

    export = commands.add_parser(
        "export",
        help="A task set's tasks as JSON lines, Parquet, or rows in the published format; episodes as chats.",
        description="Write a task set's tasks, or episodes of their oracles or of a run, for other tools.",
        epilog=_EXPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    export.add_argument(
        "task_set",
        type=run_folder,
        metavar="TASK_SET",
        help="the folder of a task set; for messages also of a run",
    )
    export.add_argument(
        "--format", choices=("jsonl", "parquet", "published", "messages", "prompts"), required=True
    )
    export.add_argument(
        "--out",
        type=pathlib.Path,
        required=True,
        help="a file (messages, prompts: .jsonl or .parquet); for published a folder",
    )
    export.add_argument(
        "--split", nargs="+", default=[], choices=SPLITS, help="only these; of a run's episodes: train"
    )
    export.add_argument("--license", nargs="+", default=[], help="only what is under these, such as MIT")
    export.add_argument("--origin", nargs="+", default=[], help="only what is from these, such as humaneval")
    export.set_defaults(call=_export)

    imported = commands.add_parser(
        "import",
        help="Rows of the published data set, or exported ones, to a verified task set.",
        description="Verify environments and tasks that somebody else made, and write a task set of them.",
        epilog=_IMPORT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    imported.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE", help=".jsonl or .parquet")
    imported.add_argument("--out", type=pathlib.Path, required=True, help="a new folder for the task set")
    imported.add_argument("--license", default="", help="of rows that name none, such as CC-BY-NC-4.0")
    imported.add_argument(
        "--environments",
        nargs="+",
        type=pathlib.Path,
        default=[],
        metavar="FILE",
        help="environment rows (env_code, env_name, source), or .py files and folders of them, where the task"
        " rows do not carry theirs",
    )
    imported.add_argument(
        "--heldout-environments", type=int, default=6, help="never trained on, at most a quarter (default 6)"
    )
    imported.add_argument(
        "--seed", type=int, default=0, help="of the splits, unless every row tells its own (exported rows do)"
    )
    imported.add_argument("--workers", type=int, default=0, help="processes; 0 is one per CPU core")
    imported.set_defaults(call=_import)


def _card(options: argparse.Namespace) -> int:
    from codegym_jax.report.card import write_card

    for path in write_card(options.task_set, options.out):
        print(path)
    return 0


def _export(options: argparse.Namespace) -> int:
    from codegym_jax.data.working_copy import looked_at
    from codegym_jax.pipelines.export import MESSAGES, export_run, export_task_set

    if options.format == MESSAGES and (looked_at(options.task_set) / "config.json").exists():
        if options.license or options.origin:
            raise UserError("--license and --origin choose from a task set; a run's episodes go by --split")
        config = run_config(options.task_set)
        count, paths = export_run(options.task_set, config, options.out, splits=options.split or [TRAIN])
        print(f"{count} episodes: {', '.join(map(str, paths))}")
        return 0
    count, paths = export_task_set(
        options.task_set,
        options.out,
        options.format,
        splits=options.split,
        licenses=options.license,
        origins=options.origin,
    )
    print(f"{count} tasks: {', '.join(map(str, paths))}")
    return 0


def _import(options: argparse.Namespace) -> int:
    from codegym_jax.config import DataConfig
    from codegym_jax.envs.printable import printable
    from codegym_jax.pipelines.import_rows import import_rows

    result = import_rows(
        [*options.files, *options.environments],
        options.out,
        license=options.license,
        data=DataConfig(heldout_environments=options.heldout_environments),
        seed=options.seed,
        workers=options.workers,
        cache_dir=cache_dir(),
    )
    for rejection in result.rejections[:_MAX_SHOWN]:
        text = printable(" ".join(f"{rejection.subject}: {rejection.reason}: {rejection.detail}".split()))
        print(text[:400], file=sys.stderr)
    if len(result.rejections) > _MAX_SHOWN:
        print(f"... and {len(result.rejections) - _MAX_SHOWN} more", file=sys.stderr)
    print(f"{result.environments} environments with {result.tasks} verified tasks")
    print(f"task set: {result.folder}" if result.folder else "no task set was written")
    return 0 if result.folder else 1
