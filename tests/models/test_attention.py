"""Every kernel computes what the reference computes; masks are the rules that they say they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from codegym_jax.models import attention, sharding
from codegym_jax.models.attention import Cached, Causal, grouped

SEGMENTS = np.repeat([[3, 1, 2], [0, 5, 5]], [40, 50, 60], axis=1)  # 150 positions: no multiple of a block


def inputs(rows=2, length=150, query_heads=4, kv_heads=2, slots=None, head_width=16):
    """Random queries, keys and values."""
    shapes = [(rows, length, query_heads, head_width)] + [(rows, kv_heads, slots or length, head_width)] * 2
    keys = jax.random.split(jax.random.key(7), 3)
    return [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]


def close(got, expected, atol=2e-5):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4), got, expected)


def learn(kernel, mask):
    """The kernel's output for whole sequences and the gradients of a function of it."""

    def loss(q, k, v):
        out = kernel(q, k, v, mask)
        return (out * jnp.cos(jnp.arange(out.size).reshape(out.shape))).sum(), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs())


def test_masks_are_what_they_say():
    """Hand-drawn: two segments of two and one positions; a cache of four with queries at 1 and 2."""
    causal = attention.visible(Causal(), 1, 3)[0].astype(int)
    assert causal.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    packed = attention.visible(Causal(jnp.array([[4, 4, 9]])), 1, 3)[0].astype(int)
    assert packed.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    cached = attention.visible(Cached(jnp.array([[1, 2]])), 1, 4)[0].astype(int)
    assert cached.tolist() == [[1, 1, 0, 0], [1, 1, 1, 0]]


def test_grouped_attention_equals_repeated_heads():
    """Query head n reads key-value head n // (N/K), as if each were repeated N/K times."""
    q = jax.random.normal(jax.random.key(0), (2, 5, 4, 6))
    k, v = (jax.random.normal(jax.random.key(i), (2, 2, 7, 6)) for i in (1, 2))
    visible = jax.random.bernoulli(jax.random.key(3), 0.6, (2, 5, 7)).at[:, :, 0].set(True)
    repeated = grouped(q, jnp.repeat(k, 2, axis=1), jnp.repeat(v, 2, axis=1), visible)
    np.testing.assert_allclose(grouped(q, k, v, visible), repeated, atol=1e-5)
    scores = jnp.einsum("th,ch->tc", q[0, :, 3], k[0, 1]) / 6**0.5
    weights = jax.nn.softmax(jnp.where(visible[0], scores, -jnp.inf), axis=-1)
    np.testing.assert_allclose(grouped(q, k, v, visible)[0, :, 3], weights @ v[0, 1], atol=1e-5)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
@pytest.mark.parametrize("name", ["splash", "dot_product"])
def test_a_kernel_for_whole_sequences_equals_the_reference(name, segments):
    """Values and gradients; splash by its interpreter, what cuDNN is given by XLA in its place."""
    kernel = {
        "splash": functools.partial(attention.splash, interpret=True),
        "dot_product": functools.partial(attention.dot_product, implementation="xla"),
    }[name]
    mask = Causal(None if segments is None else jnp.asarray(segments))
    close(learn(kernel, mask), learn(attention.xla, mask), atol=1e-4)


@pytest.mark.parametrize("appended", [1, 3])
def test_a_kernel_for_the_cache_equals_the_reference(appended):
    """Rows of several lengths, one or more tokens at a time; what lies past a row's length is never read."""
    q, k, v = inputs(length=appended, slots=256)
    mask = Cached(jnp.array([[130], [4]]) + jnp.arange(appended)[None])
    expected = attention.xla(q, k, v, mask)
    unseen = (jnp.arange(256)[None, :] > mask.positions_BT[:, -1:])[:, None, :, None]
    k, v = (jnp.where(unseen, 1e4, x) for x in (k, v))
    close(attention.dot_product(q, k, v, mask, implementation="xla"), expected)
    with pltpu.force_tpu_interpret_mode():  # its keys and values are bfloat16: 8 bits of values up to 4
        close(jax.jit(attention.paged)(q, k, v, mask), expected, atol=4 * 2**-8)


@pytest.mark.parametrize(("query_heads", "kv_heads"), [(4, 2), (4, 1), (3, 3)])
def test_a_kernel_divided_over_devices_equals_the_whole(query_heads, kv_heads):
    """Heads divided, one head for two devices, and heads that do not divide."""
    mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
    q, k, v = inputs(4, 5, query_heads, kv_heads)
    segments = jnp.asarray([[0, 0, 1, 1, 1]] * 4)
    divided = jax.jit(functools.partial(attention.divided, attention.xla, mesh))
    close(divided(q, k, v, Causal(segments)), attention.xla(q, k, v, Causal(segments)))


def test_a_program_of_sharded_arrays_divides_its_kernel(monkeypatch):
    """The mesh is read off the arrays, within `jit`; the kernel then sees one device's rows and heads."""
    seen = []

    def kernel(q, k, v, mask):
        seen.append(q.shape)
        return attention.xla(q, k, v, mask)

    monkeypatch.setitem(attention.BACKENDS, "spy", attention.Backend(kernel=kernel, masks=(Causal,)))
    mesh = sharding.make_mesh(data=4, fsdp=1, tensor=2)
    q, k, v = inputs(4, 6, 4, 2)
    attend = jax.jit(lambda q, k, v: attention.attend(q * 2.0, k, v, Causal(), "spy"))
    rows = sharding.place(mesh, "rows")
    close(attend(*(jax.device_put(x, rows) for x in (q, k, v))), attention.xla(q * 2.0, k, v, Causal()))
    assert seen == [(1, 6, 2, 16)]


@pytest.mark.parametrize(
    ("name", "platform", "dtype", "head_width", "reason"),
    [
        ("flash3", "cpu", "float32", 64, "no such backend; possible here: auto, xla"),
        ("cudnn", "cpu", "bfloat16", 64, "runs on gpu, and this is cpu; possible here: auto, xla"),
        ("cudnn", "gpu", "float32", 64, "needs policy.compute_dtype bfloat16, got float32"),
        ("splash", "gpu", "bfloat16", 64, "runs on tpu, and this is gpu; possible here: auto, xla, cudnn"),
        ("paged", "tpu", "bfloat16", 64, "needs heads of a multiple of 128 channels, got 64"),
        ("cudnn", "gpu", "bfloat16", 256, "needs heads of at most 128 channels, got 256"),
    ],
)
def test_an_impossible_backend_is_refused(name, platform, dtype, head_width, reason):
    with pytest.raises(ValueError, match=f"policy.attention: '{name}': {reason}"):
        attention.choose(name, dtype, head_width, platform)


@pytest.mark.parametrize(
    ("name", "platform", "dtype", "head_width", "causal", "cached"),
    [
        ("auto", "cpu", "float32", 64, "xla", "xla"),
        ("auto", "gpu", "float32", 64, "xla", "xla"),
        ("auto", "gpu", "bfloat16", 128, "cudnn", "xla"),
        ("cudnn", "gpu", "bfloat16", 128, "cudnn", "cudnn"),
        ("auto", "tpu", "bfloat16", 128, "splash", "xla"),
        ("auto", "tpu", "bfloat16", 32, "xla", "xla"),
        ("paged", "tpu", "bfloat16", 128, "splash", "paged"),
        ("xla", "tpu", "bfloat16", 128, "xla", "xla"),
    ],
)
def test_the_device_chooses_the_backend(name, platform, dtype, head_width, causal, cached):
    assert attention.choose(name, dtype, head_width, platform) == (causal, cached)
