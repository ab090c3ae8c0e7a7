"""Episodes: the policy on the device, the tools in Wasm, one turn after the other in every slot.

Requests go in, episodes come out in the order of the requests. What the policy does wrong becomes data
of its episode; what the host does wrong makes that one episode invalid. Playing can be interrupted: what was
begun then comes out as it stood after its last whole turn, and goes in again as a request.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from codegym_jax.data.chat import Renderer
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.records import CallError, EnvSpec, Episode, StopReason, Task, Turn
from codegym_jax.rollout.token_sampler import Sampled, TokenSampler, episode_key, stop_of


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeRequest:
    """One attempt to make."""

    spec: EnvSpec
    task: Task
    attempt: int
    """Counted over the whole run; names the random stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """An episode that was interrupted, as it stood after its last whole turn.

    Going on with it prefills its tokens and replays its actions. The random stream goes on where it stood, so
    the tokens are those of an episode that was never interrupted. Log-probabilities of later tokens may
    differ in their last bits, since the cache of earlier ones is then computed in other pieces.
    """

    request: EpisodeRequest
    policy_version: int
    """Of the parameters that began it; its episode will name this one."""
    token_ids: Int[np.ndarray, " T"]
    is_policy: Bool[np.ndarray, " T"]
    sampler_logp: Float[np.ndarray, " T"]
    policy_logp: Float[np.ndarray, " T"]
    turns: tuple[Turn, ...]


class Played(NamedTuple):
    """What was finished and what was begun, each in the order of the requests."""

    episodes: list[Episode]
    unfinished: list[Unfinished]


