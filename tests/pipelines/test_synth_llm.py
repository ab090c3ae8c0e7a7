"""The LLM path from problems to a task set, against an endpoint that serves what a model might write."""

import json
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from codegym_jax.config import DataConfig, RunConfig, SandboxConfig, SftConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.check import replay
from codegym_jax.envs.codegym_format import read_rows
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.demonstrations import demonstrations
from codegym_jax.pipelines.experiment import prepare
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.synth_llm import LlmResult, synthesize_with_llm
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Rejection
from codegym_jax.synthesis.llm.settings import BudgetConfig, EndpointConfig, LlmConfig
from codegym_jax.synthesis.problems import ProblemError
from codegym_jax.trainer.state import params_hash
from tests.synthesis.llm.loopback import Asked, Fail, Say, serving
from tests.synthesis.llm.writer import BAD_SOLVERS, CASES, problem, write

LIMITS = SandboxConfig(fuel_per_call=100_000_000)
SOME = ("good", "counting", "unsolved")


def config(url: str, budget: BudgetConfig | None = None, **changes) -> LlmConfig:
    endpoint = EndpointConfig(
        base_url=url, model="writer", concurrency=4, first_wait_s=0.002, longest_wait_s=0.01, timeout_s=30.0
    )
    defaults: dict[str, Any] = {"max_tokens": 3_000, "workers": 1}
    return LlmConfig(endpoint=endpoint, budget=budget or BudgetConfig(), **(defaults | changes))


def synthesize(settings: LlmConfig, folder: Path, names: tuple[str, ...] = SOME) -> LlmResult:
    return synthesize_with_llm(
        [problem(name) for name in names],
        settings,
        sandbox=LIMITS,
        data=DataConfig(heldout_environments=1, validation_configs=2, test_configs=3),
        seed=0,
        store=folder / "store",
        out=folder / "task_set",
        api_key="secret",
    )


def manifest(folder: Path) -> bytes:
    """It holds the sha256 of every other file."""
    return (folder / "task_set" / "manifest.json").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[LlmResult, Path]:
    """A run over every case, with nothing in its way."""
    folder = tmp_path_factory.mktemp("whole")
    with serving(write) as endpoint:
        return synthesize(config(endpoint.url), folder, tuple(CASES)), folder


