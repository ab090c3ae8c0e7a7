"""Floating-point operations that a model needs, counted from its shape and from how long its episodes are.

A multiplication and an addition are two operations. What depends on the program is left out: padding, prompts
that are computed once for several episodes, forward passes that are repeated to save memory. So the rate of
these operations over the peak of the devices is the model FLOPs utilization (MFU) of Chowdhery et al. 2022,
https://arxiv.org/abs/2204.02311, appendix B: 2 operations a parameter and token forward, 6 with the backward
pass, and attention's. Unlike there, attention is counted causally, each token over those before it.
"""

import numpy as np
from jaxtyping import Int

from codegym_jax.models.presets import ModelConfig


def matrix_parameters(shape: ModelConfig, vocabulary: int) -> int:
    """Parameters that each token is multiplied with: all matrices, the head, not the embedding's lookup."""
    q_and_o = 2 * shape.width * shape.query_heads * shape.head_width
    k_and_v = 2 * shape.width * shape.kv_heads * shape.head_width
    ffn = 3 * shape.width * shape.ffn_width
    return shape.layers * (q_and_o + k_and_v + ffn) + vocabulary * shape.width


def attention_flops(shape: ModelConfig, seen: float) -> float:
    """Of scores and mixed values in all layers, when tokens look at tokens, themselves too, `seen` times."""
    return 4.0 * shape.layers * shape.query_heads * shape.head_width * seen


def forward_flops(shape: ModelConfig, vocabulary: int, lengths_E: Int[np.ndarray, " E"]) -> float:
    """One forward pass over episodes of these lengths, logits of every token included.

    sum over episodes of 2 M T + 4 L N H T (T + 1) / 2, with M matrix parameters
    """
    lengths_E = lengths_E.astype(np.float64)
    seen = float((lengths_E * (lengths_E + 1) / 2).sum())
    return 2.0 * matrix_parameters(shape, vocabulary) * float(lengths_E.sum()) + attention_flops(shape, seen)


def learning_flops(
    shape: ModelConfig, vocabulary: int, lengths_E: Int[np.ndarray, " E"], *, scorings: int = 0
) -> float:
    """One update's pass forward and back over episodes of these lengths, three times a forward pass.

    Args:
      shape: of the model.
      vocabulary: rows of the head.
      lengths_E: tokens of each episode.
      scorings: further forward passes over them, for log-probabilities before the update.
    """
    return (3 + scorings) * forward_flops(shape, vocabulary, lengths_E)


def sampling_flops(shape: ModelConfig, vocabulary: int, positions_T: Int[np.ndarray, " T"]) -> float:
    """Drawing tokens at these positions of their episodes, each after so many others; nothing for prompts."""
    drawn = 2.0 * matrix_parameters(shape, vocabulary) * len(positions_T)
    return drawn + attention_flops(shape, float(positions_T.astype(np.float64).sum()))
