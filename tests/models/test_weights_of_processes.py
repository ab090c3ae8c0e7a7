"""A run of two processes: each reads what its own devices hold; together they save the same checkpoint."""

import pathlib
import re
import socket
import subprocess
import sys

import pytest

from codegym_jax.models import checkpoint_hf, hf_names
from tests.models.tiny_checkpoints import ARCHITECTURES, VOCABULARY, numbers, policy

CONFIG = ARCHITECTURES["llama-untied"]
ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_two_processes_share_the_reading_and_save_the_same_bytes(tmp_path):
    """Over fsdp, the outer axis of the mesh, every kernel is divided between the two; norms are whole."""
    model = policy(CONFIG)
    checkpoint_hf.save(tmp_path / "weights", numbers(model), model)
    with socket.create_server(("localhost", 0)) as free:
        port = free.getsockname()[1]
    module = [sys.executable, "-m", "tests.models.one_of_two_processes"]
    processes = [
        subprocess.Popen(
            [*module, str(port), str(rank), str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    elements = [(len(leaf.shape), leaf.shape) for leaf in hf_names.leaves(CONFIG, VOCABULARY)]
    vectors = sum(shape[0] for rank, shape in elements if rank == 1)
    matrices = sum(shape[0] * shape[1] for rank, shape in elements if rank == 2)
    for output in outputs:
        assert re.findall(r"READ (\d+)", output) == [str(4 * (vectors + matrices // 2))] * 2
    expected = (tmp_path / "weights" / checkpoint_hf.SINGLE).read_bytes()
    for name in ("unrolled", "scanned"):
        assert (tmp_path / name / checkpoint_hf.SINGLE).read_bytes() == expected
