"""Which tasks a step is made of, and what is remembered of each.

Tasks come in one endless, even order (`pipeline.task_order`); a curriculum walks along it and skips some. By
default it skips none. Whether a task is skipped is a function of the seed, the step, the task and what
became of its attempts, so a curriculum is its position and three numbers a task.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from codegym_jax.data.pipeline import TaskDraw, identity_of, task_order
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.records import Task

UNIFORM, EASY_FIRST = "uniform", "easy_first"
RAREST = 1 / 16
"""No task becomes rarer than this for its record: what once always failed may be learnable later, and a task
set of nothing but such tasks still gives a step."""
FADING = 0.5
"""What the record of a task counts for at each further visit, for the policy has changed since."""

_UNIT = 2.0**-64


class Curriculum:
    """Draws tasks, and remembers what became of them.

    A task that the order brings up is taken with probability

        open(step) * max(RAREST, 1 - prefer_learnable * (p**G + (1 - p)**G))

    where p is the share of its attempts that succeeded, old ones counting less (`FADING`), and
    p**G + (1 - p)**G the chance that G attempts all end alike and so teach a group-relative learner nothing.
    A task without attempts counts as learnable. `open` is 1, but for "easy_first": there it is 1 for the
    easiest tasks and 0 for the others; at step s of `easy_first_steps` = S, the easiest are the share s / S
    of the tasks by the oracle's calls, at least as many as a step draws, and all that need no more calls than
    one of these.

    Args:
      tasks: at least one.
      seed: of the run.
      tasks_per_step: P.
      attempts_per_task: G.
      order: `UNIFORM` or `EASY_FIRST`.
      easy_first_steps: S; unused with `UNIFORM`.
      prefer_learnable: in [0, 1]; 0 ignores what became of the attempts.

    Raises:
      ValueError: when there are no tasks.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        seed: int,
        tasks_per_step: int,
        attempts_per_task: int,
        order: str = UNIFORM,
        easy_first_steps: int = 1,
        prefer_learnable: float = 0.0,
    ) -> None:
        self.tasks = tuple(tasks)
        self._draw_at = task_order(tasks, seed=seed)
        self._settings: dict[str, Any] = {
            "tasks": identity_of(tasks),
            "seed": seed,
            "tasks_per_step": tasks_per_step,
            "attempts_per_task": attempts_per_task,
            "order": order,
            "easy_first_steps": easy_first_steps,
            "prefer_learnable": prefer_learnable,
        }
        self._seed, self._P, self._G = seed, tasks_per_step, attempts_per_task
        self._easy_first_steps = easy_first_steps if order == EASY_FIRST else 0
        self._prefer_learnable = prefer_learnable
        self._calls = [len(task.oracle_actions) for task in tasks]
        self._by_id = sorted(range(len(tasks)), key=lambda index: tasks[index].task_id)
        self._position = 0
        self._visits = [0] * len(tasks)
        self._attempts = [0.0] * len(tasks)
        self._successes = [0.0] * len(tasks)

    def draw(self, step: int, count: int) -> list[TaskDraw]:
        """The next `count` draws, for step `step` (counted from 1); of several calls, one after the other."""
        most_calls = self._most_calls(step)
        draws: list[TaskDraw] = []
        while len(draws) < count:
            index, epoch = self._draw_at(self._position)
            self._position += 1
            if self._calls[index] <= most_calls and self._taken(epoch, index):
                draws.append(TaskDraw(task_index=index, visit=self._visits[index]))
                self._visits[index] += 1
        return draws

    def observe(self, task_index: int, *, successes: int, attempts: int) -> None:
        """Notes what became of one visit: so many valid attempts, of which so many succeeded."""
        self._attempts[task_index] = FADING * self._attempts[task_index] + attempts
        self._successes[task_index] = FADING * self._successes[task_index] + successes

    def learnable(self, task_index: int) -> float:
        """The chance that the attempts of the task's next visit do not all end alike, from its record."""
        if not self._attempts[task_index]:
            return 1.0
        rate = self._successes[task_index] / self._attempts[task_index]
        return 1.0 - rate**self._G - (1.0 - rate) ** self._G

    def get_state(self) -> dict[str, Any]:
        """The position and the record of each task, by task id, as JSON-able values."""
        columns = {"visits": self._visits, "attempts": self._attempts, "successes": self._successes}
        return {
            "settings": self._settings,
            "position": self._position,
            **{name: [column[index] for index in self._by_id] for name, column in columns.items()},
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Continues as after the `get_state` that gave `state`.

        Raises:
          ValueError: when that was over other tasks or with other settings.
        """
        if state.get("settings") != self._settings:
            raise ValueError(
                "the saved curriculum belongs to other data or settings:"
                f" saved {state.get('settings')!r}, here {self._settings!r}"
            )
        self._position = state["position"]
        for at, index in enumerate(self._by_id):
            self._visits[index] = state["visits"][at]
            self._attempts[index] = state["attempts"][at]
            self._successes[index] = state["successes"][at]

    def _most_calls(self, step: int) -> int:
        """The oracle's calls up to which a task is open at this step."""
        if step >= self._easy_first_steps:
            return max(self._calls)
        share = -(-step * len(self.tasks) // self._easy_first_steps)
        return sorted(self._calls)[min(max(self._P, share), len(self.tasks)) - 1]

    def _taken(self, epoch: int, index: int) -> bool:
        hopeless = self._prefer_learnable * (1.0 - self.learnable(index))
        share = max(RAREST, 1.0 - hopeless)
        task_id = self.tasks[index].task_id
        return share >= 1.0 or stable_hash(self._seed, "skip", epoch, task_id) * _UNIT < share
