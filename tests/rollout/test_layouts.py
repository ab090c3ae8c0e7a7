"""An episode is the same wherever its slots and its key-value heads live."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import sharding
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.transformer import Transformer
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.token_sampler import episode_key

MODEL = Transformer(
    ModelConfig(width=32, layers=2, query_heads=4, kv_heads=2, head_width=8, ffn_width=64, qkv_bias=True), 24
)


def sampled(**axes):
    """Two messages of four episodes, with a tool result between them."""
    mesh = sharding.make_mesh(**axes, devices=jax.devices()[: int(np.prod(list(axes.values())))])
    params = sharding.init_parameters(MODEL, mesh, 0, jnp.zeros((1, 2), jnp.int32))
    sampler = Sampler(
        MODEL, mesh, slots=4, max_tokens=48, max_message_tokens=8, stop_sequences=((3,),), prefill_rows=2
    )
    sampler.start({slot: episode_key(0, f"task {slot}", 0) for slot in range(4)})
    sampler.append(params, {slot: [slot + 4] * (9 + slot) for slot in range(4)})
    first = sampler.decode(params, np.full(4, 8, np.int32), 1.0)
    sampler.append(params, {slot: [5, 6] for slot in range(4)})
    return first, sampler.decode(params, np.full(4, 8, np.int32), 1.0), sampler.compiled_programs


@pytest.mark.parametrize(
    "axes", [{"data": 2, "fsdp": 1, "tensor": 2}, {"data": 1, "fsdp": 2, "tensor": 4}], ids=["heads", "whole"]
)
def test_an_episode_does_not_feel_the_layout(axes):
    """Two key-value heads are divided over two devices, and whole on each of four."""
    for one, other in zip(sampled(data=1, fsdp=1, tensor=1)[:2], sampled(**axes)[:2], strict=True):
        np.testing.assert_array_equal(one.tokens_BT, other.tokens_BT)
        np.testing.assert_allclose(one.policy_logp_BT, other.policy_logp_BT, atol=1e-4)


def test_a_divided_cache_compiles_no_program_twice():
    assert sampled(data=2, fsdp=1, tensor=2)[2] == 4
