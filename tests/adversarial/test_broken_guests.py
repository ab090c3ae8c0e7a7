"""A guest whose own code an attack has damaged can hurt nobody: the host believes nothing that it says.

CPython checks no bytecode, so a hostile environment may come to control all of its guest: what it returns,
where it says that its reply lies, and what its allocator hands out. Small modules written by hand stand for
that here.
"""

import contextlib
import hashlib
import lzma

import pytest
import victim
import wasmtime
from attack import QUICK
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import Artefact
from codegym_jax.envs.env import Env
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.guest import GuestError, GuestTrap, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError

_PARAMETERS = {
    "compile": 2,
    "run": 6,
    "load": 6,
    "step": 2,
    "step-many": 2,
    "solve": 1,
    "answer": 0,
    "reward": 0,
}
_LIMITS = SandboxConfig(fuel_per_call=1_000_000)
_SPIN = "(loop (br 0)) (unreachable)"


def module(
    reply="(i32.const 16)", realloc="(i32.const 4096)", post="", at_16="\\20\\00\\00\\00\\06\\00\\00\\00"
):
    """A guest of two pages that answers every call with the six bytes "\\0 1.25", kept at 32."""
    exports = "".join(
        f'(func (export "{name}") (param {"i32 " * count}) (result i32) {reply})'
        f'(func (export "cabi_post_{name}") (param i32) {post})'
        for name, count in _PARAMETERS.items()
    )
    return f"""(module
        (memory (export "memory") 2)
        (global (export "__stack_pointer") (mut i32) (i32.const 1024))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
        {exports}
        (data (i32.const 16) "{at_16}")
        (data (i32.const 32) "\\00 1.25"))"""


@pytest.fixture
def guest_of(tmp_path):
    """A guest made from a module's text."""

    def make(text):
        wasm = wasmtime.wat2wasm(text)
        path = tmp_path / "broken.wasm.xz"
        path.write_bytes(lzma.compress(wasm))
        artefact = Artefact("broken", path, hashlib.sha256(wasm).hexdigest())
        return Sandbox(_LIMITS, runtime=ModuleRuntime(_LIMITS, tmp_path, artefact)).guest()

    return make


def test_a_sound_module_answers(guest_of):
    guest = guest_of(module())
    assert guest.reward() == 1.25
    assert guest.step("any") == (False, " 1.25")


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ({"reply": "(i32.const 131065)"}, CallError.FORBIDDEN),  # the last bytes of its address lie outside
        ({"reply": "(i32.const -8)"}, CallError.FORBIDDEN),
        ({"reply": "(i32.const 0x7fffffff)"}, CallError.FORBIDDEN),
        ({"at_16": "\\00\\00\\00\\00\\ff\\ff\\ff\\ff"}, CallError.FORBIDDEN),  # 4 GiB from the start
        ({"at_16": "\\ff\\ff\\ff\\ff\\ff\\ff\\ff\\ff"}, CallError.FORBIDDEN),
        ({"at_16": "\\00\\00\\02\\00\\01\\00\\00\\00"}, CallError.FORBIDDEN),  # a byte just behind its memory
        ({"at_16": "\\20\\00\\00\\00\\00\\00\\00\\00"}, CallError.FORBIDDEN),  # nothing at all
        ({"realloc": "(i32.const -1)"}, CallError.FORBIDDEN),
        ({"realloc": "(i32.const 131072)"}, CallError.FORBIDDEN),
        ({"realloc": "(i32.const 131071)"}, CallError.FORBIDDEN),
        ({"realloc": _SPIN}, CallError.OUT_OF_FUEL),
        ({"reply": _SPIN}, CallError.OUT_OF_FUEL),
        ({"post": "(loop (br 0))"}, CallError.OUT_OF_FUEL),
        ({"post": "unreachable"}, CallError.FORBIDDEN),
        (
            {"reply": "(i32.load (i32.const 131072))"},
            CallError.STACK_OVERFLOW,
        ),  # how a full C stack shows too
    ],
)
def test_a_reply_outside_the_guest_is_a_trap(guest_of, parts, error):
    guest = guest_of(module(**parts))
    with pytest.raises(GuestTrap) as caught:
        guest.step("0123456789")
    assert caught.value.error is error


def test_memory_that_grows_during_a_call_may_hold_the_reply(guest_of):
    """The reply is built in a page that did not exist before."""
    grow = """(drop (memory.grow (i32.const 1)))
        (i64.store (i32.const 131072) (i64.const 0x6_0000_0020))
        (i32.const 131072)"""
    assert guest_of(module(reply=grow)).reward() == 1.25


