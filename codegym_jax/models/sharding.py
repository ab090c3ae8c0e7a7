"""Where arrays live: one mesh with named axes, one table from logical axes to mesh axes.

No model and no loop names a device: parameters carry logical axes (`models.transformer`), and this
table places them.
"""

from collections.abc import Sequence
from typing import Any

import jax
from flax import linen as nn
from flax.linen import spmd
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXES = ("data", "fsdp", "tensor")

LOGICAL_TO_MESH: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("rows", ("data", "fsdp")),  # episodes of a batch, slots of the sampler
    ("embed", "fsdp"),  # gathered when used, so that memory, not compute, is divided
    ("vocabulary", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", None),  # few heads: replicated rather than split unevenly
    ("ffn", "tensor"),
    ("norm", None),
)


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over all devices (or the given ones); one axis may be -1 and takes what is left.

    Raises:
      ValueError: when the axes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    sizes: dict[str, int] = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise ValueError(f"mesh: only one axis may be -1, got {', '.join(free)}")
    known = 1
    for size in sizes.values():
        known *= size if size != -1 else 1
    if free:
        sizes[free[0]] = len(devices) // known
        known *= sizes[free[0]]
    if known != len(devices):
        raise ValueError(f"mesh: data x fsdp x tensor = {known}, but there are {len(devices)} devices")
    shape = tuple(sizes[name] for name in AXES)
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def place(mesh: Mesh, *logical_axes: str | None) -> NamedSharding:
    """The sharding of an array with these logical axes; None is replicated."""
    table = dict(LOGICAL_TO_MESH)
    return NamedSharding(mesh, PartitionSpec(*(table[axis] if axis else None for axis in logical_axes)))


def parameter_shardings(model: nn.Module, mesh: Mesh, *example_inputs: jax.Array):
    """Shardings of the model's parameters, as a pytree of the parameters' structure."""
    boxed = jax.eval_shape(model.init, jax.random.key(0), *example_inputs)
    specs = nn.get_partition_spec(boxed)["params"]
    return spmd.logical_to_mesh_sharding(specs, mesh, list(LOGICAL_TO_MESH))


def init_parameters(model: nn.Module, mesh: Mesh, seed: int, *example_inputs: jax.Array):
    """Initializes the parameters directly in their places; the values do not depend on the mesh."""
    shardings = parameter_shardings(model, mesh, *example_inputs)

    def init(key: jax.Array):
        return nn.meta.unbox(model.init(key, *example_inputs)["params"])

    return jax.jit(init, out_shardings=shardings)(jax.random.key(seed))
