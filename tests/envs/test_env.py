"""The rules of an episode hold whatever the environment's class does."""

import json

import pytest
import toy_env
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.check import replay
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError

CONFIG = '{"numbers":[5,7]}'


def act(name, **parameters):
    return json.dumps({"name": name, "parameters": parameters})


def play(sandbox, actions, config=CONFIG, **parts):
    env = Env(sandbox, toy_env.spec(**parts), config)
    results = [env.step(action) for action in actions]
    env.close()
    return env, results


def test_an_episode_by_hand(sandbox):
    env, results = play(sandbox, [act("Observe"), act("Add", index=0), act("Add", index=1, times=2)])
    assert [result.observation for result in results] == ["2", "5", "19"]
    assert (env.reward, env.finished, env.step_count) == (0.0, False, 3)


def test_the_first_done_ends_and_its_verdict_stays_with_the_host(sandbox):
    env, results = play(sandbox, [act("Done", answer=1), act("Done", answer=12), act("Observe")])
    assert env.reward == 0.0
    assert env.verdict == "reference answer 12, reward=0"
    assert env.observations == ["", "Error: the episode has ended", "Error: the episode has ended"]
    assert [result.error for result in results] == [None, CallError.REFUSED, CallError.REFUSED]
    assert env.step_count == 3


def test_a_right_answer_is_rewarded(sandbox):
    env, (result,) = play(sandbox, [act("Done", answer=12)])
    assert (env.reward, result.finished, result.observation) == (1.0, True, "")


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("hello", CallError.NOT_JSON),
        (act("Observe") + act("Observe"), CallError.NOT_JSON),
        (act("Nope"), CallError.UNKNOWN_TOOL),
        (act("Add"), CallError.BAD_PARAMETERS),
        (act("Done"), CallError.BAD_PARAMETERS),
        (act("Add", index=0, by=1), CallError.BAD_PARAMETERS),
        (act("Add", index="x"), CallError.TOOL_RAISED),
    ],
)
def test_a_bad_call_is_an_observation_and_a_step(sandbox, action, error):
    env, results = play(sandbox, [act("Add", index=0), action, act("Total")])
    assert results[1].error is error
    assert results[1].observation.startswith("Error:")
    assert results[2].observation == "5"
    assert (env.step_count, env.finished) == (3, False)


def test_a_reward_without_done_is_none(sandbox):
    env, _ = play(sandbox, [act("Act")], act='self._reward = 1\nreturn "set"')
    assert (env.reward, env.finished) == (0.0, False)


def test_a_done_that_fails_ends_without_reward(sandbox):
    env, results = play(
        sandbox, [act("Done", answer=12), act("Done", answer=12)], done="raise ValueError('no')"
    )
    assert (env.reward, env.finished) == (0.0, True)
    assert [result.error for result in results] == [CallError.TOOL_RAISED, CallError.REFUSED]


def test_an_environment_may_end_by_itself(sandbox):
    env, (result,) = play(sandbox, [act("Act")], act='self._done, self._reward = True, 1\nreturn "secret"')
    assert (env.reward, result.finished, result.observation) == (1.0, True, "")


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        ("7", 1.0),
        ("-1", 0.0),
        ("0.25", 0.25),
        ("float('nan')", 0.0),
        ("'x'", 0.0),
        ("1 / 0", 0.0),
        ("True", 1.0),
    ],
)
def test_a_reward_lies_between_0_and_1(sandbox, reward, expected):
    env, _ = play(sandbox, [act("Done", answer=0)], reward=f"return {reward}")
    assert env.reward == expected


@pytest.mark.parametrize(
    ("code", "observation"),
    [
        ("return 5", "5"),
        ("return None", "None"),
        ("return ['é', 1.5]", "['é', 1.5]"),
        ("return chr(0xDC00)", "\\udc00"),
        ("return ''", ""),
    ],
)
def test_an_observation_is_made_text(sandbox, code, observation):
    assert play(sandbox, [act("Act")], act=code)[1][0].observation == observation


def test_an_object_without_text_is_an_error(sandbox):
    code = "class X:\n    def __str__(self):\n        raise ValueError('mute')\nreturn X()"
    (result,) = play(sandbox, [act("Act")], act=code)[1]
    assert (result.observation, result.error) == ("Error: ValueError: mute", CallError.TOOL_RAISED)


def test_what_step_itself_raises_is_an_error(sandbox):
    (result,) = play(sandbox, [act("Act")], act="raise KeyboardInterrupt('stop')")[1]
    assert (result.observation, result.error) == ("Error: KeyboardInterrupt: stop", CallError.TOOL_RAISED)


def test_a_long_observation_is_cut_visibly(sandbox):
    (result,) = play(sandbox, [act("Act")], act='return "é" * 9000')[1]
    assert result.observation == "é" * 8192 + "... [cut, 9000 characters in all]"


TRAPS = {
    CallError.OUT_OF_FUEL: "self.total = 99\nwhile True: pass",
    CallError.OUT_OF_MEMORY: "self.total = 99\nreturn str(bytearray(1 << 30))",
    CallError.STACK_OVERFLOW: "self.total = 99\nreturn str(json.loads('[' * 100000))",
    CallError.FORBIDDEN: "self.total = 99\nreturn open('x').read()",
}


