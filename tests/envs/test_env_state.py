"""An episode that goes on from a state that another was in is in no way different from that other."""

import dataclasses
import json
import os
import pathlib
import pickle
import random
import subprocess
import sys
import textwrap
import threading

import pytest
import toy_env

from codegym_jax.config import SandboxConfig
from codegym_jax.envs import lasting_guest
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.reference import ComponentRuntime, InProcessRuntime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.envs.state import EnvState
from codegym_jax.records import CallError

CONFIG = '{"numbers":[5,7]}'
LIMITS = SandboxConfig(fuel_per_call=50_000_000)
NEVER, ALWAYS = 1 << 62, 0

TELL = """
self.kept.append("x" * random.randrange(1_000_000 if self.total else 1000))
o = object()
return str((id(o), hash(str(self.total)), time.time(), uuid.uuid4(), {*"hash"}, random.random()))
"""
TELLING = {"imports": "import random, time, uuid", "reset": "self.kept = []", "act": TELL}
"""An adder whose `Act` tells addresses, hashes, the clock and random numbers, and grows the memory."""

TRAPS = {
    CallError.OUT_OF_FUEL: "while True: pass",
    CallError.OUT_OF_MEMORY: "return str(bytearray(1 << 30))",
    CallError.STACK_OVERFLOW: "return str(json.loads('[' * 100000))",
    CallError.FORBIDDEN: "return open('x').read()",
}


def act(name, **parameters):
    return json.dumps({"name": name, "parameters": parameters})


GOOD = (act("Act"), act("Add", index=0), act("Add", index=1), act("Total"), act("Observe"))
FAILING = (act("Add", index=9), act("Nope"), "no call", act("Add"))


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    return Sandbox(LIMITS)


@pytest.fixture(params=[NEVER, ALWAYS], ids=["by_calls", "by_image"])
def way(request, monkeypatch):
    monkeypatch.setattr(lasting_guest, "IMAGE_FUEL", request.param)
    return request.param


def stream(seed, count):
    rng = random.Random(seed)
    return [rng.choice(GOOD if rng.random() < 0.8 else FAILING) for _ in range(count)]


def start(sandbox, config=CONFIG, **parts):
    return Env(sandbox, toy_env.spec(**(TELLING | parts)), config)


def take(env, actions, rng=None):
    """Takes actions one by one, or in pieces of random lengths."""
    if rng is None:
        return [env.step(action) for action in actions]
    results = []
    while len(results) < len(actions):
        results += env.step_many(actions[len(results) : len(results) + rng.randint(1, 6)])
    return results


def whole(env):
    """All that an episode shows, and the very bytes of its guest."""
    image = env._guest._guest.snapshot()
    shown = env.actions, env.observations, env.reward, env.finished, env.verdict, env.step_count
    return *shown, env.fuel_used, env.memory_bytes, image


def gone_back_to(sandbox, env, how):
    """Another episode in the state of this one."""
    if how == "fork":
        return env.fork()
    state = env.clone_state()
    other = start(sandbox)
    take(other, stream(77, 15))
    if how == "json":
        state = EnvState.from_json(state.to_json())
    elif how == "pickle":
        state = pickle.loads(pickle.dumps(state))
    other.restore_state(state)
    return other


@pytest.mark.parametrize("how", ["restore", "json", "pickle", "fork"])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_an_episode_goes_on_from_any_turn_as_if_nothing_had_been(sandbox, way, how, in_pieces):
    rng = random.Random(how)
    for seed in range(3):
        env = start(sandbox)
        take(env, stream(seed, rng.randrange(30)), random.Random(seed) if in_pieces else None)
        other = gone_back_to(sandbox, env, how)
        assert whole(other) == whole(env)
        rest = [*stream(seed + 100, 20), act("Done", answer=12), *GOOD]
        assert take(other, rest) == take(env, rest)
        assert whole(other) == whole(env)
        assert env.reward == 1.0
        for each in (env, other):
            each.close()


