"""Processes of a run, played by threads over real connections: all get all, and all learn who was lost."""

import os
import queue
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from codegym_jax.config import ExitCode
from codegym_jax.pipelines.links import Links, ProcessLost

COUNT = 3


class Star:
    """Three ends of a star, with what each was told of a loss, and of a notice."""

    def __init__(self, **settings: float) -> None:
        pairs = {peer: socket.socketpair() for peer in range(1, COUNT)}
        peers = [{peer: pair[0] for peer, pair in pairs.items()}]
        peers += [{0: pair[1]} for pair in pairs.values()]
        self.told: list[queue.Queue[tuple[str, ExitCode]]] = [queue.Queue() for _ in range(COUNT)]
        self.notices: list[queue.Queue[str]] = [queue.Queue() for _ in range(COUNT)]
        self.pool = ThreadPoolExecutor(2 * COUNT)

        def start(index: int) -> Links:
            notices = self.notices[index].put

            def lose(what: str, code: ExitCode) -> None:
                self.told[index].put((what, code))

            return Links(index, COUNT, peers[index], on_loss=lose, on_notice=notices, **settings)

        self.links = list(self.pool.map(start, range(COUNT)))

    def gather(self, data: list[bytes], channel: str = "main") -> list[list[bytes]]:
        return list(self.pool.map(lambda links: links.gather(data[links.index], channel), self.links))

    def close(self) -> None:
        for links in self.links:
            links.close()
        self.pool.shutdown()


@pytest.fixture
def star():
    made = Star()
    yield made
    made.close()


def test_all_get_what_each_gave_in_the_order_of_processes(star):
    for data in ([b"a", b"", b"c"], [os.urandom(5_000_000), b"\0" * 3_000_000, b"x"]):
        assert star.gather(data) == [data] * COUNT


def test_channels_do_not_wait_for_each_other(star):
    """A thread of each process is in one channel while the other channel goes on."""
    early = [star.pool.submit(star.links[index].gather, b"early", "slow") for index in (0, 1)]
    for number in range(20):
        data = [f"{index} {number}".encode() for index in range(COUNT)]
        assert star.gather(data) == [data] * COUNT
    assert not any(one.done() for one in early)
    assert star.links[2].gather(b"late", "slow") == [b"early", b"early", b"late"]
    assert [one.result() for one in early] == [[b"early", b"early", b"late"]] * 2


@pytest.mark.parametrize("victim", range(COUNT))
def test_who_ends_without_a_word_is_named_to_all_others(star, victim):
    waiting = [star.pool.submit(links.gather, b"") for links in star.links if links.index != victim]
    star.links[victim]._leaving.set()  # it is dead and notices nothing itself
    for connection in star.links[victim]._peers.values():
        connection.shutdown(socket.SHUT_RDWR)  # as the system does for a process that was killed
    for index in set(range(COUNT)) - {victim}:
        told, code = star.told[index].get(timeout=60)
        assert told == f"process {victim} of 3 (process id {os.getpid()} on {socket.gethostname()}) is gone"
        assert code == ExitCode.RESUMABLE
    for one in waiting:
        with pytest.raises(ProcessLost, match=f"process {victim} of 3"):
            one.result(timeout=60)


@pytest.mark.parametrize("code", ExitCode)
@pytest.mark.parametrize("victim", range(COUNT))
def test_who_stops_says_why_and_with_what(victim, code):
    """Also to those who send at that moment, and whom process 0 must tell."""
    star = Star(beat_s=0.001)
    try:
        star.links[victim].stop("ConfigError: no such preset", code)
        for index in set(range(COUNT)) - {victim}:
            told, passed_on = star.told[index].get(timeout=60)
            assert told.startswith(f"process {victim} of 3")
            assert told.endswith("stopped: ConfigError: no such preset")
            assert passed_on == code
    finally:
        star.close()


def test_who_says_nothing_any_more_is_given_up():
    """Beats come every hour here, so all are silent once they know each other's names."""
    star = Star(silence_s=3.0, beat_s=3600.0)
    try:
        told, code = star.told[0].get(timeout=60)
        assert "has been silent for 3 s" in told and code == ExitCode.RESUMABLE
    finally:
        star.close()


def test_all_leave_together_and_nobody_is_missed(star):
    list(star.pool.map(lambda links: links.leave(), star.links))
    assert all(told.empty() for told in star.told)
