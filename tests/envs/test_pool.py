"""Results come in order, a lost worker costs its item alone, and nothing waits for ever."""

import pytest
from pool_jobs import set_factor, work

from codegym_jax.envs.guest import HostFailure
from codegym_jax.envs.pool import WorkerFailure, parallel_map


def run(items, **settings):
    return list(parallel_map(work, items, workers=2, initializer=set_factor, initargs=(10,), **settings))


def test_results_keep_their_order_and_failures_their_place():
    results = run([1, 13, 2, 14, 13, 3])
    assert [r for r in results if isinstance(r, int)] == [10, 20, 30]
    assert [isinstance(r, WorkerFailure) for r in results] == [False, True, False, True, True, False]
    assert results[1].detail == "the worker process was lost: exit code 7"
    assert results[3].detail == "ValueError: fourteen"


def test_a_worker_past_its_deadline_is_replaced():
    first, second = run([15, 4], deadline_s=2.0)
    assert first == WorkerFailure("the worker process was lost: took longer than 2.0 s")
    assert second == 40


def test_items_are_taken_only_as_results_are_consumed():
    taken: list[int] = []

    def items():
        for item in range(100):
            taken.append(item)
            yield item

    results = parallel_map(work, items(), workers=1, initializer=set_factor, initargs=(1,))
    assert [next(results), next(results)] == [0, 1]
    assert len(taken) <= 4
    results.close()


def test_a_worker_that_cannot_start_stops_the_run():
    with pytest.raises(HostFailure, match="ValueError: the factor is negative"):
        list(parallel_map(work, [1], workers=1, initializer=set_factor, initargs=(-1,)))


def test_no_items_need_no_workers():
    assert run([]) == []
