"""A task set, or a part of it, as files for other tools, and episodes as chats: `codegym export`."""

import itertools
import json
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import RunConfig
from codegym_jax.data import messages
from codegym_jax.data.export import (
    PROMPT_COLUMNS,
    ExportError,
    prompt_record,
    task_records,
    write_jsonl,
    write_parquet,
)
from codegym_jax.data.splits import SPLITS, TRAIN
from codegym_jax.data.task_set import ROWS, TaskSet
from codegym_jax.pipelines.episode_rules import run_renderer
from codegym_jax.pipelines.stored_episodes import episode_files, stored_episodes

JSONL, PARQUET, PUBLISHED, MESSAGES, PROMPTS = FORMATS = (
    "jsonl",
    "parquet",
    "published",
    "messages",
    "prompts",
)
"""Flat rows as `data.export` has them, twice; the rows of the published data set; chats (`data.messages`);
prompts for trainers (`data.export`)."""
PUBLISHED_ENVIRONMENTS = "environments.jsonl"


def export_task_set(
    folder: Path,
    out: Path,
    format: str,
    *,
    splits: Sequence[str] = (),
    licenses: Collection[str] = (),
    origins: Collection[str] = (),
) -> tuple[int, list[Path]]:
    """Writes the tasks that are wanted.

    Args:
      folder: of the task set.
      out: a file; for `published` a folder, which gets `training_instance.jsonl` and `environments.jsonl`;
        for `messages` and `prompts` the name says whether it will be Parquet.
      format: one of `FORMATS`.
      splits: all unless given.
      licenses: all unless given.
      origins: all unless given.

    Returns:
      How many tasks, and the files.

    Raises:
      TaskSetError: when there is no whole task set, or nothing in it has such a license or origin.
      ExportError: when no task is left, or the format cannot hold them.
    """
    task_set = TaskSet.open(folder).filtered(licenses=licenses, origins=origins)
    wanted = [split for split in SPLITS if split in splits or not splits]
    if not any(task_set.counts[split] for split in wanted):
        there = ", ".join(f"{count} in {split}" for split, count in task_set.counts.items())
        raise ExportError(f"{folder}: no task is left to export; with these licenses and origins: {there}")
    if format == PUBLISHED:
        if out.exists() and not out.is_dir():
            raise ExportError(f"--out must name a folder for the format published, but {out} is a file")
        tasks, environments = out / ROWS, out / PUBLISHED_ENVIRONMENTS
        count = write_jsonl(tasks, _published_tasks(task_set, wanted))
        write_jsonl(environments, _published_environments(task_set, wanted))
        return count, [tasks, environments]
    if out.is_dir():
        raise ExportError(f"--out must name a file for the format {format}, but {out} is a folder")
    if format == MESSAGES:
        return messages.write_rows(out, _oracle_chats(task_set, wanted)), [out]
    if format == PROMPTS:
        prompts = _prompts(TaskSet.open(folder), wanted, task_set.specs)
        if out.suffix == ".parquet":
            return write_parquet(out, prompts, PROMPT_COLUMNS), [out]
        return write_jsonl(out, prompts), [out]
    write = write_jsonl if format == JSONL else write_parquet
    return write(out, task_records(task_set, wanted)), [out]


def export_run(
    folder: Path, config: RunConfig, out: Path, *, splits: Sequence[str] = (TRAIN,)
) -> tuple[int, list[Path]]:
    """Writes the episodes of a run that earned the reward as chats, each of them once.

    Args:
      folder: of the run.
      config: of the run.
      out: a file; the name says whether it will be Parquet.
      splits: whose tasks. The episodes of held-out tasks are no data to train on.

    Returns:
      How many episodes, and the file.

    Raises:
      ExportError: when there is none.
    """
    task_set = TaskSet.open(folder / "task_set")
    renderer = run_renderer(config.style, folder)
    wanted = {task.task_id for split in splits for task in task_set.source(split)}
    seen: set[tuple[str, bytes]] = set()

    def chats() -> Iterator[messages.Chat]:
        for episode in itertools.chain.from_iterable(map(stored_episodes, episode_files(folder))):
            key = (episode.task_id, episode.token_ids.tobytes())
            if episode.valid and episode.reward == 1.0 and episode.task_id in wanted and key not in seen:
                seen.add(key)
                yield messages.episode_chat(episode, renderer, task_set.specs[episode.env_id])

    first = next(remaining := chats(), None)
    if first is None:
        raise ExportError(f"{folder}: no episode earned the reward of a task of {', '.join(splits)}")
    return messages.write_rows(out, itertools.chain([first], remaining)), [out]


def _prompts(task_set: TaskSet, splits: Sequence[str], specs: Collection[str]) -> Iterator[dict[str, Any]]:
    """Those of some environments; their indices count all tasks of a split."""
    for split in splits:
        for index, task in enumerate(task_set.source(split)):
            if task.env_id in specs:
                yield prompt_record(task_set.specs[task.env_id], task, split, index)


def _oracle_chats(task_set: TaskSet, splits: Sequence[str]) -> Iterator[messages.Chat]:
    for split in splits:
        for task in task_set.source(split):
            spec = task_set.specs[task.env_id]
            yield messages.oracle_chat(spec, task.oracle_actions, task.oracle_observations)


def _published_tasks(task_set: TaskSet, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The task set's own rows of these tasks; each also says its license, origin and split."""
    split_of = {task.task_id: split for split in splits for task in task_set.source(split)}
    with (task_set.folder / ROWS).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            split = split_of.pop(row["ability"], None)
            if split is not None:
                spec = task_set.specs[row["ability"].split("@", 2)[1]]
                more = {"license": spec.license, "origin": spec.origin, "split": split}
                yield {**row, "extra_info": {**row["extra_info"], **more}}
    if split_of:
        raise ExportError(
            f"{task_set.folder / ROWS} lacks {len(split_of)} of the tasks, such as"
            f" {min(split_of)[:200]!r}; use --format jsonl, or make the task set again"
        )


def _published_environments(task_set: TaskSet, splits: Sequence[str]) -> Iterator[dict[str, Any]]:
    used = {task.env_id for split in splits for task in task_set.source(split)}
    for env_id, spec in task_set.specs.items():
        if env_id in used:
            yield {"env_code": spec.source, "env_name": env_id, "source": spec.origin}
