"""Completions of independent prompts, batched as they come: for `codegym serve`, and for suites of tests.

One thread drives the device. Between two calls of `decode`, each of a few tokens, it lets go of what ended
or was cancelled, and gives the slots to what waits, in the order of arrival: prompts are read one after the
other, long ones in pieces, so that those who are being answered go on meanwhile. A completion is a function
of its request alone: its random stream is its own, and its row feels no other.

A prompt that begins as one that a slot holds, such as the next turn of a conversation, is computed from where
they part, in whole chunks of `prefill`. What a slot sampled itself counts as new: `decode` computes the same
states to a rounding only, so that an answer would depend on which slot is free.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt32

from codegym_jax.rollout.sampling import Truncation
from codegym_jax.rollout.token_sampler import Sampled

STOP, LENGTH = "stop", "length"
"""Why a completion ended: with a stop sequence, or for want of room."""

_READ_TOKENS = 512
"""Of prompts, between two looks at who else is to go on."""

OnTokens = Callable[[Sequence[int], Sequence[float]], None]
"""Gets new tokens and their log-probabilities under the policy, in the engine's thread: it must be quick."""


class EngineClosed(RuntimeError):
    """The engine was closed, or its device failed; the cause says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionRequest:
    """A prompt, and how to go on from it.

    Raises:
      ValueError: when a setting has a value that means nothing; names it.
    """

    token_ids: tuple[int, ...]
    """The whole prompt."""
    max_tokens: int
    key: UInt32[np.ndarray, " 4"]
    """Names the random stream; `token_sampler.episode_key` makes one."""
    temperature: float = 1.0
    """0 is greedy."""
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    """See `sampling.Truncation` on these three."""
    stop: tuple[tuple[int, ...], ...] = ()
    """Sequences of tokens that end it, beside those of the sampler."""

    def __post_init__(self) -> None:
        if not self.token_ids:
            raise ValueError("a prompt must have a token")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if not (math.isfinite(self.temperature) and self.temperature >= 0.0):
            raise ValueError(f"temperature must be a number from 0 on, got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")
        if self.top_k < 0:
            raise ValueError(f"top_k must be at least 0, got {self.top_k}")
        if not 0.0 <= self.min_p <= 1.0:
            raise ValueError(f"min_p must be from 0 to 1, got {self.min_p}")
        if not all(self.stop):
            raise ValueError("a stop sequence must have a token")


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the policy wrote."""

    token_ids: tuple[int, ...]
    """With the stop sequence where one ended it."""
    sampler_logp: tuple[float, ...]
    """Under the distribution that was sampled: after temperature and truncation."""
    policy_logp: tuple[float, ...]
    """Under the policy as it is."""
    finish_reason: str
    """`STOP` or `LENGTH`."""


@runtime_checkable
class SlotSampler(Protocol):
    """What an engine asks of a `generate.Sampler`."""

    slots: int
    max_tokens: int
    max_message_tokens: int
    extend_width: int
    vocabulary_size: int
    stop_sequences: tuple[tuple[int, ...], ...]
    prefilled_tokens: int
    shared_tokens: int

    def choose(self, prompt: Sequence[int], free: Sequence[int]) -> int: ...

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None: ...

    def appending(
        self, params: Any, tokens_of: Mapping[int, Sequence[int]]
    ) -> Generator[int, None, None]: ...

    def decode(
        self,
        params: Any,
        budget_B: Int[np.ndarray, " B"],
        temperature: float | Float[np.ndarray, " B"],
        truncation: Truncation | None,
    ) -> Sampled: ...


class EngineLoad(NamedTuple):
    """How busy an engine is, and what it has done since it was made."""

    slots: int
    running: int
    waiting: int
    prefilled_tokens: int
    """Of prompts, computed."""
    shared_tokens: int
    """Of prompts, taken from a slot that held them."""
    sampled_tokens: int


@dataclass(slots=True, eq=False)
class _Job:
    request: CompletionRequest
    future: Future[Completion]
    on_tokens: OnTokens | None
    most: int
    """Tokens that it may have."""
    token_ids: list[int] = field(default_factory=list)
    sampler_logp: list[float] = field(default_factory=list)
    policy_logp: list[float] = field(default_factory=list)


class _Reading(NamedTuple):
    """A prompt that is being read."""

    slot: int
    job: _Job
    pieces: Generator[int, None, None]
    """Reads on; gives the tokens of each piece."""


