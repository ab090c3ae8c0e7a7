"""An episode follows from what its policy said; whatever is changed in its record is found."""

import copy
import dataclasses
import pathlib

import numpy as np
import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, StopReason
from codegym_jax.rollout.rederive import difference, rederive
from tests.rollout.scripted import LIMITS, act, play, small_renderer

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
CONFIG = '{"xs":[4,2]}'
MIXED = [act("Peek", i=0), "no call", act("Spin"), act("Observe"), act("Peek", i=7), "[[[", act("Observe")]
WON = [*MIXED, act("Done", answer=4)]
LONG = "x" * 300


@pytest.fixture(scope="module")
def sandbox():
    return Sandbox(SandboxConfig(fuel_per_call=30_000_000, max_observation_chars=64))


@pytest.fixture(scope="module", params=["compact", "hermes", "codegym"])
def renderer(request):
    return small_renderer(request.param)


@pytest.fixture(scope="module")
def compact():
    return small_renderer("compact")


@pytest.fixture(scope="module")
def won(sandbox, compact):
    return play(sandbox, compact, SPEC, CONFIG, WON)


def found(sandbox, renderer, episode, limits=LIMITS):
    derived = rederive(episode, SPEC, renderer, lambda *of: Env(sandbox, *of), limits)
    return difference(derived, episode)


@pytest.mark.parametrize(
    ("said", "budgets", "reason"),
    [
        (WON, {}, StopReason.DONE),
        ([act("Done", answer=3)], {}, StopReason.DONE),
        (MIXED, {"max_turns": 7}, StopReason.MAX_TURNS),
        (MIXED, {"max_errors": 3}, StopReason.TOO_MANY_ERRORS),
        ([act("Observe"), LONG], {}, StopReason.TURN_TOO_LONG),
        ([act("Observe")] * 40, {"max_turns": 99, "room": 100}, StopReason.MAX_TOKENS),
        ([act("Observe"), LONG], {"max_turn_tokens": 999, "room": 100}, StopReason.MAX_TOKENS),
    ],
)
def test_an_episode_follows_from_what_its_policy_said(sandbox, renderer, said, budgets, reason):
    budgets = {"room": 3000, **budgets}
    room = budgets.pop("room")  # behind the prompt, whose length depends on the style
    limits = dataclasses.replace(LIMITS, max_tokens=len(renderer.render_prompt(SPEC)) + room, **budgets)
    episode = play(sandbox, renderer, SPEC, CONFIG, said, limits)
    assert episode.stop_reason is reason
    assert found(sandbox, renderer, episode, limits) is None


def test_what_the_style_told_the_policy_is_derived_too(sandbox):
    """The fault stands in the tokens, in place of the environment's own words."""
    hermes = small_renderer("hermes")
    episode = play(sandbox, hermes, SPEC, CONFIG, WON)
    told = episode.turns[1]
    assert (told.error, told.fault != "", told.fault != told.observation) == (CallError.NOT_JSON, True, True)
    assert told.fault in hermes.decode(episode.token_ids.tolist())
    changed = dataclasses.replace(told, fault="")
    turns = (episode.turns[0], changed, *episode.turns[2:])
    report = found(sandbox, hermes, dataclasses.replace(episode, turns=turns))
    assert report is not None and report.startswith("call 2: fault 'Error: no call")


def with_turn(episode, index, **changes):
    turns = list(episode.turns)
    turns[index] = dataclasses.replace(turns[index], **changes)
    return dataclasses.replace(episode, turns=tuple(turns))


def with_value(episode, field, index, value):
    array_T = getattr(episode, field).copy()
    array_T[index] = value
    return dataclasses.replace(episode, **{field: array_T})


def cut(episode, count):
    arrays = ("token_ids", "is_policy", "sampler_logp", "policy_logp")
    return dataclasses.replace(episode, **{name: getattr(episode, name)[:count] for name in arrays})


def longer(episode):
    more = {"token_ids": 9, "is_policy": False, "sampler_logp": 0, "policy_logp": 0}
    grown = {
        name: np.append(array_T := getattr(episode, name), array_T.dtype.type(value))
        for name, value in more.items()
    }
    return dataclasses.replace(episode, **grown)