@pytest.fixture(scope="module")
def some_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an undisturbed run over some cases."""
    folder = tmp_path_factory.mktemp("some")
    with serving(write) as endpoint:
        synthesize(config(endpoint.url), folder)
        assert set(endpoint.attempts.values()) == {1}
    return folder


@pytest.fixture(scope="module")
def some(some_folder: Path) -> bytes:
    """What that run wrote."""
    return manifest(some_folder)


def test_the_funnel_counts_each_thing_once_with_its_reason(whole: tuple[LlmResult, Path]):
    result, folder = whole
    rows = {row["stage"]: row for row in result.funnel.rows()}
    assert rows["environments"]["entered"] == len(CASES) == 27
    assert rows["environments"]["left"] == {
        "does_not_load": 2,  # raises, exits
        "bad_class_name": 1,
        "bad_format": 1,
        "does_not_parse": 1,
        "forbidden": 1,  # reads_files
        "lacks_tag": 1,
        "out_of_fuel": 1,  # hangs
        "out_of_memory": 1,  # hoards
        "request_refused": 1,
        "too_few_tools": 1,
        "truncated": 1,
        "undocumented_tool": 1,
    }
    assert rows["test batches"]["entered"] == 28
    assert rows["test batches"]["left"] == {"truncated": 1}
    assert rows["tests"]["left"] == {
        "disagrees_with_solution": 30,
        "out_of_fuel": 30,
        "solution_raises": 30,
        "bad_config": 10,
        "bad_config_keys": 1,
        "duplicate": 3,  # the same line twice in each batch, and a bad one's twin in the other
    }
    assert rows["tested environments"]["entered"] == 14
    assert rows["tested environments"]["left"] == {"few_tests": 4, "constant_answers": 1}
    assert rows["solvers"]["entered"] == 90
    assert rows["solvers"]["left"] == {name: 1 for name in BAD_SOLVERS} | {"wrong_answer": 11}
    assert rows["tasks"]["left"] == {"any_answer_wins": 30}
    assert rows["solved environments"]["entered"] == 9
    assert rows["solved environments"]["left"] == {"no_solver_passes": 1, "no_tasks": 1}
    assert (rows["determinism"]["entered"], rows["determinism"]["left"]) == (7, {"depends_on_set_order": 1})
    assert rows["shortcut"]["entered"] == 6
    assert rows["shortcut"]["left"] == {"observe_reveals_hidden": 1, "single_call_answers": 1}
    assert (rows["near duplicate"]["entered"], rows["near duplicate"]["left"]) == (4, {"near_duplicate": 1})
    assert rows["task set"]["entered"] == rows["tasks"]["passed"] == 195
    assert rows["task set"]["left"] == {"environment_refused": 90, "near_duplicate": 30}
    assert result.environments == rows["near duplicate"]["passed"] == 3
    assert result.tasks == rows["task set"]["passed"] == 75
    assert result.unfinished == 0 and result.stopped_because == ""
    assert json.loads((folder / "store" / "funnel.json").read_text()) == result.funnel.rows()


def test_every_rejection_is_on_record(whole: tuple[LlmResult, Path]):
    result, folder = whole
    lines = (folder / "store" / "rejections.jsonl").read_text().splitlines()
    recorded = [Rejection(**json.loads(line)) for line in lines]
    assert recorded == list(result.rejections)
    counted = sum(sum(row["left"].values()) for row in result.funnel.rows() if row["stage"] != "task set")
    assert len(recorded) == counted and all(rejection.subject for rejection in recorded)
    subjects = {one.reason: one.subject for one in recorded}
    assert subjects["observe_reveals_hidden"] == "Own_shows_all__WarmSpellEnv"
    assert subjects["single_call_answers"] == "Own_tells__WarmSpellEnv"
    assert subjects["depends_on_set_order"].startswith("codegym_v1@Own_set_order__WarmSpellEnv@")
    assert [one for one in recorded if one.reason == "near_duplicate"] == [
        Rejection(
            reason="near_duplicate",
            detail="of Own_good__WarmSpellEnv",
            subject="Own_twin__WarmSpellEnv",
        )
    ]


def test_what_was_accepted_is_a_task_set_that_replays(whole: tuple[LlmResult, Path]):
    _, folder = whole
    task_set = TaskSet.open(folder / "task_set")
    assert list(task_set.specs) == [
        "Own_counting__WarmDaysEnv", "Own_good__WarmSpellEnv", "Own_unchecked__WarmSpellEnv",
    ]  # fmt: skip
    sandbox = Sandbox(LIMITS)
    for split in ("train", "validation_config", "test_config"):
        task = task_set.source(split)[0]
        spec = task_set.specs[task.env_id]
        observations, reward = replay(sandbox, spec, task.config_json, task.oracle_actions)
        assert reward == 1.0 and tuple(observations[:-1]) == task.oracle_observations[:-1]
        assert 10 <= len(task.oracle_actions) <= 256
    rows = list(read_rows(folder / "task_set" / "training_instance.jsonl"))
    assert len(rows) == 75 and not any(isinstance(row, Rejection) for row in rows)
    assert all(spec.license == "Apache-2.0" and spec.origin == "own" for spec in task_set.specs.values())
    assert "(case: good)" in task_set.specs["Own_good__WarmSpellEnv"].statement


def test_the_oracle_is_the_solver_that_saw_no_source(whole: tuple[LlmResult, Path]):
    _, folder = whole
    task_set = TaskSet.open(folder / "task_set")
    source = task_set.specs["Own_good__WarmSpellEnv"].source
    assert "days = int(re.search" in source and "temperature = int(call('ReadDay', day=day))" in source
    features = task_set.features["Own_good__WarmSpellEnv"]
    assert (features["solvers"], features["solvers_passed"]) == (10, 1)
    assert features["tests"] == {"easy": 10, "hard": 10, "medium": 10}
    assert task_set.features["Own_unchecked__WarmSpellEnv"]["answers_unchecked"] == 30
    assert task_set.features["Own_good__WarmSpellEnv"]["answers_unchecked"] == 0


@pytest.fixture(scope="module")
def training(
    whole: tuple[LlmResult, Path], tiny_config: RunConfig, tmp_path_factory: pytest.TempPathFactory
) -> Workbench:
    """A run on the task set, which `data.task_set` names."""
    folder = tmp_path_factory.mktemp("training")
    config = replace(
        tiny_config,
        data=replace(tiny_config.data, task_set=str(whole[1] / "task_set")),
        sft=SftConfig(
            demonstrations_per_environment=2, max_demonstration_calls=14, steps=2, rows=8, warmup_steps=1
        ),
    )
    return prepare(config, folder / "run", folder / "cache")


def test_the_task_set_can_be_trained_on(whole: tuple[LlmResult, Path], training: Workbench):
    assert training.task_set.digest == TaskSet.open(whole[1] / "task_set").digest
    assert not training.cache.exists()
    assert training.tasks("train") and demonstrations(training)


@pytest.mark.slow
def test_a_policy_is_trained_on_the_task_set(training: Workbench):
    assert len(params_hash(run_sft(training))) == 64


FAULTS = (Fail(429, headers={"Retry-After": "0.01"}), Fail(500), Fail(), Fail(200, body='{"choices": ['))


def test_a_failing_endpoint_changes_no_byte(some: bytes, tmp_path: Path):
    """A burst of limits, errors, drops and garbage before every completion."""

    def answer(asked: Asked) -> Say | Fail:
        faults = int(asked.key[:8], 16) % (len(FAULTS) + 1)
        return FAULTS[asked.attempt] if asked.attempt < faults else write(asked)

    with serving(answer) as endpoint:
        result = synthesize(config(endpoint.url), tmp_path)
        assert set(endpoint.answered.values()) == {1}
        assert endpoint.attempts.total() > 2 * len(endpoint.answered)
    assert manifest(tmp_path) == some
    for cause in ("rate_limited", "server_error", "dropped", "malformed"):
        assert result.counts[f"failed_{cause}"] > 0


@pytest.mark.parametrize(
    ("tokens", "stage"),
    [
        pytest.param(20_000, "environments", marks=pytest.mark.slow),
        (40_000, "solved environments"),
    ],
)
def test_a_run_that_its_budget_stopped_goes_on_where_it_stopped(
    tokens: int, stage: str, some: bytes, tmp_path: Path
):
    """The budgets end among the environments and among the solvers."""
    with serving(write) as endpoint:
        settings = config(endpoint.url, BudgetConfig(tokens=tokens), problems_per_wave=2)
        first = synthesize(settings, tmp_path)
        assert first.stopped_because.startswith("the budget is used up: ")
        assert first.unfinished > 0 and first.spent.tokens <= tokens
        assert first.funnel[stage].reasons["budget"] > 0
        assert 0 < endpoint.paid_tokens == first.spent.tokens
        paid = dict(endpoint.answered)
        last = synthesize(config(endpoint.url), tmp_path)
        assert last.counts["from_store"] >= len(paid) and last.unfinished == 0
        assert set(endpoint.attempts.values()) == {1}
    assert manifest(tmp_path) == some


def test_with_everything_in_the_store_nothing_is_asked(some: bytes, some_folder: Path, tmp_path: Path):
    """Neither the endpoint nor the number of workers or of problems at a time nor a budget changes a byte."""
    shutil.copytree(some_folder / "store", tmp_path / "store")
    settings = config("http://127.0.0.1:1/v1", BudgetConfig(tokens=1), workers=2, problems_per_wave=2)
    result = synthesize(settings, tmp_path)
    assert "answered" not in result.counts and manifest(tmp_path) == some


PROGRAM = """
import sys
from pathlib import Path
from tests.pipelines.test_synth_llm import config, synthesize

