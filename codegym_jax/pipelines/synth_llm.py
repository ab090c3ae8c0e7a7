"""Coding problems to a task set by a language model: environments -> tests -> solvers -> tasks -> write.

Problems go through the stages in waves. In each stage the model is asked first, then what it wrote is judged
in guests. A run that was stopped, by its budget or by anything else, goes on with the same command: what was
answered before comes from the store.
"""

import asyncio
import contextlib
import functools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from codegym_jax.config import DataConfig, SandboxConfig, digest
from codegym_jax.data.splits import split_tasks
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.pipelines.console import bar, say
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.report.card import card
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.llm import drafts, prompts, trials
from codegym_jax.synthesis.llm.client import Client, Unanswered
from codegym_jax.synthesis.llm.endpoint import Endpoint
from codegym_jax.synthesis.llm.funnel import Funnel
from codegym_jax.synthesis.llm.ledger import Ledger, Usage
from codegym_jax.synthesis.llm.settings import BudgetConfig, EndpointConfig, LlmConfig
from codegym_jax.synthesis.llm.store import Completion, CompletionStore, Request
from codegym_jax.synthesis.problems import Problem, ProblemError

ITEM_DEADLINE_S = 900.0  # host backstop for one environment; its fuel runs out long before
_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
HARD_MAX_ROUND = 512  # calls that an episode of a task of a hard config may make