def first_result(episode):
    """The place of the first token that came back from a tool."""
    (said,) = np.flatnonzero(np.diff(episode.is_policy.astype(int)) == -1)[:1]
    return int(said) + 1


CHANGES = {
    "prompt": (lambda e: with_value(e, "token_ids", 3, 7), "token_ids at 3: "),
    "result": (lambda e: with_value(e, "token_ids", first_result(e), 7), "token_ids at "),
    "mask": (lambda e: with_value(e, "is_policy", 0, True), "is_policy at 0: False, stored True"),
    "score": (lambda e: with_value(e, "sampler_logp", 2, -1.5), "sampler_logp at 2: 0.0, stored -1.5"),
    "message": (lambda e: with_turn(e, 0, message="Peek(1)"), "call 1: message 'Peek(0)<|end_of_turn|>'"),
    "action": (lambda e: with_turn(e, 1, action="another"), "call 2: action 'no call', stored 'another'"),
    "observation": (lambda e: with_turn(e, 3, observation="2!"), "call 4: observation '2', stored '2!'"),
    "error": (lambda e: with_turn(e, 1, error=None), "call 2: error 'not_json', stored ''"),
    "fault": (lambda e: with_turn(e, 4, fault="Error: so"), "call 5: fault '', stored 'Error: so'"),
    "no turn": (lambda e: dataclasses.replace(e, turns=e.turns[:-1]), "calls 8, stored 7"),
    "reward": (lambda e: dataclasses.replace(e, reward=0.0), "reward 1.0, stored 0.0"),
    "reason": (
        lambda e: dataclasses.replace(e, stop_reason=StopReason.MAX_TURNS),
        "stop reason done, stored max_turns",
    ),
    "cut": (lambda e: cut(e, -3), "its tokens end before the episode does"),
    "longer": (longer, "tokens "),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_is_changed_in_a_record_is_found(sandbox, compact, won, change):
    assert found(sandbox, compact, won) is None
    changed, expected = CHANGES[change]
    report = found(sandbox, compact, changed(won))
    assert report is not None and report.startswith(expected)


def test_another_call_than_the_stored_tokens_make_is_found(sandbox, compact, won):
    """`Peek(0)` becomes `Peek(1)`: the call, then what it returns, are no longer those of the record."""
    place = int(np.flatnonzero(won.is_policy)[0]) + compact.tokenizer.encode("Peek(0)").index(
        compact.tokenizer.encode("0")[0]
    )
    assert compact.decode([int(won.token_ids[place])]) == "0"
    changed = with_value(won, "token_ids", place, compact.tokenizer.encode("1")[0])
    assert found(sandbox, compact, changed) == (
        "call 1: message 'Peek(1)<|end_of_turn|>', stored 'Peek(0)<|end_of_turn|>'"
    )


def test_a_message_that_goes_on_after_its_stop_is_found(sandbox, compact, won):
    """A sampler ends a message at its first stop, so a result follows there, not more of the message."""
    place = int(np.flatnonzero(won.is_policy)[0])
    changed = with_value(won, "token_ids", place, compact.stop_id)
    report = found(sandbox, compact, changed)
    assert report is not None and report.startswith("call 1: message '<|end_of_turn|>'")


def test_other_limits_end_it_elsewhere(sandbox, compact, won):
    """The second failed call, the third of all, would have been one too many."""
    limits = dataclasses.replace(LIMITS, max_errors=1)
    assert found(sandbox, compact, won, limits) == "calls 3, stored 8"


def test_a_record_of_unequal_lists_is_refused(sandbox, compact, won):
    broken = copy.copy(won)
    object.__setattr__(broken, "is_policy", won.is_policy[:-1])  # as where annotations are not checked
    with pytest.raises(ValueError, match=r"tokens, but their masks and scores are"):
        found(sandbox, compact, broken)


def test_scores_that_are_no_numbers_are_equal_to_themselves(sandbox, compact, won):
    place = int(np.flatnonzero(won.is_policy)[0])
    assert found(sandbox, compact, with_value(won, "policy_logp", place, np.nan)) is None
