"""Rebuilds the native guest: `make native`, or `python -m envs_wasm.native.build`.

Fetches the compiler, zig, from PyPI into `build/native/`, compiles the C files beside this one to a module
without imports, and writes it to `envs_wasm/dist` with its manifest. The same sources give the same bytes.

Needs a network and pip the first time; a minute then (zig compiles its C library first), a second later.
"""

import os
import pathlib
import subprocess
import venv

from envs_wasm.publish import REPOSITORY, digests, publish

ZIGLANG_VERSION = "0.17.1"

NATIVE = REPOSITORY / "envs_wasm" / "native"
WORK = REPOSITORY / "build" / "native"

GUEST_FILES = ("arena.c", "json.c", "warehouse.c", "oracle.c", "exports.c")
WARNINGS = ("-Wall", "-Wextra", "-Wshadow", "-Werror")
_STACK_BYTES = 65_536
_FLAGS = (
    *("-target", "wasm32-wasi", "-std=c17", "-O2", "-s", *WARNINGS),
    # Where C leaves the behavior undefined, the guest traps; that costs less than the host's part of a call.
    # The stack protector would import random numbers.
    *("-fsanitize=undefined", "-fsanitize-trap=undefined", "-fno-stack-protector"),
    *("-mexec-model=reactor", "-Wl,--no-entry"),
    # The stack lies below the data, so overflowing it leaves the memory's bounds. A fork copies its pointer.
    *(f"-Wl,-z,stack-size={_STACK_BYTES}", "-Wl,--export=__stack_pointer"),
)


def native_sources() -> dict[str, str]:
    """Path in the repository -> sha256, for every file that the artefact is compiled from."""
    return digests(sorted([*(NATIVE / name for name in GUEST_FILES), *NATIVE.glob("*.h")]))


def build() -> None:
    """Rebuilds the artefact and its manifest."""
    publish("native", compile_guest(), {"tools": {"ziglang": ZIGLANG_VERSION}, "sources": native_sources()})


def compile_guest() -> bytes:
    """The module, compiled from the files beside this one."""
    module = WORK / "native.wasm"
    command = [str(_python()), "-m", "ziglang", "cc", *_FLAGS, "-o", str(module), *GUEST_FILES]
    # Nothing of this machine's environment may end up in the module, nor anything outside `build/`.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"ZIG_GLOBAL_CACHE_DIR": str(WORK / "cache"), "ZIG_LOCAL_CACHE_DIR": str(WORK / "cache")}
    subprocess.run(command, check=True, cwd=NATIVE, env=environment)
    return module.read_bytes()


def _python() -> pathlib.Path:
    """An interpreter that has zig."""
    tools = WORK / "venv"
    python = tools / "bin" / "python"
    if not (tools / f"ziglang-{ZIGLANG_VERSION}").exists():
        venv.create(tools, with_pip=True, clear=True)
        requirement = f"ziglang=={ZIGLANG_VERSION}"
        subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
        (tools / f"ziglang-{ZIGLANG_VERSION}").touch()
    return python


if __name__ == "__main__":
    build()
