"""Configs that the model wrote, and their answers, checked against the problem's own solution."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.records import CallError, EnvSpec, Rejection
from codegym_jax.synthesis.llm.bench import Bench
from codegym_jax.synthesis.llm.drafts import Draft
from codegym_jax.synthesis.llm.reading import Config
from codegym_jax.synthesis.llm.settings import LlmConfig
from codegym_jax.synthesis.llm.source import signature_of

_RELATIVE_TOLERANCE = 1e-6
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