if __name__ == "__main__":
    synthesize(config(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_and_nothing_is_paid_for_twice(some: bytes, tmp_path: Path):
    """The process dies when it has been answered 20 times and waits for more."""
    enough = threading.Event()
    counter = threading.Semaphore(20)

    def answer(asked: Asked) -> Say | Fail:
        if enough.is_set() or counter.acquire(blocking=False):
            return write(asked)
        enough.wait(timeout=120)
        return Fail()  # nobody is there to hear it

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    lines = tmp_path / "store" / "completions.jsonl"
    with serving(answer) as endpoint:
        command = [sys.executable, str(program), endpoint.url, str(tmp_path)]
        process = subprocess.Popen(command, env={"PYTHONPATH": ".", "PATH": "/usr/bin:/bin"})
        while process.poll() is None and not (lines.exists() and lines.read_bytes().count(b"\n") == 20):
            enough.wait(timeout=0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        enough.set()
        paid = dict(endpoint.answered)
        assert sum(paid.values()) == 20
        result = synthesize(config(endpoint.url), tmp_path)
        assert result.unfinished == 0 and result.counts["from_store"] >= 20
        assert set(endpoint.answered.values()) == {1}
        assert all(endpoint.attempts[key] == 1 for key in paid)
    assert manifest(tmp_path) == some


def test_hard_configs_make_hard_tasks(tmp_path: Path):
    with serving(write) as endpoint:
        result = synthesize(config(endpoint.url, hard_tests=True), tmp_path, ("good", "counting"))
    rows = {row["stage"]: row for row in result.funnel.rows()}
    assert rows["hard test batches"]["entered"] == 2 and rows["hard tasks"]["passed"] == 30
    assert result.tasks == rows["tasks"]["passed"] + 30
    instances = (tmp_path / "task_set" / "training_instance.jsonl").read_text().splitlines()
    rounds = [json.loads(line)["plugin_call_max_round"] for line in instances]
    assert (rounds.count(512), rounds.count(256)) == (30, 45)


@pytest.mark.parametrize(
    ("names", "words"), [(["good", "good"], "share the id 'Own_good'"), (["a/b"], "cannot name a file")]
)
def test_bad_ids_are_refused_before_anything_is_paid_for(names: list[str], words: str, tmp_path: Path):
    problems = [replace(problem("good"), code_id=f"Own_{name}") for name in names]
    with pytest.raises(ProblemError, match=words):
        synthesize_with_llm(
            problems,
            config("http://127.0.0.1:1/v1"),
            sandbox=LIMITS,
            data=DataConfig(),
            seed=0,
            store=tmp_path / "store",
            out=tmp_path / "task_set",
            api_key="",
        )


def test_where_nothing_is_accepted_nothing_is_written(tmp_path: Path):
    with serving(write) as endpoint:
        result = synthesize(config(endpoint.url), tmp_path, ("broken", "truncated"))
    assert result.folder is None and not (tmp_path / "task_set").exists()
    assert result.counts == {"answered": 2, "truncated": 1}
