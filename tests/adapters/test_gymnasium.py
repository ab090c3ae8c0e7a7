"""Gymnasium's own checker and makers take the environments, and an oracle earns its reward through them."""

import json
import pickle

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces.utils import flatten, unflatten
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from codegym_jax.adapters.gymnasium import CodegymEnv, CodegymVectorEnv, UnicodeText, register
from codegym_jax.config import UserError

GAP = "codegym/Own_01_I__LargestGapEnv-v0"
CENSUS = "codegym/Own_08_I__LetterCensusEnv-v0"
OBSERVE = '{"name": "Observe", "parameters": {}}'


@pytest.fixture(scope="module")
def names(task_set):
    return register(task_set)


@pytest.fixture
def env(names, request):
    env = gymnasium.make(GAP)
    request.addfinalizer(env.close)
    return env


@pytest.fixture
def gap(specs, tasks, sandbox):
    """The environment itself, with its tasks at hand."""
    spec = specs["Own_01_I__LargestGapEnv"]
    return CodegymEnv(spec, [task for task in tasks if task.env_id == spec.env_id], sandbox=sandbox)


def play(env, actions):
    return [env.step(action) for action in actions]


def test_all_environments_with_tasks_are_registered(names):
    assert names == [GAP, CENSUS]


@pytest.mark.parametrize("name", [GAP, CENSUS])
def test_the_checker_of_gymnasium_is_content(names, name):
    env = gymnasium.make(name)
    check_env(env.unwrapped)
    env.close()


def test_the_oracle_earns_its_reward_through_the_wrappers(env):
    env.reset(seed=0)
    task = env.unwrapped.task
    *steps, last = play(env, task.oracle_actions)
    assert [step[0] for step in steps] == list(task.oracle_observations[:-1])
    assert [step[1:4] for step in steps] == [(0.0, False, False)] * len(steps)
    assert last == ("", 1.0, True, False, {"error": "", "steps": len(task.oracle_actions)})


def test_no_reward_twice_and_no_verdict(env):
    env.reset(seed=0)
    actions = env.unwrapped.task.oracle_actions
    play(env, actions)
    observation, reward, terminated, truncated, info = env.step(actions[-1])
    assert (reward, terminated, truncated, info["error"]) == (0.0, True, False, "refused")
    assert observation == "Error: the episode has ended"


def test_the_first_observation_says_all_and_hides_the_config(env, specs):
    observation, info = env.reset(seed=0)
    spec = specs["Own_01_I__LargestGapEnv"]
    assert spec.statement in observation
    assert all(f"def {tool.name}(" in observation for tool in spec.tools)
    assert [tool["function"]["name"] for tool in info["tools"]] == [tool.name for tool in spec.tools]
    assert env.unwrapped.task.config_json not in observation + json.dumps(info)


def test_a_seed_chooses_the_task(env):
    def drawn(seed):
        env.reset(seed=seed)
        first = env.unwrapped.task
        env.reset()
        return first, env.unwrapped.task

    assert drawn(5) == drawn(5)
    assert len({drawn(seed)[0].task_id for seed in range(20)}) == 3


def test_options_choose_the_task(gap, tasks):
    for number, task in enumerate(tasks[:3]):
        gap.reset(seed=1, options={"task": number})
        assert gap.task == task
        gap.reset(options={"task": task.task_id})
        assert gap.task == task
    gap.reset(options={"config": {"array": [1, 8, 2]}})
    assert gap.step('{"name": "GetItem", "parameters": {"index": 1}}')[0] == "8"
    gap.close()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"tusk": 1}, "tusk"),
        ({"task": 0, "config": {}}, "may hold one of"),
        ({"task": 3}, "below 3, got 3"),
        ({"task": "codegym_v1@Own_99__XEnv@{}"}, "got 'codegym_v1@Own_99"),
        ({"config": [1]}, "must be a dict"),
        ({"config": {"array": {1, 2}}}, "no JSON form"),
        ({"config": {"array": None}}, 'does not load with the config {"array":null}'),
    ],
)
def test_options_that_choose_none_are_named(gap, options, words):
    gap.reset(options={"task": 0})
    with pytest.raises(ValueError) as caught:
        gap.reset(options=options)
    assert words in str(caught.value)
    assert gap.step(OBSERVE)[4]["steps"] == 1  # the episode before goes on
    gap.close()


def test_what_a_policy_does_wrong_is_an_observation(env):
    env.reset(seed=0)
    for text in ("hello", '{"name": "Fly", "parameters": {}}', "\udc00"):
        observation, reward, terminated, truncated, info = env.step(text)
        assert observation.startswith("Error:")
        assert (reward, terminated, truncated) == (0.0, False, False)
        assert info["error"] in ("not_json", "unknown_tool")


def test_too_many_steps_are_cut_off(names):
    env = gymnasium.make(GAP, max_steps=3)
    env.reset(seed=0)
    assert [step[2:4] for step in play(env, [OBSERVE] * 3)] == [(False, False)] * 2 + [(False, True)]
    env.close()


