"""Laws of sampling and learning apart: a recording resumes, and is learned from as it was played."""

import json

import pytest

from codegym_jax.config import ConfigError
from codegym_jax.pipelines.recorded import POSITION, RecordedEpisodes, find_record, record_steps
from codegym_jax.pipelines.rollouts import StepRules
from codegym_jax.rollout.episode_log import digest, logged_steps, step_path, write_episodes
from tests.pipelines.test_episode_source import G, P, make_source

RULES = {"tasks_per_step": P, "attempts_per_task": G, "max_draws": 2}


def record(folder, steps, source=None, **belongs_to):
    source = source or make_source(folder, dynamic=True)
    belongs_to = {"policy": "abc", **belongs_to}
    return list(record_steps(source, "params", steps=steps, folder=folder, belongs_to=belongs_to))


def replay(folder, to, steps=4, **rules):
    rules = StepRules(**{**RULES, "dynamic_sampling": True, **rules})

    def save(step, played):
        write_episodes(step_path(to, step), played, lambda episode: "")

    return RecordedEpisodes(find_record(folder), rules, save=save, last_step=steps)


def test_a_record_gives_what_was_played(tmp_path):
    """The same episodes are dropped, whatever the parameters, and this run's log holds all of them."""
    played = dict(record(tmp_path / "record", 4))
    source = replay(tmp_path / "record", tmp_path / "run")
    assert any(len(given.episodes) < len(given.played) for given in played.values()), (
        "else nothing is dropped"
    )
    for step in range(1, 5):
        given = source.next(step, "others", 99)
        assert digest(given.episodes) == digest(played[step].episodes)
        assert (given.drawn_groups, given.informative_groups) == (
            played[step].drawn_groups,
            played[step].informative_groups,
        )
        log = step_path(tmp_path / "run", step).read_bytes()
        assert log == step_path(tmp_path / "record", step).read_bytes()
    source.set_state(json.loads(json.dumps(source.get_state())))
    source.close()


def test_a_killed_recording_ends_with_the_files_of_a_whole_one(tmp_path):
    record(tmp_path / "whole", 5)
    source = make_source(tmp_path / "cut", dynamic=True)
    position = iter(
        record_steps(source, "params", steps=5, folder=tmp_path / "cut", belongs_to={"policy": "abc"})
    )
    assert [next(position)[0] for _ in range(2)] == [1, 2]
    source.next(3, "params", 0)  # played and written, but the position was not
    assert [step for step, _ in record(tmp_path / "cut", 5)] == [3, 4, 5]
    assert record(tmp_path / "cut", 5) == []
    assert logged_steps(tmp_path / "cut") == [1, 2, 3, 4, 5]
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_a_recording_of_another_policy_is_not_continued(tmp_path):
    record(tmp_path, 1)
    with pytest.raises(
        ConfigError, match=rf"{POSITION} belongs to another recording \(policy: 'abc' there, 'x'"
    ):
        record(tmp_path, 2, policy="x")


def test_a_record_is_found_in_a_run_folder(tmp_path):
    record(tmp_path / "run" / "episodes" / "train", 1)
    assert find_record(tmp_path / "run") == find_record(tmp_path / "run" / "episodes" / "train")
    with pytest.raises(ConfigError, match="holds no recorded episodes"):
        find_record(tmp_path / "other")


def test_a_record_that_is_too_short_is_refused_at_once(tmp_path):
    record(tmp_path, 3)
    step_path(tmp_path, 2).unlink()
    with pytest.raises(ConfigError, match=r"train\.steps is 3, but .* step 2 \(step_000002\.jsonl\)"):
        replay(tmp_path, tmp_path, steps=3)


@pytest.mark.parametrize(("count", "line"), [(2, None), (3, 5), (8, 5), (5, 5)])
def test_a_record_of_other_groups_is_refused(tmp_path, count, line):
    """Recorded with 4 attempts a task, three tasks a step; 2 attempts make two groups of each."""
    record(tmp_path, 1, make_source(tmp_path))
    source = replay(tmp_path, tmp_path / "run", steps=1, attempts_per_task=count)
    if line is None:
        assert source.next(1, "params", 0).drawn_groups == 2 * P
        return
    with pytest.raises(ValueError, match=rf"step_000001\.jsonl:{line}: .*rollout\.attempts_per_task={count}"):
        source.next(1, "params", 0)


def test_the_state_of_a_sampled_source_is_refused(tmp_path):
    record(tmp_path, 1)
    with pytest.raises(ValueError, match="episodes were sampled, and these are recorded"):
        replay(tmp_path, tmp_path, steps=1).set_state({"source": "sampled"})
