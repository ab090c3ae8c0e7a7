"""Writes an artefact and its manifest to `envs_wasm/dist`, where hosts find it."""

import hashlib
import json
import lzma
import pathlib
from typing import Any

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DIST = REPOSITORY / "envs_wasm" / "dist"


def publish(name: str, wasm: bytes, described: dict[str, Any]) -> None:
    """Writes `<name>.wasm.xz` and `<name>.json`.

    Args:
      described: what the manifest says beside hash and sizes: tools, sources.
    """
    compressed = lzma.compress(wasm, preset=9 | lzma.PRESET_EXTREME)
    manifest = {
        "wasm_sha256": hashlib.sha256(wasm).hexdigest(),
        "wasm_bytes": len(wasm),
        "compressed_bytes": len(compressed),
        **described,
    }
    DIST.mkdir(exist_ok=True)
    _replace(DIST / f"{name}.wasm.xz", compressed)
    _replace(DIST / f"{name}.json", (json.dumps(manifest, indent=2) + "\n").encode())


def digests(files: list[pathlib.Path]) -> dict[str, str]:
    """Path in the repository -> sha256 of the file."""
    return {
        path.relative_to(REPOSITORY).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def _replace(path: pathlib.Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)
