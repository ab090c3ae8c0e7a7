"""One episode of one task: actions in, observations out, the reward at the end.

The class in the guest keeps the rules of its task; this side keeps the rules of an episode, whatever the
class does: the first `Done` ends it, the reward is read once, the verdict is never handed on, and a call
that exhausted its guest leaves the state as if it had only failed.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

from codegym_jax.envs.action import DONE, ActionParser, BadCall
from codegym_jax.envs.guest import GuestTrap, HostFailure
from codegym_jax.envs.lasting_guest import SOLVE_FUEL_FACTOR, EnvError, LastingGuest
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.envs.state import EnvState, source_sha256
from codegym_jax.records import CallError, EnvSpec

__all__ = ["SOLVE_FUEL_FACTOR", "Env", "EnvError", "EnvState", "HostFailure", "StepResult"]

_MAX_BATCH = 512
"""Calls of the guest's `step` in one; bounds what a batch holds in memory at a time."""

_TRAP_TEXT = {
    CallError.OUT_OF_FUEL: "Error: the call took too long",
    CallError.OUT_OF_MEMORY: "Error: the call ran out of memory",
    CallError.STACK_OVERFLOW: "Error: the call recursed too deeply",
    CallError.FORBIDDEN: "Error: the call reached for something outside the environment",
}


@dataclass(slots=True)
class StepResult:
    """What came back from one action."""

    observation: str
    """What the policy may read; empty once the episode has ended."""
    finished: bool
    error: CallError | None


