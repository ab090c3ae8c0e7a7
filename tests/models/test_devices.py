"""Accelerators by the names that their vendors give to slices and nodes."""

import pytest

from codegym_jax.config import UserError
from codegym_jax.models.devices import parse_devices


@pytest.mark.parametrize(
    ("name", "count", "gigabytes", "platform"),
    [
        ("v5p-64", 32, 95, "tpu"),  # TensorCores, two a chip
        ("v4-8", 4, 32, "tpu"),
        ("v6e-64", 64, 32, "tpu"),  # chips
        ("v5litepod-16", 16, 16, "tpu"),
        ("H100-8", 8, 80, "gpu"),
        ("cpu-1", 1, 16, "cpu"),
    ],
)
def test_a_name_says_how_many_chips_and_how_large(name, count, gigabytes, platform):
    devices = parse_devices(name)
    assert devices.count == count
    assert devices.accelerator.memory_bytes == gigabytes * 10**9
    assert devices.accelerator.platform == platform


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("v7x-64", "known: v4, v5p"),
        ("h100", "a name and a number"),
        ("h100-0", "a name and a number"),
        ("v5p-7", "two|2 a chip; 7 is not a multiple"),
    ],
)
def test_other_names_are_refused(name, expected):
    with pytest.raises(UserError, match=expected):
        parse_devices(name)


@pytest.mark.parametrize(
    ("name", "processes"),
    [("v5p-8", 1), ("v5p-64", 8), ("v6e-8", 1), ("v6e-64", 16), ("h100-8", 1), ("h100-16", 2), ("cpu-64", 1)],
)
def test_each_machine_has_a_process(name, processes):
    """v5p: 4 chips a machine. v6e: one machine may have 8 chips, but those of larger slices have 4."""
    assert parse_devices(name).processes == processes
