"""A guest written in C keeps the contract: it cannot be told from the Python class that it ports."""

import json
import lzma
import random
import shutil

import pytest
import wasmtime
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.check import verify_environment, verify_task
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.envs.runtime import EXPORTS
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, Task
from envs_wasm.native import build, corpus, sanitize
from envs_wasm.publish import DIST

SPEC = load_environment(build.NATIVE / "Native_01_I__WarehouseEnv.py")
MANIFEST = json.loads((DIST / "native.json").read_text())
BOUNDS = {"min_calls": 3, "max_calls": 1024, "max_answer_chars": 100}
FUEL = 10**9
OBSERVE = '{"name": "Observe", "parameters": {}}'


GLOBAL_SECTION = 6


def leb128(data, position):
    """An unsigned number of WebAssembly's, and the position behind it."""
    number, shift = 0, 0
    while True:
        byte = data[position]
        number, shift, position = number | (byte & 0x7F) << shift, shift + 7, position + 1
        if byte < 0x80:
            return number, position


def native_sandbox(**limits):
    limits = SandboxConfig(**limits)
    return Sandbox(limits, runtime=ModuleRuntime(limits, None, find_artefact("native")))


@pytest.fixture(scope="module")
def native():
    return native_sandbox()


def act(name, **parameters):
    return json.dumps({"name": name, "parameters": parameters})


def attempt(call, *arguments):
    """What a call of a guest returns, or the error that it raises."""
    try:
        return call(*arguments)
    except GuestError as error:
        return f"raised {error}"


def loaded(sandbox, config="{}"):
    guest = sandbox.guest()
    guest.load(sandbox.compile(SPEC.source), SPEC.class_name, config)
    return guest


def transcript(sandbox, config, actions, max_calls):
    """All that guests say of an episode: step by step, in one call, and by the oracle."""
    plays = (
        lambda guest: [attempt(guest.step, action) for action in actions],
        lambda guest: [str(result) for result in guest.step_many(actions)],
        lambda guest: attempt(guest.solve, max_calls, FUEL),
    )
    code, said = sandbox.compile(SPEC.source), []
    for play in plays:
        guest = sandbox.guest()
        refusal = attempt(guest.load, code, SPEC.class_name, config)
        said.append(refusal or (play(guest), guest.answer(), guest.reward()))
        guest.close()
    return said


# ---- The artefact. ----


def test_the_artefact_was_built_from_these_sources():
    """Fails after an edit of the C files until `make native` is run."""
    assert MANIFEST["sources"] == build.native_sources()


def test_the_manifest_describes_the_artefact():
    artefact = find_artefact("native")
    assert artefact.wasm_sha256 == MANIFEST["wasm_sha256"]
    assert len(artefact.wasm()) == MANIFEST["wasm_bytes"]
    assert artefact.path.stat().st_size == MANIFEST["compressed_bytes"] < 50_000


def test_the_module_imports_nothing_and_exports_the_contract():
    module = wasmtime.Module(wasmtime.Engine(), find_artefact("native").wasm())
    exports = {export.name for export in module.exports}
    assert list(module.imports) == []
    assert {"memory", "cabi_realloc", *EXPORTS, *(f"cabi_post_{name}" for name in EXPORTS)} <= exports


def test_the_stack_pointer_is_the_only_global():
    """What a fork copies is the memory and this: any other global would be lost."""
    wasm, position = find_artefact("native").wasm(), 8  # after magic and version
    counts = {}
    while position < len(wasm):
        section, position = wasm[position], position + 1
        length, position = leb128(wasm, position)
        counts[section] = leb128(wasm, position)[0]
        position += length
    assert counts[GLOBAL_SECTION] == 1


@pytest.mark.slow
def test_a_rebuild_gives_the_same_bytes():
    """Fetches the compiler when `make native` has not done so."""
    wasm = build.compile_guest()
    assert wasm == lzma.decompress((DIST / "native.wasm.xz").read_bytes())


# ---- The Python class and its port. ----


def test_the_class_is_a_good_environment(sandbox):
    assert verify_environment(SPEC) == []
    assert isinstance(verify_task(sandbox, SPEC, "{}", **BOUNDS), Task)


@pytest.mark.parametrize("seed", range(6))
def test_both_guests_verify_the_same_task(sandbox, native, seed):
    config = json.dumps(corpus.good_config(random.Random(seed), nodes=40))
    task = verify_task(native, SPEC, config, **BOUNDS)
    assert task == verify_task(sandbox, SPEC, config, **BOUNDS)


