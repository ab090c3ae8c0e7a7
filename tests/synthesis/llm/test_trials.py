"""The shared example obeys the rules that its prompts state; answers and tests are compared rightly."""

import ast
import json
from dataclasses import replace

import jinja2
import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.codegym_format import canonical_config
from codegym_jax.records import EnvSpec, Rejection
from codegym_jax.synthesis.llm import answers, drafts, prompts, trials
from codegym_jax.synthesis.llm.bench import Bench
from codegym_jax.synthesis.llm.drafts import (
    Draft,
    read_candidate,
    read_environment,
)
from codegym_jax.synthesis.llm.reading import Config, config_lines
from codegym_jax.synthesis.llm.settings import EndpointConfig, LlmConfig
from codegym_jax.synthesis.llm.store import Completion
from codegym_jax.synthesis.problems import Problem
from tests.synthesis.llm.writer import (
    ENVIRONMENT,
    SET_ENVIRONMENT,
    SET_SOLVER,
    SOLVER,
    reference,
    replaced,
)

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
    bench = Bench(SandboxConfig(), None, CONFIG)
    assert trials.load(bench, draft) == draft
    configs = config_lines(prompts.example("tests.txt"), draft.spec.class_name)
    assert all(isinstance(config, Config) for config in configs)
    tested = answers.answer(bench, (draft, [one for one in configs if isinstance(one, Config)]))
    assert [test.answer_json for test in tested.tests] == ["2", "4", "3", "6"]
    assert (tested.rejections, tested.unchecked) == ((), 0)
    candidate = read_candidate(draft, said(answer=prompts.example("solve.py.txt")))
    solved = trials.solve(bench, (tested, [candidate, draft.spec]))
    assert (solved.passed, solved.rejections, solved.verified.rejections) == (2, (), ())
    days_and_warm_ones = [(5, 3), (4, 4), (11, 6), (22, 16)]
    expected = [2 + 2 * days + 2 * warm for days, warm in days_and_warm_ones]
    assert [len(task.oracle_actions) for task in solved.verified.tasks] == expected


CONFIGS = [
    Config(
        "easy",
        canonical_config(f'{{"readings": {[10 + 7 * (one + day) % 23 for day in range(5)]}, "limit": 17}}'),
    )
    for one in range(4)
]


def written(source: str) -> Draft:
    found = read_environment(EXAMPLE, said(task=prompts.example("task.txt"), env=source))
    assert isinstance(found, Draft)
    return found


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(SandboxConfig(), None, replace(CONFIG, max_answer_chars=40))


def answered(bench: Bench, draft: Draft) -> answers.Tested:
    """With answers that need not be the problem's."""
    other = replace(draft, problem=replace(EXAMPLE, entry="elsewhere"))
    return answers.answer(bench, (other, CONFIGS))


def candidate(draft: Draft, source: str) -> EnvSpec:
    found = read_candidate(draft, said(answer=source))
    assert isinstance(found, EnvSpec)
    return found


def test_long_observations_and_long_answers_are_refused(bench: Bench):
    chatty = written(replaced(ENVIRONMENT, ('were noted"\n\n', 'were noted" + " " * 9000\n\n')))
    found = trials.solve(bench, (answered(bench, chatty), [candidate(chatty, SOLVER)]))
    assert {one.reason for one in found.verified.rejections} == {"observation_too_long"}
    assert (found.passed, found.verified.tasks, found.signature) == (1, (), {})
    wordy = written(replaced(ENVIRONMENT, reference("return '.' * 39")))
    assert [one.reason for one in answered(bench, wordy).rejections] == ["answer_too_long"] * 4


def test_an_oracle_whose_calls_hang_on_chance_gives_way_to_the_next(bench: Bench):
    draft = written(replaced(SET_ENVIRONMENT, ("return list({", "return sorted({")))
    steady = replaced(SET_SOLVER, ("answer=list(", "answer=sorted("))
    shaky = candidate(draft, replaced(steady, ("list(read)", "set(read)")))
    tested = answered(bench, draft)
    alone = trials.solve(bench, (tested, [shaky]))
    assert alone.unstable is not None and alone.unstable.reason == "depends_on_set_order"
    both = trials.solve(bench, (tested, [shaky, candidate(draft, steady)]))
    assert (both.passed, both.unstable, both.short) == (2, None, None)
    assert both.spec == candidate(draft, steady) and len(both.verified.tasks) == 4


def test_hard_tasks_that_hang_on_chance_are_left_out_one_by_one(bench: Bench):
    """The answer is listed from a set only where three readings or more are warm."""
    body = "warm = {str(one) for one in self.readings if one > self.limit}"
    draft = written(
        replaced(ENVIRONMENT, reference(f"{body}; return list(warm) if len(warm) > 2 else sorted(warm)"))
    )
    steady = replaced(
        SET_SOLVER,
        ("answer=list(set(warm))", "answer=list(set(warm)) if len(set(warm)) > 2 else sorted(set(warm))"),
    )
    other = replace(draft, problem=replace(EXAMPLE, entry="elsewhere"))
    found = trials.harden(bench, (other, candidate(draft, steady), CONFIGS))
    sizes = [len(json.loads(task.answer_json)) for task in found.tasks]
    assert max(sizes) <= 2 and len(found.tasks) + len(found.rejections) == 4
    assert {one.reason for one in found.rejections} == {"depends_on_set_order"}


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
    assert answers.same(expected, given) is alike
    assert answers.same(given, expected) is alike


@pytest.mark.parametrize(
    ("given", "written", "reason"),
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
def test_enough_tests_must_survive_and_differ(draft: Draft, given, written: int, reason: str | None):
    tests = tuple(
        answers.Test(config=Config("easy", canonical_config("{}")), answer_json=str(answer))
        for answer in given
    )
    tested = answers.Tested(draft=draft, tests=tests, rejections=(), unchecked=0)
    fault = answers.fault_of_tests(CONFIG, tested, written)
    assert (fault.reason if isinstance(fault, Rejection) else None) == reason
