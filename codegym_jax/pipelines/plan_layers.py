"""What one layer, the head and the embedding take on one device: to be used, and for the backward pass."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from codegym_jax.models.attention import Causal
from codegym_jax.models.compute import REMAT, Compute
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Block
from codegym_jax.pipelines.plan_shapes import Shapes


def layer_bytes(shapes: Shapes, tensor: int) -> int:
    """One layer's weights in the compute type, divided over the tensor axis alone."""
    c = shapes.shape
    kv = share(c.kv_heads, tensor)
    width = 2 * c.query_heads * c.head_width // tensor + 2 * kv * c.head_width + 3 * c.ffn_width // tensor
    return c.width * width * shapes.compute.dtype.itemsize


def layers_bytes(shapes: Shapes) -> int:
    """The same of all layers, as the learner's mesh divides them."""
    return shapes.shape.layers * layer_bytes(shapes, shapes.mesh.shape["tensor"])


def head_bytes(shapes: Shapes, tensor: int) -> int:
    """The head in the compute type, divided over the tensor axis alone."""
    return shapes.vocabulary // tensor * shapes.shape.width * shapes.compute.dtype.itemsize


def embedding_bytes(shapes: Shapes) -> int:
    """The embedding's gradient, divided over the fsdp axis alone."""
    itemsize = jnp.dtype(shapes.compute.param_dtype).itemsize
    return shapes.vocabulary * shapes.shape.width // shapes.mesh.shape["fsdp"] * itemsize


def block_residual_bytes(shapes: Shapes, remat: str) -> int:
    """What one layer keeps on one device for the backward pass of one row, as JAX says of its share of it.

    A kernel other than "xla" never has all scores at once: arrays with a query and a key axis do not count.
    """
    c, tensor = shapes.shape, shapes.mesh.shape["tensor"]
    heads = share(c.query_heads, tensor)
    part = dataclasses.replace(
        c,
        query_heads=heads,
        kv_heads=math.gcd(heads, share(c.kv_heads, tensor)),
        ffn_width=c.ffn_width // tensor,
    )
    compute = dataclasses.replace(shapes.compute, remat=remat, attention="xla")
    return _residual_bytes(part, compute, shapes.tokens, shapes.kernels.causal != "xla")


def share(heads: int, tensor: int) -> int:
    """Heads on one device; all of them where they do not divide."""
    return heads if heads % tensor else heads // tensor


@functools.lru_cache(maxsize=64)
def _residual_bytes(config: ModelConfig, compute: Compute, tokens: int, fused: bool) -> int:
    policy = REMAT[compute.remat]
    block = (Block if policy is None else nn.remat(Block, policy=policy))(config, compute)
    x_BTD = jax.ShapeDtypeStruct((1, tokens, config.width), compute.dtype)
    ids_BT = jax.ShapeDtypeStruct((1, tokens), jnp.int32)
    params = jax.eval_shape(lambda x, ids: block.init(jax.random.key(0), x, ids, Causal(ids)), x_BTD, ids_BT)

    def backward(params: Any, x_BTD: Any, ids_BT: Any) -> Any:
        return jax.vjp(
            lambda p, x: block.apply(p, x, ids_BT, Causal(ids_BT))[0], nn.meta.unbox(params), x_BTD
        )[1]  # type: ignore[index]

    kept = [
        leaf
        for leaf in jax.tree.leaves(jax.eval_shape(backward, params, x_BTD, ids_BT))
        if leaf.shape[:1] == (1,)  # the row; weights have none
    ]
    if fused:
        heads = {True: 1, False: config.query_heads}  # a mask is of all heads
        kept = [leaf for leaf in kept if math.prod(leaf.shape) < heads[leaf.dtype == bool] * tokens**2]
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept)