def test_some_tasks_are_solved_and_some_are_not(native):
    """Else the test above could compare refusals only."""
    configs = [json.dumps(corpus.good_config(random.Random(seed), nodes=40)) for seed in range(6)]
    kinds = {type(verify_task(native, SPEC, config, **BOUNDS)) for config in configs}
    assert Task in kinds


@pytest.mark.parametrize("block", range(8))
def test_both_guests_say_the_same(sandbox, native, block):
    for seed in range(15 * block, 15 * (block + 1)):
        config, actions = corpus.episode(seed)
        max_calls = random.Random(seed).choice((0, 3, 1000))
        said = transcript(native, config, actions, max_calls)
        assert said == transcript(sandbox, config, actions, max_calls), f"episode {seed}"


@pytest.mark.slow
def test_both_guests_say_the_same_in_many_episodes(sandbox, native):
    for seed in range(120, 1500):
        config, actions = corpus.episode(seed)
        said = transcript(native, config, actions, 1000)
        assert said == transcript(sandbox, config, actions, 1000), f"episode {seed}"


@pytest.mark.parametrize("limit", corpus.limit_configs())
def test_both_guests_have_the_same_limits(sandbox, native, limit):
    config = corpus.limit_configs()[limit]
    actions = [OBSERVE, act("GetNeighbors", node=0), act("EstimateRoute", target=255)]
    said = transcript(native, config, actions, max_calls=2)
    assert said == transcript(sandbox, config, actions, max_calls=2)
    assert isinstance(said[0], str) == (limit not in ("largest", "longest name"))


@pytest.fixture(scope="module")
def twins(sandbox, native):
    """One guest of each kind; what one was told, so was the other."""
    return loaded(sandbox), loaded(native)


@given(
    st.one_of(
        st.text(),
        st.builds(
            lambda name, parameters: json.dumps({"name": name, "parameters": parameters}),
            st.sampled_from([tool.name for tool in SPEC.tools if tool.name != "Done"]),
            st.dictionaries(
                st.sampled_from(("node", "item", "quantity", "target", "x")),
                st.recursive(
                    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
                    max_leaves=8,
                ),
            ),
        ),
    )
)
def test_both_guests_read_json_alike(twins, action):
    said = [twin.step(action.encode("utf-8", "replace").decode()) for twin in twins]
    assert said[0] == said[1]


def test_both_environments_take_an_episode_alike(sandbox, native):
    """Through the layer that judges actions first, by one and many at once."""
    config, actions = corpus.episode(1)
    outcomes = []
    for place in (sandbox, native):
        env = Env(place, SPEC, config)
        results = [env.step(action) for action in actions] + env.step_many(actions)
        outcomes.append((results, env.observations, env.verdict, env.reward, env.reference_answer_json()))
        env.close()
    assert outcomes[0] == outcomes[1]


# ---- What only this guest could get wrong. ----


def test_what_it_cannot_do_it_says(native):
    guest = native.guest()
    assert (
        attempt(guest.run, b"", "f", "")
        == "raised NotImplementedError: this guest is one environment and runs no programs"
    )
    unloaded = "raised RuntimeError: no environment is loaded"
    calls = ((guest.step, OBSERVE), (guest.answer,), (guest.reward,), (guest.solve, 9, FUEL))
    assert [attempt(*call) for call in calls] == [unloaded] * 4
    assert [f"raised {error}" for error in guest.step_many([OBSERVE, "{"])] == [unloaded] * 2
    assert attempt(guest.load, b"", "OtherEnv", "{}").endswith("has no attribute 'OtherEnv'")
    assert attempt(guest.load, b"", SPEC.class_name, "{") == "raised ValueError: the config is not JSON"
    assert attempt(guest.load, b"", SPEC.class_name, "{}") is None


def test_bytes_that_are_no_text_are_no_json(native):
    """The contract says UTF-8; a guest that believed it could be led out of its argument."""
    runtime = ModuleRuntime(SandboxConfig(), None, find_artefact("native"))
    instance = runtime.instantiate()
    instance.call("load", (b"", SPEC.class_name.encode(), b"{}"), FUEL)
    for text in (
        b"\xff",
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\xf0\x9f',
        b'"\xc0\xaf"',
        b"\0",
        b'{"a": "\\',
    ):
        assert instance.call("step", (text,), FUEL) == b"\0Error: the action is not JSON"
    instance.close()


