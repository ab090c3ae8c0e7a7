"""Coding problems to a task set by a language model: environments -> tests -> solvers -> filters -> write.

Problems go through the stages in waves. In each stage the model is asked first, then what it wrote is judged
in guests. A run that was stopped, by its budget or by anything else, goes on with the same command: what was
answered before comes from the store.
"""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from codegym_jax.config import DataConfig, SandboxConfig, digest
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import split_all_trainable
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.llm_site import Site
from codegym_jax.pipelines.llm_stages import Accepted, Stages, stages_of
from codegym_jax.records import Rejection
from codegym_jax.report.card import card
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.llm import drafts, prompts
from codegym_jax.synthesis.llm.bench import Bench
from codegym_jax.synthesis.llm.client import Client
from codegym_jax.synthesis.llm.endpoint import Endpoint
from codegym_jax.synthesis.llm.funnel import Funnel
from codegym_jax.synthesis.llm.ledger import Ledger, Usage
from codegym_jax.synthesis.llm.settings import BudgetConfig, EndpointConfig, LlmConfig
from codegym_jax.synthesis.llm.store import CompletionStore
from codegym_jax.synthesis.problems import Problem, ProblemError

_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")
HARD_MAX_ROUND = 512  # calls that an episode of a task of a hard config may make


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
    with asyncio.Runner() as runner:
        completions = CompletionStore(store)
        ledger = Ledger(config.budget, Usage(completions.prompt_tokens, completions.completion_tokens))
        client = Client(Endpoint(config.endpoint, api_key), completions, ledger, config.endpoint)
        site = Site(client, Bench(sandbox, cache_dir, config), runner, stages_of(config))
        stages = Stages(config, site)
        size = config.problems_per_wave
        accepted = []
        try:
            for start in range(0, len(problems), size):
                accepted += stages.accepted(problems[start : start + size])
        finally:
            site.close()
    made = stages.distinct(accepted)
    site.rejections.sort(key=lambda rejection: (rejection.subject, rejection.reason, rejection.detail))
    if made:
        _write(out, made, site, config, data, seed, len(problems))
    result = LlmResult(
        folder=out if made else None,
        environments=len(made),
        tasks=sum(len(one.all_tasks) for one in made),
        unfinished=site.unfinished,
        stopped_because=client.stopped_because if site.unfinished else "",
        funnel=site.funnel,
        rejections=tuple(site.rejections),
        counts=dict(sorted(client.counts.items())),
        spent=ledger.spent,
        money=ledger.money(ledger.spent),
    )
    write_atomically(store / "funnel.json", json.dumps(site.funnel.rows(), indent=2) + "\n")
    write_atomically(store / "rejections.jsonl", "".join(_line(rejection) for rejection in site.rejections))
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


def _check_ids(problems: Sequence[Problem]) -> None:
    """Refuses before anything is paid for what the task set would refuse in the end."""
    for code_id, count in Counter(problem.code_id for problem in problems).items():
        if count > 1:
            raise ProblemError(f"{count} problems share the id {code_id!r}; ids must be unique")
        if not _SAFE_ID.fullmatch(code_id):
            raise ProblemError(f"problem id {code_id!r} cannot name a file: use letters, digits, . _ -")


def _write(
    out: Path,
    made: Sequence[Accepted],
    site: Site,
    config: LlmConfig,
    data: DataConfig,
    seed: int,
    problems: int,
) -> None:
    tasks = [task for one in made for task in one.all_tasks]
    hard = {task.task_id for one in made for task in one.hard_tasks}
    spec_of = {one.spec.env_id: one.spec for one in made}
    signatures = {one.spec.env_id: one.signature for one in made}
    families = similar.families(signatures)
    split_of = split_all_trainable(
        {task.task_id: task.env_id for task in tasks},
        seed=seed,
        heldout_environments=data.heldout_environments,
        validation_configs=data.validation_configs,
        test_configs=data.test_configs,
        families=families,
    )
    refused = Counter(rejection.reason for rejection in site.rejections)
    builds = [find_artefact(build).wasm_sha256 for build in ("guest", "second")]
    manifest = {
        "command": "codegym synth-llm",
        "digest": digest(_decisive(config), json.dumps(prompts.versions()), *builds),
        "guest_hash": builds[0],
        "problems": problems,
        "unfinished_problems": site.unfinished,
        "environments": len(made),
        "tasks": len(tasks),
        "learnable": list(spec_of),
        "rejections": dict(sorted(refused.items())),
        "environments_by_origin": dict(sorted(Counter(one.spec.origin for one in made).items())),
        "diversity": similar.diversity(signatures),
        "funnel": site.funnel.rows(),
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
