"""An episode behind a server: calls by name, text that any protocol can carry, a reward at the end."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.env import Env, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec, Task

ENDED = "The episode has ended."
"""What `Done` returns, right or wrong: its verdict may hold the reference answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallResult:
    """What came back from one call."""

    text: str
    error: CallError | None
    """What was wrong with the call, if anything."""
    finished: bool


class ServedEpisode:
    """An episode of one task; used once, by one thread at a time.

    Attributes:
      spec: its environment.
      valid: False once the host failed: the episode then says nothing about who played it.
    """

    def __init__(self, sandbox: Sandbox, spec: EnvSpec, task: Task):
        """Begins it.

        Raises:
          EnvError: when the environment does not load.
          HostFailure: when the host has no room for a guest.
        """
        self.spec = spec
        self.valid = True
        self._env = Env(sandbox, spec, task.config_json)

    def call(self, name: str, arguments: Mapping[str, Any]) -> CallResult:
        """Calls a tool; what is wrong with the call is in the result.

        Args:
          name: of the tool.
          arguments: as JSON data.

        Raises:
          HostFailure: when the host failed; the episode is then invalid.
        """
        action = json.dumps({"name": name, "parameters": dict(arguments)})
        try:
            result = self._env.step(action)
        except HostFailure:
            self.valid = False
            raise
        text = result.observation or (ENDED if result.finished else "")
        return CallResult(text=without_surrogates(text), error=result.error, finished=result.finished)

    @property
    def finished(self) -> bool:
        """Whether `Done` was called."""
        return self._env.finished

    @property
    def reward(self) -> float:
        """In [0, 1]; 0 until it has ended."""
        return self._env.reward

    @property
    def step_count(self) -> int:
        """Calls so far, failed ones included."""
        return self._env.step_count

    def close(self) -> None:
        """Frees the guest."""
        self._env.close()


def without_surrogates(text: str) -> str:
    """A text with its lone surrogates spelled out, which Python strings may hold and UTF-8 may not."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
