"""Safetensors folders: what is saved is loaded bit for bit; every tensor is accounted for."""

import itertools
import json
import pathlib

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from codegym_jax.models import checkpoint_hf, hf_names, layers_layout, sharding
from codegym_jax.models.tensor_store import WeightsError
from codegym_jax.models.weights import open_weights
from tests.models.tiny_checkpoints import (
    ARCHITECTURES,
    BFLOAT16,
    VOCABULARY,
    any_bits,
    assert_same_bits,
    numbers,
    one_device,
    policy,
    tiny_config,
)


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    """A complete checkpoint of an untied Llama in one file."""
    model = policy(ARCHITECTURES["llama-untied"])
    checkpoint_hf.save(tmp_path / "weights", numbers(model), model)
    return tmp_path / "weights"


def change(folder: pathlib.Path, **tensors: np.ndarray | None) -> None:
    """Replaces, adds (given as `a__b` for a.b) or removes tensors of the file."""
    stored = load_file(folder / checkpoint_hf.SINGLE)
    stored |= {name.replace("__", "."): value for name, value in tensors.items() if value is not None}
    for name, value in tensors.items():
        if value is None:
            del stored[name.replace("__", ".")]
    save_file(stored, folder / checkpoint_hf.SINGLE)


@pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("scan_layers", [False, True], ids=["unrolled", "scanned"])
def test_a_round_trip_keeps_every_bit(config, dtype, scan_layers, tmp_path):
    model = policy(config, param_dtype=dtype, scan_layers=scan_layers)
    params = any_bits(model)
    checkpoint_hf.save(tmp_path / "weights", params, model)
    weights = open_weights(str(tmp_path / "weights"))
    assert (weights.config, weights.vocabulary_size) == (config, VOCABULARY)
    assert_same_bits(params, weights.load(model, one_device()))


def test_saving_what_was_loaded_gives_the_same_bytes(folder, tmp_path):
    model = policy(ARCHITECTURES["llama-untied"])
    again = tmp_path / "again"
    checkpoint_hf.save(again, open_weights(str(folder)).load(model, one_device()), model)
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_either_layout_reads_what_the_other_wrote(tmp_path):
    config = ARCHITECTURES["qwen2"]
    unrolled, scanned = policy(config), policy(config, scan_layers=True)
    params = numbers(unrolled)
    checkpoint_hf.save(tmp_path / "a", params, unrolled)
    checkpoint_hf.save(tmp_path / "b", layers_layout.stack(params), scanned)
    assert (tmp_path / "a" / checkpoint_hf.SINGLE).read_bytes() == (
        tmp_path / "b" / checkpoint_hf.SINGLE
    ).read_bytes()
    loaded = open_weights(str(tmp_path / "a")).load(scanned, one_device())
    assert_same_bits(jax.device_get(layers_layout.stack(params)), jax.device_get(loaded))


def test_tensors_have_the_names_and_layouts_of_the_other_side(folder):
    params = numbers(policy(ARCHITECTURES["llama-untied"]))
    stored = load_file(folder / checkpoint_hf.SINGLE)
    np.testing.assert_array_equal(stored["model.embed_tokens.weight"], params["embedding"])
    np.testing.assert_array_equal(stored["lm_head.weight"], params["head"].T)
    block = params["blocks_1"]
    np.testing.assert_array_equal(stored["model.layers.1.self_attn.k_proj.weight"], block["k"].T)
    np.testing.assert_array_equal(stored["model.layers.1.mlp.down_proj.weight"], block["down"].T)
    norm = stored["model.layers.1.post_attention_layernorm.weight"]
    np.testing.assert_array_equal(norm, block["ffn_norm"]["scale"])
    assert len(stored) == 2 * 9 + 3


def test_sharded_parameters_are_saved_as_unsharded(folder, tmp_path):
    model = policy(ARCHITECTURES["llama-untied"])
    mesh = sharding.make_mesh(2, 2, 2)
    params = open_weights(str(folder)).load(model, mesh)
    assert not params["blocks_0"]["gate"].sharding.is_fully_replicated
    checkpoint_hf.save(tmp_path / "b", params, model)
    assert (tmp_path / "b" / checkpoint_hf.SINGLE).read_bytes() == (
        folder / checkpoint_hf.SINGLE
    ).read_bytes()


