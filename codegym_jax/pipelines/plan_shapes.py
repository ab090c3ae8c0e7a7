"""A config, resolved to the arrays of one run on so many devices: shapes, types and places, nothing computed.

What the learner, the trainer and the sampler make of a config is asked of their own functions, on any machine
and without a device. Knows nothing of how much of it is too much.
"""

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AbstractMesh, NamedSharding
from jaxtyping import PyTree

from codegym_jax.config import ConfigError, MeshConfig, RunConfig, SamplingMeshConfig
from codegym_jax.models import attention, kv_cache, lora, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.devices import Devices
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.pipelines.learner import (
    asks_itself,
    find_algorithm,
    reinforcing_optimizer,
    require_consistent,
)
from codegym_jax.pipelines.policy import compute_of, find_preset
from codegym_jax.pipelines.sft import supervising_optimizer
from codegym_jax.pipelines.trainable import CRITIC, Trainable
from codegym_jax.records import PackedBatch, Update
from codegym_jax.trainer.state import TrainState, init_state


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The arrays of one run."""

    trainable: Trainable
    mesh: AbstractMesh
    sampling_mesh: AbstractMesh
    """Of one process; each has one of its own devices."""
    processes: int
    kernels: attention.Choice
    optimizer: optax.GradientTransformation
    optimizer_name: str
    rows: int
    """Of one batch, over all devices."""
    tokens: int
    """Of each row."""
    chunk_tokens: int
    """Positions of every row that have logits at the same time."""
    episodes: int
    """In one step."""
    updates: int
    """In one step."""
    episodes_per_row: int
    """Of the greatest length."""
    slots: int
    """Of each process."""
    cache_tokens: int
    learns: bool
    """False for a run without any update: it keeps no optimizer."""
    asks_itself: bool
    """Whether the learner scores a step's episodes before it learns from them."""
    asks_reference: bool
    """Whether the policy that the run started from does."""
    warms_up: bool
    """Whether supervised learning comes before."""
    overlaps: bool
    """Whether a step is sampled while the one before is learned."""

    @property
    def model(self) -> Transformer:
        """The policy."""
        return self.trainable.model

    @property
    def shape(self) -> ModelConfig:
        """The model's."""
        return self.model.config

    @property
    def vocabulary(self) -> int:
        """Rows of the embedding and of the head."""
        return self.model.vocabulary_size

    @property
    def compute(self) -> Compute:
        """How the model computes."""
        return self.model.compute

    @property
    def rank(self) -> int:
        """Of the adapters; 0: the model itself learns."""
        return self.trainable.lora.rank

    @property
    def batches(self) -> int:
        """That count in one update, were every episode of the greatest length."""
        return self._batches_of(-(-self.episodes // self.updates))

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """The model's parameters, as the learner holds them."""
        return dict(sharding.parameter_shapes(self.model, self.mesh))

    @functools.cached_property
    def learned(self) -> dict[str, Any]:
        """The parameters that learn: the model's or adapters, and the critic's."""
        learned = self.adapters if self.rank else dict(self.params)
        if self.trainable.critic:
            learned[CRITIC] = _shaped((self.shape.width,), jnp.float32, sharding.place(self.mesh))
        return learned

    @property
    def frozen(self) -> Any:
        """What an update reads beside them, as `trainer.update` takes it."""
        return self.params if self.rank else ()

    @property
    def reference(self) -> Any:
        """A copy of the parameters at the start; () where none is kept: the base of adapters is one."""
        return self.params if self.asks_reference and not self.rank else ()

    @property
    def adapters(self) -> dict[str, Any]:
        """Low-rank adapters."""
        settings = self.trainable.lora
        shapes = jax.eval_shape(
            lambda: lora.init(
                self.params, rank=settings.rank, targets=settings.targets, key=jax.random.key(0)
            )
        )
        layout = jax.tree.map(lambda leaf: leaf.sharding, self.params)
        places = lora.shardings(layout, targets=settings.targets)
        return jax.tree.map(lambda leaf, place: _shaped(leaf.shape, leaf.dtype, place), shapes, places)

    @property
    def adapted(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The matrices that have adapters, as they are once these are added."""
        return {
            block: {name: self.params[block][name] for name in matrices}
            for block, matrices in (self.adapters if self.rank else {}).items()
        }

    @functools.cached_property
    def state(self) -> TrainState:
        """All that an update changes; what has the shape of its parameter lies where that lies."""
        state = jax.eval_shape(lambda params: init_state(params, self.optimizer), self.learned)
        of_name = {
            jax.tree_util.keystr(path): leaf
            for path, leaf in jax.tree_util.tree_leaves_with_path(self.learned)
        }
        everywhere = sharding.place(self.mesh)

        def put(path: Any, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            name = jax.tree_util.keystr(path)
            of = next((one for end, one in of_name.items() if name.endswith(end)), None)
            beside = of if of is not None and of.shape == leaf.shape else None
            return _shaped(leaf.shape, leaf.dtype, beside.sharding if beside else everywhere)

        return jax.tree_util.tree_map_with_path(put, state)

    @property
    def update(self) -> Update:
        """What one update learns from."""
        batches = self.batches
        return Update(self._stacked(batches, learned=True), batches, 1, 1)

    @property
    def scored(self) -> Update | None:
        """What is scored before a step's updates: all of its episodes; None: nothing."""
        if not (self.asks_itself or self.asks_reference):
            return None
        batches = self._batches_of(self.episodes)
        return Update(self._stacked(batches, learned=False), batches, 1, 1)

    @property
    def cache(self) -> kv_cache.KVCache:
        """The sampler's cache."""
        place = sharding.cache_sharding(self.sampling_mesh, self.shape.kv_heads)
        empty = jax.eval_shape(
            lambda: kv_cache.empty(self.shape, self.slots, self.cache_tokens, self.compute.dtype)
        )
        return jax.tree.map(lambda leaf: _shaped(leaf.shape, leaf.dtype, place), empty)

    @property
    def sampling_copy(self) -> PyTree[jax.ShapeDtypeStruct] | None:
        """The parameters that tokens are sampled with, apart from `merged`; None: the learner's own."""
        narrower = self.compute.param_dtype != self.compute.compute_dtype
        in_place = self.mesh == self.sampling_mesh and self.processes == 1
        if in_place and not narrower and not self.compute.scan_layers and not self.overlaps:
            return None
        shapes = sharding.parameter_shapes(self.model, self.sampling_mesh)
        return jax.tree.map(lambda leaf: _shaped(leaf.shape, self.compute.dtype, leaf.sharding), shapes)

    @property
    def merged(self) -> PyTree[jax.ShapeDtypeStruct]:
        """The parameters with adapters added, as the learner gives them out; () without adapters."""
        return self.params if self.rank else ()

    def _batches_of(self, episodes: int) -> int:
        return -(-episodes // self.episodes_per_row // self.rows)

    def _stacked(self, batches: int, *, learned: bool) -> PackedBatch:
        """So many batches, filled up to a power of two, with the fields that they have."""
        place = sharding.place(self.mesh, None, "rows", None)
        shape = (1 << (batches - 1).bit_length(), self.rows, self.tokens)
        ids: Any = _shaped(shape, jnp.int32, place)
        numbers: Any = _shaped(shape, jnp.float32, place)

        def where(is_there: bool) -> Any:
            return numbers if is_there and learned else None

        return PackedBatch(
            tokens_BT=ids,
            segment_BT=ids,
            is_policy_BT=numbers,
            weight_BT=numbers,
            sampler_logp_BT=numbers,
            advantage_BT=numbers,
            old_logp_BT=where(self.asks_itself),
            reference_logp_BT=where(self.asks_reference),
            old_value_BT=where(self.trainable.critic),
            return_BT=where(self.trainable.critic),
        )


def resolve(config: RunConfig, devices: Devices) -> Shapes:
    """The shapes of a run.

    Args:
      config: the experiment; the model's shape is that of `policy.preset`, and no weights are opened.
      devices: that it runs on.

    Raises:
      ConfigError: when an axis does not divide, or a setting is impossible there; names it.
    """
    policy, train, rollout = config.policy, config.train, config.rollout
    shape = find_preset(policy.preset)
    algorithm = find_algorithm(config.algorithm.name)
    require_consistent(config, algorithm)
    mesh = _mesh("mesh", config.mesh, devices.count)
    sampling_mesh = _sampling_mesh(config, mesh, devices)
    platform = devices.accelerator.platform
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
    _require_multiple("train.rows_per_batch", train.rows_per_batch, mesh, "mesh")
    _require_multiple("rollout.slots", rollout.slots, sampling_mesh, "sampling_mesh", devices.processes)
    by_reward = train.steps > 0
    episodes = rollout.tasks_per_step * rollout.attempts_per_task if by_reward else config.sft.rows
    tokens = train.row_tokens or rollout.max_tokens
    return Shapes(
        trainable=Trainable(
            model=Transformer(shape, vocabulary, compute),
            lora=config.lora,
            critic=algorithm.critic and by_reward,
        ),
        mesh=mesh,
        sampling_mesh=sampling_mesh,
        processes=devices.processes,
        kernels=kernels,
        optimizer=reinforcing_optimizer(train) if by_reward else supervising_optimizer(config.sft, 1),
        optimizer_name=train.optimizer if by_reward else "adamw",
        rows=train.rows_per_batch,
        tokens=tokens,
        chunk_tokens=train.chunk_tokens,
        episodes=episodes,
        updates=max(1, round(episodes / train.episodes_per_update)) if by_reward else 1,
        episodes_per_row=tokens // rollout.max_tokens,
        slots=rollout.slots // devices.processes,
        cache_tokens=rollout.max_tokens,
        learns=by_reward or config.sft.steps > 0,
        asks_itself=by_reward and asks_itself(algorithm, config.algorithm),
        asks_reference=by_reward and config.algorithm.kl != "none",
        warms_up=by_reward and config.sft.steps > 0,
        overlaps=by_reward and train.max_off_policy_steps > 0,
    )


def bytes_per_device(tree: PyTree) -> int:
    """What one device holds of arrays whose shapes tell their shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def count(tree: PyTree) -> int:
    """Numbers in all arrays of a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def rows_of(mesh: AbstractMesh) -> int:
    """Parts that the rows of a batch are divided into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def spell(mesh: AbstractMesh) -> str:
    """The axes of a mesh, in words."""
    return " x ".join(f"{name} {size}" for name, size in mesh.shape.items())


def _shaped(shape: tuple[int, ...], dtype: Any, place: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype, sharding=place)


def _mesh(name: str, config: MeshConfig | SamplingMeshConfig, device_count: int) -> AbstractMesh:
    try:
        return sharding.make_abstract_mesh(**dataclasses.asdict(config), device_count=device_count)
    except ValueError as error:
        raise ConfigError(str(error).replace("mesh:", f"{name}:", 1)) from error


def _sampling_mesh(config: RunConfig, mesh: AbstractMesh, devices: Devices) -> AbstractMesh:
    """As `Workbench.sampling_mesh`: of several processes each samples on its own devices."""
    settings = config.sampling_mesh
    if settings == SamplingMeshConfig():
        if devices.processes == 1:
            return mesh
        settings = SamplingMeshConfig(data=-1, fsdp=1, tensor=config.mesh.tensor)
    return _mesh("sampling_mesh", settings, devices.count // devices.processes)


def _require_divisible(name: str, size: int, widths: dict[str, int]) -> None:
    for what, width in widths.items():
        if width % size:
            raise ConfigError(f"{name} = {size} does not divide the model's {what} ({width})")


def _require_multiple(name: str, rows: int, mesh: AbstractMesh, mesh_name: str, processes: int = 1) -> None:
    parts = rows_of(mesh) * processes
    if rows % parts:
        by = f" x {processes} processes" if processes > 1 else ""
        raise ConfigError(
            f"{name} must be a multiple of {mesh_name}.data x {mesh_name}.fsdp{by} ="
            f" {mesh.shape['data']} x {mesh.shape['fsdp']}{f' x {processes}' if processes > 1 else ''} ="
            f" {parts}, got {rows}"
        )
