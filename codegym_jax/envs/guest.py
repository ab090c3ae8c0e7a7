"""One guest: a Python interpreter in WebAssembly with room for one environment.

Takes text, gives text. A guest that trapped is in an undefined state and answers nothing more.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

import wasmtime

from codegym_jax.envs.canonical_abi import GuestInstance
from codegym_jax.records import CallError

if TYPE_CHECKING:
    from codegym_jax.envs.sandbox import Sandbox


class Status(IntEnum):
    """How a call ended: the WIT enum `status`, in its order."""

    OK = 0
    FINISHED = 1
    RAISED = 2
    OUT_OF_MEMORY = 3
    FORBIDDEN = 4


class GuestError(Exception):
    """The program in the guest raised; the text is `Type: message`. The guest lives on."""


class HostFailure(RuntimeError):
    """The host failed, not the program: what was being tried says nothing about it."""


class GuestTrap(Exception):
    """A limit ended the call, and the guest with it."""

    def __init__(self, error: CallError, detail: str):
        super().__init__(f"{error.value}: {detail}")
        self.error = error
        self.detail = detail


class Guest:
    """A fresh interpreter; every guest of one artefact starts from the same bytes."""

    def __init__(self, sandbox: Sandbox, instance: GuestInstance):
        self._sandbox = sandbox
        self._instance = instance
        self._fuel = sandbox.limits.fuel_per_call
        self._dead = False

    def run(self, program: bytes | str, function: str, argument_json: str) -> str:
        """Executes a program in a fresh namespace and calls one of its functions.

        Args:
          program: Python source, or code from `Sandbox.compile`.
          function: takes one string and returns one.

        Raises:
          GuestError: when the program or the function raised, or returned something else than a string.
          GuestTrap: when a limit ended it.
        """
        code = self._sandbox.compile(program) if isinstance(program, str) else program
        _, payload = self._call("run", code, function.encode(), argument_json.encode())
        return payload.decode()

    def compile(self, source: str) -> bytes:
        """Source as code that any guest of the same artefact runs; `Sandbox.compile` remembers it.

        Raises:
          GuestError: when the source does not compile.
          GuestTrap: when a limit ended it.
        """
        return self._call("compile", source.encode())[1]

    def load(self, code: bytes, class_name: str, config_json: str) -> None:
        """Builds the environment and resets it with its config.

        Raises:
          GuestError: when the environment's own code raised.
          GuestTrap: when a limit ended it.
        """
        self._call("load", code, class_name.encode(), config_json.encode())

    def step(self, action: str) -> tuple[bool, str]:
        """One call of the environment's `step`: (it says that the episode has ended, observation).

        Raises:
          GuestError: when `step`, or turning its result into text, raised.
          GuestTrap: when a limit ended it.
        """
        status, payload = self._call("step", action.encode())
        return status == Status.FINISHED, payload.decode()

    def solve(self, max_calls: int, fuel: int) -> str:
        """Runs the environment's oracle; JSON of its `actions` and `observations`.

        Raises:
          GuestError: when it raised, or made more than `max_calls` calls.
          GuestTrap: when a limit ended it.
        """
        return self._call("solve", max_calls, fuel=fuel)[1].decode()

    def answer(self) -> str:
        """The reference answer as JSON.

        Raises:
          GuestError: when `get_ref_answer` raised, or its result has no JSON form.
          GuestTrap: when a limit ended it.
        """
        return self._call("answer")[1].decode()

    def reward(self) -> float:
        """The environment's reward, whatever it is.

        Raises:
          GuestError: when reading it raised.
          GuestTrap: when a limit ended it.
        """
        return float(self._call("reward")[1])

    def close(self) -> None:
        """Frees the guest's memory now; nothing may be called afterwards."""
        self._dead = True
        self._instance.close()

    def _call(self, export: str, *arguments: bytes | int, fuel: int | None = None) -> tuple[int, bytes]:
        if self._dead:
            raise RuntimeError("a guest was used after it trapped or was closed")
        try:
            status, payload = self._instance.call(export, arguments, fuel or self._fuel)
        except wasmtime.Trap as trap:
            self._dead = True
            raise self._limit_hit(trap, fuel or self._fuel) from None
        except wasmtime.WasmtimeError as error:
            self._dead = True
            raise HostFailure(f"wasmtime: {error}") from error
        if status <= Status.FINISHED:
            return status, payload
        text = payload.decode()
        if status == Status.RAISED:
            raise GuestError(text)
        self._dead = True
        error = CallError.OUT_OF_MEMORY if status == Status.OUT_OF_MEMORY else CallError.FORBIDDEN
        raise GuestTrap(error, text)

    def _limit_hit(self, trap: wasmtime.Trap, fuel: int) -> GuestTrap:
        """What a trap says about the program; a stubbed import and an abort both show as "unreachable"."""
        limits = self._sandbox.limits
        if trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
            return GuestTrap(CallError.OUT_OF_FUEL, f"one call burned {fuel} units of fuel")
        # The C stack lies at the start of the memory, so overflowing it leaves the memory's bounds.
        if trap.trap_code in (wasmtime.TrapCode.STACK_OVERFLOW, wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS):
            return GuestTrap(CallError.STACK_OVERFLOW, f"the stack of {limits.stack_bytes} bytes overflowed")
        if self._instance.memory_bytes > 0.9 * limits.memory_bytes:
            return GuestTrap(CallError.OUT_OF_MEMORY, f"the guest reached {limits.memory_bytes} bytes")
        return GuestTrap(
            CallError.FORBIDDEN, "a system call, such as reading the clock or waiting for a lock"
        )
