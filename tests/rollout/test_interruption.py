"""Interrupted and continued, an episode is the one that was never interrupted."""

import dataclasses
import itertools
import json
import pathlib
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.data.chat import make_renderer, special_tokens
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.records import StopReason, Task
from codegym_jax.rollout.agent import Agent, EpisodeLimits, EpisodeRequest, Played
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.token_sampler import Sampled

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
TEXTS = ["Peek(0)", "Observe()", "Spin()", "Done(7)", "Error: 0123456789"]
LIMITS = EpisodeLimits(max_tokens=96, max_turn_tokens=6, max_turns=5, max_errors=9)


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox(SandboxConfig(fuel_per_call=20_000_000))  # little, so that `Spin` ends soon


@pytest.fixture(scope="module")
def renderer():
    return make_renderer(
        "compact", train_bpe(TEXTS * 3, max_vocabulary=300, special_tokens=special_tokens("compact"))
    )


class ScriptedSampler:
    """Stands in for the device: what it says next depends on what the slot holds, as with a real one.

    It says at most `most` tokens a call, so that interruptions fall into messages too.
    """

    def __init__(self, renderer, replies, slots, most=2):
        self.slots, self.stop_sequences = slots, renderer.stop_sequences
        self._script = [[*renderer.tokenizer.encode(reply), renderer.stop_id] for reply in replies]
        self._most = most
        self._held: dict[int, list[int]] = {}
        self._said: dict[int, int] = {}

    def start(self, slot_keys):
        self._held.update({slot: [] for slot in slot_keys})

    def append(self, params, tokens_of):
        for slot, ids in tokens_of.items():
            self._held[slot] += ids
            self._said[slot] = 0

    def decode(self, params, budget_B, temperature):
        tokens_BT = np.zeros((self.slots, self._most), np.int32)
        count_B = np.zeros(self.slots, np.int32)
        for slot in np.flatnonzero(budget_B).tolist():
            turn = self._held[slot].count(self.stop_sequences[0][0])
            ids = self._script[turn][self._said[slot] :][: min(self._most, int(budget_B[slot]))]
            tokens_BT[slot, : len(ids)], count_B[slot] = ids, len(ids)
            self._held[slot] += ids
            self._said[slot] += len(ids)
        logp_BT = -tokens_BT.astype(np.float32) / 7
        return Sampled(tokens_BT, logp_BT, logp_BT, count_B)


def requests(count):
    configs = (json.dumps({"xs": [7, n, 5]}, separators=(",", ":")) for n in range(count))
    return [
        EpisodeRequest(spec=SPEC, task=Task(env_id=SPEC.env_id, config_json=c), attempt=3) for c in configs
    ]


def play_in_pieces(agents, params, wanted, calls, **settings):
    """Plays with one agent after the other, each for so many calls of the device; then with the last one.

    Returns the episodes by task, and what was taken up again.
    """
    waiting, episodes, taken_up, played = iter(wanted), [], [], Played([], [])
    for agent, call_count in zip(agents, [*calls, 10_000], strict=True):
        left = iter(range(call_count))
        played = agent.play_until(lambda left=left: next(left, None) is None, params, waiting, **settings)
        episodes += played.episodes
        begun = pickle.loads(pickle.dumps(played.unfinished))  # as when another process goes on
        waiting = itertools.chain(begun, waiting)
        taken_up += begun
    assert not played.unfinished
    return {episode.task_id: episode for episode in episodes}, taken_up


def assert_same(ours, expected, logp_tolerance=0.0):
    assert ours.keys() == expected.keys()
    for task_id, episode in ours.items():
        for field in dataclasses.fields(episode):
            one, other = (getattr(e, field.name) for e in (episode, expected[task_id]))
            if field.name in ("sampler_logp", "policy_logp"):
                np.testing.assert_allclose(one, other, rtol=0, atol=logp_tolerance)
            elif isinstance(one, np.ndarray):
                np.testing.assert_array_equal(one, other)
                assert one.dtype == other.dtype
            else:
                assert one == other, field.name


@pytest.mark.parametrize("calls", [[0], [1], [7], [10, 11], [3, 1, 9, 2]])
def test_replayed_tools_answer_as_if_nothing_had_happened(sandbox, renderer, calls):
    """Real tools, one of which changes the state and one of which dies; every field to the bit."""

    def agent(slots):
        sampler = ScriptedSampler(renderer, ["Peek(1)", "Spin()", "nonsense", "Peek(0)", "Done(7)"], slots)
        return Agent(sampler, renderer, lambda spec, config: Env(sandbox, spec, config), limits, seed=0)

    limits = dataclasses.replace(LIMITS, max_tokens=400, max_turn_tokens=40)
    wanted = requests(5)
    expected = {e.task_id: e for e in agent(2).play(None, wanted, temperature=1.0, policy_version=4)}
    assert {e.stop_reason for e in expected.values()} == {StopReason.DONE}
    assert {e.reward for e in expected.values()} == {1.0}
    agents = [agent(slots) for slots, _ in zip((2, 3, 1, 2, 3), [*calls, 0], strict=False)]
    ours, taken_up = play_in_pieces(agents, None, wanted, calls, temperature=1.0, policy_version=4)
    assert_same(ours, expected)
    assert taken_up or calls == [0]


def test_a_real_sampler_draws_the_same_tokens_after_an_interruption(sandbox, renderer):
    """Random weights, hot, and a third of the vocabulary ends a message; log-probabilities to 1e-5."""
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    model = Transformer(PRESETS["nano"], renderer.vocabulary_size)
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 2), jnp.int32))
    stops = ((renderer.stop_id,), *((token,) for token in range(8, renderer.vocabulary_size, 3)))

    def agent():
        sampler = Sampler(
            model, mesh, slots=4, max_tokens=96, max_message_tokens=6, stop_sequences=stops, prefill_width=16
        )
        return Agent(sampler, renderer, lambda spec, config: Env(sandbox, spec, config), LIMITS, seed=1)

    wanted = requests(8)
    one, other = agent(), agent()
    expected = {e.task_id: e for e in one.play(params, wanted, temperature=4.0)}
    assert sum(len(e.turns) for e in expected.values()) >= 8, "else hardly anything is replayed"
    ours, taken_up = play_in_pieces([other, one, other], params, wanted, [2, 2], temperature=4.0)
    assert sum(bool(begun.turns) for begun in taken_up) >= 2, "else nothing is replayed"
    assert_same(ours, expected, logp_tolerance=1e-5)


def test_a_replay_that_goes_another_way_is_the_hosts_failure(sandbox, renderer):
    def agent():
        sampler = ScriptedSampler(renderer, ["Peek(1)", "Done(7)"], 1, most=40)
        return Agent(sampler, renderer, lambda spec, config: Env(sandbox, spec, config), LIMITS, seed=0)

    left = iter(range(1))
    played = agent().play_until(lambda: next(left, None) is None, None, requests(1), temperature=1.0)
    (begun,) = played.unfinished
    assert len(begun.turns) == 1
    forged = dataclasses.replace(begun, turns=(dataclasses.replace(begun.turns[0], observation="8"),))
    honest, lying = agent().play(None, [begun, forged], temperature=1.0)
    assert (honest.stop_reason, honest.reward) == (StopReason.DONE, 1.0)
    assert lying.stop_reason is StopReason.HOST_FAILURE
