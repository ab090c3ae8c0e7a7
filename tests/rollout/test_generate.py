"""Laws of the sampler: it equals teacher forcing, and an episode never feels its neighbors."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.token_sampler import episode_key

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
    defaults = {"extend_width": 4, "prefill_rows": 2, "prefill_width": 5, "stop_sequences": ((STOP,),)}
    sampler = Sampler(
        model,
        mesh,
        slots=slots,
        max_tokens=MAX_TOKENS,
        max_message_tokens=MESSAGE,
        **{**defaults, **settings},
    )
    return sampler, params


def prompt(episode: int) -> list[int]:
    return [1 + (episode * 7 + i) % 20 for i in range(3 + episode % 5)]


def play(sampler, params, episodes, slot_of, prompt=prompt):
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


def distance_from_teacher_forcing(model, params, logs):
    """How far policy tokens' log-probabilities are from one pass over episodes; and the largest logit."""
    width = max(len(ids) for ids, *_ in logs.values())
    tokens_BT = jnp.array([ids + [0] * (width - len(ids)) for ids, *_ in logs.values()])
    logits_BTV = jax.jit(model.apply)({"params": params}, tokens_BT)
    logp_BTV = np.asarray(jax.nn.log_softmax(logits_BTV))
    differences = [
        np.abs(np.array(logp)[1:] - logp_TV[np.arange(len(ids) - 1), ids[1:]])[is_policy[1:]].max()
        for (ids, logp, is_policy), logp_TV in zip(logs.values(), logp_BTV, strict=True)
    ]
    return max(differences), np.abs(logits_BTV).max()


def test_sampling_equals_teacher_forcing(model, alone):
    _, params = make(model, slots=1)
    difference, _ = distance_from_teacher_forcing(model, params, alone)
    assert difference < 1e-5
    assert any(STOP in ids for ids, *_ in alone.values()), "else no message ever ended early"


def test_sampling_in_bfloat16_keeps_to_teacher_forcing(model):
    """Cache and states in bfloat16: log-probabilities to a rounding (2^-8) of the largest logit."""
    bf16 = Compute(param_dtype="bfloat16", compute_dtype="bfloat16")
    model = Transformer(model.config, VOCABULARY, bf16)
    sampler, params = make(model, slots=7)
    logs = play(sampler, params, range(7), {e: e for e in range(7)})
    difference, largest_logit = distance_from_teacher_forcing(model, params, logs)
    assert difference <= 2**-8 * largest_logit


def test_an_episode_is_the_same_whatever_shares_its_batch(model, alone):
    sampler, params = make(model, slots=7)
    together = play(sampler, params, range(7), {e: 6 - e for e in range(7)})
    for e in range(7):
        assert together[e][0] == alone[e][0]
        np.testing.assert_allclose(together[e][1], alone[e][1], atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{"idle_fraction": 0.2}, {"extend_width": 1, "prefill_rows": 3, "prefill_width": 16}],
    ids=["decode returns early", "other chunks"],
)
def test_an_episode_is_the_same_however_calls_are_cut(model, alone, settings):
    sampler, params = make(model, slots=7, **settings)
    together = play(sampler, params, range(7), {e: e for e in range(7)})
    for e in range(7):
        assert together[e][0] == alone[e][0]
        np.testing.assert_allclose(together[e][1], alone[e][1], atol=1e-5)


def test_an_episode_is_the_same_from_transposed_matrices(model, alone):
    """It samples from a copy of them, so that other parameters must be noticed."""
    sampler, params = make(model, slots=4, transposed=True)
    halved = jax.tree.map(lambda leaf: leaf * 0.5, params)
    play(sampler, halved, [5], {5: 0})
    together = play(sampler, params, range(4), {e: 3 - e for e in range(4)})
    for e in range(4):
        assert together[e][0] == alone[e][0]
        np.testing.assert_allclose(together[e][1], alone[e][1], atol=1e-5)
    assert sampler.compiled_programs == 4


def test_an_episode_is_the_same_on_eight_devices(model, alone):
    sampler, params = make(model, slots=8, devices=8)
    together = play(sampler, params, range(7), {e: e for e in range(7)})
    for e in range(7):
        assert together[e][0] == alone[e][0]
        np.testing.assert_allclose(together[e][1], alone[e][1], atol=1e-5)


def test_a_slot_forgets_its_last_episode_and_four_programs_serve_all(model, alone):
    """Slots are used again and again, by longer and shorter episodes; nothing is compiled after the first."""
    sampler, params = make(model, slots=2)
    counts = []
    for pair in ([6, 0], [1, 5], [4, 2]):
        logs = play(sampler, params, pair, {pair[0]: 0, pair[1]: 1})
        counts.append(sampler.compiled_programs)
        assert all(logs[e][0] == alone[e][0] for e in pair)
    assert counts == [4, 4, 4]


