"""Episodes: the policy on the device, the tools in Wasm, one turn after the other in every slot.

Requests go in, episodes come out in the order of the requests. What the policy does wrong becomes data
of its episode; what the host does wrong makes that one episode invalid.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt32

from codegym_jax.data.chat import Renderer
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.records import EnvSpec, Episode, StopReason, Task, Turn
from codegym_jax.rollout.generate import Sampled
from codegym_jax.rollout.sampling import episode_key


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRequest:
    """One attempt to make."""

    spec: EnvSpec
    task: Task
    attempt: int
    """Counted over the whole run; names the random stream."""


EnvMaker = Callable[[EnvSpec, str], Env]
"""Opens an environment on a config; raises `HostFailure` when it cannot."""


@runtime_checkable
class TokenSampler(Protocol):
    """What an agent asks of a `generate.Sampler`."""

    slots: int
    stop_id: int

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None: ...

    def append(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> None: ...

    def decode(self, params: Any, budget_B: Int[np.ndarray, " B"], temperature: float) -> Sampled: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeLimits:
    """Budgets of one episode; each has its own `StopReason`."""

    max_tokens: int
    max_turn_tokens: int
    max_turns: int
    max_errors: int


@dataclass(slots=True, kw_only=True)
class _Attempt:
    """An episode in the making: what one slot holds on the host."""

    index: int
    request: EpisodeRequest
    env: Env | None
    ids: list[int]
    is_policy: list[bool]
    sampler_logp: list[float]
    policy_logp: list[float]
    turns: list[Turn] = field(default_factory=list)
    message_start: int = 0
    errors: int = 0

    def add(
        self, ids: Sequence[int], sampler_logp: Sequence[float] = (), policy_logp: Sequence[float] = ()
    ) -> None:
        """Appends tokens; those with log-probabilities are the policy's."""
        own = bool(len(sampler_logp))
        zeros = [0.0] * len(ids)
        self.ids.extend(ids)
        self.is_policy.extend([own] * len(ids))
        self.sampler_logp.extend(sampler_logp if own else zeros)
        self.policy_logp.extend(policy_logp if own else zeros)

    def end(self, reason: StopReason, policy_version: int) -> Episode:
        reward = self.env.reward if self.env is not None and reason is StopReason.DONE else 0.0
        if self.env is not None:
            self.env.close()
        return Episode(
            task_id=self.request.task.task_id,
            attempt=self.request.attempt,
            policy_version=policy_version,
            token_ids=np.asarray(self.ids, np.int32),
            is_policy=np.asarray(self.is_policy, bool),
            sampler_logp=np.asarray(self.sampler_logp, np.float32),
            policy_logp=np.asarray(self.policy_logp, np.float32),
            turns=tuple(self.turns),
            reward=reward,
            stop_reason=reason,
        )