def test_memory_grows_to_its_bound_only(guest_of):
    """`memory.grow` past 64 MiB fails in the guest, which says so by its reply: 1 where it got the memory."""
    grow = """(if (i32.ne (memory.grow (i32.const {pages})) (i32.const -1))
            (then (i64.store (i32.const 32) (i64.const 0x3030_3030_3100))))
        (i32.const 16)"""
    assert guest_of(module(reply=grow.format(pages=1022))).reward() == 10000.0
    assert guest_of(module(reply=grow.format(pages=1023))).reward() == 1.25


@pytest.mark.parametrize("lacking", ["reward", "cabi_post_step", "cabi_realloc", "memory"])
def test_a_module_that_is_no_guest_is_the_hosts_failure(guest_of, lacking):
    with pytest.raises((HostFailure, wasmtime.WasmtimeError, KeyError)):
        guest_of(module().replace(f'"{lacking}"', '"other"'))


@pytest.mark.parametrize("limit", ["start", "memory"])
def test_a_module_that_does_not_start_is_the_hosts_failure(guest_of, limit):
    text = module()
    text = (
        text.replace(") 2)", ") 2000)")
        if limit == "memory"
        else text[:-1] + "(func $f (loop (br 0))) (start $f))"
    )
    with pytest.raises((HostFailure, wasmtime.WasmtimeError, wasmtime.Trap)):
        guest_of(text)


# --- the runtime of the Python guest, patched by its environment ---


def patched(sandbox, replies, act="nothing"):
    """An episode whose guest answers every `step-many` with the same bytes from the next call on."""
    code = f"import app\napp.WitWorld.step_many = staticmethod(lambda actions: {replies!r})\nreturn 'patched'"
    env = Env(sandbox, victim.spec(act=code), victim.CONFIG)
    assert env.step(victim.ACT).observation == "patched"
    return env


def framed(*replies):
    return b"\0" + b"".join(len(reply).to_bytes(4, "little") + reply for reply in replies)


@pytest.mark.parametrize(
    "replies",
    [
        b"",
        b"\0",
        b"\0\5",
        b"\0\0\0\0\0",
        b"\0\xff\xff\xff\xff\0",
        b"\2forged",
        b"\7",
        framed(b"\0forged"),  # one reply to three calls
        framed(b"\0forged", b"\xff", b"\0forged"),
        framed(b"\0forged", b""),
    ],
)
def test_too_few_or_broken_replies_are_not_believed(sandbox_with, replies):
    """The three calls are then made one by one."""
    env = patched(sandbox_with(QUICK), replies)
    results = env.step_many([victim.ADD, victim.ADD, victim.TOTAL])
    assert [result.observation for result in results] == ["5", "10", "10"]
    env.close()


@settings(max_examples=40)
@given(
    st.binary(max_size=40)
    | st.lists(st.binary(max_size=9) | st.sampled_from([b"\0ok", b"\1end", b"\2no"])).map(
        lambda x: framed(*x)
    )
)
def test_any_replies_give_as_many_results_as_calls(sandbox_with, replies):
    env = patched(sandbox_with(QUICK), replies)
    results = env.step_many([victim.ADD, victim.TOTAL, victim.RIGHT, victim.TOTAL])
    assert len(results) == 4
    assert env.finished
    for result in results:
        result.observation.encode()
    assert results[-1].error is CallError.REFUSED
    env.close()


def test_more_replies_than_calls_are_cut(sandbox_with):
    env = patched(sandbox_with(QUICK), framed(*[b"\0forged"] * 5000))
    assert [r.observation for r in env.step_many([victim.ADD, victim.TOTAL])] == ["forged"] * 2
    assert env.step_count == 3
    env.close()


def test_nothing_is_believed_after_the_end(sandbox_with):
    """A forged end in the middle of a batch ends the episode there."""
    env = patched(sandbox_with(QUICK), framed(b"\0one", b"\1the answer is 12", b"\0the answer was 12"))
    results = env.step_many([victim.ADD, victim.ADD, victim.TOTAL, victim.TOTAL])
    ended = "Error: the episode has ended"
    assert [result.observation for result in results] == ["one", "", ended, ended]
    assert [result.finished for result in results] == [False, True, True, True]
    env.close()


@pytest.mark.parametrize(
    "reply", [b"", b"\0", b"\0\xff", b"\2\xff", b"\3\xff", b"\x80", b"\0" + b"[" * 100_000]
)
def test_garbage_is_never_an_exception_of_another_kind(sandbox_with, reply):
    """From any export: an error of the environment, or text to be checked by whoever asked."""
    guest = sandbox_with(QUICK).guest()
    program = f"""
import app
def f(a):
    for export in ("load", "solve", "answer"):
        setattr(app.WitWorld, export, staticmethod(lambda *_: {reply!r}))
    return ""
"""
    guest.run(program, "f", "")
    for ask in (lambda: guest.load(b"", "X", "{}"), lambda: guest.solve(1, 10**8), guest.answer):
        with contextlib.suppress(GuestError, GuestTrap, RuntimeError):  # a dead guest answers nothing more
            ask()
    guest.close()
