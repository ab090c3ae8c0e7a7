"""What a user decides about a run of the LLM synthesizer. The API key is no setting: nothing keeps it."""

import json
import math
from dataclasses import dataclass, field
from typing import Any

from codegym_jax.config import at_least, require


@dataclass(frozen=True, kw_only=True, slots=True)
class EndpointConfig:
    """Any endpoint that speaks the OpenAI chat protocol, and how hard it may be pressed."""

    base_url: str  # such as https://api.openai.com/v1 or http://localhost:8000/v1
    model: str
    concurrency: int = 32  # requests under way at a time
    timeout_s: float = 600.0  # of one request, from its first byte to the last of its answer
    max_attempts: int = 8  # at one completion, the first included
    first_wait_s: float = 1.0  # before the second attempt; doubled before each one after
    longest_wait_s: float = 60.0  # of these waits; an endpoint's own Retry-After may be longer
    max_failures: int = 8  # completions given up in a row; the endpoint is then taken to be down
    extra_json: str = "{}"
    """Further fields of the body, such as `{"reasoning_effort": "low"}`; null leaves a field out,
    as in `{"max_tokens": null, "max_completion_tokens": 8192, "temperature": null}`, as some models want."""

    def __post_init__(self) -> None:
        expected = "an http or https URL"
        require(
            self.base_url.startswith(("http://", "https://")),
            "llm.endpoint.base_url",
            self.base_url,
            expected,
        )
        require(bool(self.model), "llm.endpoint.model", self.model, "the name of a model")
        at_least("llm.endpoint", self, concurrency=1, max_attempts=1, max_failures=1)
        at_least("llm.endpoint", self, first_wait_s=0, longest_wait_s=0)
        require(0 < self.timeout_s < math.inf, "llm.endpoint.timeout_s", self.timeout_s, "above 0")
        try:
            extra = json.loads(self.extra_json)
        except ValueError:
            extra = None
        require(isinstance(extra, dict), "llm.endpoint.extra_json", self.extra_json, "a JSON object")

    @property
    def extra(self) -> dict[str, Any]:
        """`extra_json` as a dict."""
        return json.loads(self.extra_json)


@dataclass(frozen=True, kw_only=True, slots=True)
class BudgetConfig:
    """What all the completions of a store may cost, those of earlier runs included; 0 sets no limit."""

    money: float = 0.0  # in the currency of the prices
    tokens: int = 0  # prompt and completion together
    prompt_price: float = 0.0  # per million tokens
    completion_price: float = 0.0  # per million tokens

    def __post_init__(self) -> None:
        at_least("llm.budget", self, money=0, tokens=0, prompt_price=0, completion_price=0)
        priced = self.prompt_price > 0 or self.completion_price > 0
        require(
            priced or not self.money, "llm.budget.money", self.money, "given with prices per million tokens"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class LlmConfig:
    """Problems to environments by a language model."""

    endpoint: EndpointConfig
    budget: BudgetConfig = field(default_factory=BudgetConfig)
    environment_temperature: float = 0.0
    tests_temperature: float = 0.7  # two batches are asked for; equal ones would be of no use
    candidate_temperature: float = 0.8  # candidates must differ
    max_tokens: int = 8_192  # of one completion
    candidates: int = 10  # K: `solve` functions written per environment
    hard_tests: bool = False  # whether accepted environments get a batch of hard configs too
    min_tests: int = 10  # of an environment that must survive ...
    min_test_share: float = 0.8  # ... and this share of those that were written
    max_answer_share: float = 0.8  # of the configs of an environment that have the same answer
    min_oracle_calls: int = 10  # of a task, `Done` included
    max_oracle_calls: int = 256
    max_hard_oracle_calls: int = 512  # of a task of a hard config
    max_answer_chars: int = 100  # as JSON
    problems_per_wave: int = 64  # that go through the stages together; bounds what a stop leaves half done
    workers: int = 0  # processes that run guests; 0 means one per CPU core

    def __post_init__(self) -> None:
        at_least("llm", self, max_tokens=1, candidates=1, min_tests=1, min_oracle_calls=1)
        at_least("llm", self, max_answer_chars=1, problems_per_wave=1, workers=0)
        at_least("llm", self, max_oracle_calls=self.min_oracle_calls)
        at_least("llm", self, max_hard_oracle_calls=self.max_oracle_calls)
        for name in ("environment_temperature", "tests_temperature", "candidate_temperature"):
            require(0 <= getattr(self, name) <= 2, f"llm.{name}", getattr(self, name), "in [0, 2]")
        if self.candidates > 1:
            expected = "above 0, or the candidates are all the same"
            require(
                self.candidate_temperature > 0,
                "llm.candidate_temperature",
                self.candidate_temperature,
                expected,
            )
        for name in ("min_test_share", "max_answer_share"):
            require(0 < getattr(self, name) <= 1, f"llm.{name}", getattr(self, name), "in (0, 1]")
