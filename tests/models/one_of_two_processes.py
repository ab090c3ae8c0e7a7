"""One of two processes of a run: loads a checkpoint onto a mesh over both, saves it, prints what it read.

python -m tests.models.one_of_two_processes PORT RANK FOLDER
"""

import dataclasses
import pathlib
import sys
from collections.abc import Mapping

import jax
import numpy as np

from codegym_jax.models import checkpoint_hf, sharding
from codegym_jax.models.tensor_store import Index, Stored, TensorStore
from codegym_jax.models.weights import open_weights
from tests.models.tiny_checkpoints import policy


class Measured:
    """A store that adds up the bytes that are read."""

    def __init__(self, inner: TensorStore) -> None:
        self.inner, self.source, self.bytes = inner, inner.source, 0

    def tensors(self) -> Mapping[str, Stored]:
        return self.inner.tensors()

    def read(self, name: str, index: Index) -> np.ndarray:
        part = self.inner.read(name, index)
        self.bytes += part.nbytes
        return part


def main(port: str, rank: int, folder: pathlib.Path) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=rank)
    mesh = sharding.make_mesh(data=1, fsdp=2, tensor=2)
    weights = open_weights(str(folder / "weights"))
    for name in ("unrolled", "scanned"):
        model = policy(weights.config, scan_layers=name == "scanned")
        store = Measured(weights.store)
        params = dataclasses.replace(weights, store=store).load(model, mesh)
        checkpoint_hf.save(folder / name, params, model)
        print(f"READ {store.bytes}")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), pathlib.Path(sys.argv[3]))
