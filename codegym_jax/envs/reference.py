"""Slower ways to run the same guest, which the fast path is compared with.

`ComponentRuntime` runs the very build that the fast path runs, before it was fused to one module, and leaves
the whole calling convention to wasmtime. `InProcessRuntime` leaves WebAssembly out.
"""

import contextlib
import io
import pathlib
import platform
import random
import sys
import types
import warnings
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from typing import Any

import wasmtime
from wasmtime import component

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import Artefact, find_artefact
from codegym_jax.envs.canonical_abi import make_config
from codegym_jax.envs.fused import load_compiled
from codegym_jax.envs.runtime import EXPORTS, BrokenGuest, Instance, Runtime

_TAKES_TEXT = {
    "compile": (True,),
    "run": (False, True, True),
    "load": (False, True, True),
    "step": (True,),
    "step-many": (False,),
    "solve": (False,),
    "answer": (),
    "reward": (),
}
"""Which arguments of an export are strings, as `envs_wasm/wit/codegym.wit` says."""

_TRAPS = {
    "all fuel consumed by WebAssembly": wasmtime.TrapCode.OUT_OF_FUEL,
    "call stack exhausted": wasmtime.TrapCode.STACK_OVERFLOW,
    "out of bounds memory access": wasmtime.TrapCode.MEMORY_OUT_OF_BOUNDS,
}
_TRAP_MARK = "wasm trap: "
_BROKEN_MARKS = ("out of bounds of memory", "realloc return", "not aligned")
"""In what wasmtime says where the guest names a place that cannot hold an argument or a reply."""


class ComponentRuntime(Runtime):
    """Instances of the unfused component, called through `wasmtime.component`. Threads may share it.

    Its limits are those of the fast path, and its calls burn a few percent more fuel. Loading an
    environment takes milliseconds longer than there, because the interface converts bytes one at a time.
    """

    def __init__(
        self,
        limits: SandboxConfig,
        cache_dir: pathlib.Path | None = None,
        artefact: Artefact | None = None,
    ):
        """Loads the compiled component, compiling it first when this user has not done so yet.

        Args:
          limits: of every guest.
          cache_dir: where compiled guests are kept; the user's cache folder unless given.
          artefact: a component; the one that the pinned guest was fused from unless given.

        Raises:
          ArtefactError: when the artefact is missing or damaged, or its compiled form cannot be kept.
        """
        artefact = artefact or find_artefact("component")
        self.guest_hash = artefact.wasm_sha256
        self._limits = limits
        self._engine = wasmtime.Engine(make_config(limits.stack_bytes))
        self._component = load_compiled(self._engine, artefact, cache_dir, component.Component)
        self._linker = component.Linker(self._engine)  # empty: there is nothing to import

    def instantiate(self) -> "ComponentInstance":
        """A fresh instance, in about a millisecond."""
        store = wasmtime.Store(self._engine)
        store.set_limits(memory_size=self._limits.memory_bytes)
        store.set_fuel(self._limits.fuel_per_call)
        return ComponentInstance(store, self._linker.instantiate(store, self._component))


class ComponentInstance(Instance):
    """One instance of the component in a store of its own."""

    def __init__(self, store: wasmtime.Store, instance: component.Instance):
        self._store = store
        self._functions: dict[str, Any] = {name: instance.get_func(store, name) for name in EXPORTS}
        self._fuel_used = 0

    @property
    def memory_bytes(self) -> int:
        """0: a component's memory is its own, and nothing tells its size.

        So a trap near the memory limit counts as forbidden; a `MemoryError` is seen by the guest itself.
        """
        return 0

    @property
    def fuel_used(self) -> int:
        return self._fuel_used

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        self._store.set_fuel(fuel)
        function = self._functions[export]
        try:
            reply = function(self._store, *_typed(export, arguments))
            function.post_return(self._store)
        except wasmtime.WasmtimeError as error:
            fault = _fault_of_the_guest(str(error))
            if fault is None:
                raise
            raise fault from None
        self._fuel_used += fuel - self._store.get_fuel()
        return reply

    def close(self) -> None:
        self._store.close()


class _ComponentTrap(wasmtime.Trap):
    """A trap whose code is known from its text."""

    def __init__(self, text: str):
        super().__init__(text)
        self._code = _TRAPS.get(text)

    @property
    def trap_code(self) -> wasmtime.TrapCode | None:
        return self._code


