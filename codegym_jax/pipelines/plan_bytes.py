"""What a run needs on one device: bytes that stay, and bytes for a while.

What stays is exact. What is there for a while is an estimate of what XLA sets aside, which
`tests/pipelines/test_plan.py` bounds by XLA's own analysis. Knows nothing of how a plan is shown or judged.
"""

import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh

from codegym_jax.models import flops
from codegym_jax.pipelines.plan_layers import (
    block_residual_bytes,
    embedding_bytes,
    head_bytes,
    layer_bytes,
    layers_bytes,
    share,
)
from codegym_jax.pipelines.plan_shapes import Shapes, bytes_per_device, count, rows_of, spell
from codegym_jax.pipelines.trainable import CRITIC
from codegym_jax.rollout.generate import Sampler

STEP_TREES = 2.5
"""What an optimizer's step makes beside the gradients, in trees of what learns: the step, and new moments
that are not yet in the place of the old. XLA on a CPU sets aside 1.8 (Lion) to 2.5 (AdamW)."""
MUON_LAYERS = 1.2
"""What Muon makes of stacked layers that are divided over fsdp, in trees of all layers' matrices, gathered
whole. XLA on a CPU sets aside 0.7 to 1.3."""

_MOMENTS = {
    "adamw": "two moments",
    "lion": "one moment",
    "muon": "one moment of matrices between layers, two of the rest",
    "adafactor": "one moment, of large matrices only its rows and columns",
}


class Item(NamedTuple):
    """Bytes on each device, and why."""

    name: str
    bytes: int
    why: str
    settings: str = ""
    """What makes it smaller."""


def resident(shapes: Shapes) -> list[Item]:
    """What stays on the device from the first step to the last."""
    compute, learned = shapes.compute, shapes.learned
    size = f"{count(shapes.params) / 1e9:.3g} G, {compute.param_dtype}"
    items = [Item("parameters", bytes_per_device(shapes.params), size, "mesh.fsdp")]
    if shapes.rank:
        adapters = {name: leaf for name, leaf in learned.items() if name != CRITIC}
        targets = ", ".join(shapes.trainable.lora.targets)
        items[0] = items[0]._replace(why=f"{size}, frozen under adapters")
        items.append(
            Item(
                "adapters",
                bytes_per_device(adapters),
                f"{count(adapters) / 1e9:.3g} G, float32: rank {shapes.rank} of {targets}",
                "lora.rank, lora.targets",
            )
        )
    if shapes.trainable.critic:
        critic = shapes.learned[CRITIC]
        items.append(Item("critic", bytes_per_device(critic), f"one vector of {critic.shape[0]:,}, float32"))
    if shapes.learns:
        moments = {str(leaf.dtype) for leaf in jax.tree.leaves(shapes.state.opt_state) if leaf.ndim}
        why = f"{shapes.optimizer_name}: {_MOMENTS[shapes.optimizer_name]}, {', '.join(sorted(moments))}"
        setting = "mesh.fsdp, train.optimizer, lora.rank"
        items.append(Item("optimizer", bytes_per_device(shapes.state.opt_state), why, setting))
    if shapes.asks_reference and not shapes.rank:
        why = "a copy of the parameters at the start, for the KL"
        items.append(
            Item("reference policy", bytes_per_device(shapes.reference), why, "lora.rank, algorithm.kl=none")
        )
    return [*items, _cache(shapes)]


def _cache(shapes: Shapes) -> Item:
    parts = rows_of(shapes.sampling_mesh)
    cache, here = bytes_per_device(shapes.cache), shapes.slots // parts
    return Item(
        "key-value cache",
        cache + 4 * here * shapes.cache_tokens,
        f"{here:,} slots here x {shapes.cache_tokens:,} tokens x {cache // here // shapes.cache_tokens:,} B,"
        f" {shapes.compute.compute_dtype}",
        "rollout.slots, rollout.max_tokens, sampling_mesh.tensor",
    )


def learning(shapes: Shapes) -> list[Item]:
    """What the gradient of one batch takes beside what stays: at the head or in a layer, where it is more."""
    if not shapes.learns:
        return []
    compute, layers = shapes.compute, shapes.shape.layers
    batches = shapes.update.batches.tokens_BT.shape[0]
    return [
        Item(
            "gradients",
            bytes_per_device(shapes.learned) + (_in_float32(shapes) if batches > 1 else 0),
            _learned_type(shapes) + (", and a sum in float32" if batches > 1 else ""),
            "mesh.fsdp, lora.rank",
        ),
        Item(
            "matrices with adapters",
            2 * bytes_per_device(shapes.adapted),
            "adapters added, and their gradients",
            "mesh.fsdp, lora.targets",
        ),
        Item(
            "batches",
            bytes_per_device(shapes.update.batches),
            f"{batches} of {_rows(shapes)} rows here x {shapes.tokens:,} tokens",
            _ROWS,
        ),
        Item(
            "activations kept",
            layers * _rows(shapes) * block_residual_bytes(shapes, compute.remat),
            f"{layers} layers, policy.remat={compute.remat}",
            _ROWS if compute.remat == "full" else f"policy.remat=full, {_ROWS}",
        ),
        *max(_at_the_head(shapes), _in_a_layer(shapes), key=_total),
    ]


