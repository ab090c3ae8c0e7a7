"""The sampler of a completion engine, whose prompts are long and come one by one.

Reading a block of a prompt costs more than its tokens: the slot is taken out of the cache and put back, and
every row of the block attends to a whole slot, whether or not it has a prompt. So where slots are long, one
prompt is read at a time, in wide blocks. Where they are short, narrow blocks let more prompts share their
beginnings, which are shared in whole blocks.
"""

from collections.abc import Sequence

from jax.sharding import Mesh

from codegym_jax.models.transformer import Transformer
from codegym_jax.rollout.generate import Sampler

_LONG = 2048
_WIDE, _NARROW = 256, 64


def completion_sampler(
    model: Transformer,
    mesh: Mesh,
    *,
    slots: int,
    context_tokens: int,
    tokens_a_call: int,
    stop_sequences: Sequence[Sequence[int]],
) -> Sampler:
    """A sampler for `completions.CompletionEngine`.

    Args:
      model: the policy.
      mesh: slots are spread over its data axes.
      slots: completions at once; more where the mesh does not divide by them.
      context_tokens: of a prompt and its completion.
      tokens_a_call: that a completion may get between two looks at what has ended and what waits.
      stop_sequences: each of them ends a completion.
    """
    shares = mesh.shape["data"] * mesh.shape["fsdp"]  # of the slots, which must be equal
    return Sampler(
        model,
        mesh,
        slots=-(-slots // shares) * shares,
        max_tokens=context_tokens,
        max_message_tokens=tokens_a_call,
        stop_sequences=stop_sequences,
        prefill_rows=1,
        prefill_width=_WIDE if context_tokens >= _LONG else _NARROW,
        idle_fraction=1.0,
    )