def test_files_are_filled_up_to_their_limit_and_listed(tmp_path):
    model = policy(ARCHITECTURES["llama-untied"])
    params = numbers(model)
    limit = 6400  # the embedding, 48 x 32 x 4 bytes, fits by itself
    checkpoint_hf.save(tmp_path / "weights", params, model, shard_bytes=limit)
    index = json.loads((tmp_path / "weights" / checkpoint_hf.INDEX).read_text())
    files = sorted(set(index["weight_map"].values()))
    assert files == [f"model-{i:05d}-of-{len(files):05d}.safetensors" for i in range(1, len(files) + 1)]
    sizes = [sum(array.nbytes for array in load_file(tmp_path / "weights" / file).values()) for file in files]
    assert max(sizes) <= limit and len(files) > 2
    assert sum(sizes) == index["metadata"]["total_size"]
    assert all(a + b > limit for a, b in itertools.pairwise(sizes)), "no two would fit into one"
    assert_same_bits(params, open_weights(str(tmp_path / "weights")).load(model, one_device()))


def test_a_tensor_larger_than_the_limit_has_a_file_of_its_own(tmp_path):
    model = policy(tiny_config(layers=1))
    checkpoint_hf.save(tmp_path / "weights", numbers(model), model, shard_bytes=1)
    assert len(list((tmp_path / "weights").glob("*.safetensors"))) == len(
        hf_names.leaves(model.config, VOCABULARY)
    )


def test_the_tokenizer_lies_beside_the_weights(tmp_path):
    model = policy(tiny_config())
    checkpoint_hf.save(tmp_path / "weights", numbers(model), model, '{"version": "1.0"}', eos_token_id=2)
    assert (tmp_path / "weights" / "tokenizer.json").read_text() == '{"version": "1.0"}'
    assert open_weights(str(tmp_path / "weights")).tokenizer_source == tmp_path / "weights"
    config = json.loads((tmp_path / "weights" / "config.json").read_text())
    assert (config["eos_token_id"], config["torch_dtype"]) == (2, "float32")


def test_nothing_is_left_of_a_save_that_fails(tmp_path):
    model = policy(tiny_config())
    params = numbers(model)
    del params["blocks_1"]["down"]
    with pytest.raises(KeyError, match="down"):
        checkpoint_hf.save(tmp_path / "weights", params, model, shard_bytes=6400)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_not_overwritten(folder):
    model = policy(ARCHITECTURES["llama-untied"])
    with pytest.raises(WeightsError, match="exists; weights are written into a new folder"):
        checkpoint_hf.save(folder, numbers(model), model)


def test_a_model_made_from_scratch_is_refused_before_anything_is_written(tmp_path):
    model = policy(tiny_config(token_shift=True))
    with pytest.raises(WeightsError, match="token_shift True is of no Hugging Face architecture"):
        checkpoint_hf.save(tmp_path / "weights", numbers(model), model)
    assert list(tmp_path.iterdir()) == []


UP = "model__layers__0__mlp__up_proj__weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({UP: None}, r"tensor model.layers.0.mlp.up_proj.weight is missing, expected \(24, 32\)$"),
        ({UP: None, "lm_head__weight": None}, r"is missing, expected \(24, 32\) \(and 1 more\)"),
        (
            {"model__layers__0__mlp__up_proj__bias": np.zeros(24, np.float32)},
            r"tensor model.layers.0.mlp.up_proj.bias \(24,\) was found, expected none of that name",
        ),
        ({UP: np.zeros((32, 24), np.float32)}, r"up_proj.weight has shape \(32, 24\), expected \(24, 32\)"),
        ({UP: np.zeros((24, 32), np.int8)}, r"up_proj.weight has dtype I8, expected F32, F16, BF16"),
    ],
    ids=["missing", "two-missing", "unexpected", "shape", "dtype"],
)
def test_every_tensor_is_accounted_for(tensors, message, folder):
    change(folder, **tensors)
    with pytest.raises(WeightsError, match=message) as error:
        open_weights(str(folder))
    assert str(folder) in str(error.value)


