"""One episode of one task: actions in, observations out, the reward at the end.

The class in the guest keeps the rules of its task; this side keeps the rules of an episode, whatever the
class does: the first `Done` ends it, the reward is read once, the verdict is never handed on, and a call
that exhausted its guest leaves the state as if it had only failed.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from codegym_jax.envs.action import DONE, ActionParser, BadCall
from codegym_jax.envs.guest import Guest, GuestError, GuestTrap, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec

__all__ = ["Env", "EnvError", "HostFailure", "StepResult"]

SOLVE_FUEL_FACTOR = 8
"""The oracle makes all its calls within one guest call, so it gets so many calls' fuel."""

_MAX_BATCH = 512
"""Calls of the guest's `step` in one; bounds what a batch holds in memory at a time."""

_TRAP_TEXT = {
    CallError.OUT_OF_FUEL: "Error: the call took too long",
    CallError.OUT_OF_MEMORY: "Error: the call ran out of memory",
    CallError.STACK_OVERFLOW: "Error: the call recursed too deeply",
    CallError.FORBIDDEN: "Error: the call reached for something outside the environment",
}


class EnvError(Exception):
    """The environment itself is at fault: it does not load, or its oracle does not run.

    `reason` is a counted key (see `check`), `detail` is for people.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


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
      step_count: actions taken, failed ones included.
      verdict: what the environment said to `Done`; it may hold the reference answer.
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
        self.step_count = 0
        self.verdict = ""
        self.actions: list[str] = []
        self.observations: list[str] = []
        self._sandbox = sandbox
        self._spec = spec
        self._config_json = config_json
        self._parser = ActionParser(spec.tools, sandbox.limits)
        self._max_chars = sandbox.limits.max_observation_chars
        self._history: list[tuple[str, str]] = []  # (action, observation) of the calls that made the state
        self._guest = self._load()

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
            outcome = self._guest.step(action)
        except GuestError as error:
            outcome = error
        except GuestTrap as trap:
            self._rebuild()
            text = _TRAP_TEXT[trap.error]
            return (
                self._end(action, text, trap.error)
                if tool == DONE
                else self._result(action, text, trap.error)
            )
        return self._take(action, tool, outcome)

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
        fuel = SOLVE_FUEL_FACTOR * self._sandbox.limits.fuel_per_call
        try:
            actions, observations = _parse_record(self._guest.solve(max_calls, fuel))
        except GuestTrap as trap:
            raise EnvError(trap.error.value, f"solve: {trap.detail}") from trap
        except GuestError as error:
            reason = "too_many_oracle_calls" if str(error).startswith("_TooManyCalls") else "oracle_raised"
            raise EnvError(reason, str(error)) from error
        self.step_count = len(actions)
        self.actions = actions
        self.observations = [self._shorten(text) for text in observations]
        self.finished = True
        self.verdict = observations[-1] if observations else ""
        self.reward = self._read_reward()
        return actions, self.observations

    def reference_answer_json(self) -> str:
        """The reference answer in the environment's present state, as JSON.

        Raises:
          EnvError: when it raises, runs into a limit, or has no JSON form.
          HostFailure: when the host failed.
        """
        try:
            answer_json = self._guest.answer()
            json.loads(answer_json)
        except GuestTrap as trap:
            raise EnvError(trap.error.value, f"get_ref_answer: {trap.detail}") from trap
        except (GuestError, ValueError, RecursionError) as error:
            raise EnvError("answer_raised", str(error)) from error
        return answer_json

    @property
    def fuel_used(self) -> int:
        """What the guest has burned since it was loaded, about one unit per Wasm instruction."""
        return self._guest.fuel_used

    @property
    def memory_bytes(self) -> int:
        """The present size of the guest's memory."""
        return self._guest.memory_bytes

    def close(self) -> None:
        """Frees the guest."""
        self._guest.close()

    def _load(self) -> Guest:
        try:
            code = self._sandbox.compile(self._spec.source)
        except GuestTrap as trap:
            raise EnvError(trap.error.value, f"compiling: {trap.detail}") from trap
        except GuestError as error:
            raise EnvError("does_not_compile", str(error)) from error
        guest = self._sandbox.guest()
        try:
            guest.load(code, self._spec.class_name, self._config_json)
        except GuestTrap as trap:
            guest.close()
            raise EnvError(trap.error.value, f"loading: {trap.detail}") from trap
        except GuestError as error:
            guest.close()
            raise EnvError("does_not_load", str(error)) from error
        return guest

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
            outcomes = self._guest.step_many([action for action, _ in batch])
        except GuestTrap:  # which of them it was, single steps will tell
            self._rebuild()
            return [self.step(action) for action, _ in batch]
        return [self._take(*call, outcome) for call, outcome in zip(batch, outcomes, strict=False)]

    def _take(self, action: str, tool: str, outcome: tuple[bool, str] | GuestError) -> StepResult:
        """Keeps the rules of an episode over what the guest answered."""
        if isinstance(outcome, GuestError):
            ended, observation, error = False, f"Error: {outcome}", CallError.TOOL_RAISED
        else:
            ended, observation = outcome
            error = CallError.TOOL_RAISED if observation.startswith("Error:") else None
        if ended or tool == DONE:
            self.reward = self._read_reward() if ended else 0.0
            return self._end(action, observation, error)
        observation = self._shorten(observation)
        self._history.append((action, observation))
        return self._result(action, observation, error)

    def _rebuild(self) -> None:
        """Replays the calls that made the state on a fresh guest, in place of the one that trapped.

        Many at a time, or else one by one: together they may exceed a limit that each of them keeps, and an
        observation that tells an address tells another one.
        """
        for batch_calls in (_MAX_BATCH, 1):
            self._guest.close()
            self._guest = self._load()
            if self._replays(batch_calls):
                return
        raise HostFailure(f"{self._spec.env_id}: calls that had been made gave something else when replayed")

    def _replays(self, batch_calls: int) -> bool:
        """Whether the calls that made the state, so many at a time, give what they gave."""
        for start in range(0, len(self._history), batch_calls):
            calls = self._history[start : start + batch_calls]
            try:
                if batch_calls == 1:
                    outcomes = [self._guest.step(calls[0][0])]
                else:
                    outcomes = self._guest.step_many([action for action, _ in calls])
            except GuestError as error:
                outcomes = [error]
            except GuestTrap:
                return False
            texts = [
                self._shorten(f"Error: {outcome}" if isinstance(outcome, GuestError) else outcome[1])
                for outcome in outcomes
            ]
            if texts != [observation for _, observation in calls]:
                return False
        return True

    def _read_reward(self) -> float:
        """The class's reward, into [0, 1]; a class that cannot tell gives nothing."""
        try:
            reward = self._guest.reward()
        except (GuestError, GuestTrap):
            return 0.0
        return 0.0 if math.isnan(reward) else min(max(reward, 0.0), 1.0)

    def _shorten(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        return f"{text[: self._max_chars]}... [cut, {len(text)} characters in all]"

    def _end(self, action: str, verdict: str, error: CallError | None) -> StepResult:
        self.finished = True
        self.verdict = verdict
        return self._result(action, "", error)

    def _result(self, action: str, observation: str, error: CallError | None) -> StepResult:
        self.step_count += 1
        self.actions.append(action)
        self.observations.append(observation)
        return StepResult(observation, self.finished, error)


def _parse_record(record_json: str) -> tuple[list[str], list[str]]:
    """The oracle's actions and observations; an environment may have made its guest report anything.

    Raises:
      GuestError: when the report is not two lists of texts, alike in length.
    """
    try:
        record = json.loads(record_json)
        actions, observations = record["actions"], record["observations"]
        if len(actions) == len(observations) and all(isinstance(x, str) for x in [*actions, *observations]):
            return actions, observations
    except (ValueError, RecursionError, TypeError, KeyError):
        pass
    raise GuestError(f"solve made calls whose record is not one of texts: {record_json[:200]}")
