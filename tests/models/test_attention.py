"""Every kernel computes what the reference computes; masks are the rules that they say they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import attention
from codegym_jax.models.attention import grouped


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


@pytest.mark.parametrize(
    ("name", "reason"),
    [("flash3", "no such backend")],
)
def test_an_impossible_backend_is_refused(name, reason):
    with pytest.raises(ValueError, match=f"policy.attention: '{name}': {reason}.*possible here: auto, xla"):
        attention.choose(name, "float32", 64, platform="cpu")