def scoring(shapes: Shapes) -> list[Item]:
    """What it takes to score a step's episodes, by the learner, the reference or both."""
    if shapes.scored is None:
        return []
    stacked = shapes.scored.batches.tokens_BT
    scores = shapes.asks_itself * (2 + shapes.trainable.critic) + shapes.asks_reference * 2
    by = ["the learner"] * shapes.asks_itself + ["the reference"] * shapes.asks_reference
    return [
        Item(
            "batches",
            bytes_per_device(shapes.scored.batches) + scores * bytes_per_device(stacked),
            f"{stacked.shape[0]:,} of {_rows(shapes)} rows here, and their scores by {' and '.join(by)}",
            "rollout.tasks_per_step",
        ),
        Item(
            "matrices with adapters",
            bytes_per_device(shapes.adapted) if shapes.asks_itself else 0,
            "adapters added",
            "mesh.fsdp, lora.targets",
        ),
        *max(_at_the_head(shapes, learns=False), _in_a_layer(shapes, learns=False), key=_total),
    ]


def stepping(shapes: Shapes) -> list[Item]:
    """What the optimizer's step takes, once the gradients are there and the activations gone."""
    if not shapes.learns:
        return []
    learned, setting = bytes_per_device(shapes.learned), "mesh.fsdp, lora.rank"
    items = [
        Item("gradients", learned, _learned_type(shapes), setting),
        Item(
            "the step",
            int(STEP_TREES * learned),
            "it, and what takes the place of the old only at the end",
            setting,
        ),
    ]
    if shapes.optimizer_name == "muon" and shapes.compute.scan_layers and shapes.mesh.shape["fsdp"] > 1:
        itemsize = jnp.dtype(shapes.compute.param_dtype).itemsize
        whole = layers_bytes(shapes) * itemsize // shapes.compute.dtype.itemsize
        why = "of all layers at a time, gathered over fsdp and made orthogonal"
        setting = "policy.scan_layers=false, train.optimizer"
        items.append(Item("matrices, whole", int(MUON_LAYERS * whole), why, setting))
    return items


def sampling(shapes: Shapes) -> list[Item]:
    """What sampling takes beside what stays."""
    c, compute, mesh = shapes.shape, shapes.compute, shapes.sampling_mesh
    slots, tensor = shapes.slots // rows_of(mesh), mesh.shape["tensor"]
    defaults = inspect.signature(Sampler).parameters
    prefill_rows = min(defaults["prefill_rows"].default, shapes.slots)
    width = defaults["prefill_width"].default
    slot_bytes = bytes_per_device(shapes.cache) // slots
    heads = share(c.query_heads, tensor)
    scores = (
        4 * heads * shapes.cache_tokens * max(prefill_rows * width, slots * defaults["extend_width"].default)
    )
    copy = shapes.sampling_copy
    setting = "rollout.max_tokens, sampling_mesh.tensor"
    items = [
        Item(
            "parameters, merged",
            bytes_per_device(shapes.merged),
            f"adapters added, as they lie to learn, {compute.param_dtype}",
            "mesh.fsdp",
        ),
        Item(
            "parameters to sample",
            bytes_per_device(copy) if copy is not None else 0,
            f"a copy over {spell(mesh)}, {compute.compute_dtype}",
            "sampling_mesh.tensor",
        ),
        Item("prefill", prefill_rows * slot_bytes, f"{prefill_rows} slots, taken out and put back", setting),
        Item(
            "attention scores",
            2 * scores if shapes.kernels.cached == "xla" else 0,
            f"of one layer, by {shapes.kernels.cached}",
            setting,
        ),
        Item(
            "logits",
            3 * slots * shapes.vocabulary * 4,
            "every slot: values, sorted, shares; float32",
            "rollout.slots",
        ),
    ]
    if mesh.shape["fsdp"] > 1:
        whole = 2 * layer_bytes(shapes, tensor) + head_bytes(shapes, tensor)
        why = "two layers and the head, gathered for every token"
        items.append(Item("weights, whole", whole, why, "sampling_mesh.fsdp=1"))
    return items


def step_flops(shapes: Shapes) -> float:
    """Multiplications and additions of a step's updates and scorings, were every episode of the greatest
    length; a forward pass that is done again to save memory counts again."""
    lengths_E = np.full(shapes.episodes, shapes.cache_tokens)
    passes = 3 + (shapes.compute.remat == "full") + shapes.asks_itself + shapes.asks_reference
    return passes * flops.forward_flops(shapes.shape, shapes.vocabulary, lengths_E)


