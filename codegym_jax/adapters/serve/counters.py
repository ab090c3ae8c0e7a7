"""What `/metrics` tells, in the form of Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from codegym_jax.rollout.completions import CompletionEngine

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)


class Counters:
    """Of one server.

    Args:
      engine: whose load is told, too.

    Attributes:
      answers: requests by path and status; status 499 is a client that left.
      first_token_s: from a request's arrival to its first token.
      answer_s: to its last.
      prompt_tokens, completion_tokens: of requests that were answered.
    """

    def __init__(self, engine: CompletionEngine) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Load(engine))
        own = {"namespace": "codegym", "registry": self._registry}
        self.answers = Counter("requests", "Requests by path and status.", ("path", "status"), **own)
        self.first_token_s = Histogram(
            "first_token_seconds", "From arrival to the first token.", buckets=_SECONDS, **own
        )
        self.answer_s = Histogram(
            "answer_seconds", "From arrival to the last token.", buckets=_SECONDS, **own
        )
        self.prompt_tokens = Counter("prompt_tokens", "Tokens of prompts that were answered.", **own)
        self.completion_tokens = Counter("completion_tokens", "Tokens of answers.", **own)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self._registry)


class _Load(Collector):
    """The engine's load at the moment of asking."""

    def __init__(self, engine: CompletionEngine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        load = self._engine.load()
        yield GaugeMetricFamily("codegym_slots", "Completions that can run at once.", load.slots)
        yield GaugeMetricFamily("codegym_running", "Completions that run.", load.running)
        yield GaugeMetricFamily("codegym_waiting", "Completions that wait for a slot.", load.waiting)
        yield CounterMetricFamily("codegym_sampled_tokens", "Tokens sampled.", load.sampled_tokens)
        yield CounterMetricFamily(
            "codegym_prefilled_tokens", "Prompt tokens computed.", load.prefilled_tokens
        )
        shared = "Prompt tokens that a slot held already."
        yield CounterMetricFamily("codegym_shared_tokens", shared, load.shared_tokens)
