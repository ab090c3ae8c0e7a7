"""Sharded equals unsharded, and the one table places every parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import sharding
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer

CONFIG = ModelConfig(width=32, layers=2, query_heads=4, kv_heads=1, head_width=8, ffn_width=64)


@pytest.fixture(scope="module")
def model():
    return Transformer(CONFIG, 64)


def parameters(model, **axes):
    count = int(np.prod([size for size in axes.values()]))
    mesh = sharding.make_mesh(**axes, devices=jax.devices()[:count])
    return mesh, sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))


@pytest.mark.parametrize("axes", [{"data": 2, "fsdp": 2, "tensor": 2}, {"data": 1, "fsdp": 8, "tensor": 1}])
def test_sharded_equals_unsharded(model, axes):
    """Same initial numbers, same logits, same gradients on eight devices as on one."""
    tokens_BT = jax.random.randint(jax.random.key(1), (8, 16), 0, 64, jnp.int32)

    def loss(params, tokens):
        return jax.nn.logsumexp(model.apply({"params": params}, tokens), axis=-1).mean()

    _, one = parameters(model, data=1, fsdp=1, tensor=1)
    mesh, many = parameters(model, **axes)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(one), jax.device_get(many))
    sharded_BT = jax.device_put(tokens_BT, sharding.place(mesh, "rows"))
    expected, got = (
        jax.jit(jax.value_and_grad(loss))(p, t) for p, t in ((one, tokens_BT), (many, sharded_BT))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *jax.device_get((expected, got)))


def test_parameters_are_divided_as_the_table_says(model):
    _, params = parameters(model, data=2, fsdp=2, tensor=2)
    gate = params["blocks_0"]["gate"]
    assert gate.shape == (32, 64)
    assert gate.addressable_shards[0].data.shape == (16, 32), "embed over fsdp, ffn over tensor"
    assert params["blocks_0"]["k"].addressable_shards[0].data.shape == (16, 8), "key-value heads stay whole"
    assert params["norm"]["scale"].sharding.is_fully_replicated


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="= 3, but there are 8 devices"):
        sharding.make_mesh(data=3)
    with pytest.raises(ValueError, match="only one axis may be -1"):
        sharding.make_mesh(data=-1, fsdp=-1)
