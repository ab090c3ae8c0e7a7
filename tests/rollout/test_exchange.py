"""Each process plays a share and all hold the same episodes; tools that differ between hosts are found."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Episode, StopReason, Task, Turn
from codegym_jax.rollout import exchange
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.rollout.episode_log import to_row

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
TASK = Task(env_id=SPEC.env_id, config_json='{"xs":[3,1,2]}')
FLOATS = st.floats(-100, 0, width=32)


TEXTS = st.tuples(st.text(), st.sampled_from(["", "\ud800", "\u2028", "\r\n"])).map("".join)


def odd_episode(said, logp, reward, stop_reason):
    logp = np.array(logp, np.float32)
    return Episode(
        task_id=TASK.task_id,
        attempt=len(said),
        policy_version=len(logp),
        token_ids=np.arange(len(logp), dtype=np.int32),
        is_policy=logp < -1,
        sampler_logp=logp,
        policy_logp=logp / np.float32(3),
        turns=(Turn(message=said, action="{}", observation=said),),
        reward=reward,
        stop_reason=stop_reason,
    )


@given(st.lists(st.integers()), st.integers(1, 9))
def test_shares_are_all_items_once_and_of_one_size(items, count):
    shares = [exchange.share(items, index, count) for index in range(count)]
    assert [item for part in shares for item in part] == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.tuples(TEXTS, st.lists(FLOATS), st.floats(0, 1), st.sampled_from(StopReason)), max_size=3))
def test_every_bit_of_an_episode_arrives(parts):
    """Odd texts, lone surrogates and line ends among them, and numbers to the last bit."""
    sent = [odd_episode(*part) for part in parts]
    arrived = exchange.unpack(exchange.pack(sent))
    assert [to_row(one, "") for one in arrived] == [to_row(one, "") for one in sent]
    for one, other in zip(arrived, sent, strict=True):
        assert one.sampler_logp.tobytes() == other.sampler_logp.tobytes()
        assert one.policy_logp.tobytes() == other.policy_logp.tobytes()


def request(attempt):
    return EpisodeRequest(spec=SPEC, task=TASK, attempt=attempt)


def played(attempt, actions=(), config_json=TASK.config_json):
    """An episode that takes these actions in the real environment."""
    env = Env(Sandbox(), SPEC, config_json)
    steps = [env.step(action) for action in actions]
    env.close()
    return Episode(
        task_id=TASK.task_id,
        attempt=attempt,
        policy_version=0,
        token_ids=np.arange(2, dtype=np.int32),
        is_policy=np.array([False, True]),
        sampler_logp=np.zeros(2, np.float32),
        policy_logp=np.zeros(2, np.float32),
        turns=tuple(
            Turn(message="", action=action, observation=step.observation, error=step.error)
            for action, step in zip(actions, steps, strict=True)
        ),
        reward=env.reward,
        stop_reason=StopReason.DONE if env.finished else StopReason.MAX_TURNS,
    )


class Other:
    """What a second process answers: its episodes first, then its digests, equal to ours or not."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def __call__(self, data):
        answer = self.answers.pop(0)
        return [data, data if answer == "same" else answer]


def test_all_episodes_come_in_the_order_of_the_requests():
    requests = [request(attempt) for attempt in range(4)]
    theirs = exchange.pack([played(2), played(3)])
    gather = Other(theirs, "same", "same")
    both = exchange.all_episodes([played(0), played(1)], requests, gather, name="x")
    assert [episode.attempt for episode in both] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("answers", "what"), [(["same", b"?"], "requests"), (["same", "same", b"?"], "episodes")]
)
def test_processes_that_hold_different_things_are_told_apart(answers, what):
    with pytest.raises(exchange.EpisodesDisagree, match=f"x: the {what} of process 1 are not those of"):
        exchange.all_episodes([], [request(0)], Other(*answers), name="x")


def call(name, **parameters):
    return json.dumps({"name": name, "parameters": parameters})


def test_an_episode_played_again_is_the_same_or_the_first_difference_is_told():
    actions = [call("Peek", i=0), call("Peek", i=9), "no call", call("Done", answer=3)]
    episode = played(0, actions)
    assert episode.stop_reason is StopReason.DONE

    def again(given):
        return exchange.difference(given, Env(Sandbox(), SPEC, TASK.config_json))

    assert again(episode) == ""
    changed = dataclasses.replace(episode.turns[1], observation="7")
    told = again(dataclasses.replace(episode, turns=(episode.turns[0], changed, *episode.turns[2:])))
    assert told.startswith("call 2 returned ") and told.endswith(", there '7'")
    assert again(dataclasses.replace(episode, reward=0.5)) == f"reward {episode.reward}, there 0.5"


def test_a_neighbor_s_valid_episodes_are_checked_in_turn():
    """Of four episodes process 0 checks those of process 1, and the other way round."""
    failed = dataclasses.replace(played(3), stop_reason=StopReason.HOST_FAILURE)
    four = [played(0), played(1), played(2), failed]
    assert [exchange.neighbor_episode(four, 1, 2, turn).attempt for turn in range(3)] == [0, 1, 0]
    assert [exchange.neighbor_episode(four, 0, 2, turn).attempt for turn in range(3)] == [2, 2, 2]
    assert exchange.neighbor_episode([failed] * 2, 0, 2, 0) is None
