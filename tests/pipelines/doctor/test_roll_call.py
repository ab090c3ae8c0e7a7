"""The roll call over real connections: who is missing is named, and strangers are not heard."""

import os
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from codegym_jax.config import UserError
from codegym_jax.pipelines.doctor.attendance import judge
from codegym_jax.pipelines.doctor.cluster import Place, find_place
from codegym_jax.pipelines.doctor.finding import Status
from codegym_jax.pipelines.doctor.roll_call import NoRoll, Present, Roll, call_roll


def process(index, count=3, **facts):
    return Present(
        index=index, count=count, host=f"host{index}", pid=100 + index, facts={"code": "c1"} | facts
    )


@pytest.fixture
def address():
    with socket.create_server(("localhost", 0)) as free:
        return f"localhost:{free.getsockname()[1]}"


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as pool:
        yield pool


def rolls(pool, address, processes, timeout_s):
    return list(pool.map(lambda one: call_roll(address, one, timeout_s), processes))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_hear_of_all(pool, address, order):
    found = rolls(pool, address, [process(index) for index in order], 60.0)
    assert found[0] == found[1] == found[2]
    assert found[0].missing == []
    assert [str(each) for each in found[0].present] == [
        "0 (process id 100 on host0)",
        "1 (process id 101 on host1)",
        "2 (process id 102 on host2)",
    ]
    others = found[0].present[1:]
    assert all(each.ping_s > 0 and abs(each.ahead_s) < 30 for each in others)
    assert {finding.status for finding in judge(found[0], address, 60.0)} <= {Status.OK, Status.WARN}


def test_who_does_not_come_is_named_to_all_who_did(pool, address):
    for roll in rolls(pool, address, [process(0, 5), process(3, 5)], 3.0):
        assert roll.missing == [1, 2, 4]
        found = judge(roll, address, 3.0)[0]
        assert found.status is Status.FAIL
        assert found.found.startswith(
            "processes 1, 2, 4 of 5 did not come within 3 s; here: 0 (process id 100 "
        )
        assert "--process-id" in found.fix and address in found.fix


def test_the_port_is_free_again_at_once(pool, address):
    for _ in range(3):
        rolls(pool, address, [process(0, 2), process(1, 2)], 60.0)
        with socket.create_server(("localhost", int(address.rpartition(":")[2]))):
            pass


def test_one_that_does_not_reach_process_0_says_so(address):
    with pytest.raises(NoRoll, match=rf"process 0 did not answer at {address}"):
        call_roll(address, process(1), 0.5)


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("", 0)) as server, pytest.raises(NoRoll, match="cannot listen at port"):
        call_roll(f"localhost:{server.getsockname()[1]}", process(0), 0.5)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400\r\n\r\n", b"\0\xff\xfe\n", b"{}\n", b"[]\n", b""])
def test_something_else_that_listens_there_is_told(pool, answer):
    with socket.create_server(("localhost", 0)) as server:

        def be_rude():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        rude = pool.submit(be_rude)
        with pytest.raises(NoRoll, match="is not process 0 of this roll call"):
            call_roll(f"localhost:{server.getsockname()[1]}", process(1), 5.0)
        rude.result()


@pytest.mark.parametrize(
    "words", [b"GET / HTTP/1.1\r\n\r\n", b"\xff\xfe\n", b'{"hello": "codegym-doctor-1"}\n', b"[1]\n", b""]
)
def test_strangers_are_not_counted(pool, address, words):
    first = pool.submit(call_roll, address, process(0, 2), 60.0)
    place = ("localhost", int(address.rpartition(":")[2]))
    while True:
        try:
            stranger = socket.create_connection(place)
            break
        except ConnectionRefusedError:
            time.sleep(0.01)
    with stranger:
        stranger.sendall(words)
        stranger.shutdown(socket.SHUT_WR)
        second = call_roll(address, process(1, 2), 60.0)
    assert first.result() == second
    assert second.missing == []


def roll(*present, count=3, twice=()):
    return Roll(count=count, present=list(present), twice=list(twice))


def finding(found, check):
    [one] = [one for one in judge(found, "here:1", 9.0) if one.check == check]
    return one


def test_what_differs_is_named_with_who_has_it():
    found = finding(roll(process(0), process(1, code="c2"), process(2)), "same code")
    assert (found.status, found.found) == (Status.FAIL, "c1 on processes 0, 2; c2 on process 1")


def test_an_id_that_comes_twice_and_counts_that_differ():
    twin = Present(index=1, count=3, host="other", pid=7, facts={})
    found = finding(roll(process(0), process(1), process(2), twice=[twin]), "process ids")
    assert found.found == "1 came twice: from other (process id 7) and host1 (101)"
    found = finding(roll(process(0), process(1, 4), process(2)), "process count")
    assert found.found == "3 on process 0, 4 on process 1"


def test_pings_and_clocks():
    """A clock may be off by what the ping leaves open, and by a second."""
    near = Present(index=1, count=2, host="near", pid=1, facts={}, ping_s=0.001, ahead_s=0.9)
    far = Present(index=1, count=2, host="far", pid=1, facts={}, ping_s=0.2, ahead_s=-1.3)
    assert finding(roll(process(0), near), "ping").status is Status.OK
    assert finding(roll(process(0), near), "clocks").status is Status.OK
    assert finding(roll(process(0), far), "ping").found == "at most 200.00 ms, to process 1 on far"
    assert finding(roll(process(0), far), "ping").status is Status.WARN
    found = finding(roll(process(0), far), "clocks")
    assert (found.status, found.found) == (Status.WARN, "process 1 on far is -1.300 s off process 0")


def test_the_cluster_tells_where_process_0_is(monkeypatch):
    """A Slurm step on three nodes, as JAX reads it."""
    step = {"JOB_ID": "7", "STEP_NODELIST": "node[04-06]", "NTASKS": "3", "PROCID": "2", "LOCALID": "0"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "4321")
    assert find_place(1.0) == Place("node04:4321", 2, 3)


def test_without_a_cluster_that_is_said(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)
    with pytest.raises(
        UserError, match="no TPU pod, Slurm step or Open MPI job is found here; give --coordinator"
    ):
        find_place(1.0)
