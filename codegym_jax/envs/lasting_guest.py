"""The guest of one episode, which outlives the calls that exhaust it.

A guest is deterministic, so the calls that made its state make it again, in the same shape: an address that
an observation tells depends on how many actions came in one call. A call that trapped is not among them, so
after it the guest is what it would be without that call. Where that would take long, the memory's image of an
earlier state stands for the calls up to there; nobody can tell the difference.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codegym_jax.envs.guest import Guest, GuestError, GuestTrap, HostFailure
from codegym_jax.envs.runtime import MemoryImage
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec

SOLVE_FUEL_FACTOR = 8
"""The oracle makes all its calls within one guest call, so it gets so many calls' fuel."""

IMAGE_FUEL = 20_000_000
"""Calls that burned this much, loading included, are not made again where an image can be taken.

Making them again then takes about 4 ms; taking an image takes 0.6 ms, and going back to it 0.9. That is the
faster way from 7 million on, but half a megabyte has to be kept, and of calls a few kilobytes.
"""

_MAX_DETAIL_CHARS = 2_000


class EnvError(Exception):
    """The environment itself is at fault: it does not load, or its oracle does not run.

    `reason` is a counted key (see `check`), `detail` is for people; it may be the environment's own words, so
    a long one is cut.
    """

    def __init__(self, reason: str, detail: str):
        if len(detail) > _MAX_DETAIL_CHARS:
            detail = f"{detail[:_MAX_DETAIL_CHARS]}... [cut, {len(detail)} characters in all]"
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class GuestCall(NamedTuple):
    """A call of the guest that is part of what made its state."""

    actions: tuple[str, ...]
    told: tuple[str, ...]
    """What came back for each: observations, or the verdict at the end."""
    max_oracle_calls: int = 0
    """Of the call that let the oracle take the actions; 0 where they were given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A state that need not be made by calls again."""

    image: MemoryImage
    call_count: int
    """Calls that made it."""
    fuel_used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestState:
    """How to make a guest's state again."""

    calls: tuple[GuestCall, ...] = ()
    """All of them, after the environment was loaded."""
    fuel_used: int = 0
    """What they and loading burned."""
    checkpoint: Checkpoint | None = None
    """Of their first few."""


