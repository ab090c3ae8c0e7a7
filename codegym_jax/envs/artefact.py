"""Finds the guest artefact in `envs_wasm/dist`, checks it, and decompresses it."""

import hashlib
import json
import lzma
import pathlib
from dataclasses import dataclass

from codegym_jax.config import UserError


class ArtefactError(UserError):
    """The guest artefact is missing or is not the one that its manifest describes."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """The pinned guest: a WebAssembly module, xz-compressed."""

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


def find_artefact() -> Artefact:
    """The artefact in `envs_wasm/dist`, which lies beside this package in a checkout and in an installation.

    Raises:
      ArtefactError: when one of its two files is not there.
    """
    dist = pathlib.Path(__file__).resolve().parents[2] / "envs_wasm" / "dist"
    manifest_path = dist / "manifest.json"
    if not manifest_path.is_file():
        raise ArtefactError(f"{manifest_path}: not found; rebuild the guest with `make guest` (see BUILD.md)")
    manifest = json.loads(manifest_path.read_text(encoding="utf-8"))
    path = dist / manifest["artefact"]
    if not path.is_file():
        raise ArtefactError(f"{path}: not found; rebuild the guest with `make guest` (see BUILD.md)")
    return Artefact(path, manifest["wasm_sha256"])