EnvMaker = Callable[[EnvSpec, str], Env]
"""Opens an environment on a config; raises `HostFailure` when it cannot."""


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
    policy_version: int
    env: Env | None = None
    ids: list[int] = field(default_factory=list)
    is_policy: list[bool] = field(default_factory=list)
    sampler_logp: list[float] = field(default_factory=list)
    policy_logp: list[float] = field(default_factory=list)
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

    def await_message(self) -> None:
        """The next token is the first of a message of the policy."""
        self.message_start = len(self.ids)

    def note(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.errors += turn.error is not None

    def take_back(self, begun: Unfinished) -> None:
        """Takes over an interrupted episode, but for its environment."""
        self.policy_version = begun.policy_version
        self.ids = begun.token_ids.tolist()
        self.is_policy = begun.is_policy.tolist()
        self.sampler_logp = begun.sampler_logp.tolist()
        self.policy_logp = begun.policy_logp.tolist()
        for turn in begun.turns:
            self.note(turn)

    def interrupt(self) -> Unfinished:
        """Drops the message that was begun: its tokens will be drawn again, and be the same."""
        if self.env is not None:
            self.env.close()
        whole = slice(self.message_start)
        return Unfinished(
            request=self.request,
            policy_version=self.policy_version,
            token_ids=np.asarray(self.ids[whole], np.int32),
            is_policy=np.asarray(self.is_policy[whole], bool),
            sampler_logp=np.asarray(self.sampler_logp[whole], np.float32),
            policy_logp=np.asarray(self.policy_logp[whole], np.float32),
            turns=tuple(self.turns),
        )

    def end(self, reason: StopReason) -> Episode:
        reward = self.env.reward if self.env is not None and reason is StopReason.DONE else 0.0
        if self.env is not None:
            self.env.close()
        return Episode(
            task_id=self.request.task.task_id,
            attempt=self.request.attempt,
            policy_version=self.policy_version,
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
        requests: Iterable[EpisodeRequest | Unfinished],
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
          policy_version: written to the episodes that begin here.
          on_episode: called as each ends, in the order of ending; for progress bars.
        """
        return self.play_until(
            lambda: False,
            params,
            requests,
            temperature=temperature,
            policy_version=policy_version,
            on_episode=on_episode,
        ).episodes

    def play_until(
        self,
        interrupted: Callable[[], bool],
        params: Any,
        requests: Iterable[EpisodeRequest | Unfinished],
        *,
        temperature: float,
        policy_version: int = 0,
        on_episode: Callable[[Episode], None] = lambda episode: None,
    ) -> Played:
        """Plays as `play` does until `interrupted` says so, which is asked before each call of the device.

        Requests that no slot took are left in `requests`: give an iterator to go on with it. What the slots
        held comes back, and may be requested again, of any agent with the same seed.
        """
        waiting = enumerate(requests)
        live: dict[int, _Attempt] = {}
        done: dict[int, Episode] = {}
        appends: dict[int, list[int]] = {}

        def finish(attempt: _Attempt, reason: StopReason) -> None:
            done[attempt.index] = episode = attempt.end(reason)
            on_episode(episode)

        while not interrupted():
            appends |= self._refill(waiting, live, finish, policy_version)
            if not live:
                break
            self._sampler.append(params, appends)
            appends = self._exchange(params, live, temperature, finish)
        begun = sorted(live.values(), key=lambda attempt: attempt.index)
        return Played(
            episodes=[done[index] for index in sorted(done)],
            unfinished=[attempt.interrupt() for attempt in begun],
        )

    def _refill(
        self,
        waiting: Iterator[tuple[int, EpisodeRequest | Unfinished]],
        live: dict[int, _Attempt],
        finish: Callable[[_Attempt, StopReason], None],
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
                attempt = self._open(index, request, policy_version)
                if attempt.env is None:
                    finish(attempt, StopReason.HOST_FAILURE)
                elif len(attempt.ids) >= self._limits.max_tokens:
                    finish(attempt, StopReason.MAX_TOKENS)
                else:
                    live[slot], prompts[slot] = attempt, attempt.ids.copy()
                    of = attempt.request
                    keys[slot] = episode_key(self._seed, of.task.task_id, of.attempt)
        if keys:
            self._sampler.start(keys)
        return prompts

    def _open(self, index: int, request: EpisodeRequest | Unfinished, policy_version: int) -> _Attempt:
        begun = request if isinstance(request, Unfinished) else None
        request = request.request if isinstance(request, Unfinished) else request
        attempt = _Attempt(index=index, request=request, policy_version=policy_version)
        if begun is None:
            attempt.add(self._renderer.render_prompt(request.spec))
        else:
            attempt.take_back(begun)
        attempt.await_message()
        with contextlib.suppress(EnvError, HostFailure):  # verified before: the host is to blame
            attempt.env = _replayed(self._open_env(request.spec, request.task.config_json), attempt.turns)
        return attempt

    def _exchange(
        self,
        params: Any,
        live: dict[int, _Attempt],
        temperature: float,
        finish: Callable[[_Attempt, StopReason], None],
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
                finish(attempt, outcome)
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
        stop = stop_of(message, self._sampler.stop_sequences)
        if stop is None:
            if len(message) >= self._limits.max_turn_tokens:
                return StopReason.TURN_TOO_LONG
            return StopReason.MAX_TOKENS if len(attempt.ids) >= self._limits.max_tokens else None
        try:
            return self._call(attempt, message, stop)
        except HostFailure:
            return StopReason.HOST_FAILURE

    def _call(self, attempt: _Attempt, message: list[int], stop: tuple[int, ...]) -> StopReason | list[int]:
        """Runs the tool that a finished message calls."""
        assert attempt.env is not None
        action = self._renderer.parse_response(message, attempt.request.spec)
        with jax.profiler.TraceAnnotation("tools"):
            step = attempt.env.step(action)
        told = step.error is CallError.NOT_JSON
        turn = Turn(
            message=self._renderer.decode(message),
            action=action,
            observation=step.observation,
            error=step.error,
            fault=self._renderer.fault(message, attempt.request.spec) if told else "",
        )
        attempt.note(turn)
        if step.finished:
            return StopReason.DONE
        if attempt.errors > self._limits.max_errors:
            return StopReason.TOO_MANY_ERRORS
        if len(attempt.turns) >= self._limits.max_turns:
            return StopReason.MAX_TURNS
        result = self._renderer.bridge_to_next_turn(turn.fault or turn.observation, stopped_by=stop)
        if len(attempt.ids) + len(result) >= self._limits.max_tokens:
            return StopReason.MAX_TOKENS
        attempt.add(result)
        attempt.await_message()
        return result


def _replayed(env: Env, turns: Sequence[Turn]) -> Env:
    """The environment after these turns.

    Raises:
      HostFailure: when an action gives something else than it gave; the environment is then closed.
    """
    try:
        steps = env.step_many([turn.action for turn in turns])
        if [(step.observation, step.error) for step in steps] != [(t.observation, t.error) for t in turns]:
            raise HostFailure("a replayed episode went another way")
    except HostFailure:
        env.close()
        raise
    return env
