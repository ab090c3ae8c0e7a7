"""Laws of the sampler: it equals teacher forcing, and an episode never feels its neighbors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.sampling import episode_key

VOCABULARY, STOP = 24, 3
MAX_TOKENS, MESSAGE = 64, 6
RESULTS = [[5, 6], [7] * 11, [8], [9] * 3]
"""What the tools return, turn by turn: one is longer than `extend` takes, so it goes through `prefill`."""


@pytest.fixture(scope="module")
def model():
    return Transformer(PRESETS["nano"], VOCABULARY)


def make(model, *, slots, devices=1, **settings):
    mesh = sharding.make_mesh(devices=jax.devices()[:devices])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))
    defaults = {"extend_width": 4, "prefill_rows": 2, "prefill_width": 5}
    sampler = Sampler(
        model,
        mesh,
        slots=slots,
        max_tokens=MAX_TOKENS,
        max_message_tokens=MESSAGE,
        stop_id=STOP,
        **{**defaults, **settings},
    )
    return sampler, params


def prompt(episode: int) -> list[int]:
    return [1 + (episode * 7 + i) % 20 for i in range(3 + episode % 5)]


def play(sampler, params, episodes, slot_of):
    """Four turns of several episodes; returns per episode its tokens, log-probabilities and policy mask."""
    logs = {e: ([*prompt(e)], [0.0] * len(prompt(e)), [False] * len(prompt(e))) for e in episodes}
    sampler.start({slot_of[e]: episode_key(0, f"task {e}", 0) for e in episodes})
    sampler.append(params, {slot_of[e]: prompt(e) for e in episodes})
    for result in RESULTS:
        left = dict.fromkeys(episodes, MESSAGE)
        while any(left.values()):
            budget = np.zeros(sampler.slots, np.int32)
            for e in episodes:
                budget[slot_of[e]] = left[e]
            out = sampler.decode(params, budget, 1.0)
            for e in episodes:
                count = out.count_B[slot_of[e]]
                new = out.tokens_BT[slot_of[e], :count].tolist()
                logs[e][0].extend(new)
                logs[e][1].extend(out.policy_logp_BT[slot_of[e], :count].tolist())
                logs[e][2].extend([True] * len(new))
                left[e] = 0 if STOP in new else left[e] - len(new)
        sampler.append(params, {slot_of[e]: result for e in episodes})
        for e in episodes:
            logs[e][0].extend(result)
            logs[e][1].extend([0.0] * len(result))
            logs[e][2].extend([False] * len(result))
    return logs


@pytest.fixture(scope="module")
def alone(model):
    """Each of seven episodes played by itself in slot 0."""
    sampler, params = make(model, slots=4)
    return {e: play(sampler, params, [e], {e: 0})[e] for e in range(7)}


def test_sampling_equals_teacher_forcing(model, alone):
    """The log-probabilities of a sampled episode are those of one forward pass over its tokens."""
    _, params = make(model, slots=1)
    for ids, logp, is_policy in alone.values():
        logits_TV = model.apply({"params": params}, jnp.array([ids]))[0]
        expected = jax.nn.log_softmax(logits_TV)[jnp.arange(len(ids) - 1), jnp.array(ids[1:])]
        np.testing.assert_allclose(
            np.array(logp)[1:][is_policy[1:]], expected[np.array(is_policy[1:])], atol=1e-5
        )
    assert any(STOP in ids for ids, *_ in alone.values()), "else no message ever ended early"


def test_an_episode_is_the_same_whatever_shares_its_batch(model, alone):
    sampler, params = make(model, slots=7)
    together = play(sampler, params, range(7), {e: 6 - e for e in range(7)})
    for e in range(7):
        assert together[e][0] == alone[e][0]
        np.testing.assert_allclose(together[e][1], alone[e][1], atol=1e-5)


def test_an_episode_is_the_same_when_decode_returns_early(model, alone):
    sampler, params = make(model, slots=7, idle_fraction=0.2)
    together = play(sampler, params, range(7), {e: e for e in range(7)})
    assert {e: log[0] for e, log in together.items()} == {e: log[0] for e, log in alone.items()}


def test_an_episode_is_the_same_on_eight_devices(model, alone):
    sampler, params = make(model, slots=8, devices=8)
    together = play(sampler, params, range(7), {e: e for e in range(7)})
    assert {e: log[0] for e, log in together.items()} == {e: log[0] for e, log in alone.items()}


def test_a_slot_forgets_its_last_episode_and_four_programs_serve_all(model, alone):
    """Slots are used again and again, by longer and shorter episodes; nothing is compiled after the first."""
    sampler, params = make(model, slots=2)
    counts = []
    for pair in ([6, 0], [1, 5], [4, 2]):
        logs = play(sampler, params, pair, {pair[0]: 0, pair[1]: 1})
        counts.append(sampler.compiled_programs)
        assert all(logs[e][0] == alone[e][0] for e in pair)
    assert counts == [4, 4, 4]


def test_an_episode_too_long_for_its_slot_is_refused(model):
    sampler, params = make(model, slots=1)
    with pytest.raises(ValueError, match="at most 64 tokens"):
        sampler.append(params, {0: [1] * MAX_TOKENS})
