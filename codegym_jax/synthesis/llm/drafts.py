"""What is asked of the model at each stage, and how far its answers can be judged before anything runs."""

import ast
from dataclasses import dataclass

from codegym_jax.envs.check import verify_environment
from codegym_jax.envs.environment_source import FormatError, parse_source
from codegym_jax.records import EnvSpec, Rejection
from codegym_jax.synthesis.llm import prompts
from codegym_jax.synthesis.llm.client import Unanswered
from codegym_jax.synthesis.llm.reading import Config, Unusable, config_lines, tagged
from codegym_jax.synthesis.llm.settings import LlmConfig
from codegym_jax.synthesis.llm.source import (
    documentation_fault,
    documented_tools,
    signature_of,
    solve_fault,
    with_solver,
)
from codegym_jax.synthesis.llm.store import Completion, Request
from codegym_jax.synthesis.problems import Problem

TEST_BATCHES = 2
TESTS_PER_BATCH = 15
"""One request for thirty gives repetitions (the paper, section 3.3.2)."""
HARD_TESTS = 10
_MAX_CLASS_NAME_CHARS = 100
_NOT_YET = "oracle_reads_state"  # of a `solve` that a candidate replaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An environment that a model wrote for a problem; `spec.statement` is the task text."""

    problem: Problem
    spec: EnvSpec


def environment_request(config: LlmConfig, problem: Problem) -> Request:
    """Asks for a task text and an environment."""
    signature = signature_of(problem)
    prompt = prompts.prompt(
        prompts.ENVIRONMENT,
        statement=problem.statement.strip(),
        solution=problem.source.strip(),
        parameters=signature.names if signature else (),
    )
    return _request(config, prompt, config.environment_temperature)


def tests_requests(config: LlmConfig, draft: Draft) -> list[Request]:
    """Asks for `TEST_BATCHES` batches of configs."""
    return [
        _request(
            config,
            prompts.prompt(
                prompts.TESTS,
                task=draft.spec.statement.strip(),
                environment=draft.spec.source.strip(),
                count=TESTS_PER_BATCH,
                batch=batch,
            ),
            config.tests_temperature,
        )
        for batch in range(1, TEST_BATCHES + 1)
    ]


def candidate_requests(config: LlmConfig, draft: Draft) -> list[Request]:
    """Asks for so many solvers, written from the task and the tools' documentation alone."""
    spec = draft.spec
    prompt = prompts.prompt(
        prompts.SOLVE, task=spec.statement.strip(), tools=documented_tools(spec.source, spec.class_name)
    )
    return [
        _request(config, prompt, config.candidate_temperature, index) for index in range(config.candidates)
    ]


def hard_request(config: LlmConfig, draft: Draft, known: list[str]) -> Request:
    """Asks for hard configs.

    Args:
      known: configs that are too easy.
    """
    spec = draft.spec
    prompt = prompts.prompt(
        prompts.HARD_TESTS,
        task=spec.statement.strip(),
        environment=spec.source.strip(),
        count=HARD_TESTS,
        known=[f"{spec.class_name}@{config_json}" for config_json in known],
    )
    return _request(config, prompt, config.tests_temperature)


def refusal(unanswered: Unanswered, subject: str) -> Rejection:
    """A completion that there is none of, as a rejection."""
    return Rejection(reason=unanswered.reason, detail=unanswered.detail, subject=subject)


def read_environment(problem: Problem, completion: Completion) -> Draft | Rejection:
    """The environment in a completion, as far as its text can be judged."""

    def refused(reason: str, detail: str) -> Rejection:
        return Rejection(reason=reason, detail=detail, subject=problem.code_id)

    try:
        task = tagged(completion, "task")
        source = tagged(completion, "env")
        spec = parse_source(
            source,
            code_id=problem.code_id,
            statement=task.strip(),
            license=problem.license,
            origin=problem.origin,
        )
    except Unusable as error:
        return refused(error.reason, error.detail)
    except FormatError as error:
        return refused("bad_format" if _parses(completion) else "does_not_parse", str(error))
    except RecursionError:
        return refused("does_not_parse", "nested too deeply")
    name = spec.class_name
    if not (name.isascii() and name.isalpha() and name.endswith("Env") and len(name) < _MAX_CLASS_NAME_CHARS):
        return refused("bad_class_name", name[:200])
    faults = [fault for fault in verify_environment(spec) if fault.reason != _NOT_YET]
    if faults:
        return faults[0]
    fault = documentation_fault(source, name)
    if fault:
        return refused("undocumented_tool", fault)
    fault = solve_fault(source, name)
    return refused("bad_format", fault) if fault else Draft(problem=problem, spec=spec)


def read_tests(
    draft: Draft, completions: list[Completion | Unanswered], known: set[str] | None = None
) -> tuple[list[Config], list[Rejection], list[Rejection]]:
    """The configs in completions, without repetitions.

    Args:
      known: configs that are there already.

    Returns:
      Configs, the refused lines, and the refused completions.
    """
    seen = set(known or ())
    configs: list[Config] = []
    lines: list[Rejection] = []
    refused: list[Rejection] = []
    subject = draft.spec.env_id
    for completion in completions:
        if isinstance(completion, Unanswered):
            refused.append(refusal(completion, subject))
            continue
        try:
            text = tagged(completion, "tests")
        except Unusable as error:
            refused.append(Rejection(reason=error.reason, detail=error.detail, subject=subject))
            continue
        for line in config_lines(text, draft.spec.class_name):
            if isinstance(line, Unusable):
                lines.append(Rejection(reason=line.reason, detail=line.detail, subject=subject))
            elif line.config_json in seen:
                lines.append(Rejection(reason="duplicate", detail=line.config_json[:200], subject=subject))
            else:
                seen.add(line.config_json)
                configs.append(line)
    return configs, lines, refused


def read_candidate(draft: Draft, completion: Completion | Unanswered) -> EnvSpec | Rejection:
    """The environment with the solver in a completion as its `solve`."""
    spec = draft.spec
    if isinstance(completion, Unanswered):
        return refusal(completion, spec.env_id)
    try:
        source = with_solver(spec.source, spec.class_name, tagged(completion, "answer"))
        solved = parse_source(
            source,
            code_id=spec.code_id,
            class_name=spec.class_name,
            statement=spec.statement,
            license=spec.license,
            origin=spec.origin,
        )
    except Unusable as error:
        return Rejection(reason=error.reason, detail=error.detail, subject=spec.env_id)
    except (FormatError, RecursionError) as error:  # syntax trees can be too deep to be written down
        return Rejection(reason="does_not_parse", detail=str(error), subject=spec.env_id)
    faults = verify_environment(solved)
    return faults[0] if faults else solved


def _request(config: LlmConfig, prompt: prompts.Prompt, temperature: float, index: int = 0) -> Request:
    return Request(
        prompt=prompt.text,
        template=prompt.template,
        model=config.endpoint.model,
        temperature=temperature,
        max_tokens=config.max_tokens,
        extra_json=config.endpoint.extra_json,
        index=index,
    )


def _parses(completion: Completion) -> bool:
    try:
        ast.parse(tagged(completion, "env"))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
