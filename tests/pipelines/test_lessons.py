"""Which episodes teach, and how much credit their tokens get, by hand."""

import numpy as np
import pytest

from codegym_jax.algorithms.recipes import ALGORITHMS
from codegym_jax.config import AlgorithmConfig
from codegym_jax.pipelines.lessons import Judged, earned_rewards, make_lessons
from codegym_jax.pipelines.stopwatch import Stopwatch
from codegym_jax.records import CallError, Episode, StopReason, Turn

BUDGET = 10


def episode(reward=0.0, stop_reason=StopReason.DONE, turns=(2, 1), errors=(None, None)):
    """Two tokens of prompt, then turns of so many policy tokens, with one token of a result between them."""
    is_policy = [False, False]
    for index, count in enumerate(turns):
        is_policy += [False] * (index > 0) + [True] * count
    length = len(is_policy)
    return Episode(
        task_id="codegym_v1@A@{}",
        attempt=0,
        policy_version=0,
        token_ids=np.arange(length, dtype=np.int32),
        is_policy=np.array(is_policy),
        sampler_logp=np.full(length, -0.5, np.float32),
        policy_logp=np.full(length, -0.5, np.float32),
        turns=tuple(
            Turn(message="m", action="{}", observation="o", error=error)
            for error, _ in zip(errors, turns, strict=True)
        ),
        reward=reward,
        stop_reason=stop_reason,
    )


def lessons(episodes, algorithm="dr_grpo", judged=None, **settings):
    return make_lessons(
        episodes,
        judged or [Judged()] * len(episodes),
        ALGORITHMS[algorithm],
        AlgorithmConfig(name=algorithm, **settings),
        attempts_per_task=2,
        max_tokens=BUDGET,
    )


def test_credit_is_the_distance_to_the_groups_mean():
    """Rewards 1 and 0, mean 1/2; a group without a difference teaches nothing and is left out."""
    first, second = lessons([episode(1.0), episode(0.0), episode(1.0), episode(1.0)])
    assert first.advantage.tolist() == [0, 0, 0.5, 0.5, 0, 0.5]
    assert second.advantage.tolist() == [0, 0, -0.5, -0.5, 0, -0.5]


def test_an_invalid_attempt_neither_learns_nor_teaches():
    spoiled = episode(0.0, StopReason.HOST_FAILURE)
    assert lessons([episode(1.0), spoiled]) == []


def test_what_is_earned_is_the_task_and_the_conduct():
    """A half for a readable message, a quarter for an answer; the second attempt's message was no JSON."""
    settings = AlgorithmConfig(name="grpo", format_reward=0.5, done_reward=0.25)
    tried = [episode(1.0), episode(0.0, errors=(None, CallError.NOT_JSON))]
    earned_PG, valid_PG = earned_rewards(tried, settings, 2, BUDGET)
    assert earned_PG.tolist() == [[1.75, 0.25]] and valid_PG.all()


def test_turns_still_to_come_cost_credit():
    """Two turns, discount 1/2: the first gets half of the last."""
    first, _ = lessons([episode(1.0), episode(0.0)], turn_discount=0.5)
    assert first.advantage.tolist() == [0, 0, 0.25, 0.25, 0, 0.5]


def test_masked_overlong_episodes_still_count_in_the_baseline():
    cut = episode(0.0, StopReason.MAX_TOKENS)
    [only] = lessons([episode(1.0), cut], overlong="mask")
    assert only.advantage.max() == 0.5
    assert len(lessons([episode(1.0), cut])) == 2


