"""Laws of episodes: real environments in Wasm, a scripted or a real sampler."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.data.chat import make_renderer, special_tokens
from codegym_jax.data.tokenizer import train_bpe
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env, HostFailure
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.records import CallError, StopReason, Task
from codegym_jax.rollout.agent import Agent, EpisodeLimits, EpisodeRequest
from codegym_jax.rollout.episode_log import from_row, read_episodes, to_row, write_episodes
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.token_sampler import Sampled

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
TEXTS = ["Peek(0)", "Observe()", "Spin()", "Done(7)", "Error: 0123456789"]


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox()


@pytest.fixture(scope="module")
def renderer():
    return make_renderer(
        "compact", train_bpe(TEXTS * 3, max_vocabulary=300, special_tokens=special_tokens("compact"))
    )


class ScriptedSampler:
    """Stands in for the device: each slot says its replies one after the other."""

    def __init__(self, renderer, replies, *, slots=2, stop=True, max_tokens=10_000):
        self.slots, self.max_tokens, self.stop_sequences = slots, max_tokens, renderer.stop_sequences
        self._renderer, self._replies, self._stop = renderer, replies, stop
        self._queue: dict[int, list[str]] = {}
        self.appended: dict[int, list[list[int]]] = {}

    def start(self, slot_keys):
        for slot in slot_keys:
            self._queue[slot] = list(self._replies)
            self.appended[slot] = []

    def append(self, params, tokens_of):
        for slot, ids in tokens_of.items():
            self.appended[slot].append(list(ids))

    def decode(self, params, budget_B, temperature):
        tokens_BT = np.zeros((self.slots, 256), np.int32)
        count_B = np.zeros(self.slots, np.int32)
        for slot in np.flatnonzero(budget_B).tolist():
            ids = (
                self._renderer.tokenizer.encode(self._queue[slot].pop(0))
                + [*self.stop_sequences[0]] * self._stop
            )
            ids = ids[: budget_B[slot]]
            tokens_BT[slot, : len(ids)], count_B[slot] = ids, len(ids)
        logp_BT = np.full(tokens_BT.shape, -0.5, np.float32)
        return Sampled(tokens_BT, logp_BT, logp_BT, count_B)


def request(xs=(3, 7, 5), attempt=0):
    config_json = json.dumps({"xs": list(xs)}, separators=(",", ":"))
    return EpisodeRequest(spec=SPEC, task=Task(env_id=SPEC.env_id, config_json=config_json), attempt=attempt)


def play(sandbox, renderer, replies, requests=None, open_env=None, **limits):
    budgets = {"max_tokens": 2000, "max_turn_tokens": 64, "max_turns": 20, "max_errors": 2, **limits}
    sampler = ScriptedSampler(renderer, replies, stop=budgets.pop("stop", True))
    agent = Agent(
        sampler,
        renderer,
        open_env or (lambda spec, config_json: Env(sandbox, spec, config_json)),
        EpisodeLimits(**budgets),
        seed=0,
    )
    return agent.play(None, requests or [request()], temperature=1.0)


def test_a_solved_task(sandbox, renderer):
    """The transcript is what was said and what came back, but not the verdict, which names the answer."""
    (episode,) = play(sandbox, renderer, ["Observe()", "Peek(1)", "Done(7)"])
    assert (episode.reward, episode.stop_reason, episode.valid) == (1.0, StopReason.DONE, True)
    assert [turn.observation for turn in episode.turns] == ["3", "7", ""]
    assert json.loads(episode.turns[1].action) == {"name": "Peek", "parameters": {"i": 1}}
    assert "Reference" not in renderer.decode(episode.token_ids.tolist())


def test_only_the_policys_tokens_are_the_policys(sandbox, renderer):
    """The masked tokens, joined, are the messages; log-probabilities are there and nowhere else."""
    (episode,) = play(sandbox, renderer, ["Peek(0)", "Done(3)"])
    said = renderer.decode(episode.token_ids[episode.is_policy].tolist())
    assert said == "".join(turn.message for turn in episode.turns)
    np.testing.assert_array_equal(episode.sampler_logp != 0.0, episode.is_policy)
    prompt = renderer.render_prompt(SPEC)
    assert episode.token_ids[: len(prompt)].tolist() == prompt
    assert not episode.is_policy[: len(prompt)].any()
    assert episode.reward == 0.0


@pytest.mark.parametrize(
    ("replies", "limits", "reason", "errors"),
    [
        (["nonsense"] * 5, {}, StopReason.TOO_MANY_ERRORS, [CallError.NOT_JSON] * 3),
        (["Peek(9)"] * 5, {"max_errors": 0}, StopReason.TOO_MANY_ERRORS, [CallError.TOOL_RAISED]),
        (["Peek(0)"] * 5, {"max_turns": 2}, StopReason.MAX_TURNS, [None, None]),
        (["Peek(0)"] * 50, {"max_tokens": 60}, StopReason.MAX_TOKENS, None),
        (["Peek(0)"] * 5, {"max_turn_tokens": 2}, StopReason.TURN_TOO_LONG, []),
        (["Peek(0)"] * 50, {"stop": False, "max_turn_tokens": 20}, StopReason.TURN_TOO_LONG, []),
        (["Spin()", "Done(7)"], {}, StopReason.DONE, [CallError.OUT_OF_FUEL, None]),
    ],
)
def test_every_way_to_stop(sandbox, renderer, replies, limits, reason, errors):
    (episode,) = play(sandbox, renderer, replies, **limits)
    assert episode.stop_reason is reason
    if errors is not None:
        assert [turn.error for turn in episode.turns] == errors
    assert len(episode.token_ids) <= limits.get("max_tokens", 2000)


def test_a_style_says_how_a_call_is_written(sandbox):
    """The environment, which sees no markup, says something else; that is what a replay compares."""
    hermes = make_renderer(
        "hermes", train_bpe(TEXTS * 3, max_vocabulary=300, special_tokens=special_tokens("hermes"))
    )
    (episode,) = play(sandbox, hermes, ["Peek(0)", "Peek(1)"], max_turns=2)
    turn = episode.turns[0]
    assert turn.error is CallError.NOT_JSON
    assert "<tool_call>" in turn.fault
    assert turn.fault != turn.observation
    read = hermes.decode(episode.token_ids[len(hermes.render_prompt(SPEC)) :].tolist())
    assert turn.fault in read
    assert turn.observation not in read


def test_a_failing_host_spoils_one_attempt_only(sandbox, renderer):
    def open_env(spec, config_json):
        if "13" in config_json:
            raise HostFailure("no guest to be had")
        return Env(sandbox, spec, config_json)

    requests = [request((1,)), request((13,)), request((3,))]
    episodes = play(sandbox, renderer, ["Done(3)"], requests, open_env)
    assert [episode.valid for episode in episodes] == [True, False, True]
    assert [episode.reward for episode in episodes] == [0.0, 0.0, 1.0]


def test_episodes_come_in_the_order_of_the_requests(sandbox, renderer):
    requests = [request((i, 2), attempt=i) for i in range(7)]
    episodes = play(sandbox, renderer, ["Done(5)"], requests)
    assert [episode.attempt for episode in episodes] == list(range(7))
    assert [episode.reward for episode in episodes] == [0.0] * 5 + [1.0, 0.0]


@pytest.mark.parametrize("slots", [2, 5])
def test_episodes_are_the_same_whatever_the_number_of_slots(sandbox, renderer, slots):
    """A real sampler with random weights: same seed, same bytes, however episodes share slots."""

    def episodes(slots):
        mesh = sharding.make_mesh(devices=jax.devices()[:1])
        model = Transformer(PRESETS["nano"], renderer.vocabulary_size)
        params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 2), jnp.int32))
        sampler = Sampler(
            model,
            mesh,
            slots=slots,
            max_tokens=96,
            max_message_tokens=12,
            stop_sequences=renderer.stop_sequences,
        )
        limits = EpisodeLimits(max_tokens=96, max_turn_tokens=12, max_turns=4, max_errors=9)
        agent = Agent(sampler, renderer, lambda spec, config: Env(sandbox, spec, config), limits, seed=1)
        return agent.play(params, [request((i, 2), attempt=i) for i in range(6)], temperature=1.0)

    alone, shared = episodes(1), episodes(slots)
    assert [e.token_ids.tobytes() for e in alone] == [e.token_ids.tobytes() for e in shared]
    assert [e.turns for e in alone] == [e.turns for e in shared]


def test_episodes_survive_the_disk(sandbox, renderer, tmp_path):
    episodes = play(sandbox, renderer, ["nonsense \u2028 \x00 ü", "Done(7)"], [request(), request((7,))])
    write_episodes(tmp_path / "a" / "b.jsonl", episodes, lambda episode: "prompt")
    for wrote, read in zip(episodes, read_episodes(tmp_path / "a" / "b.jsonl"), strict=True):
        assert to_row(wrote, "") == to_row(read, "")
        np.testing.assert_array_equal(wrote.sampler_logp, read.sampler_logp)
    assert from_row(to_row(episodes[0], "")).turns == episodes[0].turns


def test_a_broken_line_is_named(tmp_path):
    path = tmp_path / "e.jsonl"
    path.write_text('{"task_id": 1}\n')
    with pytest.raises(ValueError, match=r"e\.jsonl:1: not an episode"):
        list(read_episodes(path))
