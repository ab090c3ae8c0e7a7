"""Weights are found wherever they lie, and each device's part of a parameter is read by itself."""

import pathlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import jax
import numpy as np
import pytest
from huggingface_hub import constants

from codegym_jax.models import checkpoint_hf, hf_names, layers_layout, sharding
from codegym_jax.models.tensor_store import Index, Stored, TensorStore, WeightsError
from codegym_jax.models.weights import from_hub, open_weights
from tests.models.tiny_checkpoints import (
    ARCHITECTURES,
    assert_same_bits,
    numbers,
    one_device,
    policy,
    tiny_config,
)


@dataclass
class Counted:
    """A store that keeps a record of what is read."""

    inner: TensorStore
    reads: dict[str, list[Index]] = field(default_factory=lambda: defaultdict(list))

    @property
    def source(self) -> str:
        return self.inner.source

    def tensors(self) -> Mapping[str, Stored]:
        return self.inner.tensors()

    def read(self, name: str, index: Index) -> np.ndarray:
        self.reads[name].append(index)
        return self.inner.read(name, index)


def saved(folder: pathlib.Path, name: str, **compute) -> pathlib.Path:
    model = policy(ARCHITECTURES[name], **compute)
    checkpoint_hf.save(folder, numbers(model), model)
    return folder


MESHES = {"fsdp": (1, 8, 1), "tensor": (1, 1, 8), "all": (2, 2, 2), "data": (8, 1, 1)}


@pytest.mark.parametrize("axes", MESHES.values(), ids=MESHES)
@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_each_device_reads_its_slice_and_nothing_is_read_twice(axes, scan_layers, tmp_path):
    config = ARCHITECTURES["llama-untied"]
    weights = open_weights(str(saved(tmp_path / "weights", "llama-untied")))
    store = Counted(weights.store)
    model = policy(config, scan_layers=scan_layers)
    params = replace(weights, store=store).load(model, sharding.make_mesh(*axes))
    one = weights.load(model, one_device())
    assert_same_bits(jax.device_get(one), jax.device_get(params))

    shards = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.sharding.shard_shape(leaf.shape), leaf.dtype), params
    )
    shards = layers_layout.unstack(shards)
    for leaf in hf_names.leaves(config, weights.vocabulary_size):
        shard = shards
        for key in leaf.path:
            shard = shard[key]
        shape = shard.shape[::-1] if leaf.transposed else shard.shape
        reads = store.reads[leaf.tensor]
        sizes = {tuple(s.stop - s.start for s in index) for index in reads}
        assert sizes == {shape}, f"{leaf.tensor}: a read is a device's part"
        assert len({str(index) for index in reads}) == len(reads), f"{leaf.tensor}: no part is read twice"
        read = len(reads) * int(np.prod(shape))
        assert read == int(np.prod(leaf.shape)), f"{leaf.tensor}: the parts are the whole"


def test_parts_are_divided_at_all():
    """Or the law above would hold of whole reads."""
    mesh = sharding.make_mesh(2, 2, 2)
    gate = sharding.place(mesh, "embed", "ffn").shard_shape((32, 24))
    assert gate == (16, 12)


def test_loaded_parameters_may_be_donated(tmp_path):
    """Devices that hold the same part were given the same host memory: none may write into another's."""
    model = policy(ARCHITECTURES["qwen2"])
    weights = open_weights(str(saved(tmp_path / "weights", "qwen2")))
    expected = numbers(model)
    params = weights.load(model, sharding.make_mesh(4, 2, 1))
    step = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1.0, tree), donate_argnums=0)
    for _ in range(2):
        params = step(params)
    for leaf, number in zip(jax.tree.leaves(params), jax.tree.leaves(expected), strict=True):
        for shard in leaf.addressable_shards:
            np.testing.assert_array_equal(shard.data, number[shard.index] + 2.0)


def test_a_model_of_another_shape_is_refused_by_parameter(tmp_path):
    weights = open_weights(str(saved(tmp_path / "weights", "qwen2")))
    cases = {
        r"blocks_0/k of the model has shape \(32, 40\), the weights have \(32, 20\)": tiny_config(
            qkv_bias=True, kv_heads=4
        ),
        "blocks_2/.* the weights have none": tiny_config(qkv_bias=True, layers=3),
        r"head of the model has shape \(32, 48\), the weights have none": tiny_config(
            qkv_bias=True, tied_head=False
        ),
        r"tensor model.layers.0.self_attn.q_proj.bias \(40,\) has no parameter in the model": tiny_config(),
    }
    for message, config in cases.items():
        with pytest.raises(WeightsError, match=message):
            weights.load(policy(config), one_device())
    scanned = policy(tiny_config(qkv_bias=True, layers=3), scan_layers=True)
    with pytest.raises(WeightsError, match=r"shape \(3, .*the weights have \(2, "):
        weights.load(scanned, one_device())


def test_files_of_a_package_are_found_without_running_it(tmp_path, monkeypatch):
    package = tmp_path / "site" / "weighty_package"
    saved(package / "inner" / "weights", "llama")
    (package / "__init__.py").write_text("raise RuntimeError('a package of weights was run')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    weights = open_weights("weighty_package:inner/weights")
    assert weights.config == ARCHITECTURES["llama"]
    with pytest.raises(WeightsError, match="package weighty_package is installed, but has no file absent"):
        open_weights("weighty_package:absent")
    with pytest.raises(WeightsError, match="no package absent_package is installed"):
        open_weights("absent_package:file.gguf")


def test_a_source_that_is_nothing_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"not found; expected a folder, a .gguf file, package:relative"):
        open_weights(str(tmp_path / "nowhere"))
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(WeightsError, match=r"a folder with config.json, or a .gguf file, got weights"):
        open_weights(str(tmp_path / "weights.bin"))
    saved(tmp_path / "weights", "llama")
    (tmp_path / "weights" / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"config.json cannot be read: No such file"):
        open_weights(str(tmp_path / "weights"))


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_a_repository_of_the_hub_is_read_from_its_local_copy(offline, tmp_path):
    """The layout of the copy: https://huggingface.co/docs/huggingface_hub/guides/manage-cache."""
    copy = tmp_path / "models--ada--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    saved(copy / "snapshots" / commit, "llama")
    (copy / "refs").mkdir()
    (copy / "refs" / "main").write_text(commit)
    for repository in ("ada/tiny", "ada/tiny@main", f"ada/tiny@{commit}"):
        folder = from_hub(repository, tmp_path)
        assert open_weights(str(folder)).config == ARCHITECTURES["llama"]


@pytest.mark.parametrize("repository", ["ada/absent", "no slash and spaces", "ada/absent@other"])
def test_a_repository_that_cannot_be_had_is_refused(repository, offline, tmp_path):
    with pytest.raises(WeightsError, match=f"^hub:{repository}: [^\n]+$"):
        from_hub(repository, tmp_path)
