"""The shared example obeys the rules that its prompts state; answers and tests are compared rightly."""

import ast

import jinja2
import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.codegym_format import canonical_config
from codegym_jax.records import Rejection
from codegym_jax.synthesis.llm import drafts, prompts, trials
from codegym_jax.synthesis.llm.drafts import (
    Draft,
    read_candidate,
    read_environment,
)
from codegym_jax.synthesis.llm.reading import Config, config_lines
from codegym_jax.synthesis.llm.settings import EndpointConfig, LlmConfig
from codegym_jax.synthesis.llm.store import Completion
from codegym_jax.synthesis.problems import Problem

CONFIG = LlmConfig(endpoint=EndpointConfig(base_url="http://localhost/v1", model="m"))
EXAMPLE = Problem(
    code_id="Example_1",
    origin="own",
    license="Apache-2.0",
    statement=prompts.example("problem.txt"),
    source=prompts.example("solution.py.txt"),
    entry="longest_warm_spell",
)


def said(**parts: str) -> Completion:
    text = "".join(f"<{tag}>\n{part}</{tag}>\n" for tag, part in parts.items())
    return Completion(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1)


@pytest.fixture(scope="module")
def draft() -> Draft:
    completion = said(task=prompts.example("task.txt"), env=prompts.example("environment.py.txt"))
    found = read_environment(EXAMPLE, completion)
    assert isinstance(found, Draft)
    return found


def test_the_example_of_the_prompts_passes_what_it_teaches(draft: Draft):
    bench = trials.Bench(SandboxConfig(), None, CONFIG)
    assert trials.load(bench, draft) == draft
    configs = config_lines(prompts.example("tests.txt"), draft.spec.class_name)
    assert all(isinstance(config, Config) for config in configs)
    tested = trials.answer(bench, (draft, [one for one in configs if isinstance(one, Config)]))
    assert [test.answer_json for test in tested.tests] == ["2", "4", "3", "6"]
    assert (tested.rejections, tested.unchecked) == ((), 0)
    candidate = read_candidate(draft, said(answer=prompts.example("solve.py.txt")))
    solved = trials.solve(bench, (tested, [candidate, draft.spec]))
    assert (solved.passed, solved.rejections, solved.task_rejections) == (2, (), ())
    days_and_warm_ones = [(5, 3), (4, 4), (11, 6), (22, 16)]
    expected = [2 + 2 * days + 2 * warm for days, warm in days_and_warm_ones]
    assert [len(task.oracle_actions) for task in solved.tasks] == expected


def test_prompts_hold_what_they_are_about_and_no_more(draft: Draft):
    environment = drafts.environment_request(CONFIG, EXAMPLE).prompt
    assert "takes: readings, limit." in environment and "{{" not in environment and "{%" not in environment
    first, second = (request.prompt for request in drafts.tests_requests(CONFIG, draft))
    assert first != second and "5 easy, 5 medium and 5 hard" in first and "def get_ref_answer" in first
    requests = drafts.candidate_requests(CONFIG, draft)
    assert len(requests) == len({request.key for request in requests}) == 10
    assert len({request.prompt for request in requests}) == 1
    for hidden in ("get_ref_answer", "self.readings", "self.limit", "options.get"):
        assert hidden not in requests[0].prompt


def test_prompts_are_versioned_by_template_and_example():
    versions = prompts.versions()
    assert set(versions) == set(prompts.NAMES) and len(set(versions.values())) == len(prompts.NAMES)
    sent = prompts.prompt(prompts.SOLVE, task="t", tools="x")
    assert sent.template == f"solve@{versions['solve']}"
    with pytest.raises(jinja2.UndefinedError):
        prompts.prompt(prompts.SOLVE, task="t")
    for file in ("environment.py.txt", "solution.py.txt", "solve.py.txt"):
        ast.parse(prompts.example(file))


@pytest.mark.parametrize(
    ("expected", "given", "alike"),
    [
        (1, 1.0, True),
        (0.1 + 0.2, 0.3, True),
        (10**20, 10**20 + 1, False),
        (1.0, 1.1, False),
        (10**400, 1.5, False),
        (True, 1, False),
        (True, True, True),
        (False, True, False),
        (None, None, True),
        (None, 0, False),
        ("3", 3, False),
        ("a", "a", True),
        ([1, [2.0]], [1, [2]], True),
        ([1, 2], [1], False),
        ({"a": 1}, {"a": 1.0}, True),
        ({"a": 1}, {"b": 1}, False),
        ({}, [], False),
    ],
)
def test_answers_are_the_same_but_for_rounding(expected, given, alike):
    assert trials.same(expected, given) is alike
    assert trials.same(given, expected) is alike


@pytest.mark.parametrize(
    ("answers", "written", "reason"),
    [
        (range(10), 10, None),
        (range(9), 9, "few_tests"),
        (range(24), 30, None),
        (range(23), 30, "few_tests"),
        ([0] * 8 + [1, 2], 10, None),
        ([0] * 9 + [1], 10, "constant_answers"),
        ([], 0, "few_tests"),
    ],
)
def test_enough_tests_must_survive_and_differ(draft: Draft, answers, written: int, reason: str | None):
    tests = tuple(
        trials.Test(config=Config("easy", canonical_config("{}")), answer_json=str(answer))
        for answer in answers
    )
    tested = trials.Tested(draft=draft, tests=tests, rejections=(), unchecked=0)
    fault = trials.fault_of_tests(CONFIG, tested, written)
    assert (fault.reason if isinstance(fault, Rejection) else None) == reason
