"""Parameters of all processes' devices, as each process's own devices hold them for sampling.

Learning runs on one mesh over the devices of all processes. Sampling does not: episodes are of any length, so
each process samples on a mesh of its own devices and never waits for another one.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jaxtyping import PyTree

PROCESS = "process"
"""The axis in front of the local meshes' own."""


def local_meshes(make_mesh: Callable[[Sequence[Any]], Mesh]) -> list[Mesh]:
    """The mesh of every process, in their order; this one's is at `jax.process_index()`.

    Args:
      make_mesh: from a process's devices to its mesh; of one shape for all.
    """
    return [
        make_mesh([device for device in jax.devices() if device.process_index == process])
        for process in range(jax.process_count())
    ]


def local_params(params: PyTree, layout: PyTree[NamedSharding], meshes: Sequence[Mesh]) -> PyTree:
    """The same parameters on this process's devices alone; every process must call it.

    What another process holds of a parameter is gathered from device to device; then the parts that lie here
    are taken for whole parameters, without a copy.

    Args:
      params: on any mesh over the devices of all processes.
      layout: how this process's own mesh is to hold them.
      meshes: as `local_meshes` gave them.
    """
    devices = np.stack([mesh.devices for mesh in meshes])
    names = (PROCESS, *meshes[0].axis_names)
    stacked = Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names))
    everywhere = jax.device_put(params, jax.tree.map(lambda own: NamedSharding(stacked, own.spec), layout))
    return jax.tree.map(_own_part, everywhere, layout)


def _own_part(leaf: jax.Array, own: NamedSharding) -> jax.Array:
    parts = [shard.data for shard in leaf.addressable_shards]
    return jax.make_array_from_single_device_arrays(leaf.shape, own, parts)
