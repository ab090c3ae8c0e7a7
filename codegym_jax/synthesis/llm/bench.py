"""The guests in which what the model wrote is put to the test; opened when first used, once in a process."""

import functools
from dataclasses import dataclass
from pathlib import Path

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.synthesis.filters.determinism import Determinism
from codegym_jax.synthesis.llm.settings import LlmConfig


@dataclass(frozen=True, slots=True)
class Bench:
    """What every trial needs; it travels to worker processes, and the guests do not."""

    limits: SandboxConfig
    cache_dir: Path | None
    config: LlmConfig

    @property
    def sandbox(self) -> Sandbox:
        """Where everything runs."""
        return _sandbox(self.limits, self.cache_dir)

    @property
    def determinism(self) -> Determinism:
        """Where verified tasks are played once more; loads the second guest build."""
        return _determinism(self.limits, self.cache_dir)


@functools.cache
def _sandbox(limits: SandboxConfig, cache_dir: Path | None) -> Sandbox:
    return Sandbox(limits, cache_dir)


@functools.cache
def _determinism(limits: SandboxConfig, cache_dir: Path | None) -> Determinism:
    return Determinism(limits, cache_dir)
