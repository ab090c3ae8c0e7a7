"""Laws of a step: what is drawn, what is played again, what is dropped."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.pipeline import task_order
from codegym_jax.pipelines.rollouts import StepPlayer, StepRules, select, step_episodes
from codegym_jax.records import CallError, StopReason, Turn
from codegym_jax.rollout.episode_log import digest
from tests.pipelines import dice

P, G = 3, 4
TASKS = dice.make_tasks(7)


def make_player(play=dice.play, tasks=TASKS, **rules) -> StepPlayer:
    curriculum = Curriculum(tasks, seed=1, tasks_per_step=P, attempts_per_task=G)
    return StepPlayer(
        curriculum,
        lambda task: dice.SPEC,
        play,
        StepRules(**{"tasks_per_step": P, "attempts_per_task": G, **rules}),
    )


def names(episodes):
    return [(episode.task_id, episode.attempt) for episode in episodes]


def test_without_further_rules_a_step_is_the_next_tasks_of_the_order():
    """G attempts at each, numbered on at the next visit; all are learned from."""
    player, draw_at = make_player(), task_order(TASKS, seed=1)
    for step in range(1, 8):
        draws = [draw_at(position) for position in range((step - 1) * P, step * P)]
        given = player.play_step(step, "params", step - 1)
        assert names(given.played) == [
            (TASKS[index].task_id, visit * G + g) for index, visit in draws for g in range(G)
        ]
        assert given.episodes == given.played
        assert {episode.policy_version for episode in given.played} == {step - 1}
        assert (given.drawn_groups, given.refilled) == (P, 0)


def spoiling(count):
    """The host fails in the first `count` plays of every attempt at config 03, and in no other."""
    plays: dict[tuple[str, int], int] = {}

    def play(params, requests, policy_version):
        episodes = dice.play(params, requests, policy_version)
        for index, request in enumerate(requests):
            name = (request.task.task_id, request.attempt)
            plays[name] = plays.get(name, 0) + 1
            if request.task.config_json == "03" and plays[name] <= count:
                failed = {"stop_reason": StopReason.HOST_FAILURE, "reward": 0.0}
                episodes[index] = dataclasses.replace(episodes[index], **failed)
        return episodes

    return play


def test_what_the_host_spoiled_is_played_again_once():
    """Then it is as if nothing had happened; what fails twice stays invalid."""
    calls = []
    healthy, lucky = make_player(), make_player(dice.noting(calls, spoiling(1)))
    unlucky = make_player(spoiling(2))
    for step in range(1, 8):
        expected, refilled, invalid = (p.play_step(step, "params", 0) for p in (healthy, lucky, unlucky))
        spoiled = sum(episode.task_id.endswith("@03") for episode in expected.played)
        assert digest(refilled.played) == digest(expected.played)
        assert refilled.refilled == invalid.refilled == spoiled
        assert sum(not episode.valid for episode in invalid.played) == spoiled
        assert names(invalid.played) == names(expected.played)
    assert [count for _, count, _ in calls].count(G) >= 2, "a second play of one group, at both visits"
    assert lucky.curriculum.get_state() == healthy.curriculum.get_state()
    assert unlucky.curriculum.get_state() != healthy.curriculum.get_state()


@settings(max_examples=20)
@given(st.integers(1, 4), st.integers(0, 99))
def test_dynamic_sampling_drops_groups_without_signal_and_refills(max_draws, params):
    """Half of the tasks are never solved; the rest of the order is drawn until P groups have a signal."""
    player, played = make_player(dynamic_sampling=True, max_draws=max_draws), []
    for step in range(1, 4):
        given = player.play_step(step, params, 0)
        played += given.played
        assert given.drawn_groups * G == len(given.played) <= max_draws * P * G
        assert given.informative_groups * G == len(given.episodes)
        assert given.informative_groups == P or given.drawn_groups == max_draws * P
        assert given.informative_groups <= P
        for start in range(0, len(given.episodes), G):
            group = given.episodes[start : start + G]
            assert len({episode.task_id for episode in group}) == 1
            assert {episode.reward for episode in group} == {0.0, 1.0}
    in_order = map(task_order(TASKS, seed=1), range(len(played) // G))
    assert names(played) == [
        (TASKS[index].task_id, visit * G + g) for index, visit in in_order for g in range(G)
    ]


def test_a_step_without_any_signal_is_empty():
    player = make_player(tasks=[dice.make_tasks(1)[0]], dynamic_sampling=True, max_draws=2)
    given = player.play_step(1, "params", 0)
    assert (given.episodes, given.informative_groups, given.drawn_groups) == ([], 0, 2 * P)
    assert len(given.played) == 2 * P * G


def test_shaping_never_makes_a_signal():
    """All attempts earn 0, but differ in all that could be rewarded besides: an answer, errors, length."""
    rules = StepRules(tasks_per_step=P, attempts_per_task=G, dynamic_sampling=True)
    played = make_player(tasks=[dice.make_tasks(1)[0]]).play_step(1, "params", 0).played
    wrong = Turn(message="?", action="?", observation="Error: no", error=CallError.NOT_JSON)
    right = Turn(message="a", action="a", observation="1")
    ways = [
        {"turns": (wrong,), "stop_reason": StopReason.TOO_MANY_ERRORS},
        {"turns": (right,), "stop_reason": StopReason.DONE},
        {"turns": (right, wrong), "stop_reason": StopReason.MAX_TURNS},
        {"turns": (), "stop_reason": StopReason.MAX_TOKENS},
    ]
    odd = [dataclasses.replace(episode, **ways[index % 4]) for index, episode in enumerate(played)]
    assert {episode.reward for episode in odd} == {0.0}
    assert select(odd, rules) == []
    assert step_episodes(odd, rules).informative_groups == 0


def test_the_log_alone_tells_what_was_learned_from():
    player = make_player(dynamic_sampling=True, max_draws=3)
    for step in range(1, 5):
        given = player.play_step(step, "params", 0)
        again = step_episodes(given.played, player.rules)
        assert digest(again.episodes) == digest(given.episodes)
        assert again._replace(sampling_s=0.0, episodes=[], played=[]) == given._replace(
            sampling_s=0.0, episodes=[], played=[]
        )


def test_a_failure_of_the_player_is_not_hidden():
    def play(params, requests, policy_version):
        raise RuntimeError("no device")

    with pytest.raises(RuntimeError, match="no device"):
        make_player(play).play_step(1, "params", 0)