def test_a_soft_penalty_grows_over_the_last_share_of_the_budget():
    """Budget 10, buffer 5: episodes of 6 and 8 tokens have used 1/5 and 3/5 of it; both earn 1."""
    short, long = lessons([episode(1.0), episode(1.0, turns=(4, 1))], overlong="penalty", overlong_buffer=0.5)
    assert short.advantage.max() == pytest.approx(0.2)
    assert long.advantage.min() == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("settings", "conduct"),
    [
        ({"format_reward": 0.1}, {"errors": (None, CallError.NOT_JSON)}),
        ({"valid_call_reward": 0.2}, {"errors": (None, CallError.TOOL_RAISED)}),
        ({"done_reward": 0.1}, {"stop_reason": StopReason.MAX_TURNS}),
    ],
)
def test_conduct_shapes_the_advantage_and_not_the_reward(settings, conduct):
    """Two failures, the second of them with worse conduct: half a term apart from the mean of both. One of
    its two calls failed, so that the share of valid calls is 1/2."""
    good, bad = lessons([episode(), episode(**conduct)], **settings)
    assert good.advantage.max() == pytest.approx(0.05)
    assert bad.advantage.min() == pytest.approx(-0.05)
    assert lessons([episode(), episode(**conduct)]) == []


def test_drift_in_the_reward_is_charged_to_what_led_to_it():
    """Log-ratios of 1 at each of three policy tokens, coefficient 0.1: 0.3 to go, then 0.2, then 0.1."""
    one = episode(1.0)
    zeros = np.zeros(6, np.float32)
    judged = [Judged(old_logp=zeros, reference_logp=zeros - 1), Judged(old_logp=zeros, reference_logp=zeros)]
    [drifted] = lessons(
        [one, episode(1.0)], judged=judged, kl="k1", kl_coefficient=0.1, kl_in_reward=True
    )  # the other neither earned more nor drifted
    np.testing.assert_allclose(drifted.advantage, [0, 0, -0.3, -0.2, 0, -0.1], atol=1e-6)


def test_a_critic_gets_returns_and_whitened_advantages():
    """lambda = 1: returns are the reward at every policy token, advantages what the values lack to it."""
    values = [np.full(6, value, np.float32) for value in (0.25, 0.75)]
    good, bad = lessons(
        [episode(1.0), episode(0.0)],
        algorithm="ppo",
        judged=[Judged(old_logp=value, value=value) for value in values],
        gae_lambda=1.0,
    )
    np.testing.assert_allclose(good.returns, [0, 0, 1, 1, 0, 1], atol=1e-6)
    np.testing.assert_allclose(bad.returns, np.zeros(6), atol=1e-6)
    np.testing.assert_allclose(good.advantage, [0, 0, 1, 1, 0, 1], atol=1e-4)
    np.testing.assert_allclose(bad.advantage, [0, 0, -1, -1, 0, -1], atol=1e-4)
    assert good.old_value is values[0]


@pytest.mark.parametrize(
    ("algorithm", "settings"),
    [
        ("grpo", {}),
        ("reinforce_pp", {"kl": "k1", "kl_coefficient": 0.1, "kl_in_reward": True}),
        ("ppo", {}),
    ],
)
def test_steps_with_other_numbers_of_groups_compile_nothing(algorithm, settings):
    """Four groups and three share their programs, and what a group's attempts learn is what they learned."""
    numbers = np.arange(6, dtype=np.float32) / 10
    judged = Judged(old_logp=numbers, reference_logp=numbers / 2, value=numbers)
    group = [episode(1.0), episode(0.0, turns=(2, 1))]
    first = lessons(group * 4, algorithm, [judged] * 8, **settings)
    with Stopwatch() as watch:
        again = lessons(group * 4, algorithm, [judged] * 8, **settings)
        fewer = lessons(group * 3, algorithm, [judged] * 6, **settings)
        assert watch.lap()["compiles"] == 0
    assert (len(first), len(fewer)) == (8, 6)
    for one, other in zip([*again, *fewer], [*first, *first[:6]], strict=True):
        np.testing.assert_allclose(one.advantage, other.advantage, atol=1e-5)


def test_a_step_without_episodes_has_no_lessons():
    assert lessons([]) == []


def test_terms_of_the_objective_keep_episodes_without_an_advantage():
    same = [episode(1.0), episode(1.0)]
    assert lessons(same) == []
    assert len(lessons(same, entropy_coefficient=0.01)) == 2
    assert len(lessons(same, kl="k3", kl_coefficient=0.1)) == 2
