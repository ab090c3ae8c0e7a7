"""Where guests come from: one runtime, its limits, and the programs that were compiled for it."""

import hashlib
import pathlib

import wasmtime

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.guest import Guest, HostFailure
from codegym_jax.envs.runtime import Runtime

_MAX_REMEMBERED_PROGRAMS = 4096


class Sandbox:
    """Makes guests; one per process is enough. Threads may share it, but not a guest."""

    def __init__(
        self,
        limits: SandboxConfig | None = None,
        cache_dir: pathlib.Path | None = None,
        *,
        runtime: Runtime | None = None,
    ):
        """Loads the compiled guest, compiling it first when this user has not done so yet.

        Args:
          limits: of every guest.
          cache_dir: where compiled guests are kept; the user's cache folder unless given.
          runtime: what runs the guests, made with the same limits; the pinned artefact unless given.

        Raises:
          ArtefactError: when the artefact is missing or damaged, or its compiled form cannot be kept.
        """
        self.limits = limits or SandboxConfig()
        self._runtime = runtime or ModuleRuntime(self.limits, cache_dir, find_artefact())
        self.guest_hash = self._runtime.guest_hash
        self._programs: dict[bytes, bytes] = {}

    def guest(self) -> Guest:
        """A fresh guest, in about a millisecond.

        Raises:
          HostFailure: when the host has no room for one.
        """
        try:
            instance = self._runtime.instantiate()
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
