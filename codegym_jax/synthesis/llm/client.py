"""Completions, each paid for once: from the store, or asked for within the budget until the endpoint answers.

Requests are bounded in number, retried with growing, keyed waits, and refused cleanly when the money or the
endpoint is gone. What was answered is on the disk before the caller sees it.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.synthesis.llm.endpoint import Endpoint, EndpointError, RequestRefused, Transient, most
from codegym_jax.synthesis.llm.ledger import Ledger, OutOfBudget, Usage
from codegym_jax.synthesis.llm.settings import EndpointConfig
from codegym_jax.synthesis.llm.store import Completion, CompletionStore, Request


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Stands for a completion that there is none of."""

    reason: str
    """`budget`, `endpoint_failed`, `endpoint_down` or `request_refused`."""
    detail: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the same request would fare no better in another run."""
        return self.reason == "request_refused"


class Client:
    """Asks one endpoint for completions, through one store.

    Attributes:
      counts: how often what happened: `answered`, `from_store`, `truncated`, `failed_<cause>` (attempts),
        and the reasons of `Unanswered`.
    """

    def __init__(self, endpoint: Endpoint, store: CompletionStore, ledger: Ledger, config: EndpointConfig):
        self._endpoint = endpoint
        self._store = store
        self._ledger = ledger
        self._config = config
        self._room = asyncio.Semaphore(config.concurrency)
        self._pending: dict[str, asyncio.Task[Completion | Unanswered]] = {}
        self._quiet_until_s = 0.0  # by the loop's clock
        self._failures = 0
        self._down = ""
        self._closing = asyncio.Event()
        self.counts: Counter[str] = Counter()

    @property
    def stopped_because(self) -> str:
        """Why it asks nothing any more; "" while it does."""
        return self._ledger.stopped_because or self._down

    async def ask_all(
        self, requests: Sequence[Request], answered: Callable[[], None] = lambda: None
    ) -> list[Completion | Unanswered]:
        """The completions of requests, in their order.

        Args:
          answered: called after each.

        Raises:
          EndpointError: when the endpoint refuses every request.
        """

        async def one(request: Request) -> Completion | Unanswered:
            result = await self.ask(request)
            answered()
            return result

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(request)) for request in requests]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return [task.result() for task in tasks]

    async def ask(self, request: Request) -> Completion | Unanswered:
        """One completion; concurrent requests with the same key are one request.

        Raises:
          EndpointError: when the endpoint refuses every request.
        """
        stored = self._store.get(request)
        if stored is not None:
            self.counts["from_store"] += 1
            return stored
        task = self._pending.get(request.key)
        if task is None:
            task = asyncio.create_task(self._fetch(request))
            self._pending[request.key] = task
            task.add_done_callback(lambda done: self._pending.pop(request.key, None))
        # One of several that wait for it may be cancelled; the answer is paid for all the same.
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Sends nothing more; waits for what is under way, which is paid for, and keeps it."""
        self._closing.set()
        await asyncio.gather(*self._pending.values(), return_exceptions=True)
        await self._endpoint.close()
        self._store.close()

    async def _fetch(self, request: Request) -> Completion | Unanswered:
        async with self._room:
            bound = most(request)
            cost = Usage()
            try:
                await self._ledger.promise(bound)
            except OutOfBudget as error:
                return self._none("budget", str(error))
            try:
                result = await self._until_answered(request)
                if isinstance(result, Completion):
                    cost = Usage(result.prompt_tokens, result.completion_tokens)
                    self._store.put(request, result)
                    self.counts["answered"] += 1
                    self.counts["truncated"] += result.is_truncated
                return result
            except EndpointError as error:
                self._down = str(error)
                raise
            finally:
                await self._ledger.settle(bound, cost)

    async def _until_answered(self, request: Request) -> Completion | Unanswered:
        clock = asyncio.get_running_loop().time
        cause = ""
        for attempt in range(self._config.max_attempts):
            while (wait_s := self._quiet_until_s - clock()) > 0 and not self._ends:
                await self._wait(wait_s)
            if self._ends:
                return self._none("endpoint_down", self._down)
            try:
                completion = await self._endpoint.attempt(request)
                self._failures = 0
                return completion
            except RequestRefused as error:
                return self._none("request_refused", str(error))
            except Transient as error:
                cause = error.cause
                self.counts[f"failed_{cause}"] += 1
                # Whoever is told to wait waits for all: others would only be told the same.
                self._quiet_until_s = max(
                    self._quiet_until_s, clock() + error.wait_s if error.wait_s else 0.0
                )
            if attempt + 1 < self._config.max_attempts:
                await self._wait(wait_before_s(self._config, request.key, attempt + 1))
        self._failures += 1
        if self._failures >= self._config.max_failures:
            self._down = (
                f"the endpoint is down: {self._failures} completions in a row failed, at last {cause}"
            )
        return self._none("endpoint_failed", cause)

    @property
    def _ends(self) -> bool:
        return bool(self._down) or self._closing.is_set()

    async def _wait(self, seconds: float) -> None:
        """Sleeps, unless the run ends."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), seconds)

    def _none(self, reason: str, detail: str) -> Unanswered:
        self.counts[reason] += 1
        return Unanswered(reason, detail)


def wait_before_s(config: EndpointConfig, key: str, attempt: int) -> float:
    """Seconds before an attempt other than the first: doubled each time, less up to a half by (key, attempt).

    Args:
      attempt: from 1, the second one.
    """
    whole_s = min(config.first_wait_s * 2.0 ** min(attempt - 1, 60), config.longest_wait_s)
    return whole_s * (1.0 - 0.5 * stable_hash("wait", key, attempt) / 2**64)
