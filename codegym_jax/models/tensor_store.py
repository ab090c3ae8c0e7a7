"""Where weights are read from: named tensors of which any slice can be read, and what is wrong with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from codegym_jax.config import UserError

Index = tuple[slice, ...]
"""One slice of step 1 for each axis."""


class WeightsError(UserError):
    """Weights that cannot be used: the message names file and tensor, what was expected and what found."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the header of a file says about one tensor."""

    shape: tuple[int, ...]
    dtype: str  # as safetensors spells it: F32, BF16, ...


@runtime_checkable
class TensorStore(Protocol):
    """Tensors under the names and in the layouts of Hugging Face checkpoints: kernels are [out, in]."""

    @property
    def source(self) -> str:
        """The file or folder, for messages."""
        ...

    def tensors(self) -> Mapping[str, Stored]:
        """All of them; reads headers only."""
        ...

    def read(self, name: str, index: Index) -> np.ndarray:
        """A slice of one tensor, in memory of its own."""
        ...