class Agent:
    """Plays episodes with one sampler.

    Args:
      sampler: holds the slots; its `max_tokens` is the cache's length.
      renderer: between text and tokens.
      open_env: opens one environment per episode.
      limits: budgets of one episode.
      seed: of the run; with task and attempt it names an episode's random stream.
    """

    def __init__(
        self, sampler: TokenSampler, renderer: Renderer, open_env: EnvMaker, limits: EpisodeLimits, seed: int
    ) -> None:
        self._sampler, self._renderer, self._open_env = sampler, renderer, open_env
        self._limits, self._seed = limits, seed

    def play(
        self,
        params: Any,
        requests: Iterable[EpisodeRequest],
        *,
        temperature: float,
        policy_version: int = 0,
        on_episode: Callable[[Episode], None] = lambda episode: None,
    ) -> list[Episode]:
        """Plays every request and returns the episodes in order.

        Args:
          params: of the policy.
          requests: may be a lazy iterable; one is taken whenever a slot is free.
          temperature: 0 is greedy.
          policy_version: written to the episodes.
          on_episode: called as each ends, in the order of ending; for progress bars.
        """
        waiting = enumerate(requests)
        live: dict[int, _Attempt] = {}
        done: dict[int, Episode] = {}

        def finish(index: int, episode: Episode) -> None:
            done[index] = episode
            on_episode(episode)

        while True:
            appends = self._refill(waiting, live, finish, policy_version)
            if not live:
                return [done[index] for index in sorted(done)]
            self._sampler.append(params, appends)
            while live and not (appends := self._exchange(params, live, temperature, finish, policy_version)):
                pass  # every row that came back needs more tokens for its message
            self._sampler.append(params, appends)

    def _refill(
        self,
        waiting: Iterator[tuple[int, EpisodeRequest]],
        live: dict[int, _Attempt],
        finish: Callable[[int, Episode], None],
        policy_version: int,
    ) -> dict[int, list[int]]:
        """Starts an episode in every free slot; returns the prompts to append."""
        prompts: dict[int, list[int]] = {}
        keys: dict[int, np.ndarray] = {}
        for slot in range(self._sampler.slots):
            while slot not in live:
                index, request = next(waiting, (-1, None))
                if request is None:
                    break
                attempt = self._open(index, request)
                if attempt.env is None:
                    finish(index, attempt.end(StopReason.HOST_FAILURE, policy_version))
                elif len(attempt.ids) >= self._limits.max_tokens:
                    finish(index, attempt.end(StopReason.MAX_TOKENS, policy_version))
                else:
                    live[slot], prompts[slot] = attempt, attempt.ids.copy()
                    keys[slot] = episode_key(self._seed, request.task.task_id, request.attempt)
        if keys:
            self._sampler.start(keys)
        return prompts

    def _open(self, index: int, request: EpisodeRequest) -> _Attempt:
        attempt = _Attempt(
            index=index, request=request, env=None, ids=[], is_policy=[], sampler_logp=[], policy_logp=[]
        )
        attempt.add(self._renderer.render_prompt(request.spec))
        attempt.message_start = len(attempt.ids)
        with contextlib.suppress(EnvError, HostFailure):  # verified before: the host is to blame
            attempt.env = self._open_env(request.spec, request.task.config_json)
        return attempt

    def _exchange(
        self,
        params: Any,
        live: dict[int, _Attempt],
        temperature: float,
        finish: Callable[[int, Episode], None],
        policy_version: int,
    ) -> dict[int, list[int]]:
        """One `decode`, then the tools of every finished message; returns the results to append."""
        budget_B = np.zeros(self._sampler.slots, np.int32)
        for slot, attempt in live.items():
            written = len(attempt.ids) - attempt.message_start
            room = self._limits.max_tokens - len(attempt.ids)
            budget_B[slot] = min(self._limits.max_turn_tokens - written, room)
        sampled = self._sampler.decode(params, budget_B, temperature)
        results: dict[int, list[int]] = {}
        for slot, attempt in list(live.items()):
            outcome = self._advance(attempt, slot, sampled)
            if isinstance(outcome, StopReason):
                del live[slot]
                finish(attempt.index, attempt.end(outcome, policy_version))
            elif outcome is not None:
                results[slot] = outcome
        return results

    def _advance(self, attempt: _Attempt, slot: int, sampled: Sampled) -> StopReason | list[int] | None:
        """Takes in one slot's new tokens: a reason to stop, a result to append, or None for more tokens."""
        count = int(sampled.count_B[slot])
        attempt.add(
            sampled.tokens_BT[slot, :count].tolist(),
            sampled.sampler_logp_BT[slot, :count].tolist(),
            sampled.policy_logp_BT[slot, :count].tolist(),
        )
        message = attempt.ids[attempt.message_start :]
        if not message or message[-1] != self._sampler.stop_id:
            if len(message) >= self._limits.max_turn_tokens:
                return StopReason.TURN_TOO_LONG
            return StopReason.MAX_TOKENS if len(attempt.ids) >= self._limits.max_tokens else None
        try:
            return self._call(attempt, message)
        except HostFailure:
            return StopReason.HOST_FAILURE

    def _call(self, attempt: _Attempt, message: list[int]) -> StopReason | list[int]:
        """Runs the tool that a finished message calls."""
        assert attempt.env is not None
        action = self._renderer.parse_response(message, attempt.request.spec)
        step = attempt.env.step(action)
        attempt.turns.append(
            Turn(
                message=self._renderer.decode(message),
                action=action,
                observation=step.observation,
                error=step.error,
            )
        )
        attempt.errors += step.error is not None
        if step.finished:
            return StopReason.DONE
        if attempt.errors > self._limits.max_errors:
            return StopReason.TOO_MANY_ERRORS
        if len(attempt.turns) >= self._limits.max_turns:
            return StopReason.MAX_TURNS
        result = self._renderer.bridge_to_next_turn(step.observation)
        if len(attempt.ids) + len(result) >= self._limits.max_tokens:
            return StopReason.MAX_TOKENS
        attempt.add(result)
        attempt.message_start = len(attempt.ids)
        return result
