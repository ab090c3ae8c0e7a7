"""Calls into a guest module by the component model's canonical ABI, spelled out.

wasmtime's public `Func.__call__` re-reads the function's type on every call, which costs more than the
call itself; the few functions used here come from wasmtime's C library instead, and nothing else in this
package touches it.

The ABI for the world in `envs_wasm/wit/codegym.wit`: a string or list argument is copied into memory that
`cabi_realloc` hands out and passed as (address, length); a reply comes back as the address of
{address: u32, length: u32} and is released by `cabi_post_<name>`. That of a guest made by componentize-py
gives back all but the reply's own bytes; such a guest exports `free`.
Source: https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
"""

import ctypes
import struct
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime._ffi import dll

from codegym_jax.envs.runtime import EXPORTS, BrokenGuest

WASM_PAGE_BYTES = 65_536

_FREE = "free"
_FUNCTIONS = (*EXPORTS, *(f"cabi_post_{name}" for name in EXPORTS), "cabi_realloc", _FREE)
_MAX_FLAT_ARGUMENTS = 8
_START_FUEL = 1_000_000_000  # instantiating runs a little code of the artefact itself
_ALIGNMENT = 1
_WORD = 0xFFFF_FFFF
_pair = struct.Struct("<II")


class ModuleInstance:
    """One instance of the guest module in a store of its own.

    All that a call can change lies in its memory and in its stack pointer: the build of a guest makes sure
    that its code writes no other global and no table (`envs_wasm/python_guest/fuse.py`).
    """

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.InstancePre, max_memory_bytes: int):
        """Instantiates the guest.

        Args:
          module: the guest, compiled and linked.
          max_memory_bytes: how far its linear memory may grow; growing further fails inside the guest.

        Raises:
          wasmtime.WasmtimeError: when the host has no room for it, or the module is no guest.
        """
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=max_memory_bytes)
        self._store.set_fuel(_START_FUEL)
        self._context = ctypes.cast(self._store._context(), ctypes.c_void_p).value
        self._trap = ctypes.c_void_p()
        self._trap_address = ctypes.addressof(self._trap)
        instance = c.wasmtime_instance_t()
        pre = ctypes.cast(module.ptr(), ctypes.c_void_p)
        _check(_instantiate(pre, self._context, ctypes.addressof(instance), self._trap_address))
        self._raise_trap()
        names = (*_FUNCTIONS, "memory", "__stack_pointer")
        self._exports = (c.wasmtime_extern_t * len(names))()  # owns what the addresses below point at
        address = {}
        for name, export in zip(names, self._exports, strict=True):
            found = _export(
                self._context, ctypes.addressof(instance), name.encode(), len(name), ctypes.addressof(export)
            )
            if not found and name != _FREE:
                raise wasmtime.WasmtimeError(f"the module does not export {name}")
            address[name] = ctypes.addressof(export.of) if found else None
        self._functions = {name: (address[name], address[f"cabi_post_{name}"]) for name in EXPORTS}
        self._realloc = address["cabi_realloc"]
        self._free = address[_FREE]
        self._memory = address["memory"]
        self._stack_pointer = address["__stack_pointer"]
        self.memory_address = _memory_data(self._context, self._memory)
        """Where the memory lies in this process; it never moves (see `make_config`)."""
        # A view of all that the memory may become, of which only the first `_size` bytes are there.
        self._view = memoryview((ctypes.c_char * max_memory_bytes).from_address(self.memory_address)).cast(
            "B"
        )
        self._size = self.memory_bytes
        self._values = (ctypes.c_uint64 * (2 * _MAX_FLAT_ARGUMENTS))()  # a value takes 16 bytes
        self._values_address = ctypes.addressof(self._values)
        self._wanted = (ctypes.c_uint64 * (2 * 4))()  # old address, old size, alignment, size
        self._wanted[4] = _ALIGNMENT
        self._wanted_address = ctypes.addressof(self._wanted)
        self._fuel = ctypes.c_uint64()
        self._fuel_address = ctypes.addressof(self._fuel)
        self.call_fuel = 0
        """What the last call burned."""

    @property
    def memory_bytes(self) -> int:
        """The present size of the memory; it never shrinks."""
        return _memory_size(self._context, self._memory)

    @property
    def memory(self) -> memoryview:
        """The memory, to read and to write, as long as the instance is open."""
        return self._view[: self.memory_bytes]

    def grow(self, memory_bytes: int) -> None:
        """Grows the memory to a size, a multiple of `WASM_PAGE_BYTES` and no less than its own.

        Raises:
          wasmtime.WasmtimeError: when that is beyond its limit, or the host has no room.
        """
        more = (memory_bytes - self.memory_bytes) // WASM_PAGE_BYTES
        if more == 0:
            return
        before = ctypes.c_uint64()
        _check(_grow_memory(self._context, self._memory, more, ctypes.addressof(before)))

    @property
    def stack_pointer(self) -> int:
        """Where the C stack in the memory ends; the same place whenever no call is under way."""
        return self._read_stack_pointer().of.i32 & _WORD

    @stack_pointer.setter
    def stack_pointer(self, address: int) -> None:
        value = self._read_stack_pointer()
        value.of.i32 = address
        _check(_set_global(self._context, self._stack_pointer, ctypes.addressof(value)))

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        """Calls an export, as `Instance.call` says."""
        _check(_set_fuel(self._context, fuel))
        function, release = self._functions[export]
        values, count = self._values, 0
        for argument in arguments:
            if isinstance(argument, int):
                values[2 * count] = argument
                count += 1
            else:
                values[2 * count] = self._copy_in(argument)
                values[2 * count + 2] = len(argument)
                count += 2
        self._invoke(function, self._values_address, count or 1)
        place = self._inside(values[0] & _WORD, _pair.size)
        start, length = _pair.unpack_from(self._view, place)
        self._inside(start, length)
        reply = self._view[start : start + length].tobytes()
        values[0] = place
        self._invoke(release, self._values_address, 1)
        if self._free and length:
            values[0] = start
            self._invoke(self._free, self._values_address, 1)
        _check(_get_fuel(self._context, self._fuel_address))
        self.call_fuel = fuel - self._fuel.value
        return reply

    def close(self) -> None:
        """Frees the memory; nothing of the instance may be used afterwards."""
        self._view = memoryview(b"")
        self._store.close()

    def _read_stack_pointer(self) -> c.wasmtime_val_t:
        value = c.wasmtime_val_t()
        _get_global(self._context, self._stack_pointer, ctypes.addressof(value))
        return value

    def _copy_in(self, data: bytes) -> int:
        wanted = self._wanted
        wanted[0] = wanted[2] = 0
        wanted[6] = length = len(data)
        self._invoke(self._realloc, self._wanted_address, 4)
        address = self._inside(wanted[0] & _WORD, length)
        self._view[address : address + length] = data
        return address

    def _inside(self, address: int, length: int) -> int:
        """The address, once it is certain that so many bytes from there belong to the guest."""
        if address + length > self._size:
            self._size = self.memory_bytes
            if address + length > self._size:
                raise BrokenGuest(f"the guest names {length} bytes at {address}, outside its memory")
        return address

    def _invoke(self, function: int, values_address: int, count: int) -> None:
        error = _call(self._context, function, values_address, count, self._trap_address)
        if error or self._trap.value:
            _check(error)
            self._raise_trap()

    def _raise_trap(self) -> None:
        if self._trap.value:
            trap = ctypes.cast(self._trap, ctypes.POINTER(c.wasm_trap_t))
            self._trap.value = None
            raise wasmtime.Trap._from_ptr(trap)


