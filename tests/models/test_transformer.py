"""Laws of the transformer: causality, and that the cached path equals the whole-sequence path."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import kv_cache, sharding
from codegym_jax.models.presets import PRESETS, ModelConfig
from codegym_jax.models.transformer import Transformer

VOCABULARY = 37
GROUPED = ModelConfig(width=24, layers=2, query_heads=4, kv_heads=2, head_width=6, ffn_width=20)


@pytest.fixture(params=["nano", "grouped"], scope="module")
def model(request):
    config = PRESETS["nano"] if request.param == "nano" else GROUPED
    return Transformer(config, VOCABULARY)


@pytest.fixture(scope="module")
def params(model):
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    return sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))


def tokens(rows: int, length: int, seed: int = 1):
    return jax.random.randint(jax.random.key(seed), (rows, length), 0, VOCABULARY, jnp.int32)


def test_a_logit_depends_on_no_later_token(model, params):
    """Changing token t leaves the logits before t as they were, bit for bit, and moves those at t."""
    tokens_BT = tokens(2, 12)
    changed_BT = tokens_BT.at[:, 7].set((tokens_BT[:, 7] + 1) % VOCABULARY)
    logits_BTV, changed_BTV = (model.apply({"params": params}, x) for x in (tokens_BT, changed_BT))
    np.testing.assert_array_equal(logits_BTV[:, :7], changed_BTV[:, :7])
    assert (jnp.abs(logits_BTV[:, 7] - changed_BTV[:, 7]).max(axis=-1) > 1e-4).all()


def test_a_logit_depends_on_every_earlier_token(model, params):
    """The gradient of the last logits with respect to each input position is not zero."""

    def last_logit(embedding):
        return model.apply({"params": {**params, "embedding": embedding}}, tokens_BT)[0, -1].std()

    tokens_BT = jnp.arange(10, dtype=jnp.int32)[None]
    gradient_VD = jax.grad(last_logit)(params["embedding"])
    without_head = jnp.abs(gradient_VD[:10]).max(axis=-1)
    assert (without_head > 0).all()


@pytest.mark.parametrize("split", [1, 5, 11])
def test_ragged_appends_equal_the_whole_sequence(model, params, split):
    """Rows appended at different offsets, then token by token, give the logits of one forward pass."""
    length = 12
    tokens_BT = tokens(3, length)
    expected_BTV = model.apply({"params": params}, tokens_BT)
    previous_BT = jnp.pad(tokens_BT, ((0, 0), (1, 0)))[:, :-1]
    cache = kv_cache.empty(model.config, 3, 16)
    first_B = jnp.array([split, max(split - 3, 1), 0], jnp.int32)

    def extend(cache, from_B, count_B, width):
        at_BT = jnp.clip(from_B[:, None] + jnp.arange(width)[None, :], 0, length - 1)
        block, before = (jnp.take_along_axis(x, at_BT, axis=1) for x in (tokens_BT, previous_BT))
        return model.apply({"params": params}, cache, block, before, from_B, count_B, method="extend")

    head_DV = model.apply({"params": params}, method="head")
    offset_B = jnp.zeros(3, jnp.int32)
    cache, _ = extend(cache, offset_B, first_B, split)
    offset_B = first_B
    for _ in range(length):
        count_B = (offset_B < length).astype(jnp.int32)
        cache, hidden_BTD = extend(cache, offset_B, count_B, 1)
        for row in range(3):
            if count_B[row]:
                np.testing.assert_allclose(
                    hidden_BTD[row, 0] @ head_DV, expected_BTV[row, offset_B[row]], atol=2e-5
                )
        offset_B = offset_B + count_B


def test_an_append_of_no_tokens_changes_nothing(model, params):
    cache = kv_cache.KVCache(*jax.tree.map(jnp.ones_like, kv_cache.empty(model.config, 2, 8)))
    block = jnp.zeros((2, 4), jnp.int32)
    nothing = jnp.zeros(2, jnp.int32)
    after, _ = model.apply({"params": params}, cache, block, block, nothing + 6, nothing, method="extend")
    jax.tree.map(np.testing.assert_array_equal, after, cache)


def test_writes_past_the_end_are_dropped():
    cache_BKCH = jnp.zeros((1, 1, 3, 2))
    entries_BKTH = jnp.ones((1, 1, 2, 2))
    written = kv_cache.write(cache_BKCH, entries_BKTH, jnp.array([[2, 3]]))
    np.testing.assert_array_equal(written[0, 0], [[0, 0], [0, 0], [1, 1]])
