"""Model shapes by name: small ones that learn from scratch, and those of published checkpoints."""

from dataclasses import dataclass, replace

from codegym_jax.models.rope import RopeScaling


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a Llama-like decoder; with `qkv_bias` a Qwen2, with `qk_norm` a Qwen3.

    Raises:
      ValueError: when heads cannot be grouped or rotated.
    """

    width: int  # D
    layers: int  # L
    query_heads: int  # N
    kv_heads: int  # K; N is a multiple of it (grouped-query attention)
    head_width: int  # H
    ffn_width: int  # F
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    embedding_std: float = 0.02  # of the initial embedding
    logit_scale: float = 1.0  # on the head
    token_shift: bool = False  # add a learned embedding of the previous token to each input
    qkv_bias: bool = False  # biases on queries, keys and values
    qk_norm: bool = False  # RMSNorm over each head's queries and keys, before they turn
    tied_head: bool = True  # the head is the embedding, transposed
    rope_scaling: RopeScaling | None = None
    vocabulary: int = 0  # rows of the published embedding, padding included; 0: the tokenizer's size
    max_positions: int = 0  # the longest text that the checkpoint was made for; 0: not stated

    def __post_init__(self) -> None:
        if self.query_heads % self.kv_heads:
            raise ValueError(
                f"query_heads ({self.query_heads}) must be a multiple of kv_heads ({self.kv_heads})"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width must be even for rotary embeddings, got {self.head_width}")


def _from_scratch(width: int, layers: int, ffn_width: int) -> ModelConfig:
    """Shapes that learn to copy within a few hundred updates from random weights.

    One key-value head keeps the cache small on a CPU. A short rotary base and the previous token at
    the input give the first layer what an induction head otherwise has to learn. The embedding starts
    large and the head is scaled so that initial logits have unit variance.
    """
    return ModelConfig(
        width=width,
        layers=layers,
        query_heads=width // 32,
        kv_heads=1,
        head_width=32,
        ffn_width=ffn_width,
        rope_theta=500.0,
        embedding_std=0.5,
        logit_scale=2.0 * width**-0.5,
        token_shift=True,
    )


def _qwen2(
    width: int, layers: int, query_heads: int, kv_heads: int, ffn_width: int, *, tied: bool
) -> ModelConfig:
    """Qwen2.5 (Qwen Team 2024, https://arxiv.org/abs/2412.15115): the Instruct checkpoints' config.json."""
    return ModelConfig(
        width=width,
        layers=layers,
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_width=width // query_heads,
        ffn_width=ffn_width,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        qkv_bias=True,
        tied_head=tied,
        vocabulary=151_936 if tied else 152_064,
        max_positions=32_768,
    )


def _qwen3(width: int, layers: int, query_heads: int, ffn_width: int, *, tied: bool) -> ModelConfig:
    """Qwen3 (Qwen Team 2025, https://arxiv.org/abs/2505.09388): the checkpoints' config.json."""
    return ModelConfig(
        width=width,
        layers=layers,
        query_heads=query_heads,
        kv_heads=8,
        head_width=128,
        ffn_width=ffn_width,
        rope_theta=1_000_000.0,
        norm_eps=1e-6,
        qk_norm=True,
        tied_head=tied,
        vocabulary=151_936,
        max_positions=40_960,
    )


PRESETS: dict[str, ModelConfig] = {
    "nano": _from_scratch(width=64, layers=2, ffn_width=128),  # for tests
    "micro": _from_scratch(width=128, layers=3, ffn_width=384),
    "tiny": _from_scratch(width=192, layers=4, ffn_width=512),
    # SmolLM2 (Ben Allal et al. 2025, https://arxiv.org/abs/2502.02737), a Llama in every detail.
    "smollm2-135m": ModelConfig(
        width=576,
        layers=30,
        query_heads=9,
        kv_heads=3,
        head_width=64,
        ffn_width=1536,
        rope_theta=100_000.0,
        norm_eps=1e-5,
        vocabulary=49_152,
        max_positions=8_192,
    ),
    "qwen2.5-0.5b": _qwen2(896, 24, 14, 2, 4_864, tied=True),
    "qwen2.5-1.5b": _qwen2(1_536, 28, 12, 2, 8_960, tied=True),
    "qwen2.5-3b": _qwen2(2_048, 36, 16, 2, 11_008, tied=True),
    "qwen2.5-7b": _qwen2(3_584, 28, 28, 4, 18_944, tied=False),
    "qwen2.5-14b": _qwen2(5_120, 48, 40, 8, 13_824, tied=False),
    "qwen2.5-32b": _qwen2(5_120, 64, 40, 8, 27_648, tied=False),
    "qwen2.5-72b": _qwen2(8_192, 80, 64, 8, 29_568, tied=False),
    # QwQ (Qwen Team 2025, https://qwenlm.github.io/blog/qwq-32b/): Qwen2.5-32B further trained.
    "qwq-32b": replace(_qwen2(5_120, 64, 40, 8, 27_648, tied=False), norm_eps=1e-5, max_positions=40_960),
    "qwen3-0.6b": _qwen3(1_024, 28, 16, 3_072, tied=True),
    "qwen3-1.7b": _qwen3(2_048, 28, 16, 6_144, tied=True),
    "qwen3-4b": _qwen3(2_560, 36, 32, 9_728, tied=True),
    "qwen3-8b": _qwen3(4_096, 36, 32, 12_288, tied=False),
    "qwen3-14b": _qwen3(5_120, 40, 40, 17_408, tied=False),
    "qwen3-32b": _qwen3(5_120, 64, 64, 25_600, tied=False),
}
