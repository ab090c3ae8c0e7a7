"""The engine that guests run in, and the guest artefact compiled for this machine.

Compiling takes about 15 s on two cores, so the result is kept in the user's cache folder and mapped from it.
"""

import fcntl
import hashlib
import os
import pathlib
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

import wasmtime

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import Artefact, ArtefactError, find_artefact
from codegym_jax.envs.canonical_abi import GuestInstance, make_config
from codegym_jax.envs.guest import Guest, HostFailure

_MAX_REMEMBERED_PROGRAMS = 4096


class Sandbox:
    """Makes guests; one per process is enough. Threads may share it, but not a guest."""

    def __init__(self, limits: SandboxConfig | None = None, cache_dir: pathlib.Path | None = None):
        """Loads the compiled guest, compiling it first when this user has not done so yet.

        Args:
          limits: of every guest.
          cache_dir: where compiled guests are kept; the user's cache folder unless given.

        Raises:
          ArtefactError: when the artefact is missing or damaged, or its compiled form cannot be kept.
        """
        artefact = find_artefact()
        self.limits = limits or SandboxConfig()
        self.guest_hash = artefact.wasm_sha256
        self._engine = wasmtime.Engine(make_config(self.limits.stack_bytes))
        cache_dir = cache_dir or default_cache_dir()
        try:
            module = _load_module(self._engine, artefact, cache_dir)
        except OSError as error:
            raise ArtefactError(f"{cache_dir}: cannot keep the compiled guest there: {error}") from error
        self._module = wasmtime.Linker(self._engine).instantiate_pre(module)
        self._programs: dict[bytes, bytes] = {}

    def guest(self) -> Guest:
        """A fresh guest, in about a millisecond.

        Raises:
          HostFailure: when the host has no room for one.
        """
        try:
            instance = GuestInstance(self._engine, self._module, self.limits.memory_bytes)
        except wasmtime.WasmtimeError as error:
            raise HostFailure(f"no guest could be made: {error}") from error
        return Guest(self, instance)

    def compile(self, source: str) -> bytes:
        """Source as code for any guest of this artefact, remembered for the life of the sandbox.

        Raises:
          GuestError: when the source does not compile.
          GuestTrap: when compiling it ran into a limit.
        """
        key = hashlib.sha256(source.encode("utf-8", "surrogatepass")).digest()
        code = self._programs.get(key)
        if code is None:
            guest = self.guest()
            try:
                code = guest.compile(source)
            finally:
                guest.close()
            if len(self._programs) >= _MAX_REMEMBERED_PROGRAMS:
                self._programs.pop(next(iter(self._programs)))
            self._programs[key] = code
        return code


def default_cache_dir() -> pathlib.Path:
    """`$XDG_CACHE_HOME/codegym-jax`, or `~/.cache/codegym-jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "codegym-jax"


def _load_module(engine: wasmtime.Engine, artefact: Artefact, cache_dir: pathlib.Path) -> wasmtime.Module:
    engine_version = version("wasmtime")
    path = (
        cache_dir / f"guest-{artefact.wasm_sha256[:16]}-wasmtime-{engine_version}-{_cpu_digest()}-fuel.cwasm"
    )
    # A .cwasm is native code that wasmtime trusts: only this user may write it.
    cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(path.with_suffix(".lock")):
        if path.is_file():
            try:
                return wasmtime.Module.deserialize_file(engine, str(path))
            except wasmtime.WasmtimeError:
                pass  # damaged, or of another wasmtime with the same version: compiled anew below
        module = wasmtime.Module(engine, artefact.wasm())
        # Never written in place: a loaded module maps its file, and changing that kills the process.
        temporary = path.with_suffix(f".{os.getpid()}.new")
        temporary.write_bytes(module.serialize())
        temporary.replace(path)
    return wasmtime.Module.deserialize_file(engine, str(path))


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
