"""A .gguf file is the same model as the folder of safetensors: names, order of rows, blocks, metadata."""

import dataclasses
import pathlib
from typing import Any

import gguf
import numpy as np
import pytest

from codegym_jax.models import hf_names, sharding
from codegym_jax.models.gguf import GgufFile, hf_name, rows_as_stored
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.rope import RopeScaling
from codegym_jax.models.tensor_store import WeightsError
from codegym_jax.models.weights import open_weights
from tests.models.tiny_checkpoints import (
    ARCHITECTURES,
    VOCABULARY,
    any_bits,
    assert_same_bits,
    numbers,
    one_device,
    policy,
    tiny_config,
)

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The name that llama.cpp gives a tensor of a Hugging Face checkpoint."""
    if name in NAMES:
        return NAMES[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    inner, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{NAMES[inner]}.{kind}"


def interleave(rows: np.ndarray, heads: int) -> np.ndarray:
    """What llama.cpp's converter does to q and k of a Llama: halves (0..H/2, H/2..H) become pairs."""
    split = rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:])
    return split.swapaxes(1, 2).reshape(rows.shape)


def write(
    path: pathlib.Path,
    config: ModelConfig,
    params: Any,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    **changes: Any,
) -> pathlib.Path:
    """A file as llama.cpp's converter writes it; `changes` to metadata, None removes a key."""
    architecture = "qwen2" if config.qkv_bias else "qwen3" if config.qk_norm else "llama"
    architecture = changes.pop("architecture", architecture)
    writer = gguf.GGUFWriter(path, architecture)
    metadata = {
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": config.ffn_width,
        "context_length": config.max_positions,
        "attention.head_count": config.query_heads,
        "attention.head_count_kv": config.kv_heads,
        "attention.key_length": config.head_width,
        "attention.value_length": config.head_width,
        "attention.layer_norm_rms_epsilon": config.norm_eps,
        "rope.dimension_count": config.head_width,
        "rope.freq_base": config.rope_theta,
    } | {name.replace("__", "."): value for name, value in changes.items()}
    for key, value in metadata.items():
        name = f"{architecture}.{key}"
        if isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif isinstance(value, list):
            writer.add_array(name, value)
        elif value is not None:
            writer.add_uint32(name, value)
    for leaf in hf_names.leaves(config, VOCABULARY):
        array = params
        for part in leaf.path:
            array = array[part]
        array = np.ascontiguousarray(array.T if leaf.transposed else array)
        if architecture == "llama" and ".q_proj." in leaf.tensor:
            array = interleave(array, config.query_heads)
        if architecture == "llama" and ".k_proj." in leaf.tensor:
            array = interleave(array, config.kv_heads)
        if array.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(gguf_name(leaf.tensor), array)
        else:
            writer.add_tensor(gguf_name(leaf.tensor), gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_names_are_inverted():
    for config in ARCHITECTURES.values():
        for leaf in hf_names.leaves(config, VOCABULARY):
            assert hf_name(gguf_name(leaf.tensor)) == leaf.tensor
    for strange in ("rope_freqs.weight", "blk.0.ffn_gate_exps.weight", "blk.x.attn_q.weight"):
        assert hf_name(strange) == strange


def test_rows_by_hand():
    """Two heads of width 4: the file holds 0 2 1 3 of each."""
    assert rows_as_stored(8, 2).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert rows_as_stored(6, 1).tolist() == [0, 2, 4, 1, 3, 5], "not its own inverse"
    assert interleave(np.arange(6), 1).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_file_in_float32_holds_every_bit(config, tmp_path):
    model = policy(config)
    params = any_bits(model)
    weights = open_weights(str(write(tmp_path / "model.gguf", config, params)))
    assert (weights.config, weights.vocabulary_size) == (config, VOCABULARY)
    assert weights.tokenizer_source == tmp_path / "model.gguf"
    for mesh in (one_device(), sharding.make_mesh(2, 2, 2)):
        assert_same_bits(params, weights.load(model, mesh))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16", "BF16"])
def test_quantized_tensors_are_read_by_any_slice(kind, tmp_path):
    """A head is 32 wide, so that every row is whole blocks."""
    config = tiny_config(width=64, head_width=32, ffn_width=96)
    params = numbers(policy(config))
    path = write(tmp_path / "model.gguf", config, params, gguf.GGMLQuantizationType[kind])
    store = GgufFile(path)
    for name, header in store.tensors().items():
        whole = store.read(name, tuple(slice(0, n) for n in header.shape))
        assert (whole.shape, whole.dtype, header.dtype) == (header.shape, np.float32, "F32")
        part = tuple(slice(n // 4, n - n // 4) for n in header.shape)
        np.testing.assert_array_equal(store.read(name, part), whole[part])
    q = store.read("model.layers.0.self_attn.q_proj.weight", (slice(0, 128), slice(0, 64)))
    step = {"Q8_0": 16 / 127, "Q4_1": 16 / 15}.get(kind, 0.0)  # eighths up to 8 are exact in 16 bits
    assert np.abs(q.T - params["blocks_0"]["q"]).max() <= step


def test_scaling_is_read(tmp_path):
    config = tiny_config(rope_scaling=RopeScaling(kind="yarn", factor=4.0, original_max_positions=16))
    changes = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    changes["rope__scaling__original_context_length"] = 16
    path = write(tmp_path / "yarn.gguf", config, numbers(policy(config)), **changes)
    assert open_weights(str(path)).config == config
    linear = dataclasses.replace(config, rope_scaling=RopeScaling(kind="linear", factor=2.0))
    changes = {"rope__scaling__type": "linear", "rope__scaling__factor": 2.0}
    path = write(tmp_path / "linear.gguf", linear, numbers(policy(linear)), **changes)
    assert open_weights(str(path)).config == linear


def test_absent_metadata_means_what_the_format_says(tmp_path):
    config = tiny_config(head_width=8, kv_heads=4)
    absent = ("attention__key_length", "attention__value_length", "attention__head_count_kv")
    absent = (*absent, "rope__dimension_count", "rope__freq_base")
    path = write(tmp_path / "m.gguf", config, numbers(policy(config)), **dict.fromkeys(absent))
    assert open_weights(str(path)).config == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "gemma"}, "general.architecture must be one of llama, qwen2, qwen3, got gemma"),
        ({"block_count": None}, "llama.block_count must be one value, got nothing"),
        (
            {"attention__head_count_kv": [2, 2]},
            "head_count_kv must be one value, got one value for each layer",
        ),
        ({"attention__value_length": 12}, "llama.attention.value_length must be 10, as the keys, got 12"),
        ({"rope__dimension_count": 4}, "llama.rope.dimension_count must be 10, as the keys, got 4"),
        ({"rope__scaling__type": "longrope"}, "must be none, linear or yarn, got longrope"),
        ({"attention__head_count": 5}, r"query_heads \(5\) must be a multiple of kv_heads \(2\)"),
        ({"block_count": 3}, "tensor model.layers.2.self_attn.q_proj.weight is missing"),
        ({"feed_forward_length": 25}, r"has shape \(24, 32\), expected \(25, 32\) by the config"),
    ],
)
def test_metadata_that_no_model_here_has_is_refused(changes, message, tmp_path):
    path = write(tmp_path / "model.gguf", tiny_config(), numbers(policy(tiny_config())), **changes)
    with pytest.raises(WeightsError, match=message) as error:
        open_weights(str(path))
    assert str(path) in str(error.value)


def test_damaged_files_are_refused(tmp_path):
    path = write(tmp_path / "model.gguf", tiny_config(), numbers(policy(tiny_config())))
    whole = path.read_bytes()
    damages = [b"", b"GG", whole[:20], whole[:300], whole[: len(whole) // 2], whole[:-64]]
    damages += [
        b"XXXX" + whole[4:],
        whole[:4] + b"\x63\0\0\0" + whole[8:],
        whole[:8] + b"\xff" * 16 + whole[24:],
    ]
    for damaged in damages:
        path.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model.gguf is no complete .gguf file: "):
            open_weights(str(path))