_ROWS = "train.row_tokens, rollout.max_tokens, train.rows_per_batch"


def _at_the_head(shapes: Shapes, *, learns: bool = True) -> list[Item]:
    """From hidden states to the loss, and back where that is learned from."""
    mesh = shapes.mesh
    positions, tensor = min(shapes.chunk_tokens, shapes.tokens), mesh.shape["tensor"]
    one = _rows(shapes) * positions * shapes.vocabulary // tensor * 4
    arrays = ("values", "shares", "gradients")[: 3 if learns else 2]
    head = 0 if _in_place(shapes, mesh) else head_bytes(shapes, tensor)
    has_gradient = learns and not shapes.rank
    return [
        Item(
            "logits",
            len(arrays) * one,
            f"{positions:,} positions: {', '.join(arrays)}; float32",
            "train.chunk_tokens, mesh.tensor",
        ),
        Item(
            "head, whole",
            head * (1 + has_gradient),
            _gathered(shapes, mesh) + (", and its gradient" if has_gradient else ""),
            "mesh.tensor",
        ),
    ]


def _in_a_layer(shapes: Shapes, *, learns: bool = True) -> list[Item]:
    """One layer forward, or forward again and backward."""
    compute, mesh, kernel = shapes.compute, shapes.mesh, shapes.kernels.causal
    activations = _rows(shapes) * block_residual_bytes(shapes, "none")
    if not learns:
        activations //= 2  # what backward would need and forward has no use for
    elif compute.remat == "none":
        activations = 0  # they are kept
    square = f"{shapes.tokens:,} x {shapes.tokens:,} of each row"
    mask = _rows(shapes) * shapes.tokens**2 * compute.dtype.itemsize if kernel == "cudnn" else 0
    keeps = learns and not compute.scan_layers and compute.remat == "none"
    weights = layers_bytes(shapes) if keeps else 2 * layer_bytes(shapes, mesh.shape["tensor"])
    return [
        Item(
            "one layer",
            activations,
            f"all of its activations, attention by {kernel}",
            _ROWS if kernel != "xla" else f"{_ROWS}, policy.attention",
        ),
        Item(
            # cuDNN takes what tells packed episodes apart as a bias of each pair, and gives out a gradient.
            "attention mask",
            mask * (1 + learns),
            f"{square}, and its gradient" if learns else square,
            _ROWS,
        ),
        Item(
            "weights, whole",
            0 if _in_place(shapes, mesh) else weights,
            f"{'all' if keeps else 'two'} layers, {_gathered(shapes, mesh)}",
            "mesh.tensor, policy.scan_layers=true",
        ),
        *([_whole_gradients(shapes)] if learns else []),
    ]


def _whole_gradients(shapes: Shapes) -> Item:
    """Gradients that are not yet scattered over the data axes: of one layer; or of all, where no loop over
    layers keeps the compiler from adding them all up at a time, which a loop over batches has it copy."""
    found = layer_bytes(shapes, shapes.mesh.shape["tensor"])
    why = "a layer"
    if not shapes.compute.scan_layers:
        found = layers_bytes(shapes)
        why = "all layers"
        if not shapes.rank:
            found += head_bytes(shapes, shapes.mesh.shape["tensor"]) + embedding_bytes(shapes)
            why += ", the head and the embedding"
        if shapes.batches > 1:
            found *= 2
            why += ", and their sums"
    return Item(
        "gradients, whole",
        found if rows_of(shapes.mesh) > 1 else 0,
        f"of {why}, not yet scattered",
        "mesh.tensor, policy.scan_layers=true",
    )


def _in_place(shapes: Shapes, mesh: AbstractMesh) -> bool:
    """Whether weights are used as they lie."""
    return mesh.shape["fsdp"] == 1 and shapes.compute.param_dtype == shapes.compute.compute_dtype


def _gathered(shapes: Shapes, mesh: AbstractMesh) -> str:
    return "gathered over fsdp" if mesh.shape["fsdp"] > 1 else f"in {shapes.compute.compute_dtype}"


def _total(items: list[Item]) -> int:
    return sum(item.bytes for item in items)


def _learned_type(shapes: Shapes) -> str:
    return "float32" if shapes.rank else shapes.compute.param_dtype


def _in_float32(shapes: Shapes) -> int:
    """What learns, were it all float32."""

    def as_float32(leaf: Any) -> Any:
        return jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=leaf.sharding)

    return bytes_per_device(jax.tree.map(as_float32, shapes.learned))


def _rows(shapes: Shapes) -> int:
    """Of one batch, on one device."""
    return shapes.rows // rows_of(shapes.mesh)
