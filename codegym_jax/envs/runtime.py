"""What a sandbox needs of whatever runs its guests: the fast path, the reference paths, other guests.

A reply is the contract's (`envs_wasm/wit/codegym.wit`): one byte of status, then the payload.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

EXPORTS = ("compile", "run", "load", "step", "step-many", "solve", "answer", "reward")


class BrokenGuest(Exception):
    """A guest's reply lies outside its memory: its own code was damaged, by hostile bytecode or a defect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryImage:
    """All that tells an instance, between two calls, from a fresh one of the same artefact."""

    guest_hash: str
    memory_bytes: int
    stack_pointer: int
    pages: bytes
    """Numbers of the pages that differ from a fresh instance's, ascending, each a little-endian u32."""
    content: bytes
    """Those pages, one after the other."""


class Instance(ABC):
    """One fresh guest."""

    @property
    @abstractmethod
    def memory_bytes(self) -> int:
        """The present size of its memory."""

    @property
    @abstractmethod
    def fuel_used(self) -> int:
        """What all calls so far have burned, about one unit per Wasm instruction."""

    @abstractmethod
    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        """Calls one of `EXPORTS`.

        Args:
          arguments: UTF-8 for a string, bytes for a list, int for a u32.
          fuel: what the call may burn.

        Returns:
          The reply, whole.

        Raises:
          wasmtime.Trap: when the guest trapped; the instance is then in an undefined state.
          BrokenGuest: when its reply cannot be one.
          wasmtime.WasmtimeError: when the host failed.
        """

    def snapshot(self) -> MemoryImage | None:
        """Its state between two calls, or None from a runtime that cannot tell it."""
        return None

    def restore(self, image: MemoryImage) -> None:
        """Takes on the state of a snapshot, whatever its own was.

        Raises:
          ValueError: when the image cannot be one of this artefact within its limits.
          wasmtime.WasmtimeError: when the host has no room for it.
        """
        raise ValueError(f"{type(self).__name__} takes no image")

    def fork(self) -> "Instance | None":
        """Another instance in the same state, or None from a runtime that cannot make one.

        Raises:
          wasmtime.WasmtimeError: when the host has no room for it.
        """
        return None

    @abstractmethod
    def close(self) -> None:
        """Frees its memory now."""


class Runtime(ABC):
    """Makes instances of one guest artefact."""

    guest_hash: str
    """Names the artefact; episodes replay only on the one that they name."""

    @abstractmethod
    def instantiate(self) -> Instance:
        """A fresh instance.

        Raises:
          wasmtime.WasmtimeError: when the host has no room for one.
        """
