"""Episodes of random actions, through a real guest: the laws hold for streams that nobody thought of."""

import json

import pytest
import victim
from attack import QUICK, TRAPS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegym_jax.envs.check import replay
from codegym_jax.envs.env import Env

_ACT = """
self.total += 1
self.seen = [*getattr(self, "seen", []), value]
if value == "spin":
    while True: pass
if value == "fill": bytearray(1 << 30)
if value == "open": open("x")
if value == "dive": json.loads("[" * 100_000)
if value == "exit": raise SystemExit("left")
return [len(self.seen), value]
"""
_SPEC = victim.spec(act=_ACT, module="import random")

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
HOSTILE = st.sampled_from(["spin", "fill", "open", "dive", "exit"])
CALLS = st.one_of(
    st.sampled_from([victim.OBSERVE, victim.ADD, victim.TOTAL, victim.ACT, victim.RIGHT + " "]),
    st.builds(lambda value: victim.call("Act", value=value), VALUES | HOSTILE),
    st.builds(lambda value: victim.call("Add", index=value), VALUES),
    st.builds(lambda name, value: json.dumps({"name": name, "parameters": value}), st.text(), VALUES),
)
ACTIONS = st.lists(CALLS | st.text(), max_size=8)


@pytest.fixture(scope="module")
def sandbox(sandbox_with):
    return sandbox_with(QUICK)


def play(sandbox, actions):
    env = Env(sandbox, _SPEC, victim.CONFIG)
    results = [env.step(action) for action in actions]
    env.close()
    assert (env.actions, env.step_count) == (actions, len(actions))
    return env, results


@settings(max_examples=40)
@given(ACTIONS, st.sampled_from([victim.RIGHT, victim.WRONG]))
@example([], victim.RIGHT)
@example([victim.call("Act", value="spin"), victim.ADD, victim.call("Act", value="dive")], victim.RIGHT)
def test_any_stream_of_actions_keeps_the_laws(sandbox, actions, done):
    actions = [*actions, done, victim.TOTAL]
    env, results = play(sandbox, actions)
    for result in results:
        assert (result.error is not None) == result.observation.startswith("Error:")
        assert "the answer is" not in result.observation
        assert len(result.observation.encode()) < 4 * 9000
    assert env.finished
    assert env.reward in (0.0, 1.0)
    assert replay(sandbox, _SPEC, victim.CONFIG, actions) == (env.observations, env.reward)

    together = Env(sandbox, _SPEC, victim.CONFIG)
    assert together.step_many(actions) == results
    together.close()

    kept = [i for i, result in enumerate(results) if result.error not in TRAPS]
    without, rest = play(sandbox, [actions[i] for i in kept])
    assert rest == [results[i] for i in kept]
    assert without.reward == env.reward
