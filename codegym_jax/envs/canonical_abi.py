"""Calls into a guest module by the component model's canonical ABI, spelled out.

wasmtime's public `Func.__call__` re-reads the function's type on every call, which costs more than the
call itself; the few functions used here come from `wasmtime._bindings` instead, and from nowhere else.

The ABI for the world in `envs_wasm/wit/codegym.wit`: a string or list argument is copied into memory that
`cabi_realloc` hands out and passed as (address, length); a `reply` comes back as the address of
{status: u8 at 0, payload address: u32 at 4, payload length: u32 at 8} and is released by `cabi_post_<name>`.
Source: https://github.com/WebAssembly/component-model/blob/main/design/mvp/CanonicalABI.md
"""

import ctypes
from typing import Any

import wasmtime
from wasmtime import _bindings as c

EXPORTS = ("compile", "run", "load", "step", "solve", "answer", "reward")
MAX_FLAT_ARGUMENTS = 8
_START_FUEL = 1_000_000_000  # instantiating runs a little code of the artefact itself


class GuestInstance:
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
        self._context = self._store._context()
        exports = module.instantiate(self._store).exports(self._store)
        self._exports = exports  # owns what the references below point at
        self._functions = {name: _reference(exports[name]) for name in EXPORTS}
        self._releases = {name: _reference(exports[f"cabi_post_{name}"]) for name in EXPORTS}
        self._realloc = _reference(exports["cabi_realloc"])
        memory: Any = exports["memory"]
        self._memory = ctypes.byref(memory._memory)
        self._values = (c.wasmtime_val_raw_t * MAX_FLAT_ARGUMENTS)()
        self._trap = ctypes.POINTER(c.wasm_trap_t)()
        self._trap_reference = ctypes.byref(self._trap)

    @property
    def memory_bytes(self) -> int:
        """The present size of the guest's linear memory."""
        return c.wasmtime_memory_data_size(self._context, self._memory)  # pyright: ignore[reportReturnType]

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> tuple[int, bytes]:
        """Calls one export.

        Args:
          export: one of `EXPORTS`.
          arguments: bytes for a string or list, int for a u32.
          fuel: what the call may burn, about one unit per Wasm instruction.

        Returns:
          The reply's status (an index into the WIT enum) and payload.

        Raises:
          wasmtime.Trap: when the guest trapped; the instance is then in an undefined state.
          wasmtime.WasmtimeError: when wasmtime failed.
        """
        error = c.wasmtime_context_set_fuel(self._context, fuel)
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        values = self._values
        flat: list[int] = []
        for argument in arguments:
            flat += (argument,) if isinstance(argument, int) else self._copy_in(argument)
        for index, value in enumerate(flat):
            values[index].i64 = value
        self._invoke(self._functions[export], max(len(flat), 1))
        address = values[0].i32
        reply = ctypes.string_at(self._base() + address, 12)
        start = int.from_bytes(reply[4:8], "little")
        payload = ctypes.string_at(self._base() + start, int.from_bytes(reply[8:12], "little"))
        values[0].i64 = address
        self._invoke(self._releases[export], 1)
        return reply[0], payload

    def close(self) -> None:
        """Frees the instance's memory now."""
        self._store.close()

    def _copy_in(self, data: bytes) -> tuple[int, int]:
        values = self._values
        values[0].i64 = values[1].i64 = 0
        values[2].i64 = 1  # alignment
        values[3].i64 = len(data)
        self._invoke(self._realloc, 4)
        address = values[0].i32
        ctypes.memmove(self._base() + address, data, len(data))
        return address, len(data)

    def _base(self) -> int:
        """The host address of the guest's memory; read anew since growing may move it."""
        return ctypes.cast(c.wasmtime_memory_data(self._context, self._memory), ctypes.c_void_p).value or 0

    def _invoke(self, function: Any, value_count: int) -> None:
        error = c.wasmtime_func_call_unchecked(
            self._context, function, self._values, value_count, self._trap_reference
        )
        if error:
            raise wasmtime.WasmtimeError._from_ptr(error)
        if self._trap:
            trap, self._trap = self._trap, ctypes.POINTER(c.wasm_trap_t)()
            self._trap_reference = ctypes.byref(self._trap)
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
    return config


def _reference(function: Any) -> Any:
    return ctypes.byref(function._func)
