"""A curriculum is today's order with some tasks skipped, the same everywhere, and resumes exactly."""

import itertools
import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data.curriculum import EASY_FIRST, RAREST, Curriculum
from codegym_jax.data.pipeline import task_order
from codegym_jax.records import Task


def make_tasks(*calls: int) -> list[Task]:
    """One environment; task i needs `calls[i]` calls."""
    return [
        Task(env_id="C__E", config_json=f"{index:02}", oracle_actions=("{}",) * count)
        for index, count in enumerate(calls)
    ]


def make(tasks, **changes) -> Curriculum:
    return Curriculum(tasks, **{"seed": 1, "tasks_per_step": 2, "attempts_per_task": 4, **changes})


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.data())
def test_uniform_is_the_order_of_the_tasks(count, tasks_per_step, seed, data):
    """However a step's draws are asked for, and whatever becomes of them."""
    tasks = make_tasks(*range(1, count + 1))
    curriculum = make(tasks, seed=seed, tasks_per_step=tasks_per_step)
    draw_at = task_order(tasks, seed=seed)
    for step in range(1, 8):
        expected = [
            draw_at(position) for position in range((step - 1) * tasks_per_step, step * tasks_per_step)
        ]
        cut = data.draw(st.integers(0, tasks_per_step))
        draws = curriculum.draw(step, cut) + curriculum.draw(step, tasks_per_step - cut)
        assert draws == expected
        for index, _ in draws:
            curriculum.observe(index, successes=0, attempts=4)


def test_easy_tasks_come_first_by_hand():
    """Eight tasks of 1 to 8 calls over 4 steps: up to 2, 4 and 6 calls, then all; and never fewer than P."""
    tasks = make_tasks(5, 3, 8, 1, 7, 2, 6, 4)

    def seen(step, **changes):
        curriculum = make(tasks, order=EASY_FIRST, easy_first_steps=4, **changes)
        return {len(tasks[index].oracle_actions) for index, _ in curriculum.draw(step, 64)}

    assert [seen(step) for step in range(1, 6)] == [{*range(1, top + 1)} for top in (2, 4, 6, 8, 8)]
    assert [max(seen(step, tasks_per_step=5)) for step in range(1, 6)] == [5, 5, 6, 8, 8]


def test_equally_easy_tasks_open_together():
    """Step 1 of 6 opens one task of six by count; three need as few calls as that one."""
    tasks = make_tasks(3, 9, 3, 9, 3, 9)
    curriculum = make(tasks, order=EASY_FIRST, easy_first_steps=6, tasks_per_step=1)
    assert {index for index, _ in curriculum.draw(1, 30)} == {0, 2, 4}


@pytest.mark.parametrize(
    ("visits", "learnable"),
    [
        ([], 1.0),
        ([(0, 4)], 0.0),
        ([(4, 4)], 0.0),
        ([(2, 4)], 1 - 2 / 16),
        ([(1, 4)], 1 - (1 + 81) / 256),
        ([(0, 4), (3, 4)], 1 - 2 / 16),  # 3 of 4 + 4 / 2: a half
        ([(2, 4), (0, 0)], 1 - 2 / 16),  # the host failed in all
    ],
)
def test_how_learnable_a_task_is_by_hand(visits, learnable):
    curriculum = make(make_tasks(1))
    for successes, attempts in visits:
        curriculum.observe(0, successes=successes, attempts=attempts)
    assert curriculum.learnable(0) == learnable


@pytest.mark.parametrize(
    ("prefer", "successes", "share"),
    [(0.0, 0, 1.0), (0.5, 0, 0.5), (1.0, 0, RAREST), (1.0, 2, 0.875), (1.0, 4, RAREST)],
)
def test_tasks_that_end_alike_become_rarer(prefer, successes, share):
    """Of two tasks, the one with this record is drawn so many times as often as the new one."""
    curriculum = make(make_tasks(1, 1), prefer_learnable=prefer)
    curriculum.observe(0, successes=successes, attempts=4)
    counts = Counter(index for index, _ in curriculum.draw(1, 4000))
    assert counts[0] / counts[1] == pytest.approx(share, abs=0.03)


def test_a_task_set_without_a_learnable_task_still_gives_a_step():
    curriculum = make(make_tasks(1, 2, 3), prefer_learnable=1.0)
    for index in range(3):
        curriculum.observe(index, successes=0, attempts=8)
    assert len(curriculum.draw(1, 9)) == 9


SETTINGS = {"prefer_learnable": 0.9, "order": EASY_FIRST, "easy_first_steps": 9}


def walk(curriculum, steps):
    """Draws and pretends: even configs are solved half of the time, odd ones never."""
    for step in steps:
        draws = curriculum.draw(step, 3)
        yield [(curriculum.tasks[index].task_id, visit) for index, visit in draws]
        for index, _ in draws:
            solved = 2 * (int(curriculum.tasks[index].config_json) % 2 == 0)
            curriculum.observe(index, successes=solved, attempts=4)


@pytest.mark.parametrize("before", [0, 1, 5, 20])
def test_resumed_it_goes_on_as_if_uninterrupted(before):
    """Through JSON, as in a checkpoint, and with the tasks in another order."""
    tasks = make_tasks(*range(1, 12))
    whole = make(tasks, **SETTINGS)
    list(walk(whole, range(1, before + 1)))
    state = json.loads(json.dumps(whole.get_state()))
    resumed = make(tasks[::-1], **SETTINGS)
    list(walk(resumed, range(1, 4)))  # wherever it stood
    resumed.set_state(state)
    steps = range(before + 1, before + 20)
    assert list(walk(resumed, steps)) == list(walk(whole, steps))
    assert resumed.get_state() == whole.get_state()


def test_attempts_are_numbered_by_visit():
    """Skipped or not, the k-th visit of a task is the number k."""
    visits = itertools.chain.from_iterable(walk(make(make_tasks(*range(1, 6)), **SETTINGS), range(1, 40)))
    by_task: dict[str, list[int]] = {}
    for task_id, visit in visits:
        by_task.setdefault(task_id, []).append(visit)
    assert len({len(numbers) for numbers in by_task.values()}) > 1, "else nothing was skipped"
    assert all(numbers == list(range(len(numbers))) for numbers in by_task.values())


@pytest.mark.parametrize(
    "changes", [{"seed": 2}, {"prefer_learnable": 0.5}, {"attempts_per_task": 8}, {"tasks": (1, 2)}]
)
def test_a_record_of_something_else_is_refused(changes):
    other = {"tasks": (1, 2, 3), **changes}
    state = make(make_tasks(*other.pop("tasks")), **other).get_state()
    with pytest.raises(ValueError, match="belongs to other data or settings"):
        make(make_tasks(1, 2, 3)).set_state(state)


def test_another_process_draws_the_same():
    """Nothing depends on Python's own hashes."""
    program = """
import sys; sys.path[:0] = ["."]
from tests.data.test_curriculum import SETTINGS, make, make_tasks, walk
print(list(walk(make(make_tasks(*range(1, 12)), **SETTINGS), range(1, 15))))
"""
    printed = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed.strip() == str(list(walk(make(make_tasks(*range(1, 12)), **SETTINGS), range(1, 15))))
