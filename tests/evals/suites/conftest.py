"""A suite behind a worker process of the standard library alone."""

import pathlib
import sys
from contextlib import closing

import pytest

from codegym_jax.evals.suites.worker import WorkerSuite

WORKER = pathlib.Path(__file__).parent / "sums_worker.py"


@pytest.fixture
def open_sums():
    """Opens the suite of sums; each is closed at the end of the test."""
    opened = []

    def open_one(*arguments: str, answer_s: float = 60.0, worker: pathlib.Path = WORKER) -> WorkerSuite:
        suite = WorkerSuite([sys.executable, str(worker), *arguments], name="sums", answer_s=answer_s)
        opened.append(suite)
        return suite

    yield open_one
    for suite in opened:
        with closing(suite):
            pass


@pytest.fixture
def sums(open_sums):
    """It, open."""
    return open_sums()