def test_frequencies_that_old_checkpoints_store_are_passed_over(folder):
    change(folder, model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(5, np.float32))
    open_weights(str(folder)).load(policy(ARCHITECTURES["llama-untied"]), one_device())


def test_a_head_that_is_stored_though_tied_must_equal_the_embedding(tmp_path):
    model = policy(tiny_config())
    params = any_bits(model)
    checkpoint_hf.save(tmp_path / "weights", params, model)
    change(tmp_path / "weights", lm_head__weight=params["embedding"])
    for mesh in (one_device(), sharding.make_mesh(2, 2, 2)):
        assert_same_bits(params, open_weights(str(tmp_path / "weights")).load(model, mesh))
    params["embedding"][-1, -1] = 7.0
    change(tmp_path / "weights", lm_head__weight=params["embedding"])
    with pytest.raises(WeightsError, match=r"lm_head.weight differs from model.embed_tokens.weight"):
        open_weights(str(tmp_path / "weights")).load(model, one_device())


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16], ids=["float16", "bfloat16"])
def test_stored_types_are_cast_to_the_models(dtype, folder):
    """Eighths up to 8 are exact in all of them."""
    stored = load_file(folder / checkpoint_hf.SINGLE)
    save_file({name: array.astype(dtype) for name, array in stored.items()}, folder / checkpoint_hf.SINGLE)
    for param_dtype in ("float32", "bfloat16"):
        model = policy(ARCHITECTURES["llama-untied"], param_dtype=param_dtype)
        assert_same_bits(numbers(model), open_weights(str(folder)).load(model, one_device()))


def test_damaged_files_are_refused(folder):
    path = folder / checkpoint_hf.SINGLE
    whole = path.read_bytes()
    damages = [b"", whole[:5], whole[:100], whole[:-4], whole + b"\0", b"\xff" * 8 + whole[8:]]
    damages.append(whole[:8] + b"x" + whole[9:])
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model.safetensors is no complete safetensors file"):
            open_weights(str(folder))
    path.unlink()
    with pytest.raises(WeightsError, match=r"model.safetensors not found; expected model.safetensors, or"):
        open_weights(str(folder))


@pytest.fixture
def sharded(tmp_path) -> pathlib.Path:
    model = policy(tiny_config())
    checkpoint_hf.save(tmp_path / "sharded", numbers(model), model, shard_bytes=6400)
    return tmp_path / "sharded"


def relist(folder: pathlib.Path, **files: str | None) -> None:
    """Changes where the index says that tensors (given as `a__b`) lie; None: nowhere."""
    index = json.loads((folder / checkpoint_hf.INDEX).read_text())
    for name, file in files.items():
        index["weight_map"][name.replace("__", ".")] = file
    index["weight_map"] = {name: file for name, file in index["weight_map"].items() if file is not None}
    (folder / checkpoint_hf.INDEX).write_text(json.dumps(index))


LAST = "model__norm__weight"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({LAST: None}, "tensor model.norm.weight is expected in no file, found in model-000"),
        (
            {"ghost": "model-00001-of-%(n)05d.safetensors"},
            "ghost is expected in model-00001.* no file",
        ),
        ({LAST: "model-00001-of-%(n)05d.safetensors"}, "norm.weight is expected in model-00001.*found in"),
        ({LAST: "absent.safetensors"}, "absent.safetensors not found"),
        ({LAST: "../weights.safetensors"}, "must name files of the folder, got ../weights.safetensors"),
    ],
    ids=["unlisted", "ghost", "elsewhere", "no-file", "outside"],
)
def test_an_index_that_disagrees_with_its_files_is_refused(files, message, sharded):
    count = len(list(sharded.glob("*.safetensors")))
    relist(sharded, **{name: file and file % {"n": count} for name, file in files.items()})
    with pytest.raises(WeightsError, match=message):
        open_weights(str(sharded))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}'])
def test_a_damaged_index_is_refused(text, sharded):
    (sharded / checkpoint_hf.INDEX).write_text(text)
    with pytest.raises(WeightsError, match=r"model.safetensors.index.json: "):
        open_weights(str(sharded))