_STAGES = (
    ("environments", "problems"),
    ("test batches", "completions"),
    ("tests", "configs"),
    ("tested environments", "environments"),
    ("solvers", "completions"),
    ("solved environments", "environments"),
    ("tasks", "tasks"),
    ("accepted environments", "environments"),
)
_HARD_STAGES = (("hard test batches", "completions"), ("hard tasks", "configs"))


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmResult:
    """What a run came to."""

    folder: Path | None
    """The task set; None when no environment was accepted, so that none was written."""
    environments: int
    tasks: int
    unfinished: int
    """Problems on which the last word is not spoken: the same command goes on with them."""
    stopped_because: str
    """Why the model was asked no more; "" when everything was asked."""
    funnel: Funnel
    rejections: tuple[Rejection, ...]
    counts: dict[str, int]
    """Of this run's requests: `answered`, `from_store`, `truncated`, `failed_<cause>`, ..."""
    spent: Usage
    """On all completions of the store."""
    money: float
    """What that is, at the prices given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    spec: EnvSpec
    tasks: tuple[Task, ...]
    hard_tasks: tuple[Task, ...]
    features: dict[str, Any]


def most_requests(config: LlmConfig, problems: int) -> int:
    """How many completions so many problems can ask for, should every one of them get to the last stage."""
    each = 1 + drafts.TEST_BATCHES + config.candidates + (1 if config.hard_tests else 0)
    return problems * each


def synthesize_with_llm(
    problems: Sequence[Problem],
    config: LlmConfig,
    *,
    sandbox: SandboxConfig,
    data: DataConfig,
    seed: int,
    store: Path,
    out: Path,
    api_key: str,
    cache_dir: Path | None = None,
) -> LlmResult:
    """Makes a task set, asking the model only for what the store lacks.

    The task set's bytes depend on the arguments and the completions, not on the order in which these came.

    Args:
      sandbox: limits of the guests in which everything that the model wrote runs.
      data: how many environments and configs are held out.
      seed: of the splits.
      store: a folder for the completions, the funnel and the rejections.
      out: the folder of the task set; one that is there is replaced.
      api_key: sent to the endpoint and kept nowhere.
      cache_dir: where compiled guests are kept.

    Raises:
      ConfigError: when the package `openai` is missing.
      ProblemError: when two problems share an id, or an id cannot name a file.
      EndpointError: when the endpoint refuses every request.
      StoreError: when the store is damaged or in use.
    """
    _check_ids(problems)
    with asyncio.Runner() as runner:  # judging is no coroutine, so an interrupt ends it at once
        run = _Run(config, trials.Bench(sandbox, cache_dir, config), store, api_key, runner)
        run.all(problems)
    run.rejections.sort(key=lambda rejection: (rejection.subject, rejection.reason, rejection.detail))
    made = sorted(run.made, key=lambda one: one.spec.env_id)
    if made:
        _write(out, made, run, config, data, seed, len(problems))
    result = LlmResult(
        folder=out if made else None,
        environments=len(made),
        tasks=sum(len(one.tasks) + len(one.hard_tasks) for one in made),
        unfinished=run.unfinished,
        stopped_because=run.client.stopped_because if run.unfinished else "",
        funnel=run.funnel,
        rejections=tuple(run.rejections),
        counts=dict(sorted(run.client.counts.items())),
        spent=run.ledger.spent,
        money=run.ledger.money(run.ledger.spent),
    )
    _replace_text(store / "funnel.json", json.dumps(run.funnel.rows(), indent=2) + "\n")
    _replace_text(store / "rejections.jsonl", "".join(_line(rejection) for rejection in run.rejections))
    for line in summary(result):
        say(line)
    return result


def summary(result: LlmResult) -> list[str]:
    """What a run came to, for people."""
    spent = f"{result.spent.prompt_tokens} + {result.spent.completion_tokens} tokens, {result.money:.2f}"
    answered, stored = result.counts.get("answered", 0), result.counts.get("from_store", 0)
    lines = [
        *result.funnel.lines(),
        f"{result.environments} environments with {result.tasks} verified tasks",
        f"{answered} completions asked for and {stored} from the store; spent in all: {spent}",
    ]
    if result.stopped_because:
        lines.append(f"stopped: {result.stopped_because}")
    if result.unfinished:
        lines.append(f"{result.unfinished} problems are unfinished; the same command goes on with them")
    return lines


class _Run:
    """The stages, and what is counted on the way."""

    def __init__(
        self, config: LlmConfig, bench: trials.Bench, store: Path, api_key: str, runner: asyncio.Runner
    ):
        self._config = config
        self._runner = runner
        self._bench = bench
        endpoint = Endpoint(config.endpoint, api_key)
        completions = CompletionStore(store)
        spent = Usage(completions.prompt_tokens, completions.completion_tokens)
        self.ledger = Ledger(config.budget, spent)
        self.client = Client(endpoint, completions, self.ledger, config.endpoint)
        self.funnel = Funnel((*_STAGES, *(_HARD_STAGES if config.hard_tests else ())))
        self.rejections: list[Rejection] = []
        self.made: list[_Made] = []
        self.unfinished = 0

    def all(self, problems: Sequence[Problem]) -> None:
        size = self._config.problems_per_wave
        try:
            for start in range(0, len(problems), size):
                self._wave(problems[start : start + size])
        finally:
            self._runner.run(self.client.close())

    def _wave(self, problems: Sequence[Problem]) -> None:
        written = self._environments(problems)
        tested = self._tests(written)
        solved = self._solvers(tested)
        hard = self._hard_tests(solved) if self._config.hard_tests else [()] * len(solved)
        for (one, found), tasks in zip(solved, hard, strict=True):
            self._accept(one, found, tasks)

    def _environments(self, problems: Sequence[Problem]) -> list[drafts.Draft]:
        requests = [drafts.environment_request(self._config, problem) for problem in problems]
        completions = self._ask("environments", requests)
        results: list[drafts.Draft | Rejection] = []
        for problem, completion in zip(problems, completions, strict=True):
            if isinstance(completion, Unanswered):
                self._note_unfinished([completion])
                results.append(drafts.refusal(completion, problem.code_id))
            else:
                results.append(drafts.read_environment(problem, completion))
        kept = [draft for draft in results if isinstance(draft, drafts.Draft)]
        refused = [draft for draft in results if isinstance(draft, Rejection)]
        loaded = self._judge("environments load", trials.load, kept, [draft.spec.env_id for draft in kept])
        refused += [one for one in loaded if isinstance(one, Rejection)]
        self._count("environments", len(problems), refused)
        return [one for one in loaded if isinstance(one, drafts.Draft)]

    def _tests(self, written: list[drafts.Draft]) -> list[trials.Tested]:
        batches = self._ask_groups("tests", [drafts.tests_requests(self._config, draft) for draft in written])
        refused: list[Rejection] = []
        items, lines_of, whole = [], [], []
        for draft, completions in zip(written, batches, strict=True):
            configs, lines, lost = drafts.read_tests(draft, completions)
            self._count("test batches", len(completions), lost)
            if self._note_unfinished(completions):
                refused.append(lost[0])
                continue
            items.append((draft, configs))
            lines_of.append(lines)
            whole.append(draft.spec.env_id)
        tested = []
        for (_, configs), lines, result in zip(
            items, lines_of, self._judge("answers", trials.answer, items, whole), strict=True
        ):
            if isinstance(result, Rejection):
                refused.append(result)
                continue
            self._count("tests", len(configs) + len(lines), [*lines, *result.rejections])
            repeated = sum(line.reason == "duplicate" for line in lines)
            fault = trials.fault_of_tests(self._config, result, len(configs) + len(lines) - repeated)
            if fault is None:
                tested.append(result)
            else:
                refused.append(fault)
        self._count("tested environments", len(written), refused)
        return tested

    def _solvers(self, tested: list[trials.Tested]) -> list[tuple[trials.Tested, trials.Solved]]:
        answers = self._ask_groups(
            "solvers", [drafts.candidate_requests(self._config, one.draft) for one in tested]
        )
        refused: list[Rejection] = []
        items = []
        for one, completions in zip(tested, answers, strict=True):
            candidates = [drafts.read_candidate(one.draft, completion) for completion in completions]
            if self._note_unfinished(completions):
                lost = [candidate for candidate in candidates if isinstance(candidate, Rejection)]
                unanswered = [
                    drafts.refusal(completion, one.draft.spec.env_id)
                    for completion in completions
                    if isinstance(completion, Unanswered)
                ]
                self._count("solvers", len(lost), lost)
                refused.append(unanswered[0])
            else:
                items.append((one, candidates))
        names = [one.draft.spec.env_id for one, _ in items]
        solved = []
        for (one, candidates), result in zip(
            items, self._judge("solvers play", trials.solve, items, names), strict=True
        ):
            if isinstance(result, Rejection):
                refused.append(result)
                continue
            self._count("solvers", len(candidates), result.rejections)
            if result.spec is None:
                causes = Counter(rejection.reason for rejection in result.rejections).most_common(2)
                detail = ", ".join(f"{count} {reason}" for reason, count in causes)
                subject = one.draft.spec.env_id
                refused.append(Rejection(reason="no_solver_passes", detail=detail, subject=subject))
                continue
            self._count("tasks", len(one.tests), result.task_rejections)
            solved.append((one, result))
        self._count("solved environments", len(tested), refused)
        return solved

    def _hard_tests(self, solved: list[tuple[trials.Tested, trials.Solved]]) -> list[tuple[Task, ...]]:
        """The hard tasks of each; none where the model gave none."""
        known = [[test.config.config_json for test in one.tests] for one, _ in solved]
        requests = [
            drafts.hard_request(self._config, one.draft, lines)
            for (one, _), lines in zip(solved, known, strict=True)
        ]
        items, tasks = [], {}
        for index, completion in enumerate(self._ask("hard tests", requests)):
            (one, found), lines = solved[index], set(known[index])
            configs, bad, lost = drafts.read_tests(one.draft, [completion], lines)
            self._note_unfinished([completion])
            self._count("hard test batches", 1, lost)
            self._count("hard tasks", len(bad), bad)
            if configs:
                items.append((index, (one.draft, found.spec, configs)))
        results = self._judge(
            "hard tasks", trials.harden, [item for _, item in items], [item[1].env_id for _, item in items]
        )
        for (index, (_, _, configs)), result in zip(items, results, strict=True):
            if isinstance(result, trials.Solved):
                self._count("hard tasks", len(configs), result.task_rejections)
                tasks[index] = result.tasks
        return [tasks.get(index, ()) for index in range(len(solved))]

    def _accept(self, one: trials.Tested, found: trials.Solved, hard: tuple[Task, ...]) -> None:
        assert found.spec is not None
        refused = []
        if found.tasks or hard:
            self.made.append(
                _Made(
                    spec=found.spec,
                    tasks=found.tasks,
                    hard_tasks=hard,
                    features=_features(self._config, one, found),
                )
            )
        else:
            refused = [Rejection(reason="no_tasks", subject=found.spec.env_id)]
        self._count("accepted environments", 1, refused)

    def _ask(self, label: str, requests: Sequence[Request]) -> list[Completion | Unanswered]:
        with bar(f"asking for {label}", len(requests)) as progress:
            return self._runner.run(self.client.ask_all(requests, progress.advance))

    def _ask_groups(self, label: str, groups: list[list[Request]]) -> list[list[Completion | Unanswered]]:
        answers = iter(self._ask(label, [request for group in groups for request in group]))
        return [[next(answers) for _ in group] for group in groups]

    def _judge(
        self, label: str, trial: Callable[..., Any], items: Sequence[Any], subjects: Sequence[str]
    ) -> list[Any]:
        """A trial's results; where the host failed, a rejection, and the problem is unfinished."""
        results = []
        with bar(label, len(items)) as progress:
            for subject, result in zip(
                subjects,
                parallel_map(
                    functools.partial(trial, self._bench),
                    items,
                    workers=min(self._config.workers or os.cpu_count() or 1, len(items)),
                    deadline_s=ITEM_DEADLINE_S,
                )
                if items
                else (),
                strict=True,
            ):
                if isinstance(result, WorkerFailure):
                    self.unfinished += 1
                    result = Rejection(reason="worker_failure", detail=result.detail, subject=subject)
                results.append(result)
                progress.advance()
        return results

    def _note_unfinished(self, completions: Sequence[Completion | Unanswered]) -> bool:
        """Whether another run could have answers that this one lacks."""
        lacks = any(isinstance(one, Unanswered) and not one.is_final for one in completions)
        self.unfinished += lacks
        return lacks

    def _count(self, stage: str, entered: int, refused: Sequence[Rejection]) -> None:
        self.funnel[stage].count(entered, refused)
        self.rejections += refused


