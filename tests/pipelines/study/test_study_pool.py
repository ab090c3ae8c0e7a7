"""Which environments a study takes: those that fit, held-out families apart, choices within one another."""

import dataclasses
import json

import pytest

from codegym_jax.config import ConfigError, DataConfig, RunConfig, UserError
from codegym_jax.config.study import Arm, PoolConfig, Question, StudyConfig, SuitesConfig
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV, TRAIN
from codegym_jax.data.task_set import TaskSet
from codegym_jax.pipelines.study.pool import (
    candidates,
    chosen,
    computes,
    guess,
    make_pool,
    make_set,
    trainable,
)
from codegym_jax.records import Task

POOL = PoolConfig(
    max_calls=9,
    max_chars=200,
    tasks_per_environment=4,
    max_tasks_per_environment=4,
    test_configs=1,
    heldout_environments=2,
)


def make_study(task_set, **changes) -> StudyConfig:
    arms = {
        "a": Arm(method="rl", environments=2, about="a"),
        "b": Arm(method="rl", environments=5, about="b"),
    }
    settings = {
        "title": "A study",
        "base": RunConfig(data=DataConfig(task_set=str(task_set), max_vocabulary=300)),
        "pool": POOL,
        "budget": 100,
        "distill_steps": 1,
        "arms": arms,
        "questions": (Question(title="Which?", arms=("a", "b")),),
    }
    return StudyConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def pool(many_environments, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    return folder, make_pool(make_study(many_environments), folder, folder)


def envs(task_set: TaskSet, split: str) -> set[str]:
    return {task.env_id for task in task_set.source(split)}


def test_every_environment_gives_as_many_tasks(pool):
    _, found = pool
    assert len(found.specs) == 8
    assert len(envs(found, TEST_ENV)) == 2 and len(trainable(found)) == 6
    assert found.counts[TEST_ENV] == 2 * 4
    assert (found.counts[TRAIN], found.counts[TEST_CONFIG]) == (6 * 3, 6 * 1)
    assert envs(found, TRAIN) == envs(found, TEST_CONFIG) == set(trainable(found))


def test_the_commonest_answer_is_that_of_training_tasks(pool):
    _, found = pool
    guessed = guess(found)
    answers = [task.answer_json for task in found.source(TRAIN)]
    assert answers.count(guessed["answer"]) == max(map(answers.count, answers))
    right = sum(task.answer_json == guessed["answer"] for task in found.source(TEST_ENV))
    assert guessed[TEST_ENV] == right / found.counts[TEST_ENV]


def test_near_duplicates_are_held_out_together(pool):
    _, found = pool
    family = {env_id for env_id, features in found.features.items() if features["family"] == "one"}
    assert len(family) == 2
    assert family <= envs(found, TEST_ENV) or not family & envs(found, TEST_ENV)


def test_a_smaller_choice_is_part_of_a_larger_one_and_seeds_differ():
    names = [f"env_{number}" for number in range(40)]
    for seed in range(3):
        assert chosen(names, 4, seed) < chosen(names, 9, seed) < chosen(names, 40, seed) == set(names)
    assert len({chosen(names, 4, seed) for seed in range(3)}) == 3


def test_a_set_has_its_environments_and_all_that_are_held_out(pool):
    folder, found = pool
    some = TaskSet.open(make_set(found, folder, 2, seed=1))
    assert envs(some, TRAIN) == envs(some, TEST_CONFIG) == chosen(trainable(found), 2, 1)
    assert {task.task_id for task in some.source(TEST_ENV)} == {t.task_id for t in found.source(TEST_ENV)}


def test_only_tasks_that_the_policy_can_hold_count(many_environments):
    task_set = TaskSet.open(many_environments)
    assert len(candidates(task_set, "compact", POOL)) == 8
    assert candidates(task_set, "compact", dataclasses.replace(POOL, max_calls=2)) == {}
    assert candidates(task_set, "compact", dataclasses.replace(POOL, max_chars=20)) == {}
    many = dataclasses.replace(POOL, tasks_per_environment=6, max_tasks_per_environment=6)
    assert candidates(task_set, "compact", many) == {}


def test_of_an_environment_with_more_tasks_more_are_used_up_to_a_bound(many_environments):
    task_set = TaskSet.open(many_environments)
    few = candidates(task_set, "compact", POOL)
    more = candidates(task_set, "compact", dataclasses.replace(POOL, max_tasks_per_environment=9))
    assert {len(tasks) for tasks in few.values()} == {4} and {len(tasks) for tasks in more.values()} == {5}
    for env_id, tasks in few.items():
        assert {task.task_id for task in tasks} < {task.task_id for task in more[env_id]}


def played(*steps: tuple[str, dict, str]) -> Task:
    """A task by what its oracle does and sees."""
    return Task(
        env_id="e",
        config_json="{}",
        oracle_actions=tuple(json.dumps({"name": name, "parameters": given}) for name, given, _ in steps),
        oracle_observations=tuple(seen for _, _, seen in steps),
    )


def test_an_oracle_that_only_copies_and_counts_computes_nothing():
    """It hands in 12, which it read, and 1, the count after 0; 24 is neither seen nor next to what was."""
    read = ("GetItem", {"index": 0}, "12")
    assert not computes(played(read, ("GetItem", {"index": 1}, "7"), ("Done", {"answer": 12}, "right")))
    assert computes(played(read, ("Done", {"answer": 24}, "right")))
    assert computes(played(read, ("Double", {"value": 40}, "80"), ("Done", {"answer": 80}, "right")))


def test_too_few_environments_are_told_before_any_work(many_environments, tmp_path):
    arms = {"a": Arm(method="rl", environments=7, about="a")}
    study = make_study(many_environments, arms=arms, questions=())
    with pytest.raises(ConfigError, match="an arm trains on 7 environments, but of 8 in the task set 8 have"):
        make_pool(study, tmp_path, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Arm(method="magic", environments=1, about=""), "arm.method must be one of sft, distill, rl"),
        (lambda: PoolConfig(tasks_per_environment=4, test_configs=4), "pool.test_configs must be below"),
        (lambda: make_study("x", arms={}), "study.arms must be at least one arm"),
        (lambda: make_study("x", questions=(Question(title="?", arms=("a", "c")),)), "among a, b"),
        (lambda: make_study("x", suites=SuitesConfig(names="held_out")), "base.style is 'hermes'"),
    ],
)
def test_bad_studies_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()
