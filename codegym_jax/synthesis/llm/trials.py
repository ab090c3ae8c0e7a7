"""Environments and solvers that the model wrote, put to the test in guests, in worker processes."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from codegym_jax.envs.action import DONE
from codegym_jax.envs.check import verify_task
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.filters.shortcuts import shortcut
from codegym_jax.synthesis.llm.answers import Test, Tested, answer
from codegym_jax.synthesis.llm.bench import Bench
from codegym_jax.synthesis.llm.drafts import Draft
from codegym_jax.synthesis.llm.reading import Config

_DEFAULT_CONFIG = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What configs are good for with an oracle."""

    tasks: tuple[Task, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    """Of configs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The candidates' fates, and what the first good one of them was good for."""

    spec: EnvSpec | None
    """With its oracle; None when no candidate passed."""
    passed: int
    """Candidates that passed every test."""
    rejections: tuple[Rejection, ...]
    """Of candidates."""
    verified: Verified = field(default_factory=Verified)
    unstable: Rejection | None = None
    """Why its tasks cannot be relied upon."""
    short: Rejection | None = None
    """Why its tasks can be solved without solving them."""
    signature: similar.Signature = field(default_factory=dict)
    """By which it is compared with others; empty where it was refused."""


def load(bench: Bench, draft: Draft) -> Draft | Rejection:
    """Loads an environment with the config that it takes for granted."""
    try:
        Env(bench.sandbox, draft.spec, _DEFAULT_CONFIG).close()
    except EnvError as error:
        return Rejection(reason=error.reason, detail=error.detail, subject=draft.spec.env_id)
    return draft


def solve(bench: Bench, item: tuple[Tested, Sequence[EnvSpec | Rejection]]) -> Solved:
    """Has every candidate play every test, makes tasks of the tests, and filters the environment.

    The first candidate that passes all tests and whose calls hang on no chance becomes the oracle.
    """
    tested, candidates = item
    passing: list[EnvSpec] = []
    rejections: list[Rejection] = []
    for one in candidates:
        fate = one if isinstance(one, Rejection) else _first_failure(bench, one, tested.tests)
        if fate is not None:
            rejections.append(fate)
        elif isinstance(one, EnvSpec):
            passing.append(one)
    solved = Solved(spec=None, passed=len(passing), rejections=tuple(rejections))
    for spec in passing:
        verified = _verified(bench, spec, tested.tests, bench.config.max_oracle_calls)
        unstable = bench.determinism.unstable(spec, verified.tasks)
        solved = replace(solved, spec=spec, verified=verified, unstable=unstable)
        if unstable is None:
            return _compared(bench, solved, spec)
    return solved


def _compared(bench: Bench, solved: Solved, spec: EnvSpec) -> Solved:
    """With what its tasks show: a shortcut, or what it is compared with others by."""
    tasks = solved.verified.tasks
    if not tasks:
        return solved
    short = shortcut(bench.sandbox, spec, tasks)
    return (
        replace(solved, short=short) if short else replace(solved, signature=similar.signature(spec, tasks))
    )


def harden(bench: Bench, item: tuple[Draft, EnvSpec, Sequence[Config]]) -> Verified:
    """Tasks of hard configs, for an environment that has its oracle."""
    draft, spec, configs = item
    tested = answer(bench, (draft, configs))
    verified = _verified(bench, spec, tested.tests, bench.config.max_hard_oracle_calls)
    fates = [bench.determinism.unstable(spec, [task]) for task in verified.tasks]
    return Verified(
        tasks=tuple(task for task, fate in zip(verified.tasks, fates, strict=True) if fate is None),
        rejections=(*tested.rejections, *verified.rejections, *(fate for fate in fates if fate)),
    )


def _first_failure(bench: Bench, spec: EnvSpec, tests: Sequence[Test]) -> Rejection | None:
    """Why a candidate fails, at the first test that it does."""
    for number, test in enumerate(tests, start=1):
        reason, detail = _failure(bench, spec, test)
        if reason:
            where = f"test {number} of {len(tests)}"
            return Rejection(reason=reason, detail=f"{where}: {detail}", subject=spec.env_id)
    return None


def _failure(bench: Bench, spec: EnvSpec, test: Test) -> tuple[str, str]:
    """(reason, detail) of a candidate's failure at a test; empty when it passes."""
    try:
        env = Env(bench.sandbox, spec, test.config.config_json)
        try:
            actions, _ = env.run_oracle(bench.config.max_hard_oracle_calls)
        finally:
            env.close()
    except EnvError as error:
        return error.reason, error.detail
    done = [index for index, action in enumerate(actions) if _tool(action) == DONE]
    if done != [len(actions) - 1]:
        # A second one could correct the first by the verdict, which names the right answer.
        return "misuses_done", f"{len(done)} calls of {DONE} among {len(actions)}"
    if env.reward != 1.0:
        return "wrong_answer", env.verdict[:200]
    return "", ""


def _tool(action: str) -> object:
    try:
        call = json.loads(action)
    except (ValueError, RecursionError):
        return None
    return call.get("name") if isinstance(call, dict) else None


def _verified(bench: Bench, spec: EnvSpec, tests: Sequence[Test], max_calls: int) -> Verified:
    tasks, rejections = [], []
    for test in tests:
        result = verify_task(
            bench.sandbox,
            spec,
            test.config.config_json,
            min_calls=bench.config.min_oracle_calls,
            max_calls=max_calls,
            max_answer_chars=bench.config.max_answer_chars,
        )
        (tasks if isinstance(result, Task) else rejections).append(result)
    return Verified(tasks=tuple(tasks), rejections=tuple(rejections))
