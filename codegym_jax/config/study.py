"""A study: several ways to learn from the same environments for the same budget, with several seeds.

A study is a Python file with a `study()` that returns a `StudyConfig`; its docstring is the lab record.
"""

import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from codegym_jax.config.errors import at_least, require
from codegym_jax.config.parse import load_made
from codegym_jax.config.run import RunConfig

SFT, DISTILL, RL = METHODS = ("sft", "distill", "rl")
"""After the warm start: more supervised learning, on the oracle's episodes of all training tasks, or on those
of the warm start that earned the reward; or reinforcement learning."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolConfig:
    """Which environments of the task set the policy is asked to learn, and what is held out of them.

    An environment is taken that has enough tasks that the policy can hold: as the oracle plays them, they
    have few calls, and as the policy's style writes them, few characters. Where `copied_only`, the oracle
    computes nothing in them by itself, either: whatever it hands to a tool, or in, it has seen, or is a
    constant, or one more or less than the last it saw.
    """

    max_calls: int = 12  # of a task's oracle, `Done` included
    max_chars: int = 400  # of the oracle's episode as text, prompt included
    copied_only: bool = False
    tasks_per_environment: int = 8  # that an environment must have
    max_tasks_per_environment: int = 8  # so many of each are used, where there are
    test_configs: int = 2  # of these, never trained on
    heldout_environments: int = 32  # never trained on, with their families

    def __post_init__(self) -> None:
        at_least("pool", self, max_calls=1, max_chars=1, tasks_per_environment=2, test_configs=1)
        at_least("pool", self, heldout_environments=1, max_tasks_per_environment=self.tasks_per_environment)
        below = self.tasks_per_environment
        most = f"below pool.tasks_per_environment={below}"
        require(self.test_configs < below, "pool.test_configs", self.test_configs, most)


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """As `codegym filter`: only training tasks within bounds of the warm start's pass rate are kept."""

    tries: int = 4
    min_pass_rate: float = 0.0
    max_pass_rate: float = 0.25
    is_charged: bool = True  # whether the tries are paid for out of the budget

    def __post_init__(self) -> None:
        at_least("filter", self, tries=1)
        low = self.min_pass_rate
        require(0 <= low <= 1, "filter.min_pass_rate", low, "in [0, 1]")
        require(low <= self.max_pass_rate <= 1, "filter.max_pass_rate", self.max_pass_rate, f"in [{low}, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One way to learn. All arms of a seed on the same environments begin with one warm start."""

    method: str  # one of METHODS
    environments: int  # to train on, from the warm start on; a smaller choice is part of a larger one
    about: str  # in a few words, for the page
    keep: FilterConfig | None = None  # None: all training tasks

    def __post_init__(self) -> None:
        require(self.method in METHODS, "arm.method", self.method, f"one of {', '.join(METHODS)}")
        at_least("arm", self, environments=1)
        filters = self.keep is None or self.method == RL
        require(filters, "arm.keep", self.keep, f"None with method {self.method!r}: only {RL!r} filters")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What a part of the page asks: arms, the first of which the others are held against."""

    title: str
    arms: tuple[str, ...]
    by_environments: bool = False  # drawn over the number of training environments

    def __post_init__(self) -> None:
        require(len(self.arms) >= 2, "question.arms", self.arms, "at least two arms")


@dataclass(frozen=True, kw_only=True, slots=True)
class SuitesConfig:
    """Suites that every policy is played on, as `codegym eval --suite`; needs the style `hermes`."""

    names: str = ""  # NAME[:SUBSET][,...]; empty: none
    runs: int = 1
    limit: int = 50  # tasks of each subset
    max_turns: int = 60
    context_tokens: int = 4096
    message_tokens: int = 256
    slots: int = 8

    def __post_init__(self) -> None:
        at_least("suites", self, runs=1, limit=1, max_turns=1, context_tokens=2, message_tokens=1, slots=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyConfig:
    """One study."""

    title: str
    base: RunConfig  # of all runs; `sft` is the warm start's, `train.steps` the most that RL may take
    pool: PoolConfig
    budget: int  # policy tokens after the warm start: a sampled one is 1, one learned from 3
    distill_steps: int  # steps of sampling before `distill` learns
    arms: Mapping[str, Arm]
    questions: tuple[Question, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    suites: SuitesConfig = field(default_factory=SuitesConfig)

    def __post_init__(self) -> None:
        at_least("study", self, budget=1, distill_steps=1)
        require(bool(self.arms), "study.arms", dict(self.arms), "at least one arm")
        for question in self.questions:
            unknown = [name for name in question.arms if name not in self.arms]
            require(not unknown, "question.arms", unknown, f"among {', '.join(self.arms)}")
        for name in self.arms:
            plain = name.replace("-", "").replace("_", "").isalnum() and not name.startswith("warm-")
            require(plain, "study.arms", name, "names of letters, digits, - and _, no warm start's")
        is_chat = not self.suites.names or self.base.style == "hermes"
        require(is_chat, "suites.names", self.suites.names, "empty unless base.style is 'hermes'")


def load_study(path: str | pathlib.Path) -> StudyConfig:
    """Runs the study file at `path` and returns what its `study()` returns.

    Raises:
      ConfigError: when there is no such file, it fails, or it has no `study()` returning a `StudyConfig`.
    """
    return load_made(path, "study", StudyConfig)
