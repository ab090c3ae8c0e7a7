"""`config.json` says a model's shape in two spellings; whatever it asks for and is not done is refused."""

import json

import pytest

from codegym_jax.models import hf_config
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.rope import RopeScaling
from codegym_jax.models.tensor_store import WeightsError
from tests.models.tiny_checkpoints import ARCHITECTURES, VOCABULARY, tiny_config

QWEN = {
    "model_type": "qwen2",
    "hidden_act": "silu",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 152064,
}
"""As published with Qwen2.5-7B-Instruct."""
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


def test_a_published_config_is_the_preset_of_its_name():
    assert hf_config.parse(QWEN) == PRESETS["qwen2.5-7b"]


def test_both_spellings_of_rotary_settings_say_the_same():
    old = QWEN | {"rope_scaling": LLAMA3}
    new = {key: value for key, value in QWEN.items() if key != "rope_theta"}
    new |= {"rope_parameters": LLAMA3 | {"rope_theta": 1000000.0}}
    expected = RopeScaling(kind="llama3", factor=8.0, original_max_positions=8192)
    assert hf_config.parse(old).rope_scaling == expected
    assert hf_config.parse(old) == hf_config.parse(new)


def test_the_oldest_spelling_names_the_type_otherwise_and_leaves_out_the_length():
    scaling = hf_config.parse(QWEN | {"rope_scaling": {"type": "yarn", "factor": 4.0}}).rope_scaling
    assert scaling == RopeScaling(kind="yarn", factor=4.0, original_max_positions=32768)


@pytest.mark.parametrize(
    "given", [None, {}, {"rope_type": "default"}, {"rope_type": "default", "factor": None}]
)
def test_no_scaling_has_many_spellings(given):
    assert hf_config.parse(QWEN | {"rope_scaling": given}).rope_scaling is None


def test_absent_keys_mean_what_the_architecture_says():
    bare = {key: QWEN[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size")}
    bare |= {"num_attention_heads": 32, "hidden_size": 2048}
    llama, qwen3 = (hf_config.parse(bare | {"model_type": kind}) for kind in ("llama", "qwen3"))
    assert (llama.kv_heads, llama.head_width, llama.rope_theta) == (32, 64, 10_000.0)
    assert (llama.max_positions, llama.tied_head, llama.norm_eps) == (2048, False, 1e-6)
    assert (qwen3.kv_heads, qwen3.head_width) == (32, 128) and qwen3.qk_norm and not qwen3.qkv_bias


SCALINGS = [
    None,
    RopeScaling(kind="linear", factor=2.0),
    RopeScaling(kind="llama3", factor=32.0, original_max_positions=8192, high_freq_factor=8.0),
    RopeScaling(kind="yarn", factor=4.0, original_max_positions=16, beta_fast=16.0, attention_factor=1.5),
]


@pytest.mark.parametrize("config", ARCHITECTURES.values(), ids=ARCHITECTURES)
@pytest.mark.parametrize("scaling", SCALINGS, ids=lambda s: s.kind if s else "none")
def test_reading_inverts_writing(config, scaling, tmp_path):
    changed = tiny_config(
        qkv_bias=config.qkv_bias,
        qk_norm=config.qk_norm,
        tied_head=config.tied_head,
        rope_scaling=scaling,
        rope_theta=12_345.5,
        norm_eps=1e-5,
        embedding_std=0.5,
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(hf_config.write(changed, VOCABULARY)))
    assert hf_config.read(path) == changed


REFUSED = {
    "model_type must be one of llama, qwen2, qwen3, got 'gemma'": {"model_type": "gemma"},
    "hidden_act must be 'silu', got 'gelu'": {"hidden_act": "gelu"},
    "attention_bias must be False, got True": {"attention_bias": True},
    "mlp_bias must be False, got True": {"mlp_bias": True},
    "use_sliding_window must be False, got True": {"use_sliding_window": True},
    "quantization_config must be None": {"quantization_config": {"quant_method": "awq"}},
    "layer_types must all be full_attention, got sliding": {"layer_types": ["sliding_attention"]},
    "rope_type must be one of default, linear, llama3, yarn, got 'dynamic'": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 2.0}
    },
    "rope_scaling.factor must be a number for rope_type linear, got None": {
        "rope_scaling": {"rope_type": "linear"}
    },
    "rope_scaling.mscale is not known for rope_type yarn, got 1.5": {
        "rope_scaling": {"rope_type": "yarn", "factor": 2.0, "mscale": 1.5}
    },
    "rope_scaling must be an object, got 'yarn'": {"rope_scaling": "yarn"},
    "factor must be at least 1, got 0.5": {"rope_scaling": {"rope_type": "linear", "factor": 0.5}},
    "hidden_size must be a positive whole number, got None": {"hidden_size": None},
    "num_hidden_layers must be a positive whole number, got 1.5": {"num_hidden_layers": 1.5},
    "vocab_size must be a positive whole number, got True": {"vocab_size": True},
    r"query_heads \(28\) must be a multiple of kv_heads \(3\)": {"num_key_value_heads": 3},
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_a_model_here_cannot_do_is_refused_by_name(message, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(QWEN | REFUSED[message]))
    with pytest.raises(WeightsError, match=message) as error:
        hf_config.read(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is no JSON"), ("[]", "must be a JSON object, got list")]
)
def test_a_damaged_file_is_refused(text, message, tmp_path):
    path = tmp_path / "config.json"
    with pytest.raises(WeightsError, match="cannot be read"):
        hf_config.read(path)
    path.write_text(text)
    with pytest.raises(WeightsError, match=message):
        hf_config.read(path)


@pytest.mark.parametrize(
    "change", [{"token_shift": True}, {"logit_scale": 0.5}, {"qkv_bias": True, "qk_norm": True}]
)
def test_a_model_of_no_architecture_is_not_written(change):
    with pytest.raises(WeightsError, match="of no Hugging Face architecture"):
        hf_config.write(tiny_config(**change), VOCABULARY)
