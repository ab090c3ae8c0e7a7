"""A run of a study whose policy is played on a suite, too; and what the page makes of it."""

import dataclasses
import json

import pytest

from codegym_jax.config import DataConfig, EvalConfig, RunConfig
from codegym_jax.config.study import Arm, PoolConfig, Question, StudyConfig, SuitesConfig
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.pipelines.study.conduct import RESULTS
from codegym_jax.pipelines.study.page import write_page
from codegym_jax.pipelines.study.pool import facts, make_pool, make_set
from codegym_jax.pipelines.study.runs import make_run, run_of, start_of

SUITES = SuitesConfig(
    names="held_out:test_env", limit=2, max_turns=3, context_tokens=1_024, message_tokens=12, slots=2
)
POOL = PoolConfig(max_calls=9, max_chars=4_000, tasks_per_environment=4, heldout_environments=2)
COLUMN = "held_out test_env"
pytestmark = pytest.mark.slow


def make_study(base: RunConfig, task_set) -> StudyConfig:
    rollout = dataclasses.replace(base.rollout, max_tokens=1_024, max_turns=3)
    return StudyConfig(
        title="A study with a suite",
        base=dataclasses.replace(
            base,
            style="hermes",
            data=DataConfig(task_set=str(task_set), max_vocabulary=400),
            sft=dataclasses.replace(base.sft, steps=2, rows=2, warmup_steps=1),
            rollout=rollout,
            evaluation=EvalConfig(max_tasks=2),
        ),
        pool=POOL,
        budget=1_000,
        distill_steps=1,
        arms={
            "sft": Arm(method="sft", environments=2, about="more"),
            "rl": Arm(method="rl", environments=2, about="RL"),
        },
        questions=(Question(title="Which?", arms=("sft", "rl")),),
        suites=SUITES,
    )


@pytest.fixture(scope="module")
def made(many_environments, tiny_config, tmp_path_factory):
    """A study, its folder, and the row of a warm start."""
    study, folder = make_study(tiny_config, many_environments), tmp_path_factory.mktemp("study")
    pool = make_pool(study, folder, default_cache_dir())
    make_set(pool, folder, 2, seed=0)
    start = start_of(run_of("sft", study.arms["sft"], 0))
    row = make_run(study, folder, default_cache_dir(), start)
    head = {"pool": facts(pool), "budget": study.budget}
    (folder / RESULTS).write_text("".join(json.dumps(one) + "\n" for one in (head, row)))
    return study, folder, row, start


def test_a_run_has_the_figures_of_the_suite(made):
    _, folder, row, start = made
    figures = row["suites"][COLUMN]
    assert set(row["suites"]) == {COLUMN}
    assert (figures["tasks"], figures["runs"]) == (SUITES.limit, SUITES.runs)
    assert 0 <= figures["ci95"][0] <= figures["mean"] <= figures["ci95"][1] <= 1
    played = folder / "runs" / start.label / "suites" / "held_out" / "test_env"
    oracle = json.loads((played / "oracle.json").read_text())
    assert oracle["mean"] == 1.0


def test_a_run_that_is_made_again_is_the_same(made):
    study, folder, row, start = made
    suites = folder / "runs" / start.label / "suites"
    before = {path: path.read_bytes() for path in suites.rglob("*.json*")}
    assert before and make_run(study, folder, default_cache_dir(), start) == row
    assert before == {path: path.read_bytes() for path in suites.rglob("*.json*")}


def test_the_page_has_a_table_of_suites(made):
    study, folder, row, _ = made
    write_page(study, folder)
    part = (folder / "study.md").read_text().partition("## Suites")[2]
    mean = 100 * row["suites"][COLUMN]["mean"]
    assert f"| {COLUMN} |" in part and f"| `warm-2` | {mean:.1f} (1 seed) |" in part
