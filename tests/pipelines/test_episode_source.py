"""Laws of sampling ahead: the episodes, and what a resumed run ends with, are those of the plain order."""

import itertools
import json
import threading

import pytest

from codegym_jax.data.curriculum import Curriculum
from codegym_jax.pipelines.episode_source import EpisodesChanged, SampledEpisodes
from codegym_jax.pipelines.rollouts import StepPlayer, StepRules
from codegym_jax.rollout.episode_log import digest, read_episodes, step_path, write_episodes
from tests.pipelines import dice

P, G, STEPS = 3, 4, 8
MODES = list(itertools.product([False, True], [False, True]))
"""(overlap, dynamic sampling)"""


def make_source(folder, overlap=False, dynamic=False, play=dice.play, last_step=STEPS) -> SampledEpisodes:
    curriculum = Curriculum(
        dice.make_tasks(7), seed=1, tasks_per_step=P, attempts_per_task=G, prefer_learnable=0.8
    )
    rules = StepRules(tasks_per_step=P, attempts_per_task=G, dynamic_sampling=dynamic, max_draws=2)
    return SampledEpisodes(
        StepPlayer(curriculum, lambda task: dice.SPEC, play, rules),
        prepare=lambda params: f"prepared {params}",
        save=lambda step, played: write_episodes(step_path(folder, step), played, lambda episode: ""),
        load=lambda step: list(read_episodes(step_path(folder, step))),
        overlap=overlap,
        last_step=last_step,
    )


def learn(params: str, episodes) -> str:
    """Parameters that depend on all that was learned from, and on the order of the steps."""
    return digest(episodes)[:8] + params[:8]


def train(source, first, last, params):
    """Yields step, parameters and state after each step, as a loop would save them."""
    for step in range(first, last + 1):
        given = source.next(step, params, policy_version=10 * (step - 1))
        params = learn(params, given.episodes)
        yield step, params, given


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dynamic", [False, True])
def test_steps_sampled_ahead_are_those_of_the_older_parameters(tmp_path, dynamic):
    """The first two steps by the policy at the start, every later one by that of one step before."""
    ahead = make_source(tmp_path / "ahead", overlap=True, dynamic=dynamic)
    params, given, version = ["start"], [], []
    for _, after, episodes in train(ahead, 1, STEPS, "start"):
        params.append(after)
        given.append(digest(episodes.played))
        version.append({episode.policy_version for episode in episodes.played})
    ahead.close()
    plain = make_source(tmp_path / "plain", dynamic=dynamic)
    expected = [
        digest(plain.next(step, params[max(step - 2, 0)], 10 * max(step - 2, 0)).played)
        for step in range(1, STEPS + 1)
    ]
    assert given == expected
    assert version == [{10 * max(step - 2, 0)} for step in range(1, STEPS + 1)]
    assert files(tmp_path / "ahead") == files(tmp_path / "plain")


def test_the_next_step_is_played_while_this_one_is_learned(tmp_path):
    """Playing waits until the learner is at work, which would never come about in one thread."""
    learning = threading.Event()

    def play(params, requests, policy_version):
        if threading.current_thread() is not threading.main_thread():
            assert learning.wait(60)
        return dice.play(params, requests, policy_version)

    source = make_source(tmp_path, overlap=True, play=play, last_step=2)
    source.next(1, "start", 0)
    learning.set()
    assert len(source.next(2, "later", 1).played) == P * G
    source.close()


def test_nothing_is_played_beyond_the_last_step(tmp_path):
    source = make_source(tmp_path, overlap=True, last_step=3)
    list(train(source, 1, 3, "start"))
    assert source.get_state()["ahead"] is None
    source.close()
    assert len(files(tmp_path)) == 3


@pytest.mark.parametrize(("overlap", "dynamic"), MODES)
@pytest.mark.parametrize("cut", [0, 1, 3, 7])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, overlap, dynamic, cut):
    """Saved after step `cut` and killed two steps later; what was played since is played again."""
    whole, first = (make_source(tmp_path / name, overlap, dynamic) for name in ("whole", "cut"))
    expected = [(step, params) for step, params, _ in train(whole, 1, STEPS, "start")]
    state, params = first.get_state(), "start"
    for step, after, _ in train(first, 1, min(cut + 2, STEPS), "start"):
        if step == cut:
            state, params = first.get_state(), after
    state = json.loads(json.dumps(state))
    first.close()
    resumed = make_source(tmp_path / "cut", overlap, dynamic)
    resumed.set_state(state)
    ours = [(step, params) for step, params, _ in train(resumed, cut + 1, STEPS, params)]
    assert ours == expected[cut:]
    assert resumed.get_state() == whole.get_state()
    whole.close()
    resumed.close()
    assert files(tmp_path / "cut") == files(tmp_path / "whole")


def saved_ahead(folder):
    source = make_source(folder, overlap=True)
    list(train(source, 1, 2, "start"))
    state = source.get_state()
    source.close()
    assert state["ahead"]["step"] == 3
    return state


def test_episodes_that_changed_since_are_refused(tmp_path):
    state = saved_ahead(tmp_path)
    path = step_path(tmp_path, 3)
    episodes = list(read_episodes(path))
    write_episodes(path, episodes[::-1], lambda episode: "")
    with pytest.raises(EpisodesChanged, match="episodes of step 3 are not those that the checkpoint"):
        make_source(tmp_path, overlap=True).set_state(state)
    path.write_text("{}\n")
    with pytest.raises(EpisodesChanged, match=r"step_000003\.jsonl:1: not an episode"):
        make_source(tmp_path, overlap=True).set_state(state)
    path.unlink()
    with pytest.raises(EpisodesChanged, match="No such file"):
        make_source(tmp_path, overlap=True).set_state(state)


def test_a_step_out_of_order_is_refused(tmp_path):
    source = make_source(tmp_path, overlap=True)
    source.next(1, "start", 0)
    with pytest.raises(ValueError, match="step 5 was asked for, but step 2 comes next"):
        source.next(5, "start", 0)
    source.close()


def test_a_failure_in_the_thread_reaches_the_learner(tmp_path):
    """When it asks for the step, and when it saves: no checkpoint may go on without it."""

    def play(params, requests, policy_version):
        if policy_version == 10:
            raise RuntimeError("no device")
        return dice.play(params, requests, policy_version)

    source = make_source(tmp_path, overlap=True, play=play)
    list(train(source, 1, 2, "start"))
    with pytest.raises(RuntimeError, match="no device"):
        source.get_state()
    with pytest.raises(RuntimeError, match="no device"):
        source.next(3, "start", 20)
    source.close()


def test_a_state_of_a_recorded_source_is_refused(tmp_path):
    with pytest.raises(ValueError, match="episodes were recorded, and these are sampled"):
        make_source(tmp_path).set_state({"source": "recorded"})
