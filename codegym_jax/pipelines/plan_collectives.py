"""What moves between the devices of a run: the collective operations of a step, as XLA compiles them.

Shapes say which there are; `tests/pipelines/test_plan.py` holds them against a compiled program.
"""

from typing import NamedTuple

from codegym_jax.pipelines.plan_layers import embedding_bytes, head_bytes, layer_bytes, layers_bytes
from codegym_jax.pipelines.plan_shapes import Shapes, bytes_per_device, rows_of, spell


class Transfer(NamedTuple):
    """Bytes that each device sends in all repetitions of one collective operation, as a ring would."""

    name: str
    bytes: int
    per: str
    why: str


def transfers(shapes: Shapes) -> list[Transfer]:
    """All of a step."""
    if not shapes.learns:
        return _to_sample(shapes)
    return [*_to_score(shapes), *_to_learn(shapes), *_to_hand_over(shapes), *_to_sample(shapes)]


def _to_score(shapes: Shapes) -> list[Transfer]:
    if shapes.scored is None:
        return []
    return _gathers(shapes, 1, "scored batch") + _activations(shapes, 2, "scored batch")


def _to_learn(shapes: Shapes) -> list[Transfer]:
    compute, mesh = shapes.compute, shapes.mesh
    again = compute.scan_layers or compute.remat != "none"
    found = _gathers(shapes, 2 if again else 1, "batch")
    parts, tensor = rows_of(mesh), mesh.shape["tensor"]
    if parts > 1:
        moved = layers_bytes(shapes)
        why = "gradients"
        if not shapes.rank:
            chunks = -(-shapes.tokens // shapes.chunk_tokens)
            moved += chunks * head_bytes(shapes, tensor) + embedding_bytes(shapes)
            why += f", the head's {chunks} times"
        moved = 2 * moved * (parts - 1) // parts
        found.append(
            Transfer("all-reduce over data, fsdp", moved, "batch", f"{why}; half where XLA scatters")
        )
    return found + _activations(shapes, 7 + (compute.remat != "none"), "batch")


def _to_hand_over(shapes: Shapes) -> list[Transfer]:
    copy = shapes.sampling_copy
    if copy is None or (shapes.mesh == shapes.sampling_mesh and shapes.processes == 1):
        return []
    where = " of each process" if shapes.processes > 1 else ""
    why = f"to {spell(shapes.sampling_mesh)}{where}"
    return [Transfer("reshard to sample", bytes_per_device(copy), "step", why)]


def _to_sample(shapes: Shapes) -> list[Transfer]:
    c, mesh = shapes.shape, shapes.sampling_mesh
    fsdp, tensor, itemsize = mesh.shape["fsdp"], mesh.shape["tensor"], shapes.compute.dtype.itemsize
    slots = shapes.slots // rows_of(mesh)
    found = []
    if fsdp > 1:
        moved = (c.layers * layer_bytes(shapes, tensor) + head_bytes(shapes, tensor)) * (fsdp - 1) // fsdp
        why = "all weights, for one token of every slot"
        found.append(Transfer("all-gather over fsdp", moved, "token", why))
    if tensor > 1:
        activations = 2 * 2 * c.layers * slots * c.width * itemsize * (tensor - 1) // tensor
        logits = slots * shapes.vocabulary * 4 * (tensor - 1) // tensor
        why = "activations, 2 a layer; logits"
        found.append(Transfer("all-reduce over tensor", activations + logits, "token", why))
    return found


def _gathers(shapes: Shapes, times: int, per: str) -> list[Transfer]:
    """Weights that are divided over fsdp, so many times, and the head."""
    fsdp, tensor = shapes.mesh.shape["fsdp"], shapes.mesh.shape["tensor"]
    if fsdp == 1:
        return []
    whole = times * layers_bytes(shapes) + head_bytes(shapes, tensor)
    why = f"weights, {times} times, and the head" if times > 1 else "weights, the head too"
    return [Transfer("all-gather over fsdp", whole * (fsdp - 1) // fsdp, per, why)]


def _activations(shapes: Shapes, times: int, per: str) -> list[Transfer]:
    """Activations of which each device along tensor has computed a part, so many times a layer."""
    tensor = shapes.mesh.shape["tensor"]
    if tensor == 1:
        return []
    rows = shapes.rows // rows_of(shapes.mesh)
    x = rows * shapes.tokens * shapes.shape.width * shapes.compute.dtype.itemsize
    moved = 2 * shapes.shape.layers * times * x * (tensor - 1) // tensor
    return [Transfer("all-reduce over tensor", moved, per, f"activations, {times} a layer")]