class CompletionEngine:
    """Owns a sampler's slots.

    Args:
      sampler: nobody else may use it. Its `max_message_tokens` are what one `decode` gives, and so how many
        tokens a stream gets at a time; its own truncation is not used.
      params: of the policy, as the sampler takes them.
    """

    def __init__(self, sampler: SlotSampler, params: Any) -> None:
        self._sampler, self._params = sampler, params
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._running: dict[int, _Job] = {}
        """Those whose prompt was read."""
        self._reading: _Reading | None = None
        self._free = list(range(sampler.slots))
        """In the order in which they became free."""
        self._sampled_tokens = 0
        self._ended: BaseException | None = None
        self._thread = threading.Thread(target=self._drive, name="completions", daemon=True)
        self._thread.start()

    def __enter__(self) -> "CompletionEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def context_tokens(self) -> int:
        """What prompt and completion may have together."""
        return self._sampler.max_tokens

    @property
    def healthy(self) -> bool:
        """Whether it takes requests."""
        return self._ended is None

    def submit(self, request: CompletionRequest, on_tokens: OnTokens | None = None) -> Future[Completion]:
        """Puts a request behind those that wait; from any thread.

        Args:
          request: see there. A completion also ends where the context is full.
          on_tokens: is told of tokens as they come. What it raises becomes the future's.

        Returns:
          A future that can be cancelled until it is done; its slot is then soon another's.

        Raises:
          ValueError: when the prompt leaves no room in the context, or has an id that the policy lacks.
          EngineClosed: when the engine takes nothing any more.
        """
        length = len(request.token_ids)
        if length >= self.context_tokens:
            raise ValueError(
                f"the prompt has {length} tokens, and the context of {self.context_tokens} must hold it"
                " and an answer"
            )
        unknown = [one for one in request.token_ids if not 0 <= one < self._sampler.vocabulary_size]
        if unknown:
            raise ValueError(f"the policy has ids 0 to {self._sampler.vocabulary_size - 1}, not {unknown[0]}")
        most = min(request.max_tokens, self.context_tokens - length)
        job = _Job(request, Future(), on_tokens, most)
        with self._changed:
            if self._ended is not None:
                raise EngineClosed(str(self._ended)) from self._ended
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """Completes requests, in their order.

        Raises:
          ValueError, EngineClosed: as `submit`, and when the device fails meanwhile.
        """
        futures = [self.submit(request) for request in requests]
        return [future.result() for future in futures]

    def warm_up(self) -> None:
        """Compiles all that it will ever need: for short prompts and long ones."""
        lengths = (1, min(self._sampler.extend_width, self.context_tokens - 2) + 1)
        key = np.zeros(4, np.uint32)
        self.complete([CompletionRequest(token_ids=(0,) * n, max_tokens=1, key=key) for n in lengths])

    def load(self) -> EngineLoad:
        """How busy it is."""
        with self._changed:
            return EngineLoad(
                slots=self._sampler.slots,
                running=len(self._running) + (self._reading is not None),
                waiting=len(self._waiting),
                prefilled_tokens=self._sampler.prefilled_tokens,
                shared_tokens=self._sampler.shared_tokens,
                sampled_tokens=self._sampled_tokens,
            )

    def close(self) -> None:
        """Cancels what is not done, and ends the thread."""
        self._end(EngineClosed("the engine was closed"))
        self._thread.join()
        for job in self._drain():
            job.future.cancel()
            job.future.set_running_or_notify_cancel()

    def _end(self, cause: BaseException) -> None:
        with self._changed:
            self._ended = self._ended or cause
            self._changed.notify()

    def _drain(self) -> list[_Job]:
        with self._changed:
            reading = [] if self._reading is None else [self._reading.job]
            jobs = [*self._running.values(), *reading, *self._waiting]
            self._running.clear()
            self._reading = None
            self._waiting.clear()
        return jobs

    def _drive(self) -> None:
        try:
            while self._wait_for_work():
                self._let_go()
                self._read()
                if self._running:
                    self._advance()
        except Exception as error:  # the boundary: whoever waits for an answer is told
            self._end(error)
            for job in self._drain():
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)

    def _wait_for_work(self) -> bool:
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._reading or self._running or self._ended is not None
            )
            return self._ended is None

    def _let_go(self) -> None:
        """Frees the slots of what was cancelled, and forgets what was cancelled while it waited."""
        reading = self._reading
        if reading is not None and reading.job.future.cancelled():
            reading.pieces.close()
            with self._changed:
                self._reading = None
                self._free.append(reading.slot)
            reading.job.future.set_running_or_notify_cancel()
        for slot, job in list(self._running.items()):
            if job.future.cancelled():
                self._release(slot)
                job.future.set_running_or_notify_cancel()
        with self._changed:
            cancelled = [job for job in self._waiting if job.future.cancelled()]
            for job in cancelled:
                self._waiting.remove(job)
                job.future.set_running_or_notify_cancel()

    def _release(self, slot: int) -> None:
        with self._changed:
            del self._running[slot]
            self._free.append(slot)

    def _read(self) -> None:
        """Reads on in prompts, and admits others when they are read, up to about `_READ_TOKENS`."""
        tokens = 0
        while tokens < _READ_TOKENS:
            reading = self._reading or self._admit()
            if reading is None:
                return
            piece = next(reading.pieces, None)
            if piece is None:
                with self._changed:
                    self._running[reading.slot], self._reading = reading.job, None
            else:
                tokens += piece

    def _admit(self) -> _Reading | None:
        """Gives a free slot to who waits longest."""
        with self._changed:
            if not (self._free and self._waiting):
                return None
            job = self._waiting.popleft()
            prompt = job.request.token_ids
            slot = self._sampler.choose(prompt, self._free)
            self._free.remove(slot)
            self._sampler.start({slot: job.request.key})
            self._reading = _Reading(slot, job, self._sampler.appending(self._params, {slot: prompt}))
            return self._reading

    def _advance(self) -> None:
        """Some tokens for everyone; just one where somebody waits for the first."""
        sampler, slots = self._sampler, self._sampler.slots
        budget_B, top_k_B = np.zeros(slots, np.int32), np.zeros(slots, np.int32)
        temperature_B, min_p_B = np.zeros(slots, np.float32), np.zeros(slots, np.float32)
        top_p_B = np.ones(slots, np.float32)
        anew = any(not job.token_ids for job in self._running.values())
        for slot, job in self._running.items():
            request = job.request
            left = job.most - len(job.token_ids)
            budget_B[slot] = min(1 if anew else sampler.max_message_tokens, left)
            temperature_B[slot], min_p_B[slot] = request.temperature, request.min_p
            top_k_B[slot], top_p_B[slot] = request.top_k, request.top_p
        truncation = Truncation(top_k=top_k_B, top_p=top_p_B, min_p=min_p_B)
        out = sampler.decode(self._params, budget_B, temperature_B, truncation)
        for slot, job in list(self._running.items()):
            count = int(out.count_B[slot])
            new = (out.tokens_BT, out.sampler_logp_BT, out.policy_logp_BT)
            if self._deliver(job, *(array[slot, :count].tolist() for array in new)):
                self._release(slot)

    def _deliver(
        self, job: _Job, ids: list[int], sampler_logp: list[float], policy_logp: list[float]
    ) -> bool:
        """Adds new tokens up to where the completion ends; returns whether it has ended, or was given up."""
        before, request = len(job.token_ids), job.request
        job.token_ids += ids
        end = _first_end(job.token_ids, before, (*self._sampler.stop_sequences, *request.stop))
        kept = len(ids) if end is None else end - before
        del job.token_ids[before + kept :]
        job.sampler_logp += sampler_logp[:kept]
        job.policy_logp += policy_logp[:kept]
        self._sampled_tokens += kept
        finished = end is not None or len(job.token_ids) >= job.most
        if job.on_tokens is not None and not job.future.cancelled():
            try:
                job.on_tokens(ids[:kept], policy_logp[:kept])
            except Exception as error:  # the boundary: the fault of one request is no other's
                if job.future.set_running_or_notify_cancel():
                    job.future.set_exception(error)
                return True
        if finished and job.future.set_running_or_notify_cancel():
            job.future.set_result(
                Completion(
                    token_ids=tuple(job.token_ids),
                    sampler_logp=tuple(job.sampler_logp),
                    policy_logp=tuple(job.policy_logp),
                    finish_reason=LENGTH if end is None else STOP,
                )
            )
        return finished


def _first_end(message: Sequence[int], begin: int, sequences: Sequence[Sequence[int]]) -> int | None:
    """The first length above `begin` at which a message ends with one of the sequences."""
    for end in range(begin + 1, len(message) + 1):
        for sequence in sequences:
            if tuple(message[max(0, end - len(sequence)) : end]) == tuple(sequence):
                return end
    return None
