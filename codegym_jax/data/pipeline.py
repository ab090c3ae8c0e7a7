"""Endless, reshuffled orders of tasks and of demonstrations.

Every order is a pure function of (seed, position), so the state that a checkpoint holds is a few numbers, and
what is resumed from it is as uninterrupted. Over demonstrations Grain walks the positions and keeps that
state, in this process and this thread; over tasks `curriculum` does.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

import grain

from codegym_jax.data.chat import Demonstration
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.records import Task

Element = TypeVar("Element")

_UNIT = 2.0**-64


class TaskDraw(NamedTuple):
    """One task of a step."""

    task_index: int
    """Into the tasks that the order is of."""
    visit: int
    """How often this task was drawn before; with G attempts a visit, attempt = visit * G + g."""


class Stream(Iterator[Element], Generic[Element]):
    """An endless iterator that can tell its position and be put back to it."""

    def __init__(self, batch_at: Callable[[int], Element], identity: str) -> None:
        """`batch_at(k)` gives the k-th element; `identity` names what the stream was made from."""
        data = grain.MapDataset.range(1).repeat().map_with_index(lambda index, _: batch_at(index))
        in_this_thread = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        self._iterator: Any = iter(data.to_iter_dataset(in_this_thread))
        self._identity = identity

    def __iter__(self) -> "Stream[Element]":
        return self

    def __next__(self) -> Element:
        return next(self._iterator)

    def get_state(self) -> dict[str, Any]:
        """The position, as JSON-able values."""
        return {"identity": self._identity, "grain": self._iterator.get_state()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues as after the `get_state` that gave `state`.

        Raises:
          ValueError: when that was a stream over other data or with other settings.
        """
        if state.get("identity") != self._identity:
            raise ValueError(
                "the saved position belongs to other data or settings:"
                f" saved {state.get('identity')!r}, here {self._identity!r}"
            )
        self._iterator.set_state(dict(state["grain"]))


def task_order(tasks: Sequence[Task], *, seed: int) -> Callable[[int], TaskDraw]:
    """The endless order of a run's tasks, spread over the environments: from a position to its draw.

    Law: the order is a chain of epochs, and each epoch holds every task once, so an epoch's number is the
    `visit` of its draws. Within an epoch the n tasks of an environment are shuffled, and the j-th stands at a
    random place in [j / n, (j + 1) / n); the epoch is sorted by place. So an environment comes at an even
    pace, in proportion to its tasks: where E environments have n tasks each, every block of E draws
    holds each of them once. The order depends on the tasks' ids, not on the order in which they were given.

    Args:
      tasks: at least one.
      seed: of the run.

    Raises:
      ValueError: when there are no tasks.
    """
    _require_some(tasks, "tasks")
    members: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for index, task in enumerate(tasks):
        members[task.env_id].append((task.task_id, index))

    @lru_cache(maxsize=2)  # a step sees at most the end of one epoch and the start of the next
    def epoch_order(epoch: int) -> list[int]:
        places = []
        for items in members.values():
            ranked = sorted(items, key=lambda item: (stable_hash(seed, "task", epoch, item[0]), item[0]))
            for j, item in enumerate(ranked):
                jitter = stable_hash(seed, "place", epoch, item[0]) * _UNIT
                places.append(((j + jitter) / len(items), item))
        return [index for _, (_, index) in sorted(places)]

    def draw_at(position: int) -> TaskDraw:
        epoch, place = divmod(position, len(tasks))
        return TaskDraw(task_index=epoch_order(epoch)[place], visit=epoch)

    return draw_at


def identity_of(tasks: Sequence[Task]) -> str:
    """One short name of a set of tasks, whatever their order."""
    return f"{stable_hash(*sorted(task.task_id for task in tasks)):016x}"


def demonstration_iterator(
    demonstrations: Sequence[Demonstration], *, seed: int, rows: int
) -> Stream[list[Demonstration]]:
    """Batches of demonstrations.

    Law: the stream is a chain of epochs, each a fresh shuffle of all demonstrations, cut into batches of
    `rows`. A batch may straddle two epochs.

    Args:
      demonstrations: at least one; kept in memory.
      seed: of the run.
      rows: of a batch.

    Raises:
      ValueError: when there are no demonstrations, or `rows` is not positive.
    """
    _require_some(demonstrations, "demonstrations")
    _require_positive("rows", rows)
    count = len(demonstrations)

    @lru_cache(maxsize=2)  # a batch sees at most the end of one epoch and the start of the next
    def epoch_order(epoch: int) -> list[int]:
        return sorted(range(count), key=lambda index: (stable_hash(seed, "row", epoch, index), index))

    def batch_at(step: int) -> list[Demonstration]:
        places = (divmod(position, count) for position in range(step * rows, (step + 1) * rows))
        return [demonstrations[epoch_order(epoch)[place]] for epoch, place in places]

    ids = stable_hash(*(_row_hash(row) for row in demonstrations))
    return Stream(batch_at, _identity(kind="demonstrations", ids=f"{ids:016x}", seed=seed, rows=rows))


def _identity(**parts: str | int) -> str:
    return json.dumps(parts, sort_keys=True)


def _row_hash(row: Demonstration) -> str:
    return row.token_ids.tobytes().hex()


def _require_some(items: Sequence[object], name: str) -> None:
    if not items:
        raise ValueError(f"an endless stream needs at least one of its {name}; there are none")


def _require_positive(name: str, value: int) -> None:
    if value <= 0:
        raise ValueError(f"{name} must be positive, got {value}")