def test_a_state_is_gone_back_to(gap):
    gap.reset(options={"task": 0})
    actions = gap.task.oracle_actions
    play(gap, actions[:2])
    state = pickle.loads(pickle.dumps(gap.clone_state()))
    first = play(gap, actions[2:])
    gap.restore_state(state)
    assert play(gap, actions[2:]) == first
    gap.reset(options={"task": 1})  # another task
    gap.restore_state(state)
    assert (play(gap, actions[2:]), gap.task) == (first, state.task)
    gap.close()
    gap.restore_state(state)  # no episode at all
    assert play(gap, actions[2:]) == first
    gap.close()


def test_a_state_of_another_environment_is_refused(names, gap, env):
    other = gymnasium.make(CENSUS).unwrapped
    other.reset(seed=0)
    gap.reset(options={"task": 0})
    with pytest.raises(ValueError, match=r"env_id is 'Own_08_I"):
        gap.restore_state(other.clone_state())
    assert gap.step(OBSERVE)[4]["steps"] == 1
    gap.close()
    other.close()


def test_an_episode_has_to_be_begun(env, gap):
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(OBSERVE)
    with pytest.raises(gymnasium.error.ResetNeeded):
        gap.clone_state()


def test_a_vector_resets_what_it_is_told_to(names):
    envs = gymnasium.make_vec(GAP, num_envs=3)
    assert isinstance(envs, CodegymVectorEnv)
    assert envs.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    first, infos = envs.reset(seed=7)
    assert first in envs.observation_space and len(infos["tools"]) == 3
    oracle = envs.envs[1].task.oracle_actions
    for action in oracle[:-1]:
        envs.step([OBSERVE, action, OBSERVE])
    _, rewards, terminated, truncated, infos = envs.step([OBSERVE, oracle[-1], "no call"])
    assert rewards.tolist() == [0.0, 1.0, 0.0]
    assert (terminated.tolist(), truncated.any()) == ([False, True, False], False)
    assert infos["error"].tolist() == ["", "", "not_json"]
    # The episode that ended waits; the others go on.
    observations, rewards, terminated, _, infos = envs.step([OBSERVE] * 3)
    assert (observations[1], rewards.tolist(), terminated.tolist()) == ("", [0.0] * 3, [False, True, False])
    assert infos["_steps"].tolist() == [True, False, True]
    again, _ = envs.reset(options={"task": 0, "reset_mask": np.array([False, True, False])})
    assert (again[0], again[1]) == (observations[0], first[1])
    _, _, terminated, _, infos = envs.step([OBSERVE] * 3)
    assert terminated.tolist() == [False] * 3
    assert infos["steps"].tolist() == [len(oracle) + 2, 1, len(oracle) + 2]
    envs.close()


def test_a_vector_plays_as_its_rows_alone_would(names, env):
    envs = gymnasium.make_vec(GAP, num_envs=2)
    envs.reset(seed=[3, 11])
    told = [envs.step([action, action]) for action in (OBSERVE, '{"name": "GetLength", "parameters": {}}')]
    for row, seed in enumerate((3, 11)):
        env.reset(seed=seed)
        assert env.unwrapped.task == envs.envs[row].task
        alone = play(env, (OBSERVE, '{"name": "GetLength", "parameters": {}}'))
        assert [step[0] for step in alone] == [step[0][row] for step in told]
    states = envs.clone_state()
    envs.reset(seed=0)
    envs.restore_state(states)
    assert [state.episode.actions for state in envs.clone_state()] == [s.episode.actions for s in states]
    envs.close()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda envs: envs.reset(seed=[1]), "1 seeds for 2"),
        (lambda envs: envs.reset(options={"reset_mask": np.array([1, 0])}), "2 booleans"),
        (lambda envs: envs.step([OBSERVE]), "1 actions for 2"),
    ],
)
def test_a_vector_names_what_does_not_fit(gap, specs, sandbox, call, words):
    envs = CodegymVectorEnv([gap, CodegymEnv(specs["Own_08_I__LetterCensusEnv"], [], sandbox=sandbox)])
    with pytest.raises(ValueError, match=words):
        call(envs)
    envs.close()


def test_vectors_of_gymnasium_take_different_environments(names):
    make = gymnasium.make
    envs = gymnasium.vector.SyncVectorEnv(
        [lambda: make(GAP), lambda: make(CENSUS)], autoreset_mode=AutoresetMode.DISABLED
    )
    observations, _ = envs.reset(seed=0)
    assert "gap" in observations[0] and "letter" in observations[1]
    assert len(envs.step([OBSERVE, OBSERVE])[0]) == 2
    envs.close()


def test_a_task_set_that_changed_is_not_played_as_the_old_one(names):
    with pytest.raises(UserError, match="register it again"):
        gymnasium.make(GAP, digest="0123")


def test_what_cannot_be_registered_is_said(task_set, tmp_path):
    with pytest.raises(UserError, match="no such task set"):
        register(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no tasks in the split general \(5 in train, .*1 in test_env"):
        register(task_set, "general")


def test_the_space_of_texts_holds_unicode():
    space = UnicodeText(12, seed=0)
    assert all(text in space for text in ("", "Zähle – 数\U0001f600\0", space.sample(), space.sample()))
    assert not any(text in space for text in ("x" * 13, "\udc00", 5))
    assert len({space.sample() for _ in range(20)}) > 10
    text = "a\ud7ff\ue000\U0010ffff"  # at the edges of the surrogates, and the last one
    assert unflatten(space, flatten(space, text)) == text
    assert space == pickle.loads(pickle.dumps(space)) != UnicodeText(13)
