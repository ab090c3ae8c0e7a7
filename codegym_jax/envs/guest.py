"""One guest: a Python interpreter in WebAssembly with room for one environment.

Takes text, gives text. A guest that trapped is in an undefined state and answers nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import wasmtime

from codegym_jax.envs.runtime import BrokenGuest, Instance, MemoryImage
from codegym_jax.records import CallError

if TYPE_CHECKING:
    from codegym_jax.envs.sandbox import Sandbox


_FRAME_BYTES = 4
_NO_REPLY = bytes([4])  # nothing at all stands for the worst


class Status(IntEnum):
    """How a call ended: the first byte of a reply (`envs_wasm/wit/codegym.wit`)."""

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

    def __init__(self, sandbox: Sandbox, instance: Instance):
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
        return _text(self._call("run", code, _utf8(function), _utf8(argument_json)))

    def compile(self, source: str) -> bytes:
        """Source as code that any guest of the same artefact runs; `Sandbox.compile` remembers it.

        Raises:
          GuestError: when the source does not compile.
          GuestTrap: when a limit ended it.
        """
        return self._call("compile", _utf8(source))[1:]

    def load(self, code: bytes, class_name: str, config_json: str) -> None:
        """Builds the environment and resets it with its config.

        Raises:
          GuestError: when the environment's own code raised.
          GuestTrap: when a limit ended it.
        """
        self._call("load", code, _utf8(class_name), _utf8(config_json))

    def step(self, action: str) -> tuple[bool, str]:
        """One call of the environment's `step`: (it says that the episode has ended, observation).

        Raises:
          GuestError: when `step`, or turning its result into text, raised.
          GuestTrap: when a limit ended it.
        """
        reply = self._call("step", action.encode())
        return reply[0] == Status.FINISHED, _text(reply)

    def step_many(self, actions: Sequence[str]) -> list[tuple[bool, str] | GuestError]:
        """Calls of `step` in one call of the guest, until one says that the episode has ended.

        All of them together may burn the fuel of a single call, so what fits here fits alone.

        Returns:
          For each call made, what `step` returns, or the error that it raises.

        Raises:
          GuestTrap: when a limit ended one of them; which one, and what those before it gave, is lost.
        """
        framed = b"".join(_frame(action.encode()) for action in actions)
        try:
            replies = self._call("step-many", framed)
        except GuestError as error:  # no guest that is still itself says this of all the calls together
            self._dead = True
            raise GuestTrap(CallError.FORBIDDEN, str(error)) from None
        results: list[tuple[bool, str] | GuestError] = []
        position = 1
        for _ in actions:
            start = position + _FRAME_BYTES
            position = start + int.from_bytes(replies[position:start], "little")
            reply = replies[start:position] or _NO_REPLY  # a guest that answers too few is not believed
            try:
                self._judge(reply)
                results.append((reply[0] == Status.FINISHED, _text(reply)))
            except GuestError as error:
                results.append(error)
            if reply[0] == Status.FINISHED:
                break
        return results

    def solve(self, max_calls: int, fuel: int) -> str:
        """Runs the environment's oracle; JSON of its `actions` and `observations`.

        Raises:
          GuestError: when it raised, or made more than `max_calls` calls.
          GuestTrap: when a limit ended it.
        """
        return _text(self._call("solve", max_calls, fuel=fuel))

    def answer(self) -> str:
        """The reference answer as JSON.

        Raises:
          GuestError: when `get_ref_answer` raised, or its result has no JSON form.
          GuestTrap: when a limit ended it.
        """
        return _text(self._call("answer"))

    def reward(self) -> float:
        """The environment's reward, whatever it is.

        Raises:
          GuestError: when reading it raised, or it is no number.
          GuestTrap: when a limit ended it.
        """
        text = _text(self._call("reward"))
        try:
            return float(text)
        except ValueError as error:
            raise GuestError(f"the reward is {text[:100]!r}") from error

    @property
    def fuel_used(self) -> int:
        """What all calls so far have burned, about one unit per Wasm instruction."""
        return self._instance.fuel_used

    @property
    def memory_bytes(self) -> int:
        """The present size of the guest's memory."""
        return self._instance.memory_bytes

    def snapshot(self) -> MemoryImage | None:
        """The guest's present state, or None from a runtime that cannot tell it."""
        self._be_alive()
        return self._instance.snapshot()

    def restore(self, image: MemoryImage) -> None:
        """Takes on the state of a snapshot of any guest of the same artefact; one that trapped lives again.

        Raises:
          ValueError: when the image cannot be one, or is of another artefact or beyond this guest's limits.
          HostFailure: when the host has no room for it.
        """
        try:
            self._instance.restore(image)
        except wasmtime.WasmtimeError as error:
            self._dead = True
            raise HostFailure(f"no guest could be restored: {error}") from error
        self._dead = False

    def fork(self) -> Guest | None:
        """Another guest in the same state, or None from a runtime that cannot make one.

        Raises:
          HostFailure: when the host has no room for it.
        """
        self._be_alive()
        try:
            instance = self._instance.fork()
        except wasmtime.WasmtimeError as error:
            raise HostFailure(f"no guest could be forked: {error}") from error
        return instance and Guest(self._sandbox, instance)

    @property
    def is_alive(self) -> bool:
        """Whether it may be called: it neither trapped nor was closed."""
        return not self._dead

    def close(self) -> None:
        """Frees the guest's memory now; nothing may be called afterwards."""
        self._dead = True
        self._instance.close()

    def _call(self, export: str, *arguments: bytes | int, fuel: int | None = None) -> bytes:
        self._be_alive()
        try:
            reply = self._instance.call(export, arguments, fuel or self._fuel)
        except wasmtime.Trap as trap:
            self._dead = True
            raise self._limit_hit(trap, fuel or self._fuel) from None
        except BrokenGuest as error:
            self._dead = True
            raise GuestTrap(CallError.FORBIDDEN, str(error)) from None
        except wasmtime.WasmtimeError as error:
            self._dead = True
            raise HostFailure(f"wasmtime: {error}") from error
        reply = reply or _NO_REPLY
        if reply[0] > Status.FINISHED:
            self._judge(reply)
        return reply

    def _be_alive(self) -> None:
        if self._dead:
            raise RuntimeError("a guest was used after it trapped or was closed")

    def _judge(self, reply: bytes) -> None:
        """Raises what a reply's status stands for."""
        status = reply[0]
        if status <= Status.FINISHED:
            return
        text = _text(reply)
        if status == Status.RAISED:
            raise GuestError(text)
        self._dead = True
        raise GuestTrap(
            CallError.OUT_OF_MEMORY if status == Status.OUT_OF_MEMORY else CallError.FORBIDDEN, text
        )

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


def _frame(data: bytes) -> bytes:
    return len(data).to_bytes(_FRAME_BYTES, "little") + data


def _utf8(text: str) -> bytes:
    """Text from a file that nobody checked; a lone surrogate in a JSON or Python string means its escape."""
    return text.encode("utf-8", "backslashreplace")


def _text(reply: bytes) -> str:
    """The payload; an environment that patched its own guest may have put anything there."""
    return reply[1:].decode("utf-8", "replace")