def test_forks_go_separate_ways(sandbox, way):
    env = start(sandbox)
    take(env, stream(1, 10))
    branches = [env.fork() for _ in range(3)]
    alone = [start(sandbox) for _ in range(3)]
    for number, (branch, single) in enumerate(zip(branches, alone, strict=True)):
        rest = stream(number, 10)
        assert take(branch, rest) == take(single, [*stream(1, 10), *rest])[10:]
        assert whole(branch) == whole(single)
    take(env, [act("Done", answer=0)])
    assert [branch.finished for branch in branches] == [False] * 3
    env.close()
    twig = branches[0].fork()
    assert take(twig, GOOD) == take(branches[0], GOOD)


def test_a_state_outlives_its_episode_and_serves_many_times(sandbox, way):
    env = start(sandbox)
    take(env, stream(2, 12))
    state = env.clone_state()
    seen = take(env, GOOD)
    env.close()
    for _ in range(2):
        env.restore_state(state)
        assert take(env, GOOD) == seen
    assert env.clone_state().actions == (*state.actions, *GOOD)


def test_a_closed_episode_can_be_cloned(sandbox, way):
    env = start(sandbox)
    take(env, GOOD)
    before = whole(env)
    env.close()
    other = start(sandbox)
    other.restore_state(env.clone_state())
    assert whole(other) == before
    assert whole(env.fork()) == before


@pytest.mark.parametrize("how", ["restore", "json", "fork"])
def test_a_finished_episode_stays_finished(sandbox, way, how):
    env = start(sandbox)
    take(env, [*GOOD, act("Done", answer=12), act("Total")])
    other = gone_back_to(sandbox, env, how)
    for each in (env, other):
        assert (each.reward, each.finished, each.verdict) == (1.0, True, "reference answer 12, reward=1")
        assert each.step(act("Total")).error is CallError.REFUSED
        assert each.reference_answer_json() == "12"
        assert not any("12" in text for text in each.observations[-3:])
    assert other.actions == env.actions


@pytest.mark.parametrize("how", ["restore", "json", "fork"])
def test_an_episode_that_the_oracle_ended_can_be_cloned(sandbox, way, how):
    env = start(sandbox, answer="self.asked = getattr(self, 'asked', 6) + 6\nreturn self.asked")
    take(env, GOOD[:1])
    env.run_oracle()
    other = env.fork()
    if how != "fork":
        state = env.clone_state()
        other.restore_state(EnvState.from_json(state.to_json()) if how == "json" else state)
    assert other.clone_state().actions == (*GOOD[:1], *env.actions[1:])
    assert (other.reward, other.verdict, other.observations) == (env.reward, env.verdict, env.observations)
    assert other.reference_answer_json() == env.reference_answer_json() == "24"


def test_a_state_holds_no_verdict_where_a_policy_reads(sandbox):
    env = start(sandbox)
    take(env, [act("Done", answer=3)])
    state = env.clone_state()
    assert state.verdict == "reference answer 12, reward=0"
    assert not any("12" in text for text in state.observations)


def test_a_state_of_something_else_is_refused(sandbox):
    env = start(sandbox)
    take(env, GOOD)
    before = whole(env)
    state = env.clone_state()
    second = Sandbox(LIMITS, runtime=ModuleRuntime(LIMITS, None, find_artefact("second")))
    others = {
        "env_id": Env(sandbox, dataclasses.replace(toy_env.spec(**TELLING), code_id="Other"), CONFIG),
        "source_sha256": start(sandbox, reset="self.kept = [1]"),
        "config_json": start(sandbox, '{"numbers":[5,8]}'),
        "guest_hash": start(second),
    }
    for name, other in others.items():
        with pytest.raises(ValueError, match=f"the state's {name} is .*, this episode's is "):
            env.restore_state(other.clone_state())
        with pytest.raises(ValueError, match=name):
            other.restore_state(state)
    assert whole(env) == before


