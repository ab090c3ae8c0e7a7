"""A component that breaks the contract is at fault itself, in the same ways as a module that does.

Components written by hand stand for guests that hostile bytecode has damaged; what a module may do is in
`tests/adversarial/test_broken_guests.py`.
"""

import hashlib
import lzma

import pytest
import wasmtime

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import Artefact
from codegym_jax.envs.guest import Guest, GuestTrap
from codegym_jax.envs.reference import ComponentRuntime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError

LIMITS = SandboxConfig(fuel_per_call=1_000_000)
PARAMETERS = {
    "compile": ("string",),
    "run": ("(list u8)", "string", "string"),
    "load": ("(list u8)", "string", "string"),
    "step": ("string",),
    "step-many": ("(list u8)",),
    "solve": ("u32",),
    "answer": (),
    "reward": (),
}


@pytest.fixture
def guest_of(tmp_path):
    """A guest made from a component's text."""

    def make(text: str) -> Guest:
        wasm = wasmtime.wat2wasm(text)
        path = tmp_path / "broken.wasm.xz"
        path.write_bytes(lzma.compress(wasm))
        artefact = Artefact("broken", path, hashlib.sha256(wasm).hexdigest())
        return Sandbox(LIMITS, runtime=ComponentRuntime(LIMITS, tmp_path, artefact)).guest()

    return make


def component(
    reply: str = "(i32.const 16)",
    realloc: str = "(i32.const 4096)",
    post: str = "",
    at_16: str = "\\20\\00\\00\\00\\06\\00\\00\\00",
) -> str:
    """A guest of two pages that answers every call with the six bytes "\\0 1.25", kept at 32."""
    core, lifted = "", ""
    for name, kinds in PARAMETERS.items():
        words = "i32 " * sum(1 if kind == "u32" else 2 for kind in kinds)
        core += f'''
            (func (export "{name}") (param {words}) (result i32) {reply})
            (func (export "cabi_post_{name}") (param i32) {post})'''
        parameters = " ".join(f'(param "p{index}" {kind})' for index, kind in enumerate(kinds))
        lifted += f'''
            (func (export "{name}") {parameters} (result (list u8))
                (canon lift (core func $i "{name}")
                    (memory (core memory $i "memory"))
                    (realloc (core func $i "cabi_realloc"))
                    (post-return (core func $i "cabi_post_{name}"))))'''
    return f"""(component
        (core module $m
            (memory (export "memory") 2)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
            {core}
            (data (i32.const 16) "{at_16}")
            (data (i32.const 32) "\\00 1.25"))
        (core instance $i (instantiate $m))
        {lifted})"""


def test_a_sound_component_answers(guest_of):
    guest = guest_of(component())
    assert guest.reward() == 1.25
    assert guest.step("any") == (False, " 1.25")


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"reply": "(i32.const 131065)"}, CallError.FORBIDDEN),
        ({"reply": "(i32.const -8)"}, CallError.FORBIDDEN),
        ({"at_16": "\\00\\00\\00\\00\\ff\\ff\\ff\\ff"}, CallError.FORBIDDEN),
        ({"at_16": "\\00\\00\\02\\00\\01\\00\\00\\00"}, CallError.FORBIDDEN),
        ({"at_16": "\\20\\00\\00\\00\\00\\00\\00\\00"}, CallError.FORBIDDEN),
        ({"realloc": "(i32.const -1)"}, CallError.FORBIDDEN),
        ({"realloc": "(loop (br 0)) (unreachable)"}, CallError.OUT_OF_FUEL),
        ({"post": "(loop (br 0))"}, CallError.OUT_OF_FUEL),
        ({"post": "unreachable"}, CallError.FORBIDDEN),
        ({"reply": "(i32.load (i32.const 131072))"}, CallError.STACK_OVERFLOW),
    ],
)
def test_a_broken_component_is_at_fault_and_not_the_host(guest_of, parts, error):
    guest = guest_of(component(**parts))
    with pytest.raises(GuestTrap) as caught:
        guest.step("0123456789")
    assert caught.value.error is error
