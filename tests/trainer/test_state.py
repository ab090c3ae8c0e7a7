"""A parameter hash depends on names and numbers, and on nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from codegym_jax.trainer.state import params_hash

PARAMS = {"a": jnp.arange(8.0), "b": {"c": jnp.ones((2, 3)), "d": jnp.zeros(())}}


def test_neither_order_nor_place_matters():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    elsewhere = {
        "b": {
            "d": np.zeros((), np.float32),
            "c": jax.device_put(PARAMS["b"]["c"], NamedSharding(mesh, PartitionSpec())),
        },
        "a": jax.device_put(PARAMS["a"], NamedSharding(mesh, PartitionSpec("data"))),
    }
    assert params_hash(elsewhere) == params_hash(PARAMS)


@pytest.mark.parametrize(
    "other",
    [
        PARAMS | {"a": PARAMS["a"].at[3].add(1e-6)},
        PARAMS | {"a": PARAMS["a"].astype(jnp.bfloat16)},
        PARAMS | {"a": PARAMS["a"].reshape(2, 4)},
        PARAMS | {"a": -PARAMS["a"]},
        PARAMS | {"e": jnp.zeros(0)},
        {"z": PARAMS["a"], "b": PARAMS["b"]},
        {"a": PARAMS["a"], "b": {"d": PARAMS["b"]["c"], "c": PARAMS["b"]["d"]}},
    ],
    ids=["value", "type", "shape", "sign of zero", "empty leaf", "name", "swapped"],
)
def test_any_difference_shows(other):
    assert params_hash(other) != params_hash(PARAMS)
