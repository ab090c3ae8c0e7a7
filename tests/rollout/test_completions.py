"""Laws of the engine: a completion is a function of its request, and nobody waits for a slot forever."""

import threading
from concurrent.futures import CancelledError

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from codegym_jax.models import sharding
from codegym_jax.models.presets import PRESETS
from codegym_jax.models.transformer import Transformer
from codegym_jax.rollout.completions import (
    LENGTH,
    STOP,
    CompletionEngine,
    CompletionRequest,
    EngineClosed,
)
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.token_sampler import episode_key

VOCABULARY, END, CONTEXT, WIDTH = 24, 3, 64, 5


def make_sampler(**settings):
    model = Transformer(PRESETS["nano"], VOCABULARY)
    mesh = sharding.make_mesh(devices=jax.devices()[:1])
    params = sharding.init_parameters(model, mesh, 0, jnp.zeros((1, 4), jnp.int32))
    defaults = {
        "slots": 3,
        "max_tokens": CONTEXT,
        "max_message_tokens": 4,
        "extend_width": 4,
        "prefill_rows": 2,
    }
    sampler = Sampler(
        model,
        mesh,
        stop_sequences=((END,),),
        prefill_width=WIDTH,
        **{**defaults, **settings},
    )
    return sampler, params


@pytest.fixture(scope="module")
def sampler_and_params():
    return make_sampler()


@pytest.fixture
def engine(sampler_and_params):
    with CompletionEngine(*sampler_and_params) as engine:
        yield engine


