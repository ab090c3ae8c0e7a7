"""What may be played: the tasks of a task set by split and index, and the sandbox to play them in."""

import pathlib
from typing import Any

from codegym_jax.adapters.catalog import check_guest
from codegym_jax.adapters.served_episode import ServedEpisode, without_surrogates
from codegym_jax.config import UserError
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.splits import SPLITS, TRAIN
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task

_TRAIN_TYPE, _VALIDATION_TYPE, _TEST_TYPE = "train", "validation", "test"  # OpenEnv's words
_VALIDATION = "validation_config"


class Tasks:
    """Shared by all sessions of a server; only read."""

    def __init__(self, folder: pathlib.Path, sandbox: Sandbox):
        """Opens a task set.

        Raises:
          UserError: when it is missing, damaged, empty, or was verified on another guest.
        """
        task_set = TaskSet.open(folder)
        check_guest(task_set)
        self.name = folder.resolve().name
        self._specs = task_set.specs
        self._sources = {split: task_set.source(split) for split in SPLITS if task_set.counts[split]}
        self._sandbox = sandbox
        if not self._sources:
            raise UserError(f"{folder}: holds no tasks")

    @property
    def splits(self) -> list[dict[str, str]]:
        """The splits that have tasks, each with its name and OpenEnv's word for its kind."""
        kinds = {TRAIN: _TRAIN_TYPE, _VALIDATION: _VALIDATION_TYPE}
        return [{"name": split, "type": kinds.get(split, _TEST_TYPE)} for split in self._sources]

    @property
    def first_split(self) -> str:
        """What is played where nobody chose: the training split, unless it is empty."""
        return next(iter(self._sources))

    def count(self, split: str) -> int:
        """Tasks of a split.

        Raises:
          UserError: when it has none.
        """
        if split not in self._sources:
            raise UserError(f"no split {split!r} with tasks; there are: {', '.join(self._sources)}")
        return len(self._sources[split])

    def describe(self, split: str, index: int) -> dict[str, Any]:
        """A task as its player may see it: the hidden config and the answer are no part of it.

        Raises:
          UserError: when there is no such split.
          IndexError: when it has no such task.
        """
        spec, _ = self._at(split, index)
        return {
            "id": f"{split}/{index}",
            "split": split,
            "index": index,
            "env_id": spec.env_id,
            "license": spec.license,
            "statement": without_surrogates(spec.statement.strip()),
            "schemas": [tool_schema(tool) for tool in spec.tools],
        }

    def play(self, split: str, index: int) -> ServedEpisode:
        """Begins an episode of a task.

        Raises:
          UserError: when there is no such split.
          IndexError: when it has no such task.
          HostFailure: when the host has no room for it.
        """
        return ServedEpisode(self._sandbox, *self._at(split, index))

    def _at(self, split: str, index: int) -> tuple[EnvSpec, Task]:
        count = self.count(split)
        if not 0 <= index < count:
            raise IndexError(f"no task {index} in the split {split}, which has {count}")
        task = self._sources[split][index]
        return self._specs[task.env_id], task