def test_a_damaged_image_is_refused_and_changes_nothing(sandbox, monkeypatch):
    monkeypatch.setattr(lasting_guest, "IMAGE_FUEL", ALWAYS)
    env = start(sandbox)
    take(env, GOOD)
    before, state = whole(env), env.clone_state()
    checkpoint = state.guest.checkpoint
    assert checkpoint
    for damage in (
        {"content": b""},
        {"memory_bytes": 1 << 40},
        {"pages": b"\xff" * len(checkpoint.image.pages)},
    ):
        image = dataclasses.replace(checkpoint.image, **damage)
        damaged = dataclasses.replace(checkpoint, image=image)
        with pytest.raises(ValueError, match="the image"):
            env.restore_state(
                dataclasses.replace(state, guest=dataclasses.replace(state.guest, checkpoint=damaged))
            )
        assert whole(env) == before


def test_calls_that_give_something_else_than_they_gave_are_the_hosts_failure(sandbox, monkeypatch):
    monkeypatch.setattr(lasting_guest, "IMAGE_FUEL", NEVER)
    env = start(sandbox)
    take(env, GOOD)
    before = whole(env)
    forged = json.loads(env.clone_state().to_json())
    forged["guest"]["calls"][1][1] = ["6"]
    with pytest.raises(HostFailure, match="gave something else"):
        env.restore_state(EnvState.from_json(json.dumps(forged)))
    forged["guest"]["calls"][1][0] = ["no call"]
    with pytest.raises(HostFailure):
        env.restore_state(EnvState.from_json(json.dumps(forged)))
    assert whole(env) == before


@pytest.mark.parametrize(("error", "code"), TRAPS.items(), ids=[error.value for error in TRAPS])
def test_after_any_traps_all_is_as_if_they_had_not_been(sandbox, way, error, code):
    """Also in a fork and after going back, where an image may stand for the first calls."""
    trapping = f"if self.total == 5:\n    self.total = 99\n{textwrap.indent(code, ' ' * 4)}\n{TELL}"
    good = [act("Act"), act("Add", index=0), act("Total"), act("Add", index=1), act("Act"), act("Act")]
    env, plain = start(sandbox, act=trapping), start(sandbox, act=trapping)
    results = take(env, [*good[:2], act("Act"), act("Act"), good[2], act("Act")])
    other = env.fork()
    other.restore_state(env.clone_state())
    for each in (env, other):
        more = [each.step(act("Act")), *take(each, good[3:])]
        failed = [result for result in [*results, *more] if result.error]
        assert [result.error for result in failed] == [error] * 4
        assert all(result.observation.startswith("Error: the call ") for result in failed)
    expected = take(plain, good)
    assert [result for result in [*results, *more] if not result.error] == expected
    assert whole(env)[-3:] == whole(other)[-3:] == whole(plain)[-3:]


def test_a_batch_that_traps_leaves_what_its_single_calls_leave(sandbox, way):
    code = f"if self.total == 5: open('x')\n{TELL}"
    actions = [act("Act"), act("Add", index=0), act("Act"), act("Total"), act("Add", index=1), act("Act")]
    single, many = start(sandbox, act=code), start(sandbox, act=code)
    assert take(single, actions) == many.step_many(actions)
    assert whole(single) == whole(many)


def test_an_image_is_taken_by_the_fuel_that_going_back_would_burn(sandbox):
    """So it depends on the calls alone; a second one only once as much has been burned again."""
    env = start(sandbox, act="return str(sum(range(50_000)))")
    assert env.clone_state().guest.checkpoint is None
    heavy = 0
    while env.fuel_used < lasting_guest.IMAGE_FUEL:
        heavy += 1
        assert env.step(act("Act")).error is None
    checkpoint = env.clone_state().guest.checkpoint
    assert checkpoint
    assert (checkpoint.call_count, checkpoint.fuel_used) == (heavy, env.fuel_used)
    env.step(act("Total"))
    state = env.clone_state()
    assert state.guest.checkpoint is checkpoint
    other = start(sandbox, act="return str(sum(range(50_000)))")
    other.restore_state(state)
    assert whole(other) == whole(env)
    assert json.loads(state.to_json())["guest"]["checkpoint"] is None


