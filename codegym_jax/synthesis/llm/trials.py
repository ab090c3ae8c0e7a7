"""What the model wrote, put to the test in guests; what takes a bench runs in worker processes."""

import functools
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.action import DONE
from codegym_jax.envs.check import verify_task
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec, Rejection, Task
from codegym_jax.synthesis.llm.drafts import Draft
from codegym_jax.synthesis.llm.reading import Config
from codegym_jax.synthesis.llm.settings import LlmConfig
from codegym_jax.synthesis.llm.source import signature_of

_RELATIVE_TOLERANCE = 1e-6
_DEFAULT_CONFIG = "{}"
_SOLUTION = """
import json

def call(argument):
    given = json.loads(argument)
    module = {"__name__": "solution"}
    try:
        exec(compile(given["source"], "<solution>", "exec"), module)
        function = module[given["entry"]]
    except Exception as error:
        return json.dumps({"cannot": f"{type(error).__name__}: {error}"[:200]})
    result = function(**given["config"])
    try:
        return json.dumps({"answer": result})
    except (TypeError, ValueError) as error:
        return json.dumps({"cannot": str(error)[:200]})
"""


@dataclass(frozen=True, slots=True)
class Bench:
    """What every trial needs."""

    limits: SandboxConfig
    cache_dir: Path | None
    config: LlmConfig

    @property
    def sandbox(self) -> Sandbox:
        """One per process."""
        return _sandbox(self.limits, self.cache_dir)


@functools.cache
def _sandbox(limits: SandboxConfig, cache_dir: Path | None) -> Sandbox:
    return Sandbox(limits, cache_dir)


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """A config with its answer."""

    __test__ = False  # no test of pytest's

    config: Config
    answer_json: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """The configs of an environment that have an answer."""

    draft: Draft
    tests: tuple[Test, ...]
    rejections: tuple[Rejection, ...]
    unchecked: int
    """How many of the answers the problem's own solution could not be asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Solved:
    """The candidates' fates, and what the first that passed every test was good for."""

    spec: EnvSpec | None
    """With its oracle; None when no candidate passed."""
    passed: int
    """Candidates that passed every test."""
    rejections: tuple[Rejection, ...]
    """Of candidates."""
    tasks: tuple[Task, ...] = ()
    task_rejections: tuple[Rejection, ...] = ()


def load(bench: Bench, draft: Draft) -> Draft | Rejection:
    """Loads an environment with the config that it takes for granted."""
    try:
        Env(bench.sandbox, draft.spec, _DEFAULT_CONFIG).close()
    except EnvError as error:
        return Rejection(reason=error.reason, detail=error.detail, subject=draft.spec.env_id)
    return draft


def answer(bench: Bench, item: tuple[Draft, Sequence[Config]]) -> Tested:
    """Finds the answer of every config, and asks the problem's own solution for it too where that runs."""
    draft, configs = item
    signature = signature_of(draft.problem)
    tests, rejections, unchecked = [], [], 0
    for config in configs:
        subject = f"{draft.spec.env_id}@{config.config_json}"
        try:
            if signature and not signature.takes(set(json.loads(config.config_json))):
                wanted = ", ".join(signature.names)
                raise EnvError("bad_config_keys", f"the solution takes {wanted}")
            answer_json = _answer(bench, draft.spec, config.config_json)
            if len(answer_json) > bench.config.max_answer_chars:
                raise EnvError("answer_too_long", f"{len(answer_json)} characters")
            expected = _solution_answer(bench, draft, config.config_json) if signature else None
            if expected is None:
                unchecked += 1
            elif not same(json.loads(expected), json.loads(answer_json)):
                detail = f"the solution answers {expected[:200]}, the environment {answer_json}"
                raise EnvError("disagrees_with_solution", detail)
            tests.append(Test(config=config, answer_json=answer_json))
        except EnvError as error:
            rejections.append(Rejection(reason=error.reason, detail=error.detail, subject=subject))
    return Tested(draft=draft, tests=tuple(tests), rejections=tuple(rejections), unchecked=unchecked)


