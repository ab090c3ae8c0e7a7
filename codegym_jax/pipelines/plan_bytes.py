"""What a run needs on one device, from shapes alone: bytes that stay, bytes for a while, bytes that move.

Takes a config and a number of devices; traces the model and the optimizer without computing anything, on any
machine. What is kept for the backward pass is asked of JAX itself, for the share of a layer that one device
holds; what XLA adds to it is an estimate, which `tests/pipelines/test_plan.py` bounds by XLA's own analysis.
Knows nothing of how a plan is shown or judged.
"""

import dataclasses
import functools
import inspect
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import AbstractMesh, NamedSharding
from jaxtyping import PyTree

from codegym_jax.config import ConfigError, MeshConfig, RunConfig, SamplingMeshConfig
from codegym_jax.models import attention, kv_cache, sharding
from codegym_jax.models.attention import Causal
from codegym_jax.models.compute import REMAT, Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Block, Transformer
from codegym_jax.pipelines.policy import compute_of, find_preset
from codegym_jax.records import TrainBatch
from codegym_jax.rollout.generate import Sampler
from codegym_jax.trainer.optimizer import make_adamw
from codegym_jax.trainer.state import TrainState, init_state

WIDTH_MULTIPLE = 32
"""Rows of a batch are padded to a multiple of so many tokens, as in `pipelines.workbench`."""


class Item(NamedTuple):
    """Bytes on each device, and why."""

    name: str
    bytes: int
    why: str
    settings: str = ""
    """What makes it smaller."""


class Transfer(NamedTuple):
    """Bytes that each device sends in all repetitions of one collective operation, as a ring would."""

    name: str
    bytes: int
    per: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """A config, resolved to the shapes of one run on so many devices."""

    model: Transformer
    vocabulary: int
    mesh: AbstractMesh
    sampling_mesh: AbstractMesh
    kernels: attention.Choice
    optimizer: optax.GradientTransformation
    rows: int
    """Of one batch, over all devices."""
    tokens: int
    """Of each row: the longest that there can be."""
    chunk_tokens: int
    """Positions of every row that have logits at the same time."""
    batches: int
    """In one update."""
    updates: int
    """In one step."""
    slots: int
    cache_tokens: int
    learns: bool = True
    """False for a run without any update: it keeps no optimizer."""

    @property
    def shape(self) -> ModelConfig:
        """The model's."""
        return self.model.config

    @property
    def compute(self) -> Compute:
        """How the model computes."""
        return self.model.compute

    @functools.cached_property
    def params(self) -> PyTree[jax.ShapeDtypeStruct]:
        """Shapes, types and places of the parameters."""
        return sharding.parameter_shapes(self.model, self.mesh)

    @functools.cached_property
    def state(self) -> TrainState:
        """Shapes, types and places of all that an update changes; moments lie as their parameters."""
        everywhere = sharding.place(self.mesh)

        def put(leaf: jax.ShapeDtypeStruct, place: NamedSharding) -> Any:
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)

        state = jax.eval_shape(lambda params: init_state(params, self.optimizer), self.params)
        moments = optax.tree_utils.tree_map_params(
            self.optimizer,
            put,
            state.opt_state,
            jax.tree.map(lambda leaf: leaf.sharding, self.params),
            transform_non_params=lambda leaf: put(leaf, everywhere),
        )
        return TrainState(step=put(state.step, everywhere), params=self.params, opt_state=moments)

    @property
    def batch(self) -> TrainBatch:
        """Shapes, types and places of one batch."""
        rows = sharding.place(self.mesh, "rows")
        shape = (self.rows, self.tokens)
        of: Any = [jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (jnp.int32, jnp.float32)]
        return TrainBatch(of[0], of[1], of[1], of[1])

    @property
    def cache(self) -> kv_cache.KVCache:
        """Shapes, types and places of the sampler's cache."""
        place = sharding.cache_sharding(self.sampling_mesh, self.shape.kv_heads)
        empty = jax.eval_shape(
            lambda: kv_cache.empty(self.shape, self.slots, self.cache_tokens, self.compute.dtype)
        )
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), empty)

    @property
    def sampling_copy(self) -> PyTree[jax.ShapeDtypeStruct] | None:
        """The parameters that tokens are sampled with; None: those that are trained."""
        narrower = self.compute.param_dtype != self.compute.compute_dtype
        if self.mesh == self.sampling_mesh and not narrower and not self.compute.scan_layers:
            return None
        shapes = sharding.parameter_shapes(self.model, self.sampling_mesh)
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, self.compute.dtype, sharding=leaf.sharding), shapes
        )