class LastingGuest:
    """A guest with one environment, and the calls that made its state."""

    def __init__(self, sandbox: Sandbox, spec: EnvSpec, config_json: str, state: GuestState | None = None):
        """Loads the environment into a fresh guest and installs the config, or makes a state again.

        Raises:
          EnvError: when the environment does not load.
          ValueError: when the state's image cannot be one of such a guest.
          HostFailure: when the host has no room for a guest, or the state's calls give something else now.
        """
        self._sandbox = sandbox
        self._spec = spec
        self._config_json = config_json
        self._max_chars = sandbox.limits.max_observation_chars
        self._calls: list[GuestCall] = []
        self._checkpoint: Checkpoint | None = None
        if state is None:
            self._guest = self._load()
            self._fuel_before = 0  # what made the state beyond what this guest has burned
            self.fuel_used = self._guest.fuel_used
            """What loading and the calls that made the state burned, about one unit per Wasm instruction."""
        else:
            self._calls += state.calls
            self._checkpoint = state.checkpoint
            self.fuel_used = state.fuel_used
            self._replace_guest()

    def step(self, action: str) -> tuple[bool, str]:
        """One call of the environment's `step`: (it says that the episode has ended, what came back).

        Raises:
          GuestTrap: when a limit ended it; the state is then as if the call had not been made.
          HostFailure: when the host failed.
        """
        try:
            result = self._stepped(self._guest, action)
        except GuestTrap:
            self._rebuild()
            raise
        self._add(GuestCall((action,), (result[1],)))
        return result

    def step_many(self, actions: Sequence[str]) -> list[tuple[bool, str]]:
        """Calls of `step` in one call of the guest, until one says that the episode has ended.

        Raises:
          GuestTrap: when a limit ended one, or all together; the state is then as if none had been made.
          HostFailure: when the host failed.
        """
        try:
            results = self._stepped_many(self._guest, actions)
        except GuestTrap:
            self._rebuild()
            raise
        told = tuple([text for _, text in results])
        self._add(GuestCall(tuple(actions[: len(told)]), told))
        return results

    def solve(self, max_calls: int) -> tuple[list[str], list[str]]:
        """Lets the environment's oracle play: the actions that it took, and what came back for each.

        Raises:
          EnvError: when `solve` raised, ran into a limit, or made more than `max_calls` calls; the state is
            then as if it had not been called.
          HostFailure: when the host failed.
        """
        try:
            actions, told = self._solved(self._guest, max_calls)
        except GuestTrap as trap:
            self._rebuild()
            raise EnvError(trap.error.value, f"solve: {trap.detail}") from trap
        except GuestError as error:
            self._rebuild()
            reason = "too_many_oracle_calls" if str(error).startswith("_TooManyCalls") else "oracle_raised"
            raise EnvError(reason, str(error)) from error
        self._add(GuestCall(actions, told, max_calls))
        return list(actions), list(told)

    def answer(self) -> str:
        """The reference answer as JSON.

        Raises:
          EnvError: when it raises, runs into a limit, or has no JSON form.
          HostFailure: when the host failed.
        """
        try:
            answer_json = self._guest.answer()
            json.loads(answer_json)
        except GuestTrap as trap:
            self._rebuild()
            raise EnvError(trap.error.value, f"get_ref_answer: {trap.detail}") from trap
        except (GuestError, ValueError, RecursionError) as error:
            raise EnvError("answer_raised", str(error)) from error
        return answer_json

    def reward(self) -> float:
        """The environment's reward, whatever it is; 0 where it cannot tell.

        Raises:
          HostFailure: when the host failed.
        """
        try:
            return self._guest.reward()
        except GuestError:
            return 0.0
        except GuestTrap:
            self._rebuild()
            return 0.0

    def state(self) -> GuestState:
        """The present state, with an image where making it again would take long."""
        self._save()
        return GuestState(calls=tuple(self._calls), fuel_used=self.fuel_used, checkpoint=self._checkpoint)

    def fork(self) -> LastingGuest:
        """Another guest in the present state; what happens to one does not touch the other.

        Raises:
          HostFailure: when the host has no room for it.
        """
        other = copy.copy(self)
        other._calls = self._calls.copy()
        guest = self._guest.fork() if self._guest.is_alive else None
        other._replace_guest(guest)
        return other

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

    def _stepped(self, guest: Guest, action: str) -> tuple[bool, str]:
        try:
            ended, text = guest.step(action)
        except GuestError as error:
            ended, text = False, f"Error: {error}"
        return ended, self._shorten(text)

    def _stepped_many(self, guest: Guest, actions: Sequence[str]) -> list[tuple[bool, str]]:
        return [
            (False, self._shorten(f"Error: {outcome}"))
            if isinstance(outcome, GuestError)
            else (outcome[0], self._shorten(outcome[1]))
            for outcome in guest.step_many(actions)
        ]

    def _solved(self, guest: Guest, max_calls: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        fuel = SOLVE_FUEL_FACTOR * self._sandbox.limits.fuel_per_call
        actions, told = _parse_record(guest.solve(max_calls, fuel))
        return tuple(actions), tuple(map(self._shorten, told))

    def _shorten(self, text: str) -> str:
        if len(text) <= self._max_chars:
            return text
        return f"{text[: self._max_chars]}... [cut, {len(text)} characters in all]"

    def _add(self, call: GuestCall) -> None:
        self._calls.append(call)
        self.fuel_used = self._fuel_before + self._guest.fuel_used

    def _rebuild(self) -> None:
        """Replaces the guest that a call has just ruined by one in the state of before that call."""
        self._guest.close()
        self._replace_guest()
        self._save()  # who exhausts a guest once may do so again

    def _replace_guest(self, guest: Guest | None = None) -> None:
        """Goes on with a guest in the present state, made for this unless given."""
        self._guest = guest or self._make_again()
        self._fuel_before = self.fuel_used - self._guest.fuel_used

    def _save(self) -> None:
        """Takes an image, where the calls that only replaying can make again have become costly."""
        saved = self._checkpoint.fuel_used if self._checkpoint else 0
        if self.fuel_used - saved >= IMAGE_FUEL and self._guest.is_alive:
            image = self._guest.snapshot()
            if image:
                self._checkpoint = Checkpoint(
                    image=image, call_count=len(self._calls), fuel_used=self.fuel_used
                )

    def _make_again(self) -> Guest:
        """A fresh guest in the state that the calls made."""
        calls = self._calls
        try:
            if self._checkpoint:
                guest = self._sandbox.guest()
                guest.restore(self._checkpoint.image)
                calls = calls[self._checkpoint.call_count :]
            else:
                guest = self._load()
            for actions, told, max_oracle_calls in calls:
                if max_oracle_calls:
                    now = self._solved(guest, max_oracle_calls)
                elif len(actions) == 1:
                    now = actions, (self._stepped(guest, actions[0])[1],)
                else:
                    now = actions, tuple([text for _, text in self._stepped_many(guest, actions)])
                if now != (actions, told):
                    raise HostFailure(f"{self._spec.env_id}: a call that was made again gave something else")
        except (EnvError, GuestTrap, GuestError) as error:
            raise HostFailure(f"{self._spec.env_id}: a call that was made again failed: {error}") from error
        return guest


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
