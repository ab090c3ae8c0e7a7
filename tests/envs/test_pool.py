"""Results come in order, a lost worker costs its item alone, and nothing waits for ever."""

import functools
import multiprocessing
import signal
import sys

import pool_jobs
import pytest
from pool_jobs import BIG, Unreadable, echo, set_factor, start_unless, wait_for, work

from codegym_jax.envs.guest import HostFailure
from codegym_jax.envs.pool import MAX_FAILED_STARTS, WINDOW, WorkerFailure, parallel_map


@pytest.fixture(autouse=True)
def no_child_is_left():
    """However a test uses the pool, its workers end with it."""
    yield
    assert multiprocessing.active_children() == []


def run(items, workers=2, **settings):
    return list(
        parallel_map(work, items, workers=workers, initializer=set_factor, initargs=(10,), **settings)
    )


def lost(why: str) -> WorkerFailure:
    return WorkerFailure(f"the worker process was lost: {why}")


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_keep_their_order(workers):
    assert run(range(200), workers) == [10 * item for item in range(200)]


@pytest.mark.parametrize(
    ("workers", "deed", "failure"),
    [
        (1, "die", lost("exit code 7")),
        (2, "die", lost("exit code 7")),
        (1, "die while sending", lost("exit code -9")),
        (1, "raise", WorkerFailure("ValueError: fourteen")),
        (1, Unreadable(), WorkerFailure("ValueError: unreadable")),
        (
            1,
            "return what cannot be read",
            WorkerFailure("the result cannot be unpickled: ValueError: unreadable"),
        ),
    ],
)
def test_a_failure_takes_its_item_s_place_and_no_other(workers, deed, failure):
    """The items around it are short, so some of them lie in the pipe of the worker that is lost."""
    results = run([1, 2, 3, deed, deed, 4, 5, 6, 7], workers)
    assert results == [10, 20, 30, failure, failure, 40, 50, 60, 70]


def test_what_tells_a_whole_job_to_end_is_for_the_parent(tmp_path, monkeypatch):
    """A worker goes on, whether the signal comes while it works or before it can do anything about it."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nkill -TERM $$\nkill -INT $$\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr("multiprocessing.spawn._python_exe", str(python).encode())
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert run([1, "be told to end", 2], workers=1) == [10, [], 20]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked


def test_what_cannot_be_pickled_is_a_failure_that_says_so():
    first, item, result, last = run([1, lambda: 0, "return what cannot be pickled", 2])
    assert (first, last) == (10, 20)
    assert item.detail.startswith("the item cannot be pickled: ")
    assert result.detail.startswith("the result cannot be pickled: ")


@pytest.mark.parametrize("deed", ["sleep", "stop", "spin"])
def test_a_worker_past_its_deadline_is_replaced(deed):
    assert run([1, deed, 2, 3], deadline_s=2.0) == [10, lost("took longer than 2.0 s"), 20, 30]


def test_big_items_and_big_results_cross_each_other():
    """Several times what a pipe holds, both ways at once: neither side may wait for the other to read."""
    items = [bytes([index]) * (BIG if index > 4 else 1) for index in range(10)]
    assert list(parallel_map(echo, items, workers=1)) == items


def test_killed_workers_cost_at_most_one_item_each():
    expected = list(range(0, 3000, 10))
    kills, results = 0, []
    for result in parallel_map(work, range(300), workers=2, initializer=set_factor, initargs=(10,)):
        results.append(result)
        if len(results) % 40 == 0:
            oldest = min(multiprocessing.active_children(), key=lambda worker: worker.pid or 0)
            oldest.kill()  # never one after another that are still starting: that ends a pool, rightly
            kills += 1
    failures = [result for result in results if result == lost("exit code -9")]
    assert len(failures) <= kills
    assert [result for result, right in zip(results, expected, strict=True) if result != right] == failures


def test_items_are_taken_only_as_results_are_consumed():
    taken: list[int] = []

    def items():
        for item in range(10_000):
            taken.append(item)
            yield item

    results = parallel_map(work, items(), workers=1)
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 2 + WINDOW
    results.close()


def test_a_slow_item_holds_up_the_producer_not_the_other_worker(tmp_path):
    """Item 0 ends only when item 20 has been taken, and the whole window is never exceeded."""
    flag, ahead, yielded = tmp_path / "flag", [], 0

    def items():
        for item in range(200):
            ahead.append(item + 1 - yielded)
            if item == 20:
                flag.touch()
            yield item

    for result in parallel_map(functools.partial(wait_for, flag), items(), workers=2):
        assert result == yielded
        yielded += 1
    assert 20 < max(ahead) <= 2 * WINDOW


def test_an_abandoned_pool_ends_its_workers():
    results = parallel_map(work, [1, 2, "sleep", "sleep"], workers=2)
    assert next(results) == 1
    assert len(multiprocessing.active_children()) == 2
    del results
    assert multiprocessing.active_children() == []


def test_a_producer_that_fails_ends_the_workers():
    def items():
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(parallel_map(work, items(), workers=1))


def test_workers_that_raise_while_they_start_stop_the_run():
    with pytest.raises(HostFailure, match="ValueError: the factor is negative"):
        list(parallel_map(work, [1], workers=1, initializer=set_factor, initargs=(-1,)))


def test_a_function_that_cannot_be_pickled_is_the_caller_s_mistake():
    with pytest.raises(AttributeError, match="lambda"):
        list(parallel_map(lambda item: item, [1], workers=1))


@pytest.mark.parametrize("fatal", [{0}, {0, 1}, {1}, {1, 2}])
def test_a_worker_that_dies_while_it_starts_is_tried_again(tmp_path, fatal):
    """Starts 1 and 2 are of the replacement of a worker that was lost; no item is lost with them."""
    setup = {"initializer": start_unless, "initargs": (tmp_path, frozenset(fatal))}
    results = list(parallel_map(work, [1, "die", 2, 3], workers=1, **setup))
    assert results == [1, lost("exit code 7"), 2, 3]
    assert len(list(tmp_path.iterdir())) == 2 + len(fatal)


@pytest.mark.parametrize("first", [0, 1])
def test_starting_is_given_up_when_it_keeps_failing(tmp_path, first):
    setup = {"initializer": start_unless, "initargs": (tmp_path, frozenset(range(first, 99)))}
    results = parallel_map(work, ["die", 1], workers=1, **setup)
    with pytest.raises(HostFailure, match="a worker process does not start: exit code 9"):
        list(results)
    assert len(list(tmp_path.iterdir())) == first + MAX_FAILED_STARTS


def test_no_items_need_no_workers():
    assert run([]) == []


def test_the_deeds_are_all_tried():
    tried = {"die", "die while sending", "raise", "be told to end", "sleep", "stop", "spin"}
    assert pool_jobs.DEEDS.keys() - tried == {"return what cannot be pickled", "return what cannot be read"}
