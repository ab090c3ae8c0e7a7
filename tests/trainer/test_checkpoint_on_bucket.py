"""What holds of checkpoints on a local disk holds on a bucket: whole or absent, and damage shows."""

import logging
import re

import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.data.store import BucketOutage, Store
from codegym_jax.trainer.checkpoint import Checkpointer, CheckpointMismatch
from tests import bucket as buckets


def save(place, step, value):
    with Checkpointer(place) as checkpointer:
        return checkpointer.save(step, {"w": jnp.full((3, 4), value)}, {"value": value})


def restored(place):
    found = Checkpointer(place).restore({"w": jnp.zeros((3, 4))})
    if found is None:
        return None
    state, extra = found
    np.testing.assert_array_equal(state["w"], np.full((3, 4), extra["value"]))
    return extra["value"]


@pytest.fixture
def place(bucket, request):
    """A folder with two checkpoints, of 1 and 2."""
    place = f"{bucket}/{re.sub('[^a-z0-9]+', '-', request.node.name)}/checkpoints/train"
    assert restored(place) is None
    for value in (1.0, 2.0):
        save(place, int(value), value)
    return place


def largest(store, name):
    return max(store.names(name), key=lambda file: len(store.read(file)))


def flip_a_byte(store, name):
    file = largest(store, name)
    data = bytearray(store.read(file))
    data[len(data) // 2] ^= 1
    store.write(file, bytes(data))


DAMAGES = {
    "flipped": flip_a_byte,
    "lost": lambda store, name: store.remove(largest(store, name)),
    "more": lambda store, name: store.write(f"{name}/state/other", b"of another checkpoint"),
    "never complete": lambda store, name: store.remove(f"{name}/manifest.json"),
    "odd manifest": lambda store, name: store.write(f"{name}/manifest.json", b'{"state'),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_named_and_the_one_before_is_used(place, damage, caplog):
    """And what was damaged is gone with the next save."""
    assert restored(place) == 2.0
    store = Store(place)
    DAMAGES[damage](store, "0002_step_00000002")
    with caplog.at_level(logging.WARNING):
        assert restored(place) == 1.0
    assert f"{place}/0002_step_00000002 is damaged" in caplog.text
    with Checkpointer(place) as checkpointer:
        assert str(checkpointer.latest()).endswith("0001_step_00000001")
        checkpointer.save(2, {"w": jnp.full((3, 4), 3.0)}, {"value": 3.0})
    assert store.folders() == ["0001_step_00000001", "0003_step_00000002"]
    assert restored(place) == 3.0


def test_old_ones_leave_nothing_behind(place):
    save(place, 3, 3.0)
    store = Store(place)
    assert store.folders() == ["0002_step_00000002", "0003_step_00000003"]
    assert {name.partition("/")[0] for name in store.names()} == set(store.folders())


def test_one_of_another_model_is_refused(place):
    with pytest.raises(CheckpointMismatch, match=r"float32\[3, 4\] there and float32\[5\] here"):
        Checkpointer(place).restore({"w": jnp.zeros(5)})


def test_a_copy_on_the_disk_is_as_good(place, tmp_path):
    copy = Checkpointer(place).copy_latest(tmp_path / "copy")
    assert copy == tmp_path / "copy" / "0002_step_00000002"
    assert restored(tmp_path / "copy") == 2.0
    again = Checkpointer(tmp_path / "copy").copy_latest(tmp_path / "again")
    assert (again / "manifest.json").read_bytes() == (copy / "manifest.json").read_bytes()


@pytest.mark.slow
def test_a_bucket_that_goes_while_one_is_written_is_an_outage():
    """After half a minute of trying."""
    with buckets.serving() as (bucket, server):

        class Unlucky(Checkpointer):
            def _next_name(self, step):
                name = super()._next_name(step)
                server.kill()
                return name

        with pytest.raises(BucketOutage, match=f"{bucket}/goes/0001_step_00000001 does not answer"):
            Unlucky(f"{bucket}/goes").save(1, {"w": jnp.ones((3, 4))}, {})
