"""One process alone, arguments that make no set of processes, others that do not come, what all must have."""

import pathlib
import socket
import subprocess
import sys

import pytest

from codegym_jax.config import CannotGoOn, ConfigError, ExitCode, Outage, UserError, exit_code_of
from codegym_jax.data.store import BucketOutage, StoreError
from codegym_jax.pipelines.links import ProcessLost
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


ALONE_OF_TWO = """
import sys
from codegym_jax.pipelines import processes

processes._JOIN_S = 0.5
with processes.joined(sys.argv[1], int(sys.argv[2]), 2):
    pass
"""


@pytest.mark.parametrize("index", [0, 1])
def test_where_not_all_processes_come_the_same_command_may_be_tried_again(index):
    with socket.create_server(("localhost", 0)) as free:
        address = f"localhost:{free.getsockname()[1]}"
    ended = subprocess.run(
        [sys.executable, "-c", ALONE_OF_TWO, address, str(index)],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == ExitCode.RESUMABLE, ended.stderr
    assert "not all processes of the run came within" in ended.stderr
    assert ended.stderr.endswith("the run resumes from its last checkpoint.\n")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UserError("a word too many"), 2),
        (ConfigError("train.steps must be at least 1"), 2),
        (StoreError("gs://bucket cannot be used: 403"), 2),
        (OSError(28, "No space left on device"), 2),
        (PermissionError(13, "Permission denied"), 2),
        (CannotGoOn("the gradient is not finite"), 1),
        (ValueError("a defect"), 1),
        (Outage("the others do not answer"), 42),
        (BucketOutage("gs://bucket does not answer"), 42),
        (ProcessLost("process 1 is gone"), 42),
        (KeyboardInterrupt(), 130),
    ],
    ids=repr,
)
def test_what_an_error_makes_a_command_exit_with(error, code):
    assert exit_code_of(error) == code