def resolve(config: RunConfig, device_count: int, platform: str) -> Shapes:
    """The shapes of a run.

    Args:
      config: the experiment; the model's shape is that of `policy.preset`, and no weights are opened.
      device_count: chips.
      platform: as `jax.default_backend()` there.

    Raises:
      ConfigError: when an axis does not divide, or a setting is impossible there; names it.
    """
    policy, train, rollout = config.policy, config.train, config.rollout
    shape = find_preset(policy.preset)
    mesh = _mesh("mesh", config.mesh, device_count)
    as_trained = config.sampling_mesh == SamplingMeshConfig()
    sampling_mesh = mesh if as_trained else _mesh("sampling_mesh", config.sampling_mesh, device_count)
    try:
        kernels = attention.choose(policy.attention, policy.compute_dtype, shape.head_width, platform)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    # Shapes are traced on this machine; which kernels run there is in `kernels`.
    compute = dataclasses.replace(compute_of(policy), attention="auto")
    vocabulary = shape.vocabulary or config.data.max_vocabulary
    for name, one in (("mesh", mesh), ("sampling_mesh", sampling_mesh)):
        _require_divisible(f"{name}.fsdp", one.shape["fsdp"], {"width": shape.width})
        _require_divisible(
            f"{name}.tensor",
            one.shape["tensor"],
            {
                "feed-forward width": shape.ffn_width,
                "query width": shape.query_heads * shape.head_width,
                "vocabulary": vocabulary,
            },
        )
    _require_rows("train.rows_per_batch", train.rows_per_batch, mesh, "mesh")
    _require_rows("rollout.slots", rollout.slots, sampling_mesh, "sampling_mesh")
    episodes = rollout.tasks_per_step * rollout.attempts_per_task
    updates = max(1, round(episodes / train.episodes_per_update))
    return Shapes(
        model=Transformer(shape, vocabulary, compute),
        vocabulary=vocabulary,
        mesh=mesh,
        sampling_mesh=sampling_mesh,
        kernels=kernels,
        optimizer=make_adamw(
            train.learning_rate,
            warmup_steps=train.warmup_steps,
            weight_decay=train.weight_decay,
            b1=train.adam_b1,
            b2=train.adam_b2,
            max_grad_norm=train.max_grad_norm,
        ),
        rows=train.rows_per_batch,
        tokens=-(-rollout.max_tokens // WIDTH_MULTIPLE) * WIDTH_MULTIPLE,
        chunk_tokens=train.chunk_tokens,
        batches=math.ceil(episodes / updates / train.rows_per_batch),
        updates=updates,
        slots=rollout.slots,
        cache_tokens=rollout.max_tokens,
        learns=train.steps > 0 or config.sft.steps > 0,
    )


def bytes_per_device(tree: PyTree) -> int:
    """What one device holds of arrays whose shapes tell their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def resident(shapes: Shapes) -> list[Item]:
    """What stays on the device from the first step to the last."""
    compute, optimizer = shapes.compute, shapes.state.opt_state
    moments = {str(leaf.dtype) for leaf in jax.tree.leaves(optimizer) if leaf.ndim}
    cache = bytes_per_device(shapes.cache) + 4 * shapes.slots * shapes.cache_tokens // _rows_of(
        shapes.sampling_mesh
    )
    per_token = bytes_per_device(shapes.cache) // (
        shapes.slots // _rows_of(shapes.sampling_mesh) * shapes.cache_tokens
    )
    return [
        Item(
            "parameters",
            bytes_per_device(shapes.params),
            f"{parameter_count(shapes) / 1e9:.3g} G, {compute.param_dtype}",
            "mesh.fsdp",
        ),
        Item(
            "optimizer",
            bytes_per_device(optimizer) if shapes.learns else 0,
            f"two moments, {', '.join(sorted(moments))}",
            "mesh.fsdp",
        ),
        Item(
            "key-value cache",
            cache,
            f"{shapes.slots // _rows_of(shapes.sampling_mesh):,} slots here x {shapes.cache_tokens:,} tokens"
            f" x {per_token:,} B, {compute.compute_dtype}",
            "rollout.slots, rollout.max_tokens, sampling_mesh.tensor",
        ),
    ]


def learning(shapes: Shapes) -> list[Item]:
    """What the gradient of one batch takes beside what stays; the update itself takes less."""
    if not shapes.learns:
        return []
    c, compute = shapes.shape, shapes.compute
    rows, tensor = shapes.rows // _rows_of(shapes.mesh), shapes.mesh.shape["tensor"]
    kept = rows * block_residual_bytes(shapes, compute.remat)
    again = rows * block_residual_bytes(shapes, "none") if compute.remat != "none" else 0  # kept as it is
    logits = rows * min(shapes.chunk_tokens, shapes.tokens) * shapes.vocabulary // tensor * 4
    head = head_bytes(shapes, tensor)
    embedding = (
        shapes.vocabulary * c.width // shapes.mesh.shape["fsdp"] * jnp.dtype(compute.param_dtype).itemsize
    )
    copies = 1 if shapes.batches == 1 else 2
    rows_setting = "rollout.max_tokens, train.rows_per_batch"
    return [
        Item(
            "gradients",
            copies * bytes_per_device(shapes.params),
            f"{compute.param_dtype}" + (", the sum and one batch's" if copies > 1 else ""),
            "mesh.fsdp",
        ),
        Item(
            "batch",
            bytes_per_device(shapes.batch),
            f"{rows} rows here x {shapes.tokens:,} tokens",
            rows_setting,
        ),
        Item(
            "activations kept",
            c.layers * kept,
            f"{c.layers} layers, policy.remat={compute.remat}",
            ("" if compute.remat == "full" else "policy.remat=full, ") + rows_setting,
        ),
        Item(
            "one layer's backward",
            again,
            f"all of its activations, attention by {shapes.kernels.causal}",
            rows_setting + ("" if shapes.kernels.causal != "xla" else ", policy.attention"),
        ),
        Item(
            "logits",
            3 * logits,
            f"{min(shapes.chunk_tokens, shapes.tokens):,} positions: values, shares, gradients; float32",
            "train.chunk_tokens, mesh.tensor",
        ),
        Item(
            "weights, whole",
            weights_in_use(shapes, shapes.mesh),
            "two layers and the head, gathered over fsdp"
            if shapes.mesh.shape["fsdp"] > 1
            else f"two layers and the head, in {compute.compute_dtype}",
            "mesh.tensor, policy.scan_layers=true",
        ),
        Item(
            "gradients, whole",
            layer_bytes(shapes, tensor) + head + embedding if _rows_of(shapes.mesh) > 1 else 0,
            "of a layer, the head and the embedding, not yet scattered",
            "mesh.tensor",
        ),
    ]


def sampling(shapes: Shapes) -> list[Item]:
    """What sampling takes beside what stays."""
    c, compute, mesh = shapes.shape, shapes.compute, shapes.sampling_mesh
    slots, tensor = shapes.slots // _rows_of(mesh), mesh.shape["tensor"]
    defaults = inspect.signature(Sampler).parameters
    prefill_rows = min(defaults["prefill_rows"].default, shapes.slots)
    width = defaults["prefill_width"].default
    slot_bytes = bytes_per_device(shapes.cache) // slots
    heads = _share(c.query_heads, tensor)
    scores = (
        4 * heads * shapes.cache_tokens * max(prefill_rows * width, slots * defaults["extend_width"].default)
    )
    copy = shapes.sampling_copy
    items = [
        Item(
            "parameters to sample",
            bytes_per_device(copy) if copy is not None else 0,
            f"a copy over {_spell(mesh)}, {compute.compute_dtype}" if copy is not None else "those trained",
            "sampling_mesh.tensor",
        ),
        Item(
            "prefill",
            prefill_rows * slot_bytes,
            f"{prefill_rows} slots, taken out and put back",
            "rollout.max_tokens, sampling_mesh.tensor",
        ),
        Item(
            "attention scores",
            2 * scores if shapes.kernels.cached == "xla" else 0,
            f"of one layer, by {shapes.kernels.cached}",
            "rollout.max_tokens, sampling_mesh.tensor",
        ),
        Item(
            "logits",
            3 * slots * shapes.vocabulary * 4,
            "every slot: values, sorted, shares; float32",
            "rollout.slots",
        ),
    ]
    if mesh.shape["fsdp"] > 1:
        items.append(
            Item(
                "weights, whole",
                weights_in_use(shapes, mesh),
                "gathered for every token",
                "sampling_mesh.fsdp=1",
            )
        )
    return items


def transfers(shapes: Shapes) -> list[Transfer]:
    """The collective operations of a step, as XLA compiles them for `mesh`; see the test."""
    c, compute, mesh = shapes.shape, shapes.compute, shapes.mesh
    data, fsdp, tensor = (mesh.shape[name] for name in sharding.AXES)
    rows = shapes.rows // _rows_of(mesh)
    itemsize = compute.dtype.itemsize
    x = rows * shapes.tokens * c.width * itemsize
    layers = c.layers * layer_bytes(shapes, tensor)
    head = head_bytes(shapes, tensor)
    embedding = shapes.vocabulary * c.width // fsdp * jnp.dtype(compute.param_dtype).itemsize
    chunks = -(-shapes.tokens // shapes.chunk_tokens)
    passes = 2 if compute.scan_layers or compute.remat != "none" else 1
    found = []
    if not shapes.learns:
        return _sampling_transfers(shapes)
    if fsdp > 1:
        moved = (passes * layers + head) * (fsdp - 1) // fsdp
        found.append(
            Transfer("all-gather over fsdp", moved, "batch", f"weights, {passes} times, and the head")
        )
    if data * fsdp > 1:
        moved = 2 * (layers + chunks * head + embedding) * (data * fsdp - 1) // (data * fsdp)
        why = f"gradients, the head's {chunks} times; half where XLA scatters"
        found.append(Transfer("all-reduce over data, fsdp", moved, "batch", why))
    if tensor > 1:
        count = 7 + (compute.remat != "none")
        moved = 2 * c.layers * count * x * (tensor - 1) // tensor
        found.append(Transfer("all-reduce over tensor", moved, "batch", f"activations, {count} a layer"))
    copy = shapes.sampling_copy
    if copy is not None and shapes.mesh != shapes.sampling_mesh:
        found.append(
            Transfer(
                "reshard to sample", bytes_per_device(copy), "step", f"to {_spell(shapes.sampling_mesh)}"
            )
        )
    found += _sampling_transfers(shapes)
    return found


def _sampling_transfers(shapes: Shapes) -> list[Transfer]:
    c, mesh = shapes.shape, shapes.sampling_mesh
    fsdp, tensor, itemsize = mesh.shape["fsdp"], mesh.shape["tensor"], shapes.compute.dtype.itemsize
    slots = shapes.slots // _rows_of(mesh)
    found = []
    if fsdp > 1:
        moved = (c.layers * layer_bytes(shapes, tensor) + head_bytes(shapes, tensor)) * (fsdp - 1) // fsdp
        found.append(
            Transfer("all-gather over fsdp", moved, "token", "all weights, for one token of every slot")
        )
    if tensor > 1:
        activations = 2 * 2 * c.layers * slots * c.width * itemsize * (tensor - 1) // tensor
        logits = slots * shapes.vocabulary * 4 * (tensor - 1) // tensor
        found.append(
            Transfer(
                "all-reduce over tensor", activations + logits, "token", "activations, 2 a layer; logits"
            )
        )
    return found


def parameter_count(shapes: Shapes) -> int:
    """Numbers that are trained."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params))


def step_flops(shapes: Shapes) -> float:
    """Multiplications and additions of a step's updates, were every row full: 6 a parameter and token, or 8
    where the forward pass is done twice, and attention's, of which causality spares half.

    Source: Chowdhery et al. 2022, https://arxiv.org/abs/2204.02311, appendix B.
    """
    c = shapes.shape
    lookup = 0 if c.tied_head else shapes.vocabulary * c.width
    tokens = shapes.updates * shapes.batches * shapes.rows * shapes.tokens
    attend = c.layers * c.query_heads * c.head_width * shapes.tokens
    passes = 4 if shapes.compute.remat == "full" else 3
    return float(tokens) * passes * 2 * (parameter_count(shapes) - lookup + attend)


def layer_bytes(shapes: Shapes, tensor: int) -> int:
    """One layer's weights in the compute type, divided over the tensor axis alone."""
    c = shapes.shape
    kv = _share(c.kv_heads, tensor)
    width = 2 * c.query_heads * c.head_width // tensor + 2 * kv * c.head_width + 3 * c.ffn_width // tensor
    return c.width * width * shapes.compute.dtype.itemsize


def weights_in_use(shapes: Shapes, mesh: AbstractMesh) -> int:
    """Weights gathered or cast to be used: the head, this layer's and the next one's, or those of all layers
    where the backward pass keeps them."""
    if mesh.shape["fsdp"] == 1 and shapes.compute.param_dtype == shapes.compute.compute_dtype:
        return 0
    keeps = not shapes.compute.scan_layers and shapes.compute.remat == "none" and mesh is shapes.mesh
    layers = shapes.shape.layers if keeps else 2
    return layers * layer_bytes(shapes, mesh.shape["tensor"]) + head_bytes(shapes, mesh.shape["tensor"])


def head_bytes(shapes: Shapes, tensor: int) -> int:
    """The head in the compute type, divided over the tensor axis alone."""
    return shapes.vocabulary // tensor * shapes.shape.width * shapes.compute.dtype.itemsize


@functools.lru_cache(maxsize=64)
def _residual_bytes(config: ModelConfig, compute: Compute, tokens: int, fused: bool) -> int:
    policy = REMAT[compute.remat]
    block = (Block if policy is None else nn.remat(Block, policy=policy))(config, compute)
    x_BTD = jax.ShapeDtypeStruct((1, tokens, config.width), compute.dtype)
    positions_BT = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    params = jax.eval_shape(lambda x, at: block.init(jax.random.key(0), x, at, Causal()), x_BTD, positions_BT)

    def backward(params: Any, x_BTD: Any, positions_BT: Any) -> Any:
        return jax.vjp(
            lambda p, x: block.apply(p, x, positions_BT, Causal())[0], nn.meta.unbox(params), x_BTD
        )[1]  # type: ignore[index]

    kept = [
        leaf
        for leaf in jax.tree.leaves(jax.eval_shape(backward, params, x_BTD, positions_BT))
        if leaf.shape[:1] == (1,)  # the row; weights have none
    ]
    if fused:
        kept = [leaf for leaf in kept if math.prod(leaf.shape) < config.query_heads * tokens * tokens]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept)