def _fault_of_the_guest(text: str) -> wasmtime.Trap | BrokenGuest | None:
    """What ended a component's call, which is told in words only; None where the host failed."""
    _, is_trap, trap = text.strip().rpartition(_TRAP_MARK)
    if is_trap:
        return _ComponentTrap(trap)
    return BrokenGuest(text) if any(mark in text for mark in _BROKEN_MARKS) else None


class InProcessRuntime(Runtime):
    """Runs programs in this very process, with all its rights: only for code that is trusted. No limit holds.

    The guest's own `exports.py` answers the calls, so the replies differ from a guest's only where this
    Python differs from that one:

    - its version: the wording of some exceptions, `sum` of floats (compensated from 3.12 on), and whatever
      else CPython changed on the way to the guest's 3.14;
    - the order of sets of strings, which follows this process's hash seed;
    - the width of a C integer, 64 bits: what a 32-bit guest refuses as too large may be tried here;
    - clock, operating system, `random.Random()` without a seed and other entropy, which are the host's;
    - no fuel, no memory limit, the host's stack, and nothing forbidden: what ends a call in a guest may go
      on here for ever;
    - `gymnasium` is the real one, not the guest's stub of it, which is thereby tested too.

    What a program does to modules that it shares with the host, it does to the host. The `random` module's
    state, the standard streams, the recursion limit and the modules named as a guest names its own are an
    instance's own, and are the host's again after every call; meanwhile no other thread may run.
    """

    def __init__(self) -> None:
        self.guest_hash = f"in-process-{platform.python_implementation()}-{platform.python_version()}"
        path = pathlib.Path(__file__).resolve().parents[2] / "envs_wasm" / "python_guest" / "exports.py"
        self._exports: Any = SourceFileLoader("exports", str(path)).get_code("exports")

    def instantiate(self) -> "InProcessInstance":
        """A fresh copy of the guest's `exports` module."""
        exports = types.ModuleType("exports")
        exec(self._exports, exports.__dict__)
        return InProcessInstance(exports)


class InProcessInstance(Instance):
    """One copy of the guest's `exports` module."""

    def __init__(self, exports: types.ModuleType):
        self._exports: Any = exports
        self._modules: dict[str, types.ModuleType] = {}
        self._random_state = random.Random(0).getstate()  # as in a guest
        self._recursion_limit = sys.getrecursionlimit()

    @property
    def memory_bytes(self) -> int:
        """0: its memory is the host's."""
        return 0

    @property
    def fuel_used(self) -> int:
        """0: nothing is counted."""
        return 0

    def call(self, export: str, arguments: tuple[bytes | int, ...], fuel: int) -> bytes:
        name = "compile_source" if export == "compile" else export.replace("-", "_")
        function, typed = getattr(self._exports, name), _typed(export, arguments)
        with self._visiting():
            return function(*typed)

    def close(self) -> None:
        self._exports = None
        self._modules.clear()

    @contextlib.contextmanager
    def _visiting(self) -> Iterator[None]:
        """Puts what belongs to the instance in the host's place, and the host's back afterwards."""
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            recursion_limit, modules = sys.getrecursionlimit(), _replace_modules(self._modules)
            state = random.getstate()
            try:
                sys.setrecursionlimit(self._recursion_limit)
                random.setstate(self._random_state)
                yield
            finally:
                self._random_state = random.getstate()
                random.setstate(state)
                self._modules = _replace_modules(modules)
                self._recursion_limit = sys.getrecursionlimit()
                sys.setrecursionlimit(recursion_limit)


def _typed(export: str, arguments: tuple[bytes | int, ...]) -> list[str | bytes | int]:
    """The arguments as the contract types them."""
    typed: list[str | bytes | int] = []
    for is_text, argument in zip(_TAKES_TEXT[export], arguments, strict=True):
        typed.append(argument.decode() if is_text and isinstance(argument, bytes) else argument)
    return typed


def _replace_modules(modules: dict[str, types.ModuleType]) -> dict[str, types.ModuleType]:
    """Installs modules under the names that a guest gives to its programs; returns those that were there."""
    before = {name: sys.modules.pop(name) for name in ("environment", "program") if name in sys.modules}
    sys.modules.update(modules)
    return before
