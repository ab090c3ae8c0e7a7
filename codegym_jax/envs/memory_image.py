"""A guest's memory as the pages that it changed, and how to put them back.

A fresh guest's memory is mapped from the compiled artefact, and the system copies a page the first time that
it is written. So the process's page table tells which pages can differ from a fresh guest's, without reading
any of them. Where there is no such table to read (other systems than Linux, some containers), every page
counts as written, which costs milliseconds and changes nothing else.
Source: https://docs.kernel.org/admin-guide/mm/pagemap.html
"""

import mmap
import os
from collections.abc import Iterator

import numpy as np

from codegym_jax.envs.canonical_abi import WASM_PAGE_BYTES, ModuleInstance
from codegym_jax.envs.runtime import MemoryImage

PAGE_BYTES = 4096
"""Of an image, whatever the system's pages are."""

_NUMBER = np.dtype("<u4")
_EMPTY = bytes(PAGE_BYTES)
_PAGEMAP = "/proc/self/pagemap"
_ENTRY_BYTES = 8
_IN_MEMORY_OR_SWAP = np.uint64(1 << 63 | 1 << 62)
_OF_A_FILE = np.uint64(1 << 61)
_WORD = 0xFFFF_FFFF


class FreshMemory:
    """The memory that every guest of one artefact starts with."""

    def __init__(self, instance: ModuleInstance, guest_hash: str):
        """Keeps a fresh instance, in which nothing may ever be called, for its memory."""
        self._instance = instance
        self._guest_hash = guest_hash
        self._memory = instance.memory.toreadonly()
        self._stack_pointer = instance.stack_pointer
        self.memory_bytes = instance.memory_bytes
        self.tells_written = _tells_written(instance)
        """Whether the system tells which pages were written, or all of them have to be taken for written."""

    def written(self, instance: ModuleInstance) -> np.ndarray:
        """Numbers of the pages that may differ from a fresh guest's, ascending; all others do not."""
        if self.tells_written:
            try:
                return _written(instance)
            except OSError:  # such as no room for one more open file
                pass
        return np.arange(instance.memory_bytes // PAGE_BYTES)

    def take(self, instance: ModuleInstance) -> MemoryImage:
        """An image of an instance, which stays as it is; equal states give equal images."""
        memory, fresh = instance.memory, self._memory
        pages, content = [], []
        for page in self.written(instance).tolist():
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            now = memory[place].tobytes()
            if now != (fresh[place].tobytes() or _EMPTY):  # beyond a fresh guest's memory nothing was written
                pages.append(page)
                content.append(now)
        return MemoryImage(
            guest_hash=self._guest_hash,
            memory_bytes=instance.memory_bytes,
            stack_pointer=instance.stack_pointer,
            pages=np.array(pages, _NUMBER).tobytes(),
            content=b"".join(content),
        )

    def check(self, image: MemoryImage, max_memory_bytes: int) -> None:
        """Refuses an image that cannot be one, so that `put` writes nothing but a guest's memory.

        What the image makes of the guest is not checked: the guest's own limits hold for that.

        Raises:
          ValueError: when it is of another artefact, or names sizes or pages that a guest cannot have.
        """
        if image.guest_hash != self._guest_hash:
            raise ValueError(f"the image is of guest {image.guest_hash}, not of {self._guest_hash}")
        size = image.memory_bytes
        if size % WASM_PAGE_BYTES or not self.memory_bytes <= size <= max_memory_bytes:
            raise ValueError(
                f"the image has {size} bytes of memory, expected {self.memory_bytes} to {max_memory_bytes}"
                f" and a multiple of {WASM_PAGE_BYTES}"
            )
        if not 0 <= image.stack_pointer <= _WORD:
            raise ValueError(f"the image has its stack at {image.stack_pointer}, expected a 32-bit address")
        if len(image.content) * _NUMBER.itemsize != len(image.pages) * PAGE_BYTES:
            raise ValueError(f"the image has {len(image.content)} bytes for {len(image.pages) // 4} pages")
        pages = np.frombuffer(image.pages, _NUMBER).astype(np.int64)
        if (np.diff(pages, prepend=-1, append=size // PAGE_BYTES) <= 0).any():
            raise ValueError(f"the image's pages are not ascending numbers below {size // PAGE_BYTES}")

    def put(self, instance: ModuleInstance, image: MemoryImage) -> None:
        """Makes an instance what a checked image says.

        Args:
          instance: one with no more memory than the image, since memory cannot shrink.

        Raises:
          wasmtime.WasmtimeError: when the host has no room to grow the memory.
        """
        pages = np.frombuffer(image.pages, _NUMBER)
        undone = np.setdiff1d(self.written(instance), pages, assume_unique=True)
        instance.grow(image.memory_bytes)
        instance.stack_pointer = image.stack_pointer
        memory, content, position = instance.memory, memoryview(image.content), 0
        for place in _places(undone):
            fresh = self._memory[place].tobytes()  # shorter where the memory has grown, which was zeros
            memory[place] = fresh.ljust(place.stop - place.start, b"\0")
        for place in _places(pages):
            length = place.stop - place.start
            memory[place] = content[position : position + length]
            position += length

    def copy(self, source: ModuleInstance, target: ModuleInstance) -> None:
        """Makes a fresh instance the same as another.

        Raises:
          wasmtime.WasmtimeError: when the host has no room to grow the memory.
        """
        target.grow(source.memory_bytes)
        target.stack_pointer = source.stack_pointer
        theirs, ours = source.memory, target.memory
        for place in _places(self.written(source)):
            ours[place] = theirs[place]

    def undo(self, instance: ModuleInstance, written: np.ndarray) -> None:
        """Makes an instance whose memory never grew a fresh one again; `written` tells what it wrote."""
        instance.stack_pointer = self._stack_pointer
        memory, fresh = instance.memory, self._memory
        for place in _places(written):
            memory[place] = fresh[place]


def _places(pages: np.ndarray) -> Iterator[slice]:
    """Where pages lie in the memory, adjacent ones together."""
    start = end = 0
    for page in pages.tolist():  # NumPy takes twice as long over so few
        if page != end:
            if end > start:
                yield slice(start * PAGE_BYTES, end * PAGE_BYTES)
            start = page
        end = page + 1
    if end > start:
        yield slice(start * PAGE_BYTES, end * PAGE_BYTES)


def _written(instance: ModuleInstance) -> np.ndarray:
    """The pages of a memory that are this process's own; unwritten ones are a file's, or not there.

    Raises:
      OSError: when the system does not tell.
    """
    count = instance.memory_bytes // mmap.PAGESIZE
    # Opened anew each time: a process that was forked would read its parent's table through an older one.
    descriptor = os.open(_PAGEMAP, os.O_RDONLY)
    try:
        offset = instance.memory_address // mmap.PAGESIZE * _ENTRY_BYTES
        table = os.pread(descriptor, count * _ENTRY_BYTES, offset)
    finally:
        os.close(descriptor)
    if len(table) != count * _ENTRY_BYTES:
        raise OSError(f"{_PAGEMAP} is shorter than the memory")
    entries = np.frombuffer(table, np.uint64)
    own = ((entries & _IN_MEMORY_OR_SWAP) != 0) & ((entries & _OF_A_FILE) == 0)
    return np.flatnonzero(np.repeat(own, mmap.PAGESIZE // PAGE_BYTES))


def _tells_written(instance: ModuleInstance) -> bool:
    """Whether a page that is written, with what it holds already, then counts as written."""
    memory = instance.memory
    memory[:1] = bytes(memory[:1])
    try:
        return 0 in _written(instance)
    except OSError:
        return False
