"""One process sees the parameters of all devices as its own: the same numbers, in the layout asked for."""

import jax
import jax.numpy as jnp
import numpy as np

from codegym_jax.models import local_view, sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer

TOKENS_BT = jnp.zeros((1, 2), jnp.int32)


def test_another_layout_on_other_meshes_holds_the_same_numbers():
    """From fsdp 4 to tensor 2 in the opposite order of devices; two processes are in `test_two_processes`."""
    model = Transformer(PRESETS["nano"], 64)
    learning = sharding.make_mesh(data=2, fsdp=4, tensor=1)
    params = sharding.init_parameters(model, learning, 3, TOKENS_BT)
    meshes = local_view.local_meshes(
        lambda devices: sharding.make_mesh(data=4, fsdp=1, tensor=2, devices=devices[::-1])
    )
    layout = sharding.parameter_shardings(model, meshes[0], TOKENS_BT)
    seen = local_view.local_params(params, layout, meshes)
    jax.tree.map(np.testing.assert_array_equal, seen, params)
    assert jax.tree.map(lambda leaf: leaf.sharding, seen) == layout
