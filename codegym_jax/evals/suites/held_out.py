"""Our own held-out tasks as a suite: the environments of a task set behind chat messages.

The splits are the subsets. The statement is the user's message, tools are JSON schemas, and each message may
make one call; any other message is answered as an environment answers what is no call.
"""

import json
import pathlib
import threading
from contextlib import AbstractContextManager
from typing import Any

from codegym_jax.config import SandboxConfig
from codegym_jax.data import strict_json
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.splits import SPLITS
from codegym_jax.data.style import RenderError, read_action
from codegym_jax.data.task_set import TaskSet, TaskSetError
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.evals.suites.registry import HELD_OUT
from codegym_jax.evals.suites.suite import (
    Message,
    Opening,
    Reaction,
    Score,
    SuiteError,
    SuiteFacts,
    SuiteFailure,
    function_call,
)
from codegym_jax.records import EnvSpec, Task


class HeldOut:
    """The tasks of a task set; a `Suite`."""

    def __init__(self, folder: pathlib.Path, cache: pathlib.Path, limits: SandboxConfig) -> None:
        """Opens a task set.

        Args:
          folder: of the task set.
          cache: where compiled guests are kept.
          limits: of every guest.

        Raises:
          SuiteError: when it is none.
        """
        try:
            self.task_set = TaskSet.open(folder)
        except TaskSetError as error:
            raise SuiteError(f"suite {HELD_OUT}: {error}") from error
        self._sandbox = Sandbox(limits, cache)
        self._lock = threading.Lock()  # guests are quick, and made for one thread
        self._tasks: dict[str, dict[str, Task]] = {}

    @property
    def facts(self) -> SuiteFacts:
        counts = self.task_set.counts
        return SuiteFacts(
            suite=HELD_OUT,
            package="task set",
            version=self.task_set.digest,
            subsets=tuple(split for split in SPLITS if counts[split]),
            single_turn=False,
        )

    def tasks(self, subset: str) -> list[str]:
        return list(self._of(subset))

    def open(self, subset: str, task: str) -> "_Session":
        found = self._of(subset)[task]
        spec = self.task_set.specs[found.env_id]
        with self._lock:
            try:
                env = Env(self._sandbox, spec, found.config_json)
            except (EnvError, HostFailure) as error:
                raise SuiteFailure(f"{found.task_id}: {error}") from error
        return _Session(env, spec, found, self._lock)

    def close(self) -> None:
        pass

    def _of(self, subset: str) -> dict[str, Task]:
        with self._lock:
            if subset not in self._tasks:
                tasks = sorted(self.task_set.source(subset), key=lambda task: task.task_id)
                self._tasks[subset] = {task.task_id: task for task in tasks}
            return self._tasks[subset]


class _Session:
    def __init__(self, env: Env, spec: EnvSpec, task: Task, lock: AbstractContextManager[Any]) -> None:
        self._env, self._spec, self._task, self._lock = env, spec, task, lock
        self._number = 0

    @property
    def opening(self) -> Opening:
        question = {"role": "user", "content": self._spec.statement.strip()}
        return Opening(messages=[question], tools=[tool_schema(tool) for tool in self._spec.tools])

    def reply(self, message: Message) -> Reaction:
        calls = message.get("tool_calls") or []
        action = _action(calls[0]) if len(calls) == 1 else str(message.get("content") or "")
        self._number += 1
        with self._lock:
            try:
                step = self._env.step(action)
            except HostFailure as error:
                raise SuiteFailure(f"{self._task.task_id}: {error}") from error
        said = [
            {"role": "tool", "tool_call_id": call.get("id", ""), "content": step.observation}
            for call in calls
        ]
        answer = said or [{"role": "user", "content": step.observation}]
        return Reaction(messages=[] if step.finished else answer, finished=step.finished)

    def gold(self) -> Message:
        if self._number >= len(self._task.oracle_actions):
            raise SuiteFailure(f"{self._task.task_id}: the oracle's actions did not end the episode")
        action = json.loads(self._task.oracle_actions[self._number])
        arguments = strict_json.dumps(action["parameters"], spaces=True)
        call = function_call(action["name"], arguments, self._number)
        return {"role": "assistant", "content": "", "tool_calls": [call]}

    def score(self) -> Score:
        return Score(score=float(self._env.reward >= 1.0), detail={"env_id": self._task.env_id})

    def close(self) -> None:
        with self._lock:
            self._env.close()


def _action(call: dict[str, Any]) -> str:
    """A call as an environment takes it; one that cannot be read, as it stands."""
    function = call.get("function", {})
    try:
        arguments = strict_json.loads(function["arguments"])
        action = strict_json.dumps({"name": function["name"], "parameters": arguments}, spaces=True)
        read_action(action)
    except (KeyError, TypeError, ValueError, RenderError):
        return str(function)
    return action