SYSTEM = [1 + i % 19 for i in range(13)]
"""Two chunks of five and some."""


def attempts_at_two_tasks(episode: int) -> list[int]:
    """Three attempts at one, four at the other; their prompts agree in twelve tokens."""
    return [*SYSTEM[:12], 20] if episode < 3 else [*SYSTEM, 20, 21]


def test_a_shared_prompt_is_computed_once_and_changes_no_number(model):
    """Thirteen tokens for the first task; of the second 15 - 10, since two whole chunks are shared.

    All four slots keep or copy their next prompts. Then the only slot that held the first task's prompt is
    given the other's, and the last three tokens of the first are computed again.
    """
    logs = {}
    for share in (True, False):
        sampler, params = make(model, slots=4, share_prefixes=share)
        logs[share] = []
        counts = []
        for batch in ([0, 1, 3], [4, 2, 5, 6], [0, 6]):
            before = sampler.prefilled_tokens, sampler.shared_tokens
            slot_of = {e: at for at, e in enumerate(batch)}
            logs[share].append(play(sampler, params, batch, slot_of, attempts_at_two_tasks))
            results = len(batch) * sum(len(result) for result in RESULTS)
            counts.append((sampler.prefilled_tokens - before[0] - results, sampler.shared_tokens - before[1]))
        prompts = [3 * 13 + 15 - 13, 3 * 15 + 13, 13 + 15]
        if share:
            assert counts == [(13 + 5, 13 + 10), (0, prompts[1]), (3, prompts[2] - 3)]
        else:
            assert [shared for _, shared in counts] == [0, 0, 0]
        assert sampler.compiled_programs == 4
    assert logs[True] == logs[False]


def test_other_parameters_share_nothing(model):
    sampler, params = make(model, slots=2)
    other = jax.tree.map(lambda leaf: leaf * 1.5, params)
    first = play(sampler, params, [3], {3: 0}, attempts_at_two_tasks)
    second = play(sampler, other, [3], {3: 1}, attempts_at_two_tasks)
    assert sampler.shared_tokens == 0
    assert play(sampler, other, [3], {3: 0}, attempts_at_two_tasks) == second != first
    assert sampler.shared_tokens == 15


def message_of(sampler, params, budgets, tokens=(1, 2, 3, 4)):
    """The first message after a prompt, one decode call for each budget; hot, so that tokens differ."""
    sampler.start({0: episode_key(0, "task", 0)})
    sampler.append(params, {0: list(tokens)})
    message = []
    for budget in budgets:
        out = sampler.decode(params, np.array([budget], np.int32), 4.0)
        message += out.tokens_BT[0, : out.count_B[0]].tolist()
    return message


def test_a_stop_sequence_ends_a_message_also_across_calls_but_not_with_what_precedes_it(model):
    unstopped, params = make(model, slots=1, stop_sequences=[[VOCABULARY]])
    message = message_of(unstopped, params, [6])
    pair = next(
        at for at in range(2, 6) if (message[at - 1], message[at]) not in itertools.pairwise(message[:at])
    )
    sampler, _ = make(model, slots=1, stop_sequences=[message[pair - 1 : pair + 1], [4, message[0]]])
    assert message_of(sampler, params, [6]) == message[: pair + 1]
    assert message_of(sampler, params, [pair, 6 - pair]) == message[: pair + 1]
    with pytest.raises(ValueError, match="stop_sequences"):
        make(model, slots=1, stop_sequences=[[]])


def test_four_programs_play_two_hundred_episodes_of_any_length(model):
    """Prompts, results and budgets of random lengths; all programs are there after the first ten episodes."""
    rng = np.random.default_rng(0)
    sampler, params = make(model, slots=10)
    tokens = lambda most: rng.integers(4, VOCABULARY, rng.integers(1, most)).tolist()  # noqa: E731
    counts = []
    for batch in range(20):
        sampler.start({slot: episode_key(0, f"task {batch}", slot) for slot in range(10)})
        sampler.append(params, {slot: tokens(30) for slot in range(10)})
        for _ in range(3):
            sampler.decode(params, rng.integers(0, MESSAGE + 1, 10), 1.0)
            sampler.append(params, {slot: tokens(10) for slot in range(10) if rng.random() < 0.7})
        counts.append(sampler.compiled_programs)
    assert counts == [4] * 20


def test_an_episode_too_long_for_its_slot_is_refused(model):
    sampler, params = make(model, slots=1)
    with pytest.raises(ValueError, match="at most 64 tokens"):
        sampler.append(params, {0: [1] * MAX_TOKENS})


def test_a_slot_without_a_prompt_says_nothing(model):
    sampler, params = make(model, slots=1)
    sampler.start({0: episode_key(0, "task", 0)})
    with pytest.raises(ValueError, match="no prompt"):
        sampler.decode(params, np.array([1], np.int32), 1.0)
