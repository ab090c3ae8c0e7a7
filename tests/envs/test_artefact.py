"""The shipped artefact is the one that its manifest and the guest's sources say."""

import json
from dataclasses import replace

import pytest

from codegym_jax.envs.artefact import ArtefactError, find_artefact
from codegym_jax.envs.sandbox import Sandbox, default_cache_dir
from envs_wasm.python_guest.build import DIST, guest_sources

MANIFEST = json.loads((DIST / "manifest.json").read_text())


def test_the_artefact_was_built_from_these_sources():
    """Fails after an edit of the guest until `make guest` is run."""
    assert MANIFEST["sources"] == guest_sources()


def test_the_manifest_describes_the_artefact():
    artefact = find_artefact()
    assert artefact.wasm_sha256 == MANIFEST["wasm_sha256"]
    assert len(artefact.wasm()) == MANIFEST["wasm_bytes"]
    assert artefact.path.stat().st_size == MANIFEST["compressed_bytes"] < 10_000_000


def test_another_artefact_is_refused():
    with pytest.raises(ArtefactError, match="not the artefact of its manifest"):
        replace(find_artefact(), wasm_sha256="0" * 64).wasm()


def test_the_sandbox_names_its_artefact_and_keeps_it_compiled(sandbox):
    assert sandbox.guest_hash == MANIFEST["wasm_sha256"]
    assert list(default_cache_dir().glob(f"guest-{sandbox.guest_hash[:16]}-*.cwasm"))


@pytest.mark.slow
def test_a_damaged_compiled_file_is_compiled_anew(tmp_path):
    Sandbox(cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.cwasm")
    path.write_bytes(path.read_bytes()[:1000])
    guest = Sandbox(cache_dir=tmp_path).guest()
    assert guest.run("def f(a): return a", "f", "works") == "works"
