"""Where arrays live: one mesh with named axes, one table from logical axes to mesh axes.

No model and no loop names a device: parameters carry logical axes (`models.transformer`), and this
table places them. It also places the few intermediate arrays that the compiler would misplace
(`constrain`), the key-value cache, and the parameters' second layout for sampling (`reshard`).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.linen import spmd
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

AXES = ("data", "fsdp", "tensor")

LOGICAL_TO_MESH: tuple[tuple[str, str | tuple[str, ...] | None], ...] = (
    ("rows", ("data", "fsdp")),  # episodes of a batch, slots of the sampler
    ("layers", None),  # stacked for a loop, which reads one at a time
    ("embed", "fsdp"),  # of a parameter: gathered when used, so that memory, not compute, is divided
    ("vocabulary", "tensor"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),  # whole on every device where they do not divide: see `axis_rules`
    ("ffn", "tensor"),
    ("norm", None),
)

AnyMesh = Mesh | AbstractMesh
"""A mesh of devices, or only its shape: enough to plan with."""


def make_mesh(data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh over all devices (or the given ones); one axis may be -1 and takes what is left.

    Raises:
      ValueError: when the axes do not multiply to the number of devices.
    """
    devices = list(jax.devices() if devices is None else devices)
    shape = mesh_shape(data, fsdp, tensor, len(devices))
    return jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=devices)


def make_abstract_mesh(data: int, fsdp: int, tensor: int, device_count: int) -> AbstractMesh:
    """The mesh that `make_mesh` would make of so many devices, without any device.

    Raises:
      ValueError: as there.
    """
    shape = mesh_shape(data, fsdp, tensor, device_count)
    return AbstractMesh(shape, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def mesh_shape(data: int, fsdp: int, tensor: int, device_count: int) -> tuple[int, int, int]:
    """The sizes of the axes; one may be given as -1 and takes what is left.

    Raises:
      ValueError: when the axes do not multiply to the number of devices.
    """
    sizes: dict[str, int] = dict(zip(AXES, (data, fsdp, tensor), strict=True))
    free = [name for name, size in sizes.items() if size == -1]
    if len(free) > 1:
        raise ValueError(f"mesh: only one axis may be -1, got {', '.join(free)}")
    known = math.prod(size for size in sizes.values() if size != -1)
    if free and known > 0:
        sizes[free[0]] = device_count // known
        known *= sizes[free[0]]
    if known != device_count or known <= 0:
        raise ValueError(f"mesh: data x fsdp x tensor = {known}, but there are {device_count} devices")
    return sizes["data"], sizes["fsdp"], sizes["tensor"]


def axis_rules(mesh: AnyMesh, kv_heads: int) -> dict[str, str | tuple[str, ...] | None]:
    """The table for one model: key-value heads that do not divide by the tensor axis stay whole.

    A share of a head would have to be gathered before it could be used.
    """
    rules = dict(LOGICAL_TO_MESH)
    if kv_heads % mesh.shape["tensor"]:
        rules["kv_heads"] = None
    return rules


def place(mesh: AnyMesh, *logical_axes: str | None) -> NamedSharding:
    """The sharding of an array with these logical axes; None is replicated."""
    table = dict(LOGICAL_TO_MESH)
    return NamedSharding(mesh, PartitionSpec(*(table[axis] if axis else None for axis in logical_axes)))


def cache_sharding(mesh: AnyMesh, kv_heads: int) -> NamedSharding:
    """Where keys and values "B K C H" of the sampler live: rows as a batch's, heads as their weights."""
    rules = axis_rules(mesh, kv_heads)
    return NamedSharding(mesh, PartitionSpec(rules["rows"], rules["kv_heads"]))


def constrain(x: Array, *logical_axes: str | None) -> Array:
    """Tells the compiler where an array inside a program lives; changes no number.

    Without it the compiler may follow a parameter that is divided over `fsdp` into the activations: it then
    divides their width, and gathers all rows of the batch on every device. The mesh is read off the array's
    own type. Where there is none, or one device, this does nothing; an axis that does not divide stays whole.

    Args:
      x: any array under `jit`.
      logical_axes: one for each of its axes; None is replicated.
    """
    mesh = jax.typeof(x).sharding.mesh
    if mesh.empty or mesh.size == 1 or mesh.axis_names != AXES or not _is_automatic(mesh):
        return x
    table = dict(LOGICAL_TO_MESH)
    wanted = [table[axis] if axis else None for axis in logical_axes]
    spec = [
        axes if size % _shards(mesh, axes) == 0 else None for size, axes in zip(x.shape, wanted, strict=True)
    ]
    return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*spec)))


def parameter_shardings(model: Any, mesh: AnyMesh, *example_inputs: Any) -> PyTree[NamedSharding]:
    """Shardings of the model's parameters, as a pytree of the parameters' structure.

    Args:
      model: a Flax module with a `ModelConfig` as `config`, such as `Transformer`.
      mesh: the devices.
      example_inputs: of the model; arrays or their shapes. By default one row of two tokens.
    """
    boxed = _boxed_shapes(model, example_inputs)
    rules = axis_rules(mesh, model.config.kv_heads)
    return spmd.logical_to_mesh_sharding(nn.get_partition_spec(boxed), mesh, list(rules.items()))  # type: ignore[arg-type]


def parameter_shapes(model: Any, mesh: AnyMesh, *example_inputs: Any) -> PyTree[jax.ShapeDtypeStruct]:
    """Shapes, types and shardings of the model's parameters; nothing is computed. Arguments as above."""

    def shape(leaf: jax.ShapeDtypeStruct, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    shapes = nn.meta.unbox(_boxed_shapes(model, example_inputs))
    return jax.tree.map(shape, shapes, parameter_shardings(model, mesh, *example_inputs))


def init_parameters(model: nn.Module, mesh: Mesh, seed: int, *example_inputs: jax.Array):
    """Initializes the parameters directly in their places; the values do not depend on the mesh."""
    shardings = parameter_shardings(model, mesh, *example_inputs)

    def init(key: jax.Array):
        return nn.meta.unbox(model.init(key, *example_inputs)["params"])

    return jax.jit(init, out_shardings=shardings)(jax.random.key(seed))


def reshard(params: PyTree, shardings: PyTree[NamedSharding]) -> PyTree:
    """The same parameters in another layout, from device to device; what is in place already is not copied.

    Args:
      params: the arrays; they stay as they are.
      shardings: of another mesh over the same devices, in another order or shape, or of the same.
    """
    return jax.device_put(params, shardings)


def narrowed(params: PyTree, dtype: str) -> PyTree:
    """The parameters in this type, where they are.

    The model casts to its compute type where it uses them, so a copy in that type samples the same tokens, in
    half the bytes.
    """
    return jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), params)


def _boxed_shapes(model: Any, example_inputs: tuple[Any, ...]) -> Any:
    inputs = example_inputs or (jax.ShapeDtypeStruct((1, 2), jnp.int32),)
    return jax.eval_shape(model.init, jax.random.key(0), *inputs)["params"]


def _is_automatic(mesh: AbstractMesh) -> bool:
    return all(kind == AxisType.Auto for kind in mesh.axis_types)


def _shards(mesh: AnyMesh, axes: str | tuple[str, ...] | None) -> int:
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(mesh.shape[name] for name in names)
