"""Weights in llama.cpp's format: one file with a model's shape, its tensors (often quantized), its tokenizer.

Tensors are shown as a Hugging Face checkpoint would hold them, in float32. Two things differ in the file:
names, and, in the architecture `llama` only, the order of rows in the query and key projections: llama.cpp
turns neighbors (0, 1), (2, 3), ... where Hugging Face turns pairs (i, i + H/2), so its converter interleaves
the halves.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (format and keys);
https://github.com/ggml-org/llama.cpp/blob/master/convert_hf_to_gguf.py (names, order of rows).
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from codegym_jax.models import hf_names
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.rope import RopeScaling
from codegym_jax.models.tensor_store import Index, Stored, WeightsError

ARCHITECTURES = ("llama", "qwen2", "qwen3")
_WHOLE_MODEL = {
    "token_embd.weight": hf_names.EMBEDDING,
    "output_norm.weight": "model.norm.weight",
    "output.weight": hf_names.HEAD,
}
_OF_A_BLOCK = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_INTEGERS = ("I8", "I16", "I32", "I64")


def hf_name(name: str) -> str:
    """The Hugging Face name of a tensor; a name that has none stays as it is."""
    if name in _WHOLE_MODEL:
        return _WHOLE_MODEL[name]
    parts = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if parts is None or parts[2] not in _OF_A_BLOCK:
        return name
    return f"model.layers.{parts[1]}.{_OF_A_BLOCK[parts[2]]}.{parts[3]}"


def rows_as_stored(rows: int, heads: int) -> np.ndarray:
    """For each row of a Hugging Face query or key projection, the row of the file that holds it.

    Row (head, half, i) of Hugging Face is row (head, i, half) of the file.
    """
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


class GgufFile:
    """The tensors of a .gguf file, dequantized to float32 when they are read; the file is mapped."""

    def __init__(self, path: pathlib.Path) -> None:
        """Reads the header.

        Raises:
          WeightsError: when the package `gguf` is absent, or the file is damaged or of another architecture.
        """
        try:
            import gguf
        except ImportError as error:
            raise WeightsError(
                f"{path}: reading .gguf files needs the package gguf; run: pip install 'codegym-jax[gguf]'"
            ) from error
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError, OSError, OverflowError) as error:
            raise WeightsError(f"{path} is no complete .gguf file: {error}") from error
        self._path = path
        self._dequantize = gguf.quants.dequantize
        self._fields = {name: field.contents() for name, field in reader.fields.items() if _is_small(field)}
        self.architecture = str(self._fields.get("general.architecture"))
        if self.architecture not in ARCHITECTURES:
            raise WeightsError(
                f"{path}: general.architecture must be one of {', '.join(ARCHITECTURES)},"
                f" got {self.architecture}"
            )
        self._raw = {hf_name(tensor.name): tensor for tensor in reader.tensors}

    @property
    def source(self) -> str:
        return str(self._path)

    def config(self) -> ModelConfig:
        """The model's shape, from the metadata.

        Raises:
          WeightsError: for a key that is missing, or a value that these models cannot have.
        """
        width = int(self._field("embedding_length"))
        heads = int(self._field("attention.head_count"))
        head_width = int(self._field("attention.key_length", width // heads))
        for key in ("attention.value_length", "rope.dimension_count"):
            if (found := int(self._field(key, head_width))) != head_width:
                raise WeightsError(
                    f"{self._path}: {self.architecture}.{key} must be {head_width}, as the keys, got {found}"
                )
        embedding = self._raw.get(hf_names.EMBEDDING)
        if embedding is None:
            raise WeightsError(f"{self._path}: tensor token_embd.weight is missing")
        max_positions = int(self._field("context_length"))
        try:
            return ModelConfig(
                width=width,
                layers=int(self._field("block_count")),
                query_heads=heads,
                kv_heads=int(self._field("attention.head_count_kv", heads)),
                head_width=head_width,
                ffn_width=int(self._field("feed_forward_length")),
                rope_theta=float(self._field("rope.freq_base", 10_000.0)),
                rope_scaling=self._rope_scaling(max_positions),
                norm_eps=float(np.float32(self._field("attention.layer_norm_rms_epsilon")).astype(str)),
                qkv_bias=self.architecture == "qwen2",
                qk_norm=self.architecture == "qwen3",
                tied_head=hf_names.HEAD not in self._raw,
                vocabulary=int(embedding.shape[-1]),
                max_positions=max_positions,
            )
        except WeightsError:
            raise
        except (TypeError, ValueError) as error:
            raise WeightsError(f"{self._path}: {error}") from error

    def tensors(self) -> Mapping[str, Stored]:
        return {
            name: Stored(tuple(int(n) for n in reversed(tensor.shape)), _dtype(tensor))
            for name, tensor in self._raw.items()
        }

    def read(self, name: str, index: Index) -> np.ndarray:
        """A slice in float32. Whole rows are dequantized: a block of values may span any columns."""
        tensor = self._raw[name]
        heads = self._interleaved_heads(name)
        rows = rows_as_stored(int(tensor.shape[-1]), heads)[index[0]] if heads else index[0]
        try:
            values = self._dequantize(tensor.data[rows], tensor.tensor_type)
        except NotImplementedError as error:
            raise WeightsError(
                f"{self._path}: tensor {tensor.name} has type {tensor.tensor_type.name},"
                " which the package gguf cannot dequantize"
            ) from error
        return np.array(values[(slice(None), *index[1:])], dtype=np.float32)

    def _interleaved_heads(self, name: str) -> int:
        """Heads of a projection whose rows are interleaved in the file; 0 for every other tensor."""
        if self.architecture != "llama":
            return 0
        if re.search(r"\.self_attn\.q_proj\.", name):
            return int(self._field("attention.head_count"))
        if re.search(r"\.self_attn\.k_proj\.", name):
            return int(self._field("attention.head_count_kv", self._field("attention.head_count")))
        return 0

    def _rope_scaling(self, max_positions: int) -> RopeScaling | None:
        kind = self._field("rope.scaling.type", "none")
        if kind == "none":
            return None
        if kind not in ("linear", "yarn"):
            raise WeightsError(
                f"{self._path}: {self.architecture}.rope.scaling.type must be none, linear or yarn,"
                f" got {kind}"
            )
        original = int(self._field("rope.scaling.original_context_length", max_positions))
        factor = float(self._field("rope.scaling.factor"))
        if kind == "linear":
            return RopeScaling(kind="linear", factor=factor)
        return RopeScaling(kind="yarn", factor=factor, original_max_positions=original)

    def _field(self, key: str, default: Any = None) -> Any:
        value = self._fields.get(f"{self.architecture}.{key}", default)
        if value is None or isinstance(value, list):
            found = "nothing" if value is None else "one value for each layer"
            raise WeightsError(f"{self._path}: {self.architecture}.{key} must be one value, got {found}")
        return value


def _is_small(field: Any) -> bool:
    """Whether metadata is worth decoding: not the tokenizer's lists of a hundred thousand strings."""
    return len(field.data) <= 1024


def _dtype(tensor: Any) -> str:
    """What a read tensor is of: float32, unless the file holds whole numbers."""
    kind = tensor.tensor_type.name
    return kind if kind in _INTEGERS else "F32"
