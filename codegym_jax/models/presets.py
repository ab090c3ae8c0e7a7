"""Model shapes by name."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The shape of a Llama-like decoder."""

    width: int  # D
    layers: int  # L
    query_heads: int  # N
    kv_heads: int  # K; N is a multiple of it (grouped-query attention)
    head_width: int  # H
    ffn_width: int  # F
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-6
    embedding_std: float = 0.02  # of the initial, tied embedding
    logit_scale: float = 1.0  # on the tied head
    token_shift: bool = False  # add a learned embedding of the previous token to each input

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


PRESETS: dict[str, ModelConfig] = {
    "nano": _from_scratch(width=64, layers=2, ffn_width=128),  # for tests
    "micro": _from_scratch(width=128, layers=3, ffn_width=384),
    "tiny": _from_scratch(width=192, layers=4, ffn_width=512),
}
