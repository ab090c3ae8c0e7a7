"""A checkpoint as one GGUF file with a tokenizer, which llama.cpp reads as we do. Needs the package gguf.

The tokenizer knows bytes and little else; what the vocabulary has beyond them gets names, so that whatever a
model of random weights says is text.
"""

import os
import pathlib

import gguf
import numpy as np
from safetensors.numpy import load_file
from tokenizers import pre_tokenizers

from benchmarks.engines.checkpoint import Shape, read_shape

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NAMES = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
}


def ensure_gguf(folder: pathlib.Path) -> pathlib.Path:
    """The file beside a Hugging Face folder of the Llama family, written on first use."""
    path = folder.with_suffix(".gguf")
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        _write(temporary, folder, read_shape(folder))
        temporary.rename(path)
    return path


def _write(path: pathlib.Path, folder: pathlib.Path, shape: Shape) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(8192)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.ffn_width)
    writer.add_head_count(shape.query_heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_width)
    writer.add_value_length(shape.head_width)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_vocab_size(shape.vocabulary)
    _add_tokenizer(writer, shape.vocabulary)
    heads = {"attn_q": shape.query_heads, "attn_k": shape.kv_heads}
    for name, array in load_file(folder / "model.safetensors").items():
        layer, _, part = name.removeprefix("model.layers.").removesuffix(".weight").partition(".")
        inside = name.startswith("model.layers.")
        own = _NAMES[part if inside else name.removesuffix(".weight")]
        values = _in_pairs(array, heads[own]) if own in heads else array
        prefix = f"blk.{layer}." if inside else ""
        writer.add_tensor(f"{prefix}{own}.weight", np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _in_pairs(array: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries and keys as llama.cpp turns them: pairs side by side, not halves of a head."""
    split = array.reshape(heads, 2, len(array) // heads // 2, *array.shape[1:])
    return split.swapaxes(1, 2).reshape(array.shape)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    known = [*_SPECIAL, *letters, "th"]
    tokens = [*known, *(f"w{number}" for number in range(len(known), vocabulary))]
    normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([control if token in _SPECIAL else normal for token in tokens])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(_SPECIAL.index("<|endoftext|>"))
    writer.add_eos_token_id(_SPECIAL.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(_TEMPLATE)