@pytest.mark.parametrize(("error", "code"), TRAPS.items(), ids=[error.value for error in TRAPS])
def test_a_trap_leaves_the_state_as_if_the_call_had_only_failed(sandbox, error, code):
    good = [act("Add", index=0), "no call", act("Add", index="x"), act("Add", index=1)]
    env, results = play(sandbox, [*good[:3], act("Act"), good[3], act("Act"), act("Total")], act=code)
    assert [result.error for result in results if result.error] == [
        CallError.NOT_JSON,
        CallError.TOOL_RAISED,
        error,
        error,
    ]
    _, without = play(sandbox, [*good, act("Total")], act=code)
    kept = [result for result in results if result.error is not error]
    assert kept == without
    assert results[3].observation.startswith("Error: the call ")
    assert env.step_count == 7


def test_random_state_is_rebuilt_too(sandbox):
    parts = {"imports": "import random", "act": "return str(random.random())"}
    spin = {**parts, "answer": "while True: pass"}  # makes `Done` trap, which only ends the episode
    _, plain = play(sandbox, [act("Act"), act("Act")], **parts)
    env, results = play(sandbox, [act("Act"), act("Act"), act("Done", answer=1)], **spin)
    assert results[:2] == plain
    assert (env.finished, env.reward, results[2].error) == (True, 0.0, CallError.OUT_OF_FUEL)


def test_episodes_share_nothing(sandbox):
    parts = {"imports": "seen = []", "act": "seen.append(1)\nreturn str(len(seen))"}
    for _ in range(2):
        assert [r.observation for r in play(sandbox, [act("Act"), act("Act")], **parts)[1]] == ["1", "2"]


def test_actions_replay_to_the_same_bytes(sandbox):
    actions = [act("Observe"), "?", act("Add", index=1), act("Act"), act("Done", answer=12), act("Total")]
    code = "return str([hash('x'), id(self), {*'abc'}])"
    env, _ = play(sandbox, actions, act=code)
    assert replay(sandbox, toy_env.spec(act=code), CONFIG, actions) == (env.observations, 1.0)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"imports": "import numpy"}, "does_not_load"),
        ({"reset": "raise ValueError"}, "does_not_load"),
        ({"imports": "return 5"}, "does_not_compile"),
        ({"reset": "while True: pass"}, "out_of_fuel"),
        ({"imports": "import socket"}, "forbidden"),
        ({"reset": "self.big = bytearray(1 << 30)"}, "out_of_memory"),
    ],
)
def test_an_environment_that_does_not_load_says_why(sandbox, parts, reason):
    with pytest.raises(EnvError) as caught:
        Env(sandbox, toy_env.spec(**parts), CONFIG)
    assert caught.value.reason == reason


def test_an_oracle_is_recorded_from_outside_its_tools(sandbox):
    """`Act` calls `step` itself; that inner call is the tool's own business."""
    parts = {
        "act": 'return self.step(json.dumps({"name": "Observe", "parameters": {}}))[1]',
        "solve": 'call("Act")\ncall("Nope")\nreturn call("Done", answer=12)',
    }
    env = Env(sandbox, toy_env.spec(**parts), CONFIG)
    actions, observations = env.run_oracle()
    assert actions == [act("Act"), act("Nope"), act("Done", answer=12)]
    assert observations[0] == "2"
    assert observations[2] == env.verdict == "reference answer 12, reward=1"
    assert (env.reward, env.reference_answer_json()) == (1.0, "12")


VALUES = st.none() | st.integers() | st.floats() | st.text() | st.lists(st.integers())
CALLS = st.builds(act, st.sampled_from(["Add", "Total", "Nope"]), index=VALUES, times=VALUES)


@settings(max_examples=20)
@given(st.lists(st.text() | CALLS, max_size=20))
def test_no_action_makes_step_raise(sandbox, actions):
    env, results = play(sandbox, actions)
    assert not env.finished
    assert all((result.error is None) != result.observation.startswith("Error:") for result in results)
    assert env.actions == actions
    assert env.step_count == len(actions)


def test_limits_are_the_configs(sandbox):
    small = Sandbox(SandboxConfig(fuel_per_call=50_000_000, max_observation_chars=64, max_action_bytes=100))
    _, results = play(small, [act("Act"), act("Add", index=[0] * 99)], act="return str(sum(range(10**6)))")
    assert [result.error for result in results] == [CallError.OUT_OF_FUEL, CallError.NOT_JSON]
    _, (result,) = play(small, [act("Act")], act='return "x" * 65')
    assert result.observation == "x" * 64 + "... [cut, 65 characters in all]"


def results(env, actions, batch):
    if batch == 1:
        taken = [env.step(action) for action in actions]
    else:
        taken = [
            result
            for start in range(0, len(actions), batch)
            for result in env.step_many(actions[start : start + batch])
        ]
    outcome = env.reward, env.finished, env.step_count, env.verdict, env.actions, env.observations
    return taken, outcome


@pytest.mark.parametrize("batch", [2, 3, 50])
@pytest.mark.parametrize(
    "what",
    ["return 'x' * 20000", "self._done = True", "raise KeyError", "while True: pass", "open('x')"],
)
def test_many_steps_in_one_call_are_as_many_single_steps(what, batch):
    """Whatever is among them: failed calls, traps, a premature end, calls after it."""
    good = [act("Add", index=index % 3) for index in range(4)]
    bad = [act("Add", index=99), "no call", act("Nothing"), act("Act"), act("Total")]
    streams = [
        [*good, *bad, *good, act("Done", answer=6), act("Total"), "no call"],
        [*bad, act("Done", answer=0), *good],
        [act("Act"), act("Act"), *good],
        [],
    ]
    cheap = Sandbox(SandboxConfig(fuel_per_call=50_000_000))
    toy = toy_env.spec(act=what)
    for stream in streams:
        single, many = (Env(cheap, toy, "{}") for _ in range(2))
        assert results(many, stream, batch) == results(single, stream, 1)