def _check_ids(problems: Sequence[Problem]) -> None:
    """Refuses before anything is paid for what the task set would refuse in the end."""
    for code_id, count in Counter(problem.code_id for problem in problems).items():
        if count > 1:
            raise ProblemError(f"{count} problems share the id {code_id!r}; ids must be unique")
        if not _SAFE_ID.fullmatch(code_id):
            raise ProblemError(f"problem id {code_id!r} cannot name a file: use letters, digits, . _ -")


def _features(config: LlmConfig, one: trials.Tested, found: trials.Solved) -> dict[str, Any]:
    """What is noted about an environment."""
    levels = Counter(test.config.level for test in one.tests)
    disagreements = sum(rejection.reason == "disagrees_with_solution" for rejection in one.rejections)
    return {
        "solvers": config.candidates,
        "solvers_passed": found.passed,
        "tests": dict(sorted(levels.items())),
        "tests_refused": len(one.rejections),
        "answers_unchecked": one.unchecked,
        "answers_disagreeing": disagreements,
        "oracle_calls": [len(task.oracle_actions) for task in found.tasks],
    }


def _write(
    out: Path, made: Sequence[_Made], run: _Run, config: LlmConfig, data: DataConfig, seed: int, problems: int
) -> None:
    tasks = [task for one in made for task in (*one.tasks, *one.hard_tasks)]
    hard = {task.task_id for one in made for task in one.hard_tasks}
    spec_of = {one.spec.env_id: one.spec for one in made}
    families = similar.families({one.spec.env_id: similar.signature(one.spec, one.tasks) for one in made})
    split_of = split_tasks(
        {task.task_id: task.env_id for task in tasks},
        learnable_env_ids=list(spec_of),
        seed=seed,
        # Most remain to train on, and a lone family cannot be held out.
        heldout_environments=min(data.heldout_environments, len(made) // 4)
        if len(set(families.values())) > 1
        else 0,
        validation_configs=data.validation_configs,
        test_configs=data.test_configs,
        families=families,
    )
    refused = Counter(rejection.reason for rejection in run.rejections)
    manifest = {
        "command": "codegym synth-llm",
        "digest": digest(_decisive(config), json.dumps(prompts.versions()), find_artefact().wasm_sha256),
        "guest_hash": find_artefact().wasm_sha256,
        "problems": problems,
        "unfinished_problems": run.unfinished,
        "environments": len(made),
        "tasks": len(tasks),
        "learnable": list(spec_of),
        "rejections": dict(sorted(refused.items())),
        "environments_by_origin": dict(sorted(Counter(one.spec.origin for one in made).items())),
        "funnel": run.funnel.rows(),
        "model": config.endpoint.model,
        "prompts": prompts.versions(),
    }
    write_task_set(
        out,
        [one.spec for one in made],
        tasks,
        {one.spec.env_id: one.features | {"family": families[one.spec.env_id]} for one in made},
        split_of,
        manifest,
        rows=(
            task_row(spec_of[task.env_id], task, index, HARD_MAX_ROUND if task.task_id in hard else 256)
            for index, task in enumerate(tasks)
        ),
        card=card,
    )


def _decisive(config: LlmConfig) -> LlmConfig:
    """The settings without those that change no byte of a finished task set."""
    endpoint = EndpointConfig(
        base_url="https://any", model=config.endpoint.model, extra_json=config.endpoint.extra_json
    )
    return replace(config, endpoint=endpoint, budget=BudgetConfig(), problems_per_wave=1, workers=0)


def _line(rejection: Rejection) -> str:
    row = {"reason": rejection.reason, "subject": rejection.subject, "detail": rejection.detail}
    return json.dumps(row) + "\n"


def _replace_text(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            partial.unlink()
