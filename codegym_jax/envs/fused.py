"""The fast path: a guest as one core module, compiled for this machine and called by the canonical ABI.

Compiling takes about 15 s on two cores, so the result is kept in the user's cache folder and mapped from it.
"""

import fcntl
import hashlib
import os
import pathlib
import platform
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any

import wasmtime

from codegym_jax.config import SandboxConfig, UserError
from codegym_jax.envs.artefact import Artefact, ArtefactError, default_cache_dir
from codegym_jax.envs.canonical_abi import ModuleInstance, make_config
from codegym_jax.envs.recycling import LentInstance, Recycler
from codegym_jax.envs.runtime import Runtime

_SETTINGS = "fuel-pinned-nan"
"""Names what `make_config` sets: code compiled under other settings does not load."""


_HOST_STACK_BYTES = 2**20
"""For the host's own frames above a guest's."""


class ModuleRuntime(Runtime):
    """Instances of a guest that is one core module without imports.

    Threads may share it, those whose own stack is `limits.stack_bytes` and a MiB at least: Python gives a new
    thread the process's limit, or 2 MiB where that is unlimited (`threading.stack_size` sets another).
    """

    def __init__(self, limits: SandboxConfig, cache_dir: pathlib.Path | None, artefact: Artefact):
        """Loads the compiled guest, compiling it first when this user has not done so yet.

        Args:
          limits: of every guest.
          cache_dir: where compiled guests are kept; the user's cache folder unless given.

        Raises:
          ArtefactError: when the artefact is damaged, or its compiled form cannot be kept.
          UserError: when this process's own stack is too small for a guest's to lie on it.
        """
        _check_host_stack(limits.stack_bytes)
        self.guest_hash = artefact.wasm_sha256
        engine = wasmtime.Engine(make_config(limits.stack_bytes))
        module = load_compiled(engine, artefact, cache_dir, wasmtime.Module)
        linked = wasmtime.Linker(engine).instantiate_pre(module)
        self.recycler = Recycler(
            lambda: ModuleInstance(engine, linked, limits.memory_bytes),
            guest_hash=self.guest_hash,
            max_memory_bytes=limits.memory_bytes,
        )

    def instantiate(self) -> LentInstance:
        """A fresh instance, in under a millisecond."""
        return LentInstance(self.recycler)


def _check_host_stack(stack_bytes: int) -> None:
    """A guest's calls run on the host thread's stack, and overflowing that one would kill the process."""
    needed = stack_bytes + _HOST_STACK_BYTES
    limit, _ = resource.getrlimit(resource.RLIMIT_STACK)
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise UserError(
            f"the process has a stack of {limit} bytes, and sandbox.stack_bytes = {stack_bytes}"
            f" needs {needed}; raise it (ulimit -s {-(-needed // 1024)}) or lower the setting"
        )


def load_compiled(
    engine: wasmtime.Engine, artefact: Artefact, cache_dir: pathlib.Path | None, form: Any
) -> Any:
    """The artefact as native code, from the cache or compiled now.

    Args:
      cache_dir: where it is kept; the user's cache folder unless given.
      form: `wasmtime.Module` or `wasmtime.component.Component`, whichever the artefact is.

    Raises:
      ArtefactError: when the artefact is damaged, or its compiled form cannot be kept.
    """
    cache_dir = cache_dir or default_cache_dir()
    name = f"{artefact.name}-{artefact.wasm_sha256[:16]}-wasmtime-{version('wasmtime')}-{_cpu_digest()}"
    try:
        return _load(engine, artefact, cache_dir / f"{name}-{_SETTINGS}.cwasm", form)
    except OSError as error:
        raise ArtefactError(f"{cache_dir}: cannot keep the compiled guest there: {error}") from error


def _load(engine: wasmtime.Engine, artefact: Artefact, path: pathlib.Path, form: Any) -> Any:
    # A .cwasm is native code that wasmtime trusts: only this user may write it.
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if path.is_file():
            try:
                return form.deserialize_file(engine, str(path))
            except wasmtime.WasmtimeError:
                pass  # damaged, or of another wasmtime with the same version: compiled anew below
        compiled = form(engine, artefact.wasm())
        # Never written in place: a loaded module maps its file, and changing that kills the process.
        temporary = path.with_suffix(f".{os.getpid()}.new")
        temporary.write_bytes(compiled.serialize())
        temporary.replace(path)
    return form.deserialize_file(engine, str(path))


@contextmanager
def _locked(path: pathlib.Path) -> Iterator[None]:
    """Holds a lock among this user's processes, so that only the first of them compiles."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _cpu_digest() -> str:
    """Identifies the CPU's instruction set, which compiled code depends on."""
    features = platform.processor()
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
        features = next((line for line in lines if line.lower().startswith(("flags", "features"))), features)
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:8]
