"""Streams visit everything once an epoch, spread as promised, and resume exactly."""

import itertools
import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data.chat import Demonstration
from codegym_jax.data.pipeline import TaskDraw, demonstration_iterator, task_order
from codegym_jax.records import Task


def make_tasks(*counts: int) -> list[Task]:
    """`counts[e]` tasks of environment `e`."""
    return [
        Task(env_id=f"env{env}", config_json=str(number))
        for env, count in enumerate(counts)
        for number in range(count)
    ]


def make_rows(lengths: list[int]) -> list[Demonstration]:
    """Rows that can be told apart by their first token."""
    return [
        Demonstration(token_ids=np.arange(index, index + length), is_policy=np.ones(length, bool))
        for index, length in enumerate(lengths)
    ]


def draw(tasks: list[Task], count: int, *, seed: int = 0, start: int = 0) -> list[TaskDraw]:
    """So many draws of the order of tasks, from a position on."""
    return list(map(task_order(tasks, seed=seed), range(start, start + count)))


def blocks_of(tasks: list[Task], size: int, count: int) -> list[tuple[str, ...]]:
    """The environments of so many draws at a time."""
    env_ids = [tasks[one.task_index].env_id for one in draw(tasks, size * count)]
    return [tuple(env_ids[start : start + size]) for start in range(0, size * count, size)]


def row_ids(batches: list[list[Demonstration]]) -> list[list[int]]:
    return [[int(row.token_ids[0]) for row in batch] for batch in batches]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=5), st.integers(1, 9), st.integers(0, 3))
def test_every_epoch_draws_every_task_once(counts, epochs, seed):
    tasks = make_tasks(*counts)
    draws = draw(tasks, epochs * len(tasks), seed=seed)
    assert sorted(draws) == sorted(TaskDraw(i, e) for i in range(len(tasks)) for e in range(epochs))
    assert [one.visit for one in draws] == sorted(one.visit for one in draws)


def test_environments_of_equal_size_come_once_in_each_block():
    """In an order of its own, or smaller steps would pair the same environments for a whole epoch."""
    blocks = blocks_of(make_tasks(6, 6, 6, 6, 6), 5, 24)
    assert {frozenset(block) for block in blocks} == {frozenset(f"env{e}" for e in range(5))}
    assert len(set(blocks)) > 12  # of 120 orders, 24 random draws repeat few


def test_a_large_environment_comes_at_an_even_pace():
    """Every sixth part of an epoch of 60 + 6 tasks holds 10 of the one and 1 of the other."""
    for block in blocks_of(make_tasks(60, 6), 11, 12):
        assert Counter(block) == {"env0": 10, "env1": 1}


def test_epochs_and_seeds_are_shuffled_differently():
    tasks = make_tasks(20, 20)
    orders = {
        tuple(one.task_index for one in draw(tasks, 40, seed=seed, start=40 * epoch))
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def test_the_order_in_which_tasks_are_given_changes_nothing():
    tasks = make_tasks(5, 3, 4)
    forward, backward = draw(tasks, 36, seed=1), draw(tasks[::-1], 36, seed=1)
    assert [tasks[one.task_index] for one in forward] == [tasks[::-1][one.task_index] for one in backward]


@pytest.mark.parametrize("start", [0, 1, 8, 9, 30])
def test_an_order_is_its_position(start):
    """Asked from anywhere, and in any order of asking."""
    tasks = make_tasks(5, 4)
    expected = draw(tasks, 60, seed=2)[start : start + 20]
    assert draw(tasks, 20, seed=2, start=start) == expected
    draw_at = task_order(tasks, seed=2)
    assert [draw_at(position) for position in reversed(range(start, start + 20))] == expected[::-1]


@pytest.mark.parametrize("before", [0, 1, 8, 19])
def test_a_demonstration_stream_resumes_where_it_was(before):
    def make():
        return demonstration_iterator(make_rows([3, 9, 4, 8, 5, 7, 6]), seed=2, rows=2)

    uninterrupted = make()
    list(itertools.islice(uninterrupted, before))
    state = json.loads(json.dumps(uninterrupted.get_state()))
    expected = row_ids(list(itertools.islice(uninterrupted, 20)))
    resumed = make()
    resumed.set_state(state)
    assert row_ids(list(itertools.islice(resumed, 20))) == expected


@pytest.mark.parametrize(
    "other",
    [
        demonstration_iterator(make_rows([5, 4]), seed=3, rows=4),
        demonstration_iterator(make_rows([5, 4]), seed=2, rows=5),
        demonstration_iterator(make_rows([5, 5]), seed=2, rows=4),
    ],
)
def test_a_position_in_another_stream_is_refused(other):
    stream = demonstration_iterator(make_rows([5, 4]), seed=2, rows=4)
    with pytest.raises(ValueError, match="belongs to other data or settings"):
        stream.set_state(other.get_state())


@settings(max_examples=30)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.integers(1, 5), st.integers(0, 3))
def test_demonstrations_come_equally_often(lengths, rows, seed):
    """After any number of batches, no demonstration is more than one visit ahead of another."""
    stream = demonstration_iterator(make_rows(lengths), seed=seed, rows=rows)
    counts = Counter(dict.fromkeys(range(len(lengths)), 0))
    for _ in range(4):
        for batch in row_ids(list(itertools.islice(stream, 8))):
            assert len(batch) == rows
            counts.update(batch)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_each_epoch_is_another_shuffle():
    stream = demonstration_iterator(make_rows(list(range(1, 13))), seed=0, rows=4)
    batches = [row_ids(list(itertools.islice(stream, 3))) for _ in range(4)]
    epochs = [[row for batch in of_epoch for row in batch] for of_epoch in batches]
    assert all(sorted(epoch) == sorted(epochs[0]) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 4


def test_nothing_to_draw_from_is_refused():
    with pytest.raises(ValueError, match="there are none"):
        task_order([], seed=0)
    with pytest.raises(ValueError, match="there are none"):
        demonstration_iterator([], seed=0, rows=2)


def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="rows must be positive, got -1"):
        demonstration_iterator(make_rows([1]), seed=0, rows=-1)
