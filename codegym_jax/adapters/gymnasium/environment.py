"""One environment of ours as a Gymnasium environment; its tasks are its starting states."""

import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.error import ResetNeeded

from codegym_jax.adapters.catalog import shared_sandbox
from codegym_jax.adapters.gymnasium.unicode_text import UnicodeText
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.envs.codegym_format import canonical_json, tool_listing
from codegym_jax.envs.env import Env, EnvError, EnvState
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task

MAX_STEPS = 256
"""What the published format allows an episode."""
_MAX_OBSERVATION_CHARS = 2**16
"""Of every environment alike, so that different ones go into one vector."""
_OPTIONS = ("config", "task")
_HOW = 'An action is one call, {"name": ..., "parameters": {...}}; the call of Done ends the episode.'


@dataclass(frozen=True, slots=True, kw_only=True)
class CodegymState:
    """An episode at one moment; may be pickled. For the host only: it may hold the answer."""

    task: Task
    episode: EnvState


class CodegymEnv(gymnasium.Env[str, str]):
    """Tools behind `step`: an action is the JSON of one call, the observation is what came back.

    The first observation is everything that a policy needs: the statement, the tools, and how to call them.
    What a policy does wrong is an observation that begins with `Error:`, never an exception. The reward is 0
    until the answer is handed in, then what the environment gives, in [0, 1].

    Attributes:
      environment: its record.
      task: of the present episode; None before the first `reset`. For the host only: it holds the hidden
        config and the answer.
    """

    metadata = {"render_modes": []}  # noqa: RUF012 - Gymnasium's own

    def __init__(
        self,
        environment: EnvSpec,
        tasks: Sequence[Task],
        *,
        sandbox: Sandbox | None = None,
        max_steps: int = MAX_STEPS,
    ):
        """Takes an environment and its tasks.

        Args:
          environment: whose tools are called.
          tasks: to draw from; may be empty when every reset gives a config.
          sandbox: where it runs; one for the whole process unless given.
          max_steps: an episode that takes so many steps is truncated.

        Raises:
          ValueError: when statement and tools are longer than an observation may be.
        """
        self.environment = environment
        self.task: Task | None = None
        self._tasks = tasks
        self._sandbox = sandbox or shared_sandbox()
        self._max_steps = max_steps
        self._episode: Env | None = None
        self._opening = f"{environment.statement.strip()}\n\n{_HOW}\n{tool_listing(environment.tools)}"
        self.action_space = UnicodeText(self._sandbox.limits.max_action_bytes)
        self.observation_space = UnicodeText(_MAX_OBSERVATION_CHARS)
        if len(self._opening) > _MAX_OBSERVATION_CHARS:
            raise ValueError(
                f"{environment.env_id}: statement and tools have {len(self._opening)} characters;"
                f" an observation has at most {_MAX_OBSERVATION_CHARS}"
            )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Begins an episode.

        Args:
          seed: chooses the task, together with how many resets have drawn one since it was given.
          options: chooses it in place of the seed: `{"task": index or task id}` or `{"config": {...}}`.

        Returns:
          What a policy reads first, and `{"tools": JSON schemas}`.

        Raises:
          ValueError: for options that name no task, and a config that the environment does not take.
          HostFailure: when the host has no room for a guest.
        """
        super().reset(seed=seed)
        task = self._choose(options or {})
        self._take(task, self._open(task))
        return self._opening, {"tools": [tool_schema(tool) for tool in self.environment.tools]}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Takes one action.

        Returns:
          Observation, reward, whether the episode has ended, whether it was cut off, and what was wrong with
          the call (`error`, empty where nothing was) and actions taken (`steps`).

        Raises:
          HostFailure: when the host failed; the episode says nothing about the policy.
        """
        episode = self._begun()
        had_ended = episode.finished
        result = episode.step(action)
        reward = 0.0 if had_ended else episode.reward
        info = {"error": str(result.error or ""), "steps": episode.step_count}
        return result.observation, reward, result.finished, self.is_cut_off, info

    @property
    def is_cut_off(self) -> bool:
        """The present episode took all the steps that it may, and has not ended."""
        episode = self._begun()
        return not episode.finished and episode.step_count >= self._max_steps

    @property
    def observation(self) -> str:
        """What the policy read last."""
        return (self._opening, *self._begun().observations)[-1]

    def clone_state(self) -> CodegymState:
        """The episode as it is now, to go back to here or in another process.

        The random stream that chooses tasks is no part of it.
        """
        episode = self._begun()
        assert self.task is not None
        return CodegymState(task=self.task, episode=episode.clone_state())

    def restore_state(self, state: CodegymState) -> None:
        """Goes on from a state of any episode of this environment.

        Raises:
          ValueError: when the state is of another environment.
          HostFailure: when the host failed.
        """
        if self._episode is None or self.task != state.task:
            episode = self._open(state.task)
            try:
                episode.restore_state(state.episode)
            except BaseException:
                episode.close()
                raise
            self._take(state.task, episode)
        else:
            self._episode.restore_state(state.episode)

    def close(self) -> None:
        """Frees the guest."""
        if self._episode is not None:
            self._episode = None
            self._free()

    def _take(self, task: Task, episode: Env) -> None:
        """Goes on with an episode; its guest is freed in the end, also where nobody calls `close`."""
        self.close()
        self.task, self._episode = task, episode
        self._free = weakref.finalize(self, episode.close)

    def _begun(self) -> Env:
        if self._episode is None:
            raise ResetNeeded("call reset before an episode")
        return self._episode

    def _open(self, task: Task) -> Env:
        try:
            return Env(self._sandbox, self.environment, task.config_json)
        except EnvError as error:
            raise ValueError(
                f"{self.environment.env_id} does not load with the config {task.config_json[:200]}: {error}"
            ) from error

    def _choose(self, options: Mapping[str, Any]) -> Task:
        unknown = sorted(options.keys() - set(_OPTIONS))
        if unknown or len(options) > 1:
            raise ValueError(f"options may hold one of {', '.join(_OPTIONS)}; given: {', '.join(options)}")
        if "config" in options:
            return self._task_of_config(options["config"])
        if "task" in options:
            return self._task_named(options["task"])
        if not self._tasks:
            raise ValueError(f"{self.environment.env_id} has no tasks; give options={{'config': ...}}")
        return self._tasks[int(self.np_random.integers(len(self._tasks)))]

    def _task_of_config(self, config: Any) -> Task:
        if not isinstance(config, dict):
            raise ValueError(f"options['config'] must be a dict, got {config!r:.200}")
        try:
            text = canonical_json(config)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options['config'] has no JSON form: {error}") from error
        return Task(env_id=self.environment.env_id, config_json=text)

    def _task_named(self, name: Any) -> Task:
        if isinstance(name, int) and 0 <= name < len(self._tasks):
            return self._tasks[name]
        for task in self._tasks if isinstance(name, str) else ():
            if task.task_id == name:
                return task
        raise ValueError(
            f"options['task'] must be a task's id or a number below {len(self._tasks)}, got {name!r:.200}"
        )
