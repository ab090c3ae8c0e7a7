"""One checkpoint for every engine: random weights of a model's shape, as a Hugging Face folder.

Random weights cost what trained ones cost. They are drawn from named streams, so a folder is a function of
shape and seed; its name holds both. Needs NumPy alone: every engine's Python imports this module.
"""

import json
import math
import os
import pathlib
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A Llama-like decoder with a tied head."""

    width: int
    layers: int
    query_heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    vocabulary: int
    rope_theta: float = 1e6
    """Not SmolLM2's 1e5: the only base that Tunix 0.1.7 uses for this family, whatever its config says."""
    norm_eps: float = 1e-5

    @property
    def parameters(self) -> int:
        """How many numbers the checkpoint holds."""
        return sum(math.prod(shape) for _, shape in _tensors(self))

    @property
    def cached_per_token(self) -> int:
        """Numbers of keys and values that one token leaves in the cache."""
        return 2 * self.layers * self.kv_heads * self.head_width


SHAPES = {
    # config.json of HuggingFaceTB/SmolLM2-135M.
    "smollm2-135m": Shape(
        width=576,
        layers=30,
        query_heads=9,
        kv_heads=3,
        head_width=64,
        ffn_width=1536,
        vocabulary=49152,
    ),
    "tiny": Shape(
        width=64, layers=2, query_heads=4, kv_heads=2, head_width=16, ffn_width=128, vocabulary=512
    ),
}


def ensure_checkpoint(folder: pathlib.Path, name: str, seed: int = 0) -> pathlib.Path:
    """The folder of a shape's checkpoint, written on first use.

    Args:
      folder: where checkpoints are kept.
      name: a key of `SHAPES`.
      seed: of the weights.
    """
    shape = SHAPES[name]
    drawn = zlib.crc32(json.dumps(asdict(shape), sort_keys=True).encode())
    path = folder / f"{name}-{drawn:08x}-{seed}"
    if not path.exists():
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.mkdir(parents=True)
        (temporary / "config.json").write_text(json.dumps(_config(shape), indent=2) + "\n", encoding="utf-8")
        _write_safetensors(temporary / "model.safetensors", shape, seed)
        try:
            temporary.rename(path)
        except OSError:  # another process was faster
            shutil.rmtree(temporary)
    return path


def read_shape(folder: pathlib.Path) -> Shape:
    """The shape of a Hugging Face folder of the Llama family."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    rope = config.get("rope_parameters") or config
    return Shape(
        width=config["hidden_size"],
        layers=config["num_hidden_layers"],
        query_heads=config["num_attention_heads"],
        kv_heads=config["num_key_value_heads"],
        head_width=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
        ffn_width=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        rope_theta=rope["rope_theta"],
        norm_eps=config["rms_norm_eps"],
    )


def _config(shape: Shape) -> dict[str, object]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.query_heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_width,
        "intermediate_size": shape.ffn_width,
        "vocab_size": shape.vocabulary,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "dtype": "float32",
    }


def _tensors(shape: Shape) -> Iterator[tuple[str, tuple[int, ...]]]:
    heads, kv = shape.query_heads * shape.head_width, shape.kv_heads * shape.head_width
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.width)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (shape.width,)
        yield f"{prefix}.self_attn.q_proj.weight", (heads, shape.width)
        yield f"{prefix}.self_attn.k_proj.weight", (kv, shape.width)
        yield f"{prefix}.self_attn.v_proj.weight", (kv, shape.width)
        yield f"{prefix}.self_attn.o_proj.weight", (shape.width, heads)
        yield f"{prefix}.post_attention_layernorm.weight", (shape.width,)
        yield f"{prefix}.mlp.gate_proj.weight", (shape.ffn_width, shape.width)
        yield f"{prefix}.mlp.up_proj.weight", (shape.ffn_width, shape.width)
        yield f"{prefix}.mlp.down_proj.weight", (shape.width, shape.ffn_width)
    yield "model.norm.weight", (shape.width,)


def _draw(name: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """Norm gains are 1. A matrix keeps the variance of its input, so that greedy tokens depend on the context
    and the best logit stands clear of the next; the embedding is small, as a tied head wants it."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    random = np.random.default_rng([seed, zlib.crc32(name.encode())])
    std = 0.1 if "embed" in name else shape[1] ** -0.5
    return random.standard_normal(shape, np.float32) * np.float32(std)


def _write_safetensors(path: pathlib.Path, shape: Shape, seed: int) -> None:
    """Source: https://github.com/huggingface/safetensors, README, "Format"."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, sizes in _tensors(shape):
        start, end = end, end + 4 * math.prod(sizes)
        header[name] = {"dtype": "F32", "shape": sizes, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, sizes in _tensors(shape):
            file.write(_draw(name, sizes, seed).astype("<f4").tobytes())
