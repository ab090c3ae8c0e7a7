"""One process alone, arguments that make no set of processes, and what must be the same on all."""

import pytest

from codegym_jax.config import UserError
from codegym_jax.pipelines.processes import ALONE, Processes, ProcessesDisagree, joined
from tests.pipelines.test_links import Star


def test_without_a_coordinator_there_is_one_process():
    with joined() as processes:
        assert processes is ALONE
    assert ALONE.is_first
    assert ALONE.gather(b"x") == [b"x"]
    assert ALONE.from_first(lambda: b"made") == b"made"
    ALONE.agree({"anything": "1"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("", 1, 2), "need --coordinator HOST:PORT"),
        (("here", 0, 2), "--coordinator takes HOST:PORT or auto, got 'here'"),
        (("here:1", 2, 2), "--process-id must be in 0 to --process-count - 1, got 2 of 2"),
        (("here:1", -1, 0), "got -1 of 0"),
    ],
)
def test_arguments_that_make_no_processes_are_refused(arguments, message):
    with pytest.raises(UserError, match=message), joined(*arguments):
        pass


@pytest.fixture
def three():
    star = Star()
    yield star, [Processes(links.index, links.count, links) for links in star.links]
    star.close()


def test_once_is_done_by_the_first_before_any_goes_on(three):
    star, processes = three
    done: list[int] = []

    def go(one: Processes) -> int:
        one.once(lambda: done.append(one.index))
        return len(done)

    assert list(star.pool.map(go, processes)) == [1, 1, 1]
    assert done == [0]


def test_what_the_first_makes_all_have(three):
    star, processes = three
    made = star.pool.map(lambda one: one.from_first(lambda: f"of {one.index}".encode()), processes)
    assert list(made) == [b"of 0"] * 3


def test_a_difference_is_named_on_every_process(three):
    star, processes = three

    def go(one: Processes) -> str:
        with pytest.raises(ProcessesDisagree) as raised:
            one.agree({"the config": "same", "tokenizer.json": "b" if one.index == 1 else "a"})
        return str(raised.value)

    expected = "tokenizer.json is a on process 0, b on process 1, a on process 2"
    assert all(expected in message for message in star.pool.map(go, processes))
