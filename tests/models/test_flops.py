"""Hand-worked counts, and the laws that tie counting to the real model and sampling to teacher forcing."""

import math
from dataclasses import replace
from typing import NamedTuple

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from codegym_jax.models import flops, sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.peak import KINDS, peak_of
from codegym_jax.models.presets import PRESETS, ModelConfig
from codegym_jax.models.transformer import Transformer

SHAPE = ModelConfig(width=4, layers=2, query_heads=2, kv_heads=1, head_width=2, ffn_width=3)


def test_matches_hand_computation():
    """A layer: q and o 2 x 4 x 4, k and v 2 x 4 x 2, ffn 3 x 4 x 3, in all 84; two layers and a head of
    5 x 4: 188. Attention: 4 x 2 layers x 2 heads x 2 wide = 32 a pair of tokens. Lengths 3 and 1:
    2 x 188 x 4 + 32 x (6 + 1)."""
    assert flops.matrix_parameters(SHAPE, 5) == 188
    assert flops.forward_flops(SHAPE, 5, np.array([3, 1])) == 1504 + 224
    assert flops.learning_flops(SHAPE, 5, np.array([3, 1])) == 3 * 1728
    assert flops.learning_flops(SHAPE, 5, np.array([3, 1]), scorings=2) == 5 * 1728
    assert flops.sampling_flops(SHAPE, 5, np.array([1, 2])) == 2 * 188 * 2 + 32 * 3


@pytest.mark.parametrize("tied_head", [True, False])
def test_counts_the_matrices_of_the_real_model(tied_head):
    shape, vocabulary = replace(PRESETS["nano"], tied_head=tied_head), 300
    mesh = AbstractMesh((1, 1, 1), sharding.AXES)
    params = sharding.parameter_shapes(Transformer(shape, vocabulary, Compute()), mesh)
    leaves = [
        (jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    ]
    matrices = sum(
        math.prod(leaf.shape)
        for path, leaf in leaves
        if len(leaf.shape) == 2 and "previous" not in path and (shape.tied_head or "embedding" not in path)
    )
    assert flops.matrix_parameters(shape, vocabulary) == matrices


def test_drawing_every_token_of_an_episode_costs_one_forward_pass():
    drawn = flops.sampling_flops(SHAPE, 5, np.arange(1, 18))
    assert drawn == flops.forward_flops(SHAPE, 5, np.array([17]))


def test_no_episodes_cost_nothing():
    assert (
        flops.forward_flops(SHAPE, 5, np.zeros(0, int))
        == flops.sampling_flops(SHAPE, 5, np.zeros(0, int))
        == 0.0
    )


class Chip(NamedTuple):
    """What a device says of itself."""

    device_kind: str
    platform: str = "gpu"
    process_index: int = 0


def test_known_chips_have_their_stated_peak():
    peak = peak_of([Chip("NVIDIA H100 80GB HBM3")] * 4, "bfloat16")
    assert peak.flops == 4 * 989e12
    assert peak.source == "the stated bfloat16 peak of 4 x NVIDIA H100 80GB HBM3"
    assert all(peak_of([Chip(kind)], "float32").flops > 1e14 for kind in KINDS)


def test_a_cpu_is_measured_and_its_devices_count_as_one():
    peak = peak_of(jax.devices(), "float32")
    assert 1e8 < peak.flops < 1e14
    assert peak.source == "measured on 1024 x 1024 float32 matrices, 1 x cpu"
