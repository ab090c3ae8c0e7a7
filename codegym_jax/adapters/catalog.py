"""One split of a task set, by environment: what every adapter hands out tasks from."""

import functools
import os
import pathlib
from collections import defaultdict
from collections.abc import Iterator, Sequence

from codegym_jax.config import UserError
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task


class Catalog:
    """The environments that have tasks in one split of a task set.

    Attributes:
      folder: of the task set, absolute.
      split: its name.
      digest: of the task set; another one means other tasks.
      specs: environment id -> environment, in the task set's order; those without tasks in the split are
        left out.
    """

    def __init__(self, folder: str | os.PathLike[str], split: str):
        """Opens the task set and reads which environment each task is of.

        Raises:
          UserError: when it is missing or damaged, was verified on another guest, or has nothing there.
        """
        task_set = TaskSet.open(folder)
        check_guest(task_set)
        self.folder = pathlib.Path(folder).resolve()
        self.split = split
        self.digest = task_set.digest
        self._source = task_set.source(split)
        self._positions: dict[str, list[int]] = defaultdict(list)
        for position, task in enumerate(self._source):
            self._positions[task.env_id].append(position)
        self.specs = {env_id: spec for env_id, spec in task_set.specs.items() if env_id in self._positions}
        if not self.specs:
            counts = ", ".join(f"{count} in {name}" for name, count in task_set.counts.items())
            raise UserError(f"{folder}: no tasks in the split {split} ({counts})")

    def spec(self, env_id: str) -> EnvSpec:
        """An environment by its id.

        Raises:
          UserError: when the split has no tasks of it.
        """
        if env_id not in self.specs:
            raise UserError(f"{self.folder}: no environment {env_id!r} with tasks in the split {self.split}")
        return self.specs[env_id]

    def tasks(self, env_id: str) -> Sequence[Task]:
        """The tasks of one environment, in the task set's order, read when asked for.

        Raises:
          UserError: when the split has none.
        """
        self.spec(env_id)
        return self._source.select(self._positions[env_id])

    def __iter__(self) -> Iterator[tuple[EnvSpec, Task]]:
        """Every task with its environment, in the task set's order."""
        for task in self._source:
            yield self.specs[task.env_id], task


@functools.lru_cache(maxsize=8)
def open_catalog(folder: str, split: str, digest: str) -> Catalog:
    """A catalog, opened once in a process.

    Raises:
      UserError: as `Catalog` does, and when the task set is no longer the one with this digest.
    """
    catalog = Catalog(folder, split)
    if catalog.digest != digest:
        raise UserError(f"{folder}: has changed since its environments were registered; register it again")
    return catalog


@functools.cache
def shared_sandbox() -> Sandbox:
    """The sandbox of this process, with the usual limits."""
    return Sandbox()


def check_guest(task_set: TaskSet) -> None:
    """Checks that what oracles saw is what they will see here.

    Raises:
      UserError: when the task set was verified on another guest.
    """
    verified_on, ours = task_set.manifest.get("guest_hash", ""), find_artefact().wasm_sha256
    if verified_on != ours:
        raise UserError(
            f"{task_set.folder}: verified on the guest {verified_on[:12] or 'unknown'}, and this is"
            f" {ours[:12]}; make it again with the command that made it"
        )
