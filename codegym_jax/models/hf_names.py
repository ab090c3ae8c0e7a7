"""Which tensor of a Hugging Face checkpoint is which parameter.

Names and layouts are those of `LlamaForCausalLM`, `Qwen2ForCausalLM` and `Qwen3ForCausalLM` in transformers,
which differ only in which tensors there are. A projection is stored [out, in]; ours is [in, out].
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codegym_jax.models import layers_layout
from codegym_jax.models.presets import ModelConfig
from codegym_jax.models.tensor_store import Stored, TensorStore, WeightsError

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
FLOATS = ("F32", "F16", "BF16")
DERIVED = ".rotary_emb.inv_freq"
"""Old checkpoints carry the rotary frequencies in each layer; the config says them."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A parameter in the tree of unrolled layers, and the tensor that holds it."""

    path: tuple[str, ...]
    tensor: str
    shape: tuple[int, ...]  # of the parameter
    transposed: bool = False

    @property
    def stored_shape(self) -> tuple[int, ...]:
        return self.shape[::-1] if self.transposed else self.shape


def leaves(config: ModelConfig, vocabulary: int) -> list[Leaf]:
    """Every parameter of a model of this shape, in the order in which checkpoints hold them.

    Raises:
      WeightsError: for a model that no Hugging Face architecture describes.
    """
    if config.token_shift or config.logit_scale != 1.0:
        raise WeightsError(
            "a model with token_shift or a logit_scale other than 1 is of no Hugging Face architecture, got"
            f" token_shift={config.token_shift}, logit_scale={config.logit_scale}"
        )
    found = [Leaf(("embedding",), EMBEDDING, (vocabulary, config.width))]
    for layer in range(config.layers):
        found += _block(config, layer)
    found.append(Leaf(("norm", "scale"), "model.norm.weight", (config.width,)))
    if not config.tied_head:
        found.append(Leaf(("head",), HEAD, (config.width, vocabulary), transposed=True))
    return found


def _block(config: ModelConfig, layer: int) -> list[Leaf]:
    D, H, F = config.width, config.head_width, config.ffn_width
    queries, keys = config.query_heads * H, config.kv_heads * H
    kernels = {
        "q": ("self_attn.q_proj", (D, queries)),
        "k": ("self_attn.k_proj", (D, keys)),
        "v": ("self_attn.v_proj", (D, keys)),
        "o": ("self_attn.o_proj", (queries, D)),
        "gate": ("mlp.gate_proj", (D, F)),
        "up": ("mlp.up_proj", (D, F)),
        "down": ("mlp.down_proj", (F, D)),
    }
    vectors = {
        ("attention_norm", "scale"): ("input_layernorm.weight", D),
        ("ffn_norm", "scale"): ("post_attention_layernorm.weight", D),
    }
    if config.qkv_bias:
        vectors |= {
            ("q_bias",): ("self_attn.q_proj.bias", queries),
            ("k_bias",): ("self_attn.k_proj.bias", keys),
            ("v_bias",): ("self_attn.v_proj.bias", keys),
        }
    if config.qk_norm:
        vectors |= {
            ("q_norm", "scale"): ("self_attn.q_norm.weight", H),
            ("k_norm", "scale"): ("self_attn.k_norm.weight", H),
        }
    ours, theirs = layers_layout.block_name(layer), f"model.layers.{layer}."
    return [
        Leaf((ours, name), f"{theirs}{tensor}.weight", shape, transposed=True)
        for name, (tensor, shape) in kernels.items()
    ] + [Leaf((ours, *path), f"{theirs}{tensor}", (size,)) for path, (tensor, size) in vectors.items()]


def check(store: TensorStore, config: ModelConfig, vocabulary: int) -> None:
    """Holds the tensors that a store has against those that the model needs; reads headers only.

    A tied model may store `lm_head.weight` too; that it equals the embedding is seen when both are read.

    Raises:
      WeightsError: for a tensor that is missing, that nothing asks for, or of a wrong shape or dtype.
    """
    stored = dict(store.tensors())
    wanted = leaves(config, vocabulary)
    expected = {leaf.tensor: leaf.stored_shape for leaf in wanted}
    if config.tied_head and HEAD in stored:
        expected[HEAD] = expected[EMBEDDING]
    if missing := [name for name in expected if name not in stored]:
        raise WeightsError(
            f"{store.source}: tensor {missing[0]} is missing, expected {expected[missing[0]]}{_more(missing)}"
        )
    if extra := [name for name in stored if name not in expected and not name.endswith(DERIVED)]:
        raise WeightsError(
            f"{store.source}: tensor {extra[0]} {stored[extra[0]].shape} was found, expected none of that"
            f" name by the config{_more(extra)}"
        )
    for name, shape in expected.items():
        _check_one(store.source, name, shape, stored)


def _check_one(source: str, name: str, shape: Sequence[int], stored: Mapping[str, Stored]) -> None:
    found = stored[name]
    if found.shape != shape:
        raise WeightsError(f"{source}: tensor {name} has shape {found.shape}, expected {shape} by the config")
    if found.dtype not in FLOATS:
        raise WeightsError(f"{source}: tensor {name} has dtype {found.dtype}, expected {', '.join(FLOATS)}")


def _more(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
