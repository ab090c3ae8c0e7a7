"""The shipped artefacts are those that their manifests and the guest's sources say."""

import json
from dataclasses import replace

import pytest

from codegym_jax.envs.artefact import ArtefactError, default_cache_dir, find_artefact
from codegym_jax.envs.sandbox import Sandbox
from envs_wasm.publish import DIST
from envs_wasm.python_guest.build import guest_sources
from envs_wasm.python_guest.fuse import mutable_globals

NAMES = ("guest", "component", "second")


def manifest(name: str) -> dict:
    return json.loads((DIST / f"{name}.json").read_text())


@pytest.mark.parametrize("name", NAMES)
def test_the_artefact_was_built_from_these_sources(name):
    """Fails after an edit of the guest until `make guest` is run."""
    assert manifest(name)["sources"] == guest_sources()


@pytest.mark.parametrize("name", NAMES)
def test_the_manifest_describes_the_artefact(name):
    artefact, described = find_artefact(name), manifest(name)
    assert artefact.wasm_sha256 == described["wasm_sha256"]
    assert len(artefact.wasm()) == described["wasm_bytes"]
    assert artefact.path.stat().st_size == described["compressed_bytes"] < 10_000_000


def test_the_two_builds_differ():
    assert find_artefact("guest").wasm_sha256 != find_artefact("second").wasm_sha256


@pytest.mark.parametrize("name", ["guest", "second"])
def test_a_call_can_change_the_memory_and_the_stack_pointer_only(name):
    """What a fork copies. That no instruction changes a table or a segment is checked by the build."""
    assert mutable_globals(find_artefact(name).wasm()) == {"__stack_pointer"}


def test_another_artefact_is_refused():
    with pytest.raises(ArtefactError, match="not the artefact of its manifest"):
        replace(find_artefact(), wasm_sha256="0" * 64).wasm()


def test_the_sandbox_names_its_artefact_and_keeps_it_compiled(sandbox):
    assert sandbox.guest_hash == manifest("guest")["wasm_sha256"]
    assert list(default_cache_dir().glob(f"guest-{sandbox.guest_hash[:16]}-*.cwasm"))


@pytest.mark.slow
def test_a_damaged_compiled_file_is_compiled_anew(tmp_path):
    Sandbox(cache_dir=tmp_path)
    (path,) = tmp_path.glob("*.cwasm")
    path.write_bytes(path.read_bytes()[:1000])
    guest = Sandbox(cache_dir=tmp_path).guest()
    assert guest.run("def f(a): return a", "f", "works") == "works"
