"""Instances that are used again once what was done in them is undone.

A new instance costs a mapping, its end an unmapping, and an episode in it a page fault for every page that
it writes; undoing an episode costs copying those pages once. So an instance that is given back becomes a
fresh one again, byte for byte, and waits for the next episode.
"""

import threading
from collections.abc import Callable

from codegym_jax.envs.canonical_abi import ModuleInstance
from codegym_jax.envs.memory_image import PAGE_BYTES, FreshMemory
from codegym_jax.envs.runtime import Instance, MemoryImage

MAX_IDLE = 8
"""Instances that wait, at most."""
MAX_WRITTEN_BYTES = 2 * 2**20
"""An instance that wrote to more than this in all its lives is not kept: such a page stays its own, and is
copied every time. One environment's episode writes to 0.7 MB. Up to 2 MiB, using an instance again saves a
sixth of an episode's time or more; from 4.5 MiB on, nothing.
"""


class Recycler:
    """Lends instances, each a fresh one to whoever gets it. Threads may share it."""

    def __init__(self, make: Callable[[], ModuleInstance], *, guest_hash: str, max_memory_bytes: int):
        """Makes one instance, whose memory is what all fresh ones hold.

        Args:
          make: a fresh instance.
          max_memory_bytes: how far an instance's memory may grow.
        """
        self.fresh = FreshMemory(make(), guest_hash)
        self.max_memory_bytes = max_memory_bytes
        self._make = make
        self._idle: list[ModuleInstance] = []
        self._lock = threading.Lock()

    def take(self) -> ModuleInstance:
        """A fresh instance."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._make()

    def give_back(self, instance: ModuleInstance) -> None:
        """Takes an instance back whose last call did not trap, and undoes all that was done in it."""
        fresh = self.fresh
        if fresh.tells_written and instance.memory_bytes == fresh.memory_bytes and len(self._idle) < MAX_IDLE:
            written = fresh.written(instance)
            if len(written) * PAGE_BYTES <= MAX_WRITTEN_BYTES:
                fresh.undo(instance, written)
                with self._lock:
                    if len(self._idle) < MAX_IDLE:
                        self._idle.append(instance)
                        return
        instance.close()


class LentInstance(Instance):
    """An instance for as long as one guest has it."""

    def __init__(self, recycler: Recycler):
        self._recycler = recycler
        self._instance: ModuleInstance | None = recycler.take()
        self._is_sound = True
        self._fuel_used = 0

    @property
    def memory_bytes(self) -> int:
        return self._instance.memory_bytes if self._instance else 0

    @property
    def fuel_used(self) -> int:
        return self._fuel_used

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        instance = self._instance or self._open()
        self._is_sound = False
        reply = instance.call(export, arguments, fuel)
        self._is_sound = True
        self._fuel_used += instance.call_fuel
        return reply

    def snapshot(self) -> MemoryImage:
        return self._recycler.fresh.take(self._open())

    def restore(self, image: MemoryImage) -> None:
        recycler = self._recycler
        recycler.fresh.check(image, recycler.max_memory_bytes)
        if not self._is_sound or self.memory_bytes > image.memory_bytes:
            self.close()
            self._instance, self._is_sound = recycler.take(), True
        recycler.fresh.put(self._open(), image)

    def fork(self) -> "LentInstance":
        other = LentInstance(self._recycler)
        self._recycler.fresh.copy(self._open(), other._open())
        return other

    def close(self) -> None:
        instance, self._instance = self._instance, None  # whoever gets it next shares it with nobody
        if instance and self._is_sound:
            self._recycler.give_back(instance)
        elif instance:
            instance.close()

    def _open(self) -> ModuleInstance:
        if self._instance is None:
            raise RuntimeError("an instance was used after it was closed")
        return self._instance
