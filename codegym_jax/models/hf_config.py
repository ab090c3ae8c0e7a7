"""`config.json` of a Hugging Face checkpoint, read into a `ModelConfig` and written from one.

Architectures: llama, qwen2 (biases on queries, keys and values), qwen3 (norms of queries and keys). What a
config asks for and these models do not do is an error, never ignored: the logits would be wrong in silence.

Source: `LlamaConfig`, `Qwen2Config`, `Qwen3Config` and `modeling_rope_utils` in
https://github.com/huggingface/transformers (names, and defaults of absent keys).
"""

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.rope import KINDS, RopeScaling
from codegym_jax.models.tensor_store import WeightsError

MODEL_TYPES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}
"""What is read and written, by the key `model_type`."""
_ONLY: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "attention_bias": (False,),  # on the output projection too, unlike qwen2's
    "mlp_bias": (False,),
    "use_sliding_window": (False,),
    "quantization_config": (None,),
    "partial_rotary_factor": (1, 1.0),
}
"""The values that keys may have, where they are there; all others would change the model."""
_SCALING_FIELDS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_max_positions",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "attention_factor": "attention_factor",
}
_FIELDS_OF_KIND = {
    "linear": ("factor",),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "yarn": ("factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "attention_factor"),
}


def read(path: pathlib.Path) -> ModelConfig:
    """The shape that a `config.json` describes; `vocabulary` is its `vocab_size`.

    Raises:
      WeightsError: when the file is absent or no JSON object, a key is missing, or a value asks for what
        these models do not do.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} must be a JSON object, got {type(data).__name__}")
    try:
        return parse(data)
    except (WeightsError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: {error}") from error


def parse(data: Mapping[str, Any]) -> ModelConfig:
    """The shape that the object of a `config.json` describes; see `read`."""
    kind = data.get("model_type")
    if kind not in MODEL_TYPES:
        raise WeightsError(f"model_type must be one of {', '.join(MODEL_TYPES)}, got {kind!r}")
    for key, allowed in _ONLY.items():
        if data.get(key, allowed[0]) not in allowed:
            raise WeightsError(f"{key} must be {allowed[0]!r}, got {data[key]!r}")
    layer_types = set(data.get("layer_types") or ()) - {"full_attention"}
    if layer_types:
        raise WeightsError(f"layer_types must all be full_attention, got {', '.join(sorted(layer_types))}")
    width, heads = _integer(data, "hidden_size"), _integer(data, "num_attention_heads")
    max_positions = _integer(data, "max_position_embeddings", 2048 if kind == "llama" else 32_768)
    theta, scaling = _rope(data, max_positions)
    return ModelConfig(
        width=width,
        layers=_integer(data, "num_hidden_layers"),
        query_heads=heads,
        kv_heads=_integer(data, "num_key_value_heads", heads if kind == "llama" else 32),
        head_width=_integer(data, "head_dim", 128 if kind == "qwen3" else width // heads),
        ffn_width=_integer(data, "intermediate_size"),
        rope_theta=theta,
        rope_scaling=scaling,
        norm_eps=float(data.get("rms_norm_eps", 1e-6)),
        embedding_std=float(data.get("initializer_range", 0.02)),
        qkv_bias=kind == "qwen2",
        qk_norm=kind == "qwen3",
        tied_head=bool(data.get("tie_word_embeddings", False)),
        vocabulary=_integer(data, "vocab_size"),
        max_positions=max_positions,
    )


def write(config: ModelConfig, vocabulary: int) -> dict[str, Any]:
    """The `config.json` object that describes this shape to any version of transformers.

    Raises:
      WeightsError: for a shape that none of the three architectures has.
    """
    unwritable = {
        "token_shift": (config.token_shift, False),
        "logit_scale": (config.logit_scale, 1.0),
        "qkv_bias and qk_norm together": (config.qkv_bias and config.qk_norm, False),
    }
    for name, (value, needed) in unwritable.items():
        if value != needed:
            raise WeightsError(
                f"a model with {name} {value} is of no Hugging Face architecture ({', '.join(MODEL_TYPES)})"
            )
    kind = "qwen2" if config.qkv_bias else "qwen3" if config.qk_norm else "llama"
    data: dict[str, Any] = {
        "architectures": [MODEL_TYPES[kind]],
        "model_type": kind,
        "vocab_size": vocabulary,
        "hidden_size": config.width,
        "intermediate_size": config.ffn_width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.query_heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": config.norm_eps,
        "initializer_range": config.embedding_std,
        "tie_word_embeddings": config.tied_head,
        "rope_theta": config.rope_theta,
        "rope_scaling": _write_scaling(config.rope_scaling),
    }
    if config.max_positions:
        data["max_position_embeddings"] = config.max_positions
    return data


def _rope(data: Mapping[str, Any], max_positions: int) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from `rope_parameters` (transformers 5) or `rope_theta` and `rope_scaling`."""
    name = "rope_parameters" if data.get("rope_parameters") else "rope_scaling"
    given = data.get(name) or {}
    if not isinstance(given, Mapping):
        raise WeightsError(f"{name} must be an object, got {given!r}")
    theta = float(given.get("rope_theta", data.get("rope_theta", 10_000.0)))
    kind = given.get("rope_type", given.get("type", "default"))
    if kind == "default":
        return theta, None
    if kind not in KINDS:
        raise WeightsError(f"{name}.rope_type must be one of default, {', '.join(KINDS)}, got {kind!r}")
    known = {*_FIELDS_OF_KIND[kind], "rope_type", "type", "rope_theta"}
    for key, value in given.items():
        neutral = key == "partial_rotary_factor" and value == 1
        if key not in known and value is not None and not neutral:
            raise WeightsError(f"{name}.{key} is not known for rope_type {kind}, got {value!r}")
    values = {key: given[key] for key in _FIELDS_OF_KIND[kind] if given.get(key) is not None}
    if kind != "linear":
        values.setdefault("original_max_position_embeddings", max_positions)
    for key in _FIELDS_OF_KIND[kind]:
        optional = kind == "yarn" and key in ("beta_fast", "beta_slow", "attention_factor")
        value = values.get(key)
        if value is None and optional:
            continue
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise WeightsError(f"{name}.{key} must be a number for rope_type {kind}, got {value!r}")
    return theta, RopeScaling(kind=kind, **{_SCALING_FIELDS[key]: value for key, value in values.items()})


def _write_scaling(scaling: RopeScaling | None) -> dict[str, Any] | None:
    if scaling is None:
        return None
    values = {key: getattr(scaling, _SCALING_FIELDS[key]) for key in _FIELDS_OF_KIND[scaling.kind]}
    return {"rope_type": scaling.kind} | {key: value for key, value in values.items() if value is not None}


def _integer(data: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = data.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise WeightsError(f"{key} must be a positive whole number, got {value!r}")
    return value
