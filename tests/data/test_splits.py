"""Splits are disjoint, and a member's place depends on nothing but what it should."""

import random
from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codegym_jax.data.splits import (
    GENERAL,
    TEST_CONFIG,
    TEST_ENV,
    TRAIN,
    VALIDATION_CONFIG,
    hold_out,
    hold_out_families,
    split_configs,
    split_tasks,
)
from codegym_jax.data.stable_hash import stable_hash

IDS = st.lists(st.text(min_size=1, max_size=6), unique=True, max_size=30)


def make_tasks(env_ids: list[str], configs: int = 40) -> dict[str, str]:
    return {f"{env_id}@{number}": env_id for env_id in env_ids for number in range(configs)}


def split(env_of_task: dict[str, str], **changes) -> dict[str, str]:
    settings = {
        "learnable_env_ids": ["a", "b", "c", "d", "e"],
        "seed": 0,
        "heldout_environments": 2,
        "validation_configs": 3,
        "test_configs": 7,
    }
    return split_tasks(env_of_task, **(settings | changes))


def test_the_hash_is_fixed_forever():
    """sha256 of "1:0" + "3:abc", first 8 bytes, big-endian: a change would move every split of every user."""
    assert stable_hash(0, "abc") == 0xBFA583FA2221B74C


def test_the_hash_keeps_parts_apart():
    assert stable_hash("ab", "c") != stable_hash("a", "bc") != stable_hash("abc")


@given(IDS, st.integers(0, 40), st.randoms(use_true_random=False))
def test_holding_out_ignores_order_and_takes_the_count(ids, count, shuffler):
    held = hold_out(ids, count, seed=3, purpose="x")
    shuffled = list(ids)
    shuffler.shuffle(shuffled)
    assert held == hold_out(shuffled, count, seed=3, purpose="x")
    assert held <= set(ids)
    assert len(held) == min(count, len(ids))


@given(IDS, st.integers(0, 10))
def test_holding_out_more_only_adds(ids, count):
    assert hold_out(ids, count, seed=0, purpose="x") <= hold_out(ids, count + 1, seed=0, purpose="x")


def test_seed_and_purpose_change_the_choice():
    ids = [str(number) for number in range(100)]
    choices = {hold_out(ids, 10, seed=s, purpose=p) for s in range(5) for p in ("x", "y")}
    assert len(choices) == 10


def test_a_negative_count_is_refused():
    with pytest.raises(ValueError, match="cannot hold out -1 of 2 ids"):
        hold_out(["a", "b"], -1, seed=0, purpose="x")


def test_configs_are_split_in_the_sizes_asked_for():
    splits = split_configs([str(n) for n in range(40)], seed=0, validation_configs=3, test_configs=7)
    assert Counter(splits.values()) == {TRAIN: 30, VALIDATION_CONFIG: 3, TEST_CONFIG: 7}


@pytest.mark.parametrize("tasks", range(9))
def test_at_least_half_of_few_configs_are_trained_on(tasks):
    splits = split_configs([str(n) for n in range(tasks)], seed=0, validation_configs=10, test_configs=24)
    counted = Counter(splits.values())
    assert counted[TEST_CONFIG] == counted[VALIDATION_CONFIG] == tasks // 4
    assert counted.total() == tasks


def test_every_task_has_its_place():
    tasks = make_tasks(["a", "b", "c", "d", "e", "general1", "general2"])
    splits = split(tasks)
    assert splits.keys() == tasks.keys()
    by_env = {env_id: Counter(splits[t] for t in tasks if tasks[t] == env_id) for env_id in tasks.values()}
    assert by_env["general1"] == by_env["general2"] == {GENERAL: 40}
    learnable = [by_env[env_id] for env_id in "abcde"]
    assert learnable.count(Counter({TEST_ENV: 40})) == 2
    assert learnable.count(Counter({TRAIN: 30, VALIDATION_CONFIG: 3, TEST_CONFIG: 7})) == 3


def test_input_order_changes_nothing():
    tasks = make_tasks(["a", "b", "c", "d", "e", "f"])
    items = list(tasks.items())
    random.Random(0).shuffle(items)
    assert split(dict(items), learnable_env_ids=list("edcba")) == split(tasks)