def make_config(stack_bytes: int) -> wasmtime.Config:
    """The engine's settings: fuel on, the Wasm stack bounded, the same NaN on every kind of CPU.

    wasmtime aborts the process when `max_wasm_stack` exceeds its asynchronous stack, which only the raw
    bindings can set, so that one is raised first.
    """
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    c.wasmtime_config_async_stack_size_set(config.ptr(), 2 * stack_bytes)
    config.max_wasm_stack = stack_bytes
    config.memory_may_move = False
    return config


def _check(error: int | None) -> None:
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(c.wasmtime_error_t)))


def _untyped(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    """A C function that takes addresses as plain numbers: converting typed pointers costs half a call."""
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


_quick = ctypes.PyDLL(dll._name, handle=dll._handle)
"""For what returns at once: letting other threads run would take longer than the call itself."""
_POINTER, _SIZE, _TEXT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p
_instantiate = _untyped(
    dll, "wasmtime_instance_pre_instantiate", _POINTER, _POINTER, _POINTER, _POINTER, _POINTER
)
_export = _untyped(
    _quick, "wasmtime_instance_export_get", ctypes.c_bool, _POINTER, _POINTER, _TEXT, _SIZE, _POINTER
)
_call = _untyped(dll, "wasmtime_func_call_unchecked", _POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER)
_set_fuel = _untyped(_quick, "wasmtime_context_set_fuel", _POINTER, _POINTER, ctypes.c_uint64)
_get_fuel = _untyped(_quick, "wasmtime_context_get_fuel", _POINTER, _POINTER, _POINTER)
_memory_data = _untyped(_quick, "wasmtime_memory_data", _POINTER, _POINTER, _POINTER)
_memory_size = _untyped(_quick, "wasmtime_memory_data_size", _SIZE, _POINTER, _POINTER)
_grow_memory = _untyped(dll, "wasmtime_memory_grow", _POINTER, _POINTER, _POINTER, ctypes.c_uint64, _POINTER)
_get_global = _untyped(_quick, "wasmtime_global_get", None, _POINTER, _POINTER, _POINTER)
_set_global = _untyped(_quick, "wasmtime_global_set", _POINTER, _POINTER, _POINTER, _POINTER)
