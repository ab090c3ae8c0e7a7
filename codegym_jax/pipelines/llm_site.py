"""Where LLM synthesis gives its work out: the model is asked, guests judge, and all of it is counted."""

import asyncio
import functools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.console import bar
from codegym_jax.records import Rejection
from codegym_jax.synthesis.llm.bench import Bench
from codegym_jax.synthesis.llm.client import Client, Unanswered
from codegym_jax.synthesis.llm.funnel import Funnel
from codegym_jax.synthesis.llm.store import Completion, Request

ITEM_DEADLINE_S = 900.0  # host backstop for one environment; its fuel runs out long before
_KEPT = "all completions are kept"


class Site:
    """The model and the guests, and what is counted on the way."""

    def __init__(
        self, client: Client, bench: Bench, runner: asyncio.Runner, stages: Iterable[tuple[str, str]]
    ):
        """Begins with nothing counted.

        Args:
          client: asks the model.
          bench: travels to worker processes.
          runner: of the client's coroutines. Judging is none, so that an interrupt ends it at once.
          stages: (name, what is counted there) of each.
        """
        self.client = client
        self._bench = bench
        self._runner = runner
        self.funnel = Funnel(stages)
        self.rejections: list[Rejection] = []
        self.unfinished = 0
        """Problems that another run may carry further."""

    def close(self) -> None:
        """Ends what is under way at the endpoint."""
        self._runner.run(self.client.close())

    def ask(self, label: str, requests: Sequence[Request]) -> list[Completion | Unanswered]:
        """The completions, in the order of the requests.

        Raises:
          Stopped: after one of them, when this process is to stop; the store keeps what came.
        """
        with bar(f"asking for {label}", len(requests)) as progress:

            def answered() -> None:
                progress.advance()
                preemption.check(_KEPT)

            return self._runner.run(self.client.ask_all(requests, answered))

    def ask_groups(self, label: str, groups: list[list[Request]]) -> list[list[Completion | Unanswered]]:
        """The completions of each group."""
        answers = iter(self.ask(label, [request for group in groups for request in group]))
        return [[next(answers) for _ in group] for group in groups]

    def judge(
        self, label: str, trial: Callable[..., Any], items: Sequence[Any], subjects: Sequence[str]
    ) -> list[Any]:
        """A trial's results; where the host failed, a rejection, and the problem is unfinished.

        Raises:
          Stopped: between two of them, when this process is to stop.
        """
        if not items:
            return []
        results = []
        with bar(label, len(items)) as progress:
            for subject, result in zip(
                subjects,
                parallel_map(
                    functools.partial(trial, self._bench),
                    items,
                    workers=min(self._bench.config.workers or os.cpu_count() or 1, len(items)),
                    deadline_s=ITEM_DEADLINE_S,
                ),
                strict=True,
            ):
                preemption.check(_KEPT)
                if isinstance(result, WorkerFailure):
                    self.unfinished += 1
                    result = Rejection(reason="worker_failure", detail=result.detail, subject=subject)
                results.append(result)
                progress.advance()
        return results

    def note_unfinished(self, completions: Sequence[Completion | Unanswered]) -> bool:
        """Whether another run could have answers that this one lacks."""
        lacks = any(isinstance(one, Unanswered) and not one.is_final for one in completions)
        self.unfinished += lacks
        return lacks

    def count(self, stage: str, entered: int, refused: Sequence[Rejection]) -> None:
        """Adds some that came to a stage, and those among them that were refused there."""
        self.funnel[stage].count(entered, refused)
        self.rejections += refused