def solve(bench: Bench, item: tuple[Tested, Sequence[EnvSpec | Rejection]]) -> Solved:
    """Has every candidate play every test; the first that passes all becomes the oracle of the tasks."""
    tested, candidates = item
    fates = [
        one if isinstance(one, Rejection) else _first_failure(bench, one, tested.tests) for one in candidates
    ]
    passing = [one for one, fate in zip(candidates, fates, strict=True) if fate is None]
    rejections = tuple(fate for fate in fates if fate is not None)
    if not passing:
        return Solved(spec=None, passed=0, rejections=rejections)
    spec = passing[0]
    assert isinstance(spec, EnvSpec)
    tasks, refused = _verified(bench, spec, tested.tests, bench.config.max_oracle_calls)
    return Solved(spec=spec, passed=len(passing), rejections=rejections, tasks=tasks, task_rejections=refused)


def harden(bench: Bench, item: tuple[Draft, EnvSpec, Sequence[Config]]) -> Solved:
    """Tasks of hard configs, for an environment that has its oracle."""
    draft, spec, configs = item
    tested = answer(bench, (draft, configs))
    tasks, refused = _verified(bench, spec, tested.tests, bench.config.max_hard_oracle_calls)
    return Solved(
        spec=spec, passed=1, rejections=(), tasks=tasks, task_rejections=(*tested.rejections, *refused)
    )


def fault_of_tests(config: LlmConfig, tested: Tested, written: int) -> Rejection | None:
    """Why an environment's tests are too few or too alike to trust it.

    Args:
      written: configs that the model wrote, the refused ones included.
    """
    kept = len(tested.tests)
    subject = tested.draft.spec.env_id
    if kept < config.min_tests or kept < config.min_test_share * written:
        causes = Counter(rejection.reason for rejection in tested.rejections).most_common(2)
        detail = f"{kept} of {written} tests survive; " + ", ".join(f"{n} {reason}" for reason, n in causes)
        return Rejection(reason="few_tests", detail=detail, subject=subject)
    commonest, count = Counter(test.answer_json for test in tested.tests).most_common(1)[0]
    if count > config.max_answer_share * kept:
        detail = f"{commonest} answers {count} of {kept} configs"
        return Rejection(reason="constant_answers", detail=detail, subject=subject)
    return None


def same(expected: Any, given: Any) -> bool:
    """Whether two JSON values say the same: numbers but for rounding, everything else exactly."""
    if isinstance(expected, bool) or isinstance(given, bool):
        return expected is given
    if isinstance(expected, int | float) and isinstance(given, int | float):
        if isinstance(expected, int) and isinstance(given, int):
            return expected == given
        try:
            return math.isclose(expected, given, rel_tol=_RELATIVE_TOLERANCE, abs_tol=_RELATIVE_TOLERANCE)
        except OverflowError:  # an integer beyond every float
            return False
    if isinstance(expected, list) and isinstance(given, list):
        return len(expected) == len(given) and all(map(same, expected, given))
    if isinstance(expected, dict) and isinstance(given, dict):
        return expected.keys() == given.keys() and all(same(expected[key], given[key]) for key in expected)
    return type(expected) is type(given) and expected == given


def _answer(bench: Bench, spec: EnvSpec, config_json: str) -> str:
    env = Env(bench.sandbox, spec, config_json)
    try:
        return env.reference_answer_json()
    finally:
        env.close()


def _solution_answer(bench: Bench, draft: Draft, config_json: str) -> str | None:
    """What the problem's own solution answers, as JSON; None where it does not run in a guest.

    Raises:
      EnvError: when it raises or runs into a limit, so that the config is none of the problem's.
    """
    problem = draft.problem
    config = json.loads(config_json)
    argument = json.dumps({"source": problem.source, "entry": problem.entry, "config": config})
    guest = bench.sandbox.guest()
    try:
        result = json.loads(guest.run(_SOLUTION, "call", argument))
    except GuestTrap as trap:
        if trap.error is CallError.FORBIDDEN:
            return None
        raise EnvError(f"solution_{trap.error.value}", trap.detail) from trap
    except GuestError as error:
        raise EnvError("solution_raises", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise EnvError("solution_raises", f"no JSON: {error}") from error
    finally:
        guest.close()
    if not isinstance(result, dict) or "answer" not in result:
        return None
    return json.dumps(result["answer"])


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


def _verified(
    bench: Bench, spec: EnvSpec, tests: Sequence[Test], max_calls: int
) -> tuple[tuple[Task, ...], tuple[Rejection, ...]]:
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
    return tuple(tasks), tuple(rejections)
