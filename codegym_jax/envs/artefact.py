"""Finds a guest artefact in `envs_wasm/dist`, checks it, and decompresses it."""

import hashlib
import json
import lzma
import os
import pathlib
from dataclasses import dataclass

from codegym_jax.config import UserError


class ArtefactError(UserError):
    """The guest artefact is missing or is not the one that its manifest describes."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """A pinned guest, xz-compressed."""

    name: str
    path: pathlib.Path
    wasm_sha256: str

    def wasm(self) -> bytes:
        """The decompressed module.

        Raises:
          ArtefactError: when its bytes are not those that the manifest names.
        """
        wasm = lzma.decompress(self.path.read_bytes())
        if hashlib.sha256(wasm).hexdigest() != self.wasm_sha256:
            raise ArtefactError(
                f"{self.path}: not the artefact of its manifest; rebuild it with `make guest`"
            )
        return wasm


def find_artefact(name: str = "guest") -> Artefact:
    """An artefact in `envs_wasm/dist`, which lies beside this package in a checkout and in an installation.

    Args:
      name: `guest`, which environments run in; `component`, the same build before it was fused; `second`,
        another build of the same sources, whose strings hash differently; `native`, the one written in C.

    Raises:
      ArtefactError: when one of its two files is not there.
    """
    dist = pathlib.Path(__file__).resolve().parents[2] / "envs_wasm" / "dist"
    path, manifest = dist / f"{name}.wasm.xz", dist / f"{name}.json"
    for needed in (path, manifest):
        if not needed.is_file():
            raise ArtefactError(f"{needed}: not found; rebuild the guest with `make guest` (see BUILD.md)")
    return Artefact(name, path, json.loads(manifest.read_text(encoding="utf-8"))["wasm_sha256"])


def default_cache_dir() -> pathlib.Path:
    """`$XDG_CACHE_HOME/codegym-jax`, or `~/.cache/codegym-jax`."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (pathlib.Path(base) if base else pathlib.Path.home() / ".cache") / "codegym-jax"