def test_a_frame_that_lies_about_its_length_ends_with_its_bytes(native):
    runtime = ModuleRuntime(SandboxConfig(), None, find_artefact("native"))
    instance = runtime.instantiate()
    instance.call("load", (b"", SPEC.class_name.encode(), b"{}"), FUEL)
    observation = instance.call("step", (OBSERVE.encode(),), FUEL)
    framed = (2**31).to_bytes(4, "little") + OBSERVE.encode()
    reply = instance.call("step-many", (framed,), FUEL)
    assert reply == b"\0" + sanitize.framed(observation.replace(b'"steps": 1', b'"steps": 2'))
    not_json = sanitize.framed(b"\0Error: the action is not JSON")
    assert instance.call("step-many", (b"\1",), FUEL) == b"\0" + not_json
    instance.close()


def test_guests_share_nothing(native):
    """Taken in turns, each episode is as it is alone."""
    episodes = []
    for seed in range(3):
        rng = random.Random(seed)
        config = corpus.good_config(rng, nodes=12)
        episodes.append((json.dumps(config), corpus.action_texts(rng, config, 40)))
    alone = []
    for config, actions in episodes:
        guest = loaded(native, config)
        alone.append([guest.step(action) for action in actions])
    guests = [loaded(native, config) for config, _ in episodes]
    together = [[] for _ in episodes]
    for turn in range(max(map(len, alone))):
        for (_, actions), guest, said in zip(episodes, guests, together, strict=True):
            said += [guest.step(action) for action in actions[turn : turn + 1]]
    assert together == alone


def test_a_second_episode_starts_anew(native):
    guest = loaded(native)
    fresh = guest.step(OBSERVE)
    guest.step(act("MoveTo", node=1))
    guest.step(act("PickUp", item="bolt", quantity=3))
    guest.step(act("Done", answer=11))
    guest.load(b"", SPEC.class_name, "{}")
    assert guest.step(OBSERVE) == fresh
    assert guest.reward() == 0.0


def test_fuel_ends_a_call_and_the_episode_goes_on():
    """A call of 64 KiB costs more than the least fuel."""
    env = Env(native_sandbox(fuel_per_call=1_000_000), SPEC, "{}")
    before = env.step(act("MoveTo", node=1))
    long = OBSERVE.replace("}}", " " * 65_000 + "}}")
    assert env.step(long).error is CallError.OUT_OF_FUEL
    after = env.step(OBSERVE)
    assert before.error is after.error is None
    assert json.loads(after.observation)["steps"] == 2  # the call that failed left no trace
    env.close()


def test_memory_ends_a_call():
    """Each observation is about 60 kB long, and a thousand do not fit into 32 MiB."""
    sandbox = native_sandbox(memory_bytes=32 * 2**20)
    guest = loaded(sandbox, corpus.limit_configs()["largest"])
    with pytest.raises(GuestTrap) as caught:
        guest.step_many([OBSERVE] * 5000)
    assert caught.value.error is CallError.OUT_OF_MEMORY
    assert guest.memory_bytes <= 32 * 2**20


def test_a_state_can_be_kept_and_forked(native):
    """The episode goes on alike in the guest, in its fork, and in another guest that is given its state."""
    rng = random.Random(3)
    config = corpus.good_config(rng, nodes=12)
    actions = corpus.action_texts(rng, config, 60)
    guest = loaded(native, json.dumps(config))
    for action in actions[:30]:
        guest.step(action)
    fork, other = guest.fork(), native.guest()
    assert fork is not None
    other.restore(guest.snapshot())
    ends = [[one.step(action) for action in actions[30:]] for one in (guest, fork, other)]
    assert ends[0] == ends[1] == ends[2]
    assert guest.snapshot() == fork.snapshot() == other.snapshot()


def test_memory_is_used_again(native):
    """What one call took, the next one takes again: an episode's memory has a bound."""
    guest = loaded(native)
    guest.step(OBSERVE)
    before = guest.memory_bytes
    for _ in range(3000):
        guest.step(OBSERVE)
    assert guest.memory_bytes == before < 2**20


# ---- The same C under the compiler's sanitizers. ----


@pytest.mark.slow
def test_no_sanitizer_finds_a_fault_and_the_replies_are_the_same():
    """Plays the corpus on a program of this machine and on the module."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler with sanitizers")
    program = sanitize.compile_sanitized()
    calls = [call for seed in range(500) for call in sanitize.episode_calls(*corpus.episode(seed))]
    calls += [call for seed in range(500) for call in sanitize.broken_calls(seed)]
    runtime = ModuleRuntime(SandboxConfig(), None, find_artefact("native"))
    instance = runtime.instantiate()
    names = ("load", "step", "step-many", "solve", "answer", "reward")
    for (export, arguments), reply in zip(calls, sanitize.play(program, calls), strict=True):
        flat = (len(arguments[0]),) if export == sanitize.SOLVE else arguments
        assert instance.call(names[export], flat, FUEL) == reply
    sanitize.play(program, sanitize.large_calls())
    instance.close()