@pytest.mark.parametrize("runtime", ["native", "component", "in_process"])
def test_episodes_on_other_runtimes_fork_too(runtime):
    """By their calls, where a runtime has no images."""
    if runtime == "native":
        made = ModuleRuntime(LIMITS, None, find_artefact("native"))
    else:
        made = ComponentRuntime(LIMITS) if runtime == "component" else InProcessRuntime()
    sandbox = Sandbox(LIMITS, runtime=made)
    if runtime == "native":
        folder = pathlib.Path(__file__).parents[2] / "envs_wasm" / "native"
        env = Env(sandbox, load_environment(folder / "Native_01_I__WarehouseEnv.py"), "{}")
        before, after = [act("MoveTo", node=1)], [act("Observe"), act("PickUp", item="bolt", quantity=2)]
    else:
        env = Env(sandbox, toy_env.spec(), CONFIG)
        before, after = list(GOOD[1:3]), [act("Total"), act("Add", index=1)]
    take(env, before)
    state = EnvState.from_json(env.clone_state().to_json())
    other = env.fork()
    expected = take(env, after)
    assert take(other, after) == expected
    other.restore_state(state)
    assert take(other, after) == expected
    assert other.observations == env.observations


_GO_ON = """
import pickle, sys
from codegym_jax.config import SandboxConfig
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
spec, state, actions = pickle.load(sys.stdin.buffer)
env = Env(Sandbox(SandboxConfig(fuel_per_call=50_000_000)), spec, state.config_json)
env.restore_state(state)
print(ascii([env.step(action).observation for action in actions]))
"""


def test_a_state_travels_to_another_process(sandbox, way):
    env = start(sandbox)
    take(env, stream(5, 12))
    sent = pickle.dumps((toy_env.spec(**TELLING), env.clone_state(), GOOD))
    done = subprocess.run([sys.executable, "-c", _GO_ON], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == ascii([result.observation for result in take(env, GOOD)])


def test_asking_for_the_answer_changes_no_episode(sandbox):
    env = start(sandbox, answer="self.total += 1\nreturn self.total")
    before = whole(env)
    assert [env.reference_answer_json() for _ in range(2)] == ["1", "1"]
    assert whole(env) == before
    spinning = start(sandbox, answer="while True: pass", done="self._done = True")
    for action in (act("Observe"), act("Done", answer=1)):
        with pytest.raises(EnvError, match="out_of_fuel"):
            spinning.reference_answer_json()
        spinning.step(action)
    assert (spinning.observations[0], spinning.finished) == ("2", True)


@pytest.mark.parametrize(
    "solve",
    ['call("Act")\nwhile True: pass', 'call("Act")\nraise KeyError', "for _ in range(99): call('Act')"],
)
def test_an_oracle_that_fails_leaves_the_episode_as_it_was(sandbox, way, solve):
    env = start(sandbox, solve=solve)
    take(env, GOOD)
    before = whole(env)
    with pytest.raises(EnvError):
        env.run_oracle(50)
    assert whole(env) == before


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no list of open files to read")
def test_live_episodes_cost_memory_only(sandbox):
    """No thread, no timer, no file."""

    def held():
        return (
            threading.active_count(),
            sorted(os.listdir("/proc/self/fd")),
            len(os.listdir("/proc/self/task")),
        )

    first = start(sandbox)
    before = held()
    live = [first, *(start(sandbox) for _ in range(20))]
    for env in live:
        take(env, GOOD)
    live += [env.fork() for env in live[:5]]
    states = [env.clone_state() for env in live]
    assert held() == before
    live[-1].restore_state(states[0])
    for env in live:
        env.close()
    assert held() == before
