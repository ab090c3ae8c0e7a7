"""Calls into a guest module by the component model's canonical ABI, spelled out.

wasmtime's public `Func.__call__` re-reads the function's type on every call, which costs more than the
call itself; the few functions used here come from wasmtime's C library instead, and nothing else in this
package touches it.

The ABI for the world in `envs_wasm/wit/codegym.wit`: a string or list argument is copied into memory that
`cabi_realloc` hands out and passed as (address, length); a reply comes back as the address of
{address: u32, length: u32} and is released by `cabi_post_<name>`.
Source: https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
"""

import ctypes
import struct
from typing import Any

import wasmtime
from wasmtime import _bindings as c
from wasmtime._ffi import dll

from codegym_jax.envs.runtime import EXPORTS, BrokenGuest, Instance

_MAX_FLAT_ARGUMENTS = 8
_START_FUEL = 1_000_000_000  # instantiating runs a little code of the artefact itself
_ALIGNMENT = 1
_WORD = 0xFFFF_FFFF
_pair = struct.Struct("<II")


class ModuleInstance(Instance):
    """One instance of the guest module in a store of its own."""

    def __init__(self, engine: wasmtime.Engine, module: wasmtime.InstancePre, memory_bytes: int):
        """Instantiates the guest.

        Args:
          module: the guest, compiled and linked.
          memory_bytes: how far its linear memory may grow; growing further fails inside the guest.
        """
        self._store = wasmtime.Store(engine)
        self._store.set_limits(memory_size=memory_bytes)
        self._store.set_fuel(_START_FUEL)
        self._context = ctypes.cast(self._store._context(), ctypes.c_void_p).value
        exports: Any = module.instantiate(self._store).exports(self._store)
        self._exports = exports  # owns what the addresses below point at
        self._functions = {
            name: (_address(exports[name]._func), _address(exports[f"cabi_post_{name}"]._func))
            for name in EXPORTS
        }
        self._realloc = _address(exports["cabi_realloc"]._func)
        self._memory = _address(exports["memory"]._memory)
        self._size = self.memory_bytes
        # The memory never moves (see `make_config`); a view of all that it may become, of which only the
        # first `_size` bytes are there.
        base = _memory_data(self._context, self._memory)
        self._view = memoryview((ctypes.c_char * memory_bytes).from_address(base)).cast("B")
        self._values = (ctypes.c_uint64 * (2 * _MAX_FLAT_ARGUMENTS))()  # a value takes 16 bytes
        self._values_address = ctypes.addressof(self._values)
        self._trap = ctypes.c_void_p()
        self._trap_address = ctypes.addressof(self._trap)
        self._fuel = ctypes.c_uint64()
        self._fuel_address = ctypes.addressof(self._fuel)
        self._fuel_used = 0

    @property
    def memory_bytes(self) -> int:
        return _memory_size(self._context, self._memory)

    @property
    def fuel_used(self) -> int:
        return self._fuel_used

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        _check(_set_fuel(self._context, fuel))
        function, release = self._functions[export]
        flat: list[int] = []
        for argument in arguments:
            flat += (argument,) if isinstance(argument, int) else (self._copy_in(argument), len(argument))
        values = self._values
        for index, value in enumerate(flat):
            values[2 * index] = value
        self._invoke(function, len(flat) or 1)
        address = values[0] & _WORD
        start, length = _pair.unpack_from(self._view, self._inside(address, _pair.size))
        self._inside(start, length)
        reply = self._view[start : start + length].tobytes()
        values[0] = address
        self._invoke(release, 1)
        _check(_get_fuel(self._context, self._fuel_address))
        self._fuel_used += fuel - self._fuel.value
        return reply

    def close(self) -> None:
        self._view = memoryview(b"")
        self._store.close()

    def _copy_in(self, data: bytes) -> int:
        values = self._values
        values[0] = values[2] = 0
        values[4] = _ALIGNMENT
        values[6] = length = len(data)
        self._invoke(self._realloc, 4)
        address = self._inside(values[0] & _WORD, length)
        self._view[address : address + length] = data
        return address

    def _inside(self, address: int, length: int) -> int:
        """The address, once it is certain that so many bytes from there belong to the guest."""
        if address + length > self._size:
            self._size = self.memory_bytes
            if address + length > self._size:
                raise BrokenGuest(f"the guest names {length} bytes at {address}, outside its memory")
        return address

    def _invoke(self, function: int, value_count: int) -> None:
        _check(_call(self._context, function, self._values_address, value_count, self._trap_address))
        if self._trap.value:
            trap = ctypes.cast(self._trap, ctypes.POINTER(c.wasm_trap_t))
            self._trap.value = None
            raise wasmtime.Trap._from_ptr(trap)


def make_config(stack_bytes: int) -> wasmtime.Config:
    """The engine's settings: fuel on, the Wasm stack bounded.

    wasmtime aborts the process when `max_wasm_stack` exceeds its asynchronous stack, which only the raw
    bindings can set, so that one is raised first.
    """
    config = wasmtime.Config()
    config.consume_fuel = True
    c.wasmtime_config_async_stack_size_set(config.ptr(), 2 * stack_bytes)
    config.max_wasm_stack = stack_bytes
    config.memory_may_move = False
    return config


def _check(error: int | None) -> None:
    if error:
        raise wasmtime.WasmtimeError._from_ptr(ctypes.cast(error, ctypes.POINTER(c.wasmtime_error_t)))


def _address(structure: Any) -> int:
    return ctypes.addressof(structure)


def _untyped(name: str, result: Any, *arguments: Any) -> Any:
    """A C function that takes addresses as plain numbers: converting typed pointers costs half a call."""
    function = dll[name]
    function.restype, function.argtypes = result, arguments
    return function


_POINTER, _SIZE = ctypes.c_void_p, ctypes.c_size_t
_call = _untyped("wasmtime_func_call_unchecked", _POINTER, _POINTER, _POINTER, _POINTER, _SIZE, _POINTER)
_set_fuel = _untyped("wasmtime_context_set_fuel", _POINTER, _POINTER, ctypes.c_uint64)
_get_fuel = _untyped("wasmtime_context_get_fuel", _POINTER, _POINTER, _POINTER)
_memory_data = _untyped("wasmtime_memory_data", _POINTER, _POINTER, _POINTER)
_memory_size = _untyped("wasmtime_memory_data_size", _SIZE, _POINTER, _POINTER)