def request(number: int, **settings) -> CompletionRequest:
    """Prompts and settings of many kinds; four in five share their first chunk."""
    shared = [9] * WIDTH if number % 5 else []
    defaults = {
        "token_ids": (*shared, *(4 + (number * 7 + i) % 20 for i in range(1 + number % 9))),
        "max_tokens": 1 + number * 5 % 23,
        "key": episode_key(0, "request", number),
        "temperature": (1.0, 0.0, 2.0, 0.7)[number % 4],
        "top_p": (1.0, 0.9)[number % 2],
        "top_k": (0, 0, 4)[number % 3],
        "min_p": (0.0, 0.05)[number // 2 % 2],
    }
    return CompletionRequest(**{**defaults, **settings})


@pytest.fixture(scope="module")
def alone(sampler_and_params):
    """Each of twenty requests completed by itself."""
    with CompletionEngine(*sampler_and_params) as engine:
        return [engine.complete([request(number)])[0] for number in range(20)]


@pytest.mark.parametrize("order", [range(20), range(19, -1, -1), [7, 7, 7, 3, 16, 1, 2, 8, 12, 7]])
def test_a_completion_is_the_same_in_any_company(engine, alone, order):
    for number, found in zip(order, engine.complete([request(n) for n in order]), strict=True):
        assert found.token_ids == alone[number].token_ids
        assert found.finish_reason == alone[number].finish_reason
        np.testing.assert_allclose(found.policy_logp, alone[number].policy_logp, atol=1e-5)
        np.testing.assert_allclose(found.sampler_logp, alone[number].sampler_logp, atol=1e-5)


def test_it_is_what_a_sampler_with_these_settings_fixed_says(alone):
    """Tokens of settings by row, beside those of the program that training uses."""
    for number in (0, 5, 6, 11):
        asked = request(number)
        truncation = {"top_k": asked.top_k, "top_p": asked.top_p, "min_p": asked.min_p}
        sampler, params = make_sampler(slots=1, max_message_tokens=32, **truncation)
        sampler.start({0: asked.key})
        sampler.append(params, {0: asked.token_ids})
        out = sampler.decode(params, np.array([asked.max_tokens]), asked.temperature)
        assert tuple(out.tokens_BT[0, : out.count_B[0]].tolist()) == alone[number].token_ids


def test_why_it_ended(alone):
    """With the stop token, which it keeps; or for want of room, its own or the context's."""
    for number, completion in enumerate(alone):
        ended = completion.token_ids[-1] == END
        assert completion.finish_reason == (STOP if ended else LENGTH)
        assert END not in completion.token_ids[:-1]
        assert ended or len(completion.token_ids) == request(number).max_tokens
    assert {completion.finish_reason for completion in alone} == {STOP, LENGTH}


def test_the_context_is_an_end(engine):
    prompt = (5,) * (CONTEXT - 3)
    keys = [episode_key(1, "long", number) for number in range(9)]
    asked = [CompletionRequest(token_ids=prompt, max_tokens=99, key=key) for key in keys]
    lengths = {len(one.token_ids): one.finish_reason for one in engine.complete(asked)}
    assert lengths[3] == LENGTH and max(lengths) == 3


def test_a_sequence_of_one_s_own_ends_it_at_its_first_place(engine, alone):
    whole = max(alone, key=lambda one: len(one.token_ids))
    number = alone.index(whole)
    pair = whole.token_ids[5:7]
    first = next(at for at in range(2, 9) if whole.token_ids[at - 2 : at] == pair)
    (found,) = engine.complete([request(number, stop=((VOCABULARY,), pair))])
    assert found.token_ids == whole.token_ids[:first]
    assert found.finish_reason == STOP
    assert len(found.policy_logp) == len(found.sampler_logp) == first


def test_a_stream_is_told_of_every_token_once(engine, alone):
    told = {number: ([], []) for number in range(20)}

    def note(number):
        def on_tokens(ids, logps):
            told[number][0].extend(ids)
            told[number][1].extend(logps)

        return on_tokens

    futures = [engine.submit(request(number), note(number)) for number in range(20)]
    for number, future in enumerate(futures):
        completion = future.result()
        assert told[number] == (list(completion.token_ids), list(completion.policy_logp))
        assert completion.token_ids == alone[number].token_ids


def endless(number, **settings):
    """Hot, so that it goes on for long."""
    return request(number, max_tokens=50, temperature=8.0, top_k=0, top_p=1.0, min_p=0.0, **settings)


def test_what_is_cancelled_leaves_its_slot_and_the_others_alone(engine, alone):
    """Three that run and one that waits are given up when the first token is there."""
    begun = threading.Barrier(2, timeout=60)
    first = []

    def on_tokens(ids, logps):
        if not first:
            first.extend(ids)
            begun.wait()
            begun.wait()

    given_up = [engine.submit(endless(number), on_tokens) for number in range(4)]
    begun.wait()
    last = [engine.submit(request(number)) for number in (2, 7)]
    assert all(future.cancel() for future in given_up)
    begun.wait()
    assert [future.result().token_ids for future in last] == [alone[n].token_ids for n in (2, 7)]
    for future in given_up:
        with pytest.raises(CancelledError):
            future.result()
    assert engine.load()[1:3] == (0, 0)


def test_others_are_answered_while_a_long_prompt_is_read():
    """The first, told of its first token, asks for a second answer, whose prompt has three readings' tokens;
    given up in the middle of it, the same prompt asked for again is read anew."""
    sampler, params = make_sampler(slots=2, max_tokens=1600)
    long = tuple(4 + (number * number) % 20 for number in range(1500))
    events, second, third = [], [], []

    def on_tokens(_ids, _logps):
        if not second:
            second.append(engine.submit(request(1, token_ids=long, max_tokens=6)))
            return
        events.append((sampler.prefilled_tokens, len(third)))
        if len(events) == 2:
            second[0].cancel()
            third.append(engine.submit(request(1, token_ids=long, max_tokens=6)))

    with CompletionEngine(sampler, params) as engine:
        first = engine.submit(request(4, max_tokens=60, temperature=8.0, stop=()), on_tokens)
        first.result()
        found = third[0].result()
        with pytest.raises(CancelledError):
            second[0].result()
    read = [count for count, _ in events]
    assert 512 <= read[0] < read[1] < 1500 < read[-1]
    assert len({count for count, again in events if again}) > 2
    with CompletionEngine(*make_sampler(slots=2, max_tokens=1600)) as other:
        assert other.complete([request(1, token_ids=long, max_tokens=6)])[0].token_ids == found.token_ids


def test_the_next_turn_of_a_conversation_computes_only_what_is_new(sampler_and_params):
    """The whole chunks of its first prompt are there: 10 of 12 tokens. A slot that others go on with is left
    to them: the second conversation takes the other one, and copies the chunk that both begin with."""
    sampler, params = make_sampler(slots=2)
    with CompletionEngine(sampler, params) as engine:

        def say(prompt):
            before = engine.load()
            completion = engine.complete([request(1, token_ids=tuple(prompt), max_tokens=6)])[0]
            after = engine.load()
            return (
                [*prompt, *completion.token_ids],
                after.prefilled_tokens - before.prefilled_tokens,
                after.shared_tokens - before.shared_tokens,
            )

        one = [8] * WIDTH + [10, 11, 12, 13, 14, 15, 16]
        two = [8] * WIDTH + [20, 19, 18]
        said_one, *counts = say(one)
        assert counts == [12, 0]
        said_two, *counts = say(two)
        assert counts == [3, 5]
        said_again, *counts = say([*said_one, 5, 6])
        assert counts == [len(said_one) + 2 - 10, 10]
        _, *counts = say([*said_two, 5, 6])
        assert counts == [len(said_two) + 2 - 5, 5]
        said, *counts = say([*said_again, 7])
        assert counts == [
            len(said_again) + 1 - (len(said_one) + 2) // WIDTH * WIDTH,
            len(said) - len(said) + (len(said_one) + 2) // WIDTH * WIDTH,
        ]
    with CompletionEngine(*sampler_and_params) as other:
        found = other.complete([request(1, token_ids=(*said_again, 7), max_tokens=6)])[0]
    assert [*said_again, 7, *found.token_ids] == said


def test_nothing_is_compiled_after_the_warm_up():
    sampler, params = make_sampler()
    with CompletionEngine(sampler, params) as engine:
        engine.warm_up()
        programs = sampler.compiled_programs
        engine.complete([request(number) for number in range(20)])
        assert sampler.compiled_programs == programs == 4


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"token_ids": ()}, "must have a token"),
        ({"max_tokens": 0}, "max_tokens must be at least 1, got 0"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 1.5}, "min_p"),
        ({"stop": ((),)}, "stop sequence"),
        ({"token_ids": (1,) * CONTEXT}, "has 64 tokens, and the context of 64"),
        ({"token_ids": (1, VOCABULARY)}, "ids 0 to 23, not 24"),
    ],
)
def test_what_means_nothing_is_refused_at_once(engine, settings, message):
    with pytest.raises(ValueError, match=message):
        engine.submit(request(1, **settings))


def test_a_listener_that_fails_harms_its_own_request_alone(engine, alone):
    def broken(ids, logps):
        raise KeyError("nobody listens")

    futures = [engine.submit(endless(0), broken), engine.submit(request(1))]
    with pytest.raises(KeyError, match="nobody listens"):
        futures[0].result()
    assert futures[1].result().token_ids == alone[1].token_ids


def test_a_failing_device_is_told_to_all_who_wait_and_to_all_who_come(sampler_and_params):
    sampler, _ = sampler_and_params
    with CompletionEngine(sampler, {"not": "parameters"}) as engine:
        futures = [engine.submit(request(number)) for number in range(5)]
        for future in futures:
            assert future.exception() is not None
        assert not engine.healthy
        with pytest.raises(EngineClosed):
            engine.submit(request(0))


def test_closing_cancels_what_is_not_done(sampler_and_params):
    engine = CompletionEngine(*sampler_and_params)
    futures = [engine.submit(endless(number)) for number in range(30)]
    engine.close()
    engine.close()
    assert any(future.cancelled() for future in futures) and all(future.done() for future in futures)
    with pytest.raises(EngineClosed):
        engine.submit(request(0))