class Env:
    """An episode; used once.

    Attributes:
      reward: in [0, 1]; 0 until the environment was done.
      finished: the episode has ended; later actions are refused.
      verdict: what the environment said to `Done`, cut as observations are; may hold the reference answer.
      actions: every action, in order.
      observations: what the policy read after each.
    """

    def __init__(self, sandbox: Sandbox, spec: EnvSpec, config_json: str):
        """Loads the environment into a fresh guest and installs the config.

        Raises:
          EnvError: when the environment does not load.
          HostFailure: when the host has no room for a guest.
        """
        self.reward = 0.0
        self.finished = False
        self.verdict = ""
        self.actions: list[str] = []
        self.observations: list[str] = []
        self._sandbox = sandbox
        self._spec = spec
        self._config_json = config_json
        self._parser = ActionParser(spec.tools, sandbox.limits)
        self._guest = LastingGuest(sandbox, spec, config_json)

    def step(self, action: str) -> StepResult:
        """Takes one action; never raises for what the policy wrote.

        Args:
          action: JSON of one call, `{"name": ..., "parameters": {...}}`, or anything else.

        Raises:
          HostFailure: when the host failed; the episode is then invalid.
        """
        tool = self._tool_of(action)
        if isinstance(tool, BadCall):
            return self._result(action, tool.text, tool.error)
        try:
            ended, observation = self._guest.step(action)
        except GuestTrap as trap:
            text = _TRAP_TEXT[trap.error]
            if tool == DONE:
                return self._end(action, text, trap.error)
            return self._result(action, text, trap.error)
        return self._take(action, tool, ended, observation)

    def step_many(self, actions: Sequence[str]) -> list[StepResult]:
        """Takes many actions, with the results of as many calls of `step`, in few calls of the guest.

        Raises:
          HostFailure: when the host failed; the episode is then invalid.
        """
        results: list[StepResult] = []
        while len(results) < len(actions):
            batch = self._callable_prefix(actions[len(results) :])
            if len(batch) > 1:
                results += self._step_batch(batch)
            else:
                results.append(self.step(actions[len(results)]))
        return results

    def run_oracle(self, max_calls: int = 1024) -> tuple[list[str], list[str]]:
        """Plays the environment's own `solve`, which ends this episode.

        Args:
          max_calls: an oracle that makes more is an error.

        Returns:
          The actions that it took, and what each returned; the last of these is the verdict.

        Raises:
          EnvError: when `solve` raised, ran into a limit, or made too many calls.
          HostFailure: when the host failed.
        """
        actions, observations = self._guest.solve(max_calls)
        self.actions += actions
        self.observations += observations
        self.finished = True
        self.verdict = observations[-1] if observations else ""
        self.reward = self._read_reward()
        return actions, observations

    def reference_answer_json(self) -> str:
        """The reference answer in the environment's present state, as JSON; asking changes no episode.

        Raises:
          EnvError: when it raises, runs into a limit, or has no JSON form.
          HostFailure: when the host failed.
        """
        if self.finished:
            return self._guest.answer()
        other = self._guest.fork()
        try:
            return other.answer()
        finally:
            other.close()

    def clone_state(self) -> EnvState:
        """The episode as it is now, to go back to here or in another process.

        It holds the calls that made the state. A guest in which they burned `IMAGE_FUEL` is kept as an image
        of its memory too, which makes no difference but to the time that going back takes.
        """
        return EnvState(
            env_id=self._spec.env_id,
            source_sha256=source_sha256(self._spec),
            config_json=self._config_json,
            guest_hash=self._sandbox.guest_hash,
            actions=tuple(self.actions),
            observations=tuple(self.observations),
            reward=self.reward,
            finished=self.finished,
            verdict=self.verdict,
            guest=self._guest.state(),
        )

    def restore_state(self, state: EnvState) -> None:
        """Goes on from a state of an episode of the same task, whatever happened in this one.

        Raises:
          ValueError: when the state is of another environment, config or guest, or its image cannot be one.
          HostFailure: when the host failed, or the state's calls give something else than they gave. In
            either case this episode is as it was.
        """
        state.check_is_of(self._spec, self._config_json, self._sandbox.guest_hash)
        guest = LastingGuest(self._sandbox, self._spec, self._config_json, state.guest)
        self._guest.close()
        self._guest = guest
        self.actions = list(state.actions)
        self.observations = list(state.observations)
        self.reward, self.finished, self.verdict = state.reward, state.finished, state.verdict

    def fork(self) -> "Env":
        """A second episode that goes on from here; neither touches the other.

        Raises:
          HostFailure: when the host has no room for it.
        """
        other = copy.copy(self)
        other.actions, other.observations = self.actions.copy(), self.observations.copy()
        other._guest = self._guest.fork()
        return other

    @property
    def step_count(self) -> int:
        """Actions taken, failed ones included."""
        return len(self.actions)

    @property
    def fuel_used(self) -> int:
        """What loading and the calls that made the state have burned, about one unit per Wasm instruction."""
        return self._guest.fuel_used

    @property
    def memory_bytes(self) -> int:
        """The present size of the guest's memory."""
        return self._guest.memory_bytes

    def close(self) -> None:
        """Frees the guest."""
        self._guest.close()

    def _tool_of(self, action: str) -> str | BadCall:
        if self.finished:
            return BadCall(CallError.REFUSED, "Error: the episode has ended")
        return self._parser.tool_of(action)

    def _callable_prefix(self, actions: Sequence[str]) -> list[tuple[str, str]]:
        """(action, tool) of the first actions that the guest is to see, up to the first `Done`."""
        prefix: list[tuple[str, str]] = []
        for action in actions[:_MAX_BATCH]:
            tool = self._tool_of(action)
            if isinstance(tool, BadCall):
                break
            prefix.append((action, tool))
            if tool == DONE:
                break
        return prefix

    def _step_batch(self, batch: list[tuple[str, str]]) -> list[StepResult]:
        try:
            results = self._guest.step_many([action for action, _ in batch])
        except GuestTrap:  # which of them it was, single steps will tell
            return [self.step(action) for action, _ in batch]
        return [self._take(*call, *result) for call, result in zip(batch, results, strict=False)]

    def _take(self, action: str, tool: str, ended: bool, observation: str) -> StepResult:
        """Keeps the rules of an episode over what the guest answered."""
        error = CallError.TOOL_RAISED if observation.startswith("Error:") else None
        if ended or tool == DONE:
            self.reward = self._read_reward() if ended else 0.0
            return self._end(action, observation, error)
        return self._result(action, observation, error)

    def _read_reward(self) -> float:
        """The class's reward, into [0, 1]."""
        reward = self._guest.reward()
        return 0.0 if math.isnan(reward) else min(max(reward, 0.0), 1.0)

    def _end(self, action: str, verdict: str, error: CallError | None) -> StepResult:
        self.finished = True
        self.verdict = verdict
        return self._result(action, "", error)

    def _result(self, action: str, observation: str, error: CallError | None) -> StepResult:
        self.actions.append(action)
        self.observations.append(observation)
        return StepResult(observation, self.finished, error)
