"""cuDNN's attention computes what the reference does, on the device that it is for (`make test-gpu`)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import attention
from codegym_jax.models.attention import Cached, Causal, Mask

pytestmark = pytest.mark.gpu

SEGMENTS = np.repeat([[3, 1, 2], [0, 5, 5]], [40, 50, 60], axis=1)
ULP = 2.0**-8
"""Of bfloat16 at 1, in which queries, keys, values and results are kept."""


@pytest.fixture(autouse=True)
def gpu():
    if jax.default_backend() != "gpu":
        pytest.fail(
            f"JAX sees no GPU here, its default backend is {jax.default_backend()};"
            " docs/tutorials/gpu_node.md says how JAX is installed for one"
        )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):  # JAX's own code needs it
        yield


def inputs(length: int, slots: int) -> list[jax.Array]:
    """Queries, keys and values of two rows; four heads on two."""
    shapes = [(2, length, 4, 64), (2, 2, slots, 64), (2, 2, slots, 64)]
    keys = jax.random.split(jax.random.key(7), 3)
    return [jax.random.normal(key, shape, jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]


def value_and_gradients(kernel, mask: Mask, arrays):
    def loss(q, k, v):
        out = kernel(q, k, v, mask).astype(jnp.float32)
        return (out * jnp.cos(jnp.arange(out.size, dtype=jnp.float32)).reshape(out.shape)).sum(), out

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*arrays)


@pytest.mark.parametrize("segments", [None, SEGMENTS], ids=["whole", "packed"])
def test_whole_sequences(segments):
    """Values, and the gradients of all three, beside the reference in float32."""
    mask = Causal(None if segments is None else jnp.asarray(segments))
    arrays = inputs(150, 150)
    (_, out), grads = value_and_gradients(attention.dot_product, mask, arrays)
    wide = [array.astype(jnp.float32) for array in arrays]
    (_, expected), wide_grads = value_and_gradients(attention.xla, mask, wide)
    np.testing.assert_allclose(out, expected, atol=4 * ULP)
    for grad, wide_grad in zip(grads, wide_grads, strict=True):
        scale = float(jnp.abs(wide_grad).max())
        np.testing.assert_allclose(grad.astype(jnp.float32), wide_grad, atol=4 * ULP * scale)


@pytest.mark.parametrize("appended", [1, 3])
def test_the_cache(appended):
    """Rows of several lengths; what lies past a row's length is never read."""
    q, k, v = inputs(appended, 256)
    mask = Cached(jnp.array([[130], [4]]) + jnp.arange(appended)[None])
    expected = attention.xla(*(array.astype(jnp.float32) for array in (q, k, v)), mask)
    unseen = (jnp.arange(256)[None, :] > mask.positions_BT[:, -1:])[:, None, :, None]
    k, v = (jnp.where(unseen, jnp.bfloat16(1e4), array) for array in (k, v))
    got = jax.jit(functools.partial(attention.dot_product, mask=mask))(q, k, v)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=4 * ULP)