def block_residual_bytes(shapes: Shapes, remat: str) -> int:
    """What one layer keeps on one device for the backward pass of one row, as JAX says of its share of it.

    A kernel other than "xla" never has all scores at once: arrays with a query and a key axis do not count.
    """
    c, tensor = shapes.shape, shapes.mesh.shape["tensor"]
    heads = _share(c.query_heads, tensor)
    share = dataclasses.replace(
        c,
        query_heads=heads,
        kv_heads=math.gcd(heads, _share(c.kv_heads, tensor)),
        ffn_width=c.ffn_width // tensor,
    )
    compute = dataclasses.replace(shapes.compute, remat=remat, attention="xla")
    return _residual_bytes(share, compute, shapes.tokens, shapes.kernels.causal != "xla")


def _share(heads: int, tensor: int) -> int:
    """Heads on one device; all of them where they do not divide."""
    return heads if heads % tensor else heads // tensor


def _rows_of(mesh: AbstractMesh) -> int:
    return mesh.shape["data"] * mesh.shape["fsdp"]


def _spell(mesh: AbstractMesh) -> str:
    return " x ".join(f"{name} {size}" for name, size in mesh.shape.items())


def _mesh(name: str, config: MeshConfig | SamplingMeshConfig, device_count: int) -> AbstractMesh:
    try:
        return sharding.make_abstract_mesh(**dataclasses.asdict(config), device_count=device_count)
    except ValueError as error:
        raise ConfigError(str(error).replace("mesh:", f"{name}:", 1)) from error


def _require_divisible(name: str, size: int, widths: dict[str, int]) -> None:
    for what, width in widths.items():
        if width % size:
            raise ConfigError(f"{name} = {size} does not divide the model's {what} ({width})")


def _require_rows(name: str, rows: int, mesh: AbstractMesh, mesh_name: str) -> None:
    count = _rows_of(mesh)
    if rows % count:
        raise ConfigError(
            f"{name} must be a multiple of {mesh_name}.data x {mesh_name}.fsdp ="
            f" {mesh.shape['data']} x {mesh.shape['fsdp']} = {count}, got {rows}"
        )
