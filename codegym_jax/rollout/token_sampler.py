"""What an agent asks of whatever gives it tokens, and what both know of a message. Needs no JAX."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int, UInt32


class Sampled(NamedTuple):
    """What one `decode` call produced, on the host; row b has `count_B[b]` new tokens."""

    tokens_BT: Int[np.ndarray, "B T"]
    sampler_logp_BT: Float[np.ndarray, "B T"]
    policy_logp_BT: Float[np.ndarray, "B T"]
    count_B: Int[np.ndarray, " B"]


@runtime_checkable
class TokenSampler(Protocol):
    """What an agent asks of a `generate.Sampler`."""

    slots: int
    stop_sequences: tuple[tuple[int, ...], ...]

    def start(self, slot_keys: Mapping[int, UInt32[np.ndarray, " 4"]]) -> None: ...

    def append(self, params: Any, tokens_of: Mapping[int, Sequence[int]]) -> None: ...

    def decode(self, params: Any, budget_B: Int[np.ndarray, " B"], temperature: float) -> Sampled: ...


def episode_key(seed: int, task_id: str, attempt: int) -> UInt32[np.ndarray, " 4"]:
    """Four words that name an episode's random stream; made on the host, at no device call per episode."""
    name = f"{seed}\0{task_id}\0{attempt}".encode()
    return np.frombuffer(hashlib.sha256(name).digest()[:16], dtype="<u4").astype(np.uint32)


def stop_of(message: Sequence[int], stop_sequences: Sequence[Sequence[int]]) -> tuple[int, ...] | None:
    """The longest stop sequence that a message ends with, on the host; None while it goes on."""
    found = [s for s in stop_sequences if len(s) <= len(message) and list(message[-len(s) :]) == list(s)]
    return tuple(max(found, key=len)) if found else None