def test_a_new_environment_moves_no_config_of_the_others():
    """Only the set of held-out environments may change, by one in and one out."""
    tasks = make_tasks(["a", "b", "c", "d", "e"])
    before = split(tasks)
    after = split(tasks | make_tasks(["new"]), learnable_env_ids=["a", "b", "c", "d", "e", "new"])
    moved = {tasks[task] for task in tasks if before[task] != after[task]}
    assert all(TEST_ENV in (before[task], after[task]) for task in tasks if tasks[task] in moved)
    assert len(moved) <= 1


def test_a_new_general_environment_moves_nothing():
    tasks = make_tasks(["a", "b", "c", "d", "e"])
    after = split(tasks | make_tasks(["new"]))
    assert {task: after[task] for task in tasks} == split(tasks)


def test_an_environment_that_is_learnable_but_has_no_task_is_not_held_out():
    splits = split(make_tasks(["a", "b", "c"]), learnable_env_ids=["a", "b", "c", *"vwxyz"])
    assert Counter(splits.values())[TEST_ENV] == 80


def test_holding_out_every_environment_is_refused():
    with pytest.raises(ValueError, match="holding out 5 environments leaves none of the 5 learnable"):
        split(make_tasks(list("abcde")), heldout_environments=5)


ENV_IDS = list("abcdefghijkl")
FAMILIES = st.dictionaries(st.sampled_from(ENV_IDS), st.sampled_from("abcd"))
TRAINED = {TRAIN, VALIDATION_CONFIG, TEST_CONFIG}


def may_split(families: dict[str, str], learnable: set[str]) -> bool:
    return len({families.get(env_id, env_id) for env_id in learnable}) > 1


@given(FAMILIES, st.sets(st.sampled_from(ENV_IDS), min_size=2), st.integers(1, 11), st.integers(0, 5))
def test_no_family_is_held_out_in_part(families, learnable, count, seed):
    assume(may_split(families, learnable) and count < len(learnable))
    tasks = make_tasks(ENV_IDS, configs=8)
    splits = split(
        tasks, learnable_env_ids=learnable, heldout_environments=count, families=families, seed=seed
    )
    sides = {(families.get(env_id, env_id), splits[task] == TEST_ENV) for task, env_id in tasks.items()}
    assert len(sides) == len({family for family, _ in sides})
    assert TRAINED & set(splits.values())
    assert {tasks[task] for task, name in splits.items() if name in TRAINED} <= learnable
    assert any(splits[task] == TEST_ENV for task in tasks if tasks[task] in learnable)


@given(st.sets(st.sampled_from(ENV_IDS), min_size=1), st.integers(0, 11), st.integers(0, 5))
def test_families_of_one_hold_out_what_no_families_would(learnable, count, seed):
    held = hold_out(learnable, count, seed=seed, purpose=TEST_ENV)
    for families in (None, {}, {env_id: f"family of {env_id}" for env_id in ENV_IDS}):
        assert hold_out_families(ENV_IDS, learnable, count, seed=seed, families=families) == held


@given(FAMILIES, st.sets(st.sampled_from(ENV_IDS), min_size=2), st.integers(1, 11))
def test_as_many_are_held_out_as_whole_families_allow(families, learnable, count):
    assume(may_split(families, learnable))
    held = hold_out_families(ENV_IDS, learnable, count, seed=0, families=families)
    sizes = Counter(families.get(env_id, env_id) for env_id in learnable)
    if min(sizes.values()) <= count:
        assert 0 < len(held & learnable) <= count
        passed_over = {env_id for env_id in learnable - held if sizes[families.get(env_id, env_id)] == 1}
        assert len(held & learnable) == count or not passed_over
    else:
        assert len(held & learnable) == min(sizes.values())


def test_families_with_others_in_them_are_held_out_last():
    families = {env_id: "mixed" for env_id in "abc"}
    for seed in range(10):
        held = hold_out_families(ENV_IDS, {"a", "d", "e"}, 2, seed=seed, families=families)
        assert held == {"d", "e"}
    assert hold_out_families(ENV_IDS, {"a"} | {"d"}, 2, seed=0, families=families) == {"a", "b", "c", "d"}


def test_one_family_alone_cannot_be_held_out():
    families = dict.fromkeys("abcde", "same")
    with pytest.raises(ValueError, match="5 learnable environments are near duplicates of one another"):
        split(make_tasks(list("abcde")), families=families)
    assert (
        set(split(make_tasks(list("abcde")), families=families, heldout_environments=0).values()) == TRAINED
    )
