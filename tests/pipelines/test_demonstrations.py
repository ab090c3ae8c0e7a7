"""What a warm start learns from: of oracles, of good episodes of training tasks alone, of given chats."""

import dataclasses
import json
import pathlib

import pytest

from codegym_jax import config as config_module
from codegym_jax.cli import main
from codegym_jax.config import ConfigError, RunConfig, SftConfig
from codegym_jax.data import messages
from codegym_jax.data.export import ExportError
from codegym_jax.data.splits import TRAIN
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.demonstrations import find_demonstrations
from codegym_jax.pipelines.episode_rules import tokenizer_path
from codegym_jax.pipelines.export import export_run
from codegym_jax.records import StopReason
from codegym_jax.rollout.episode_log import write_episodes
from tests.rollout.scripted import act, play, small_renderer

RUN = RunConfig(style="hermes")
HERMES = small_renderer("hermes")
THINKING = (
    '<think>What <tool_call> is?</think>\n<tool_call>\n{"name": "Observe", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def played(tiny_task_set):
    """Three episodes of each task: won with a thought and a mistake, won at once, lost."""
    task_set = TaskSet.open(tiny_task_set)
    (spec,) = task_set.specs.values()
    sandbox = Sandbox()
    episodes = []
    for split in task_set.counts:
        for task in task_set.source(split):
            answer = max(json.loads(task.config_json)["xs"])
            for said in (
                [THINKING, "no call", act("Peek", i=1), act("Done", answer=answer)],
                [act("Done", answer=answer)],
                [act("Observe"), act("Done", answer=-1)],
            ):
                episodes.append(play(sandbox, HERMES, spec, task.config_json, said))
    return episodes


@pytest.fixture
def run_folder(played, tiny_task_set, tmp_path):
    """A run folder with these episodes in several files."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "task_set").symlink_to(tiny_task_set)
    (folder / "config.json").write_text(config_module.to_json(RUN))
    HERMES.tokenizer.save(tokenizer_path(folder))
    for number in range(3):
        path = folder / "episodes" / "train" / f"step_{number:06}.jsonl"
        write_episodes(path, played[number::3] + played[:2], lambda _: "")
    return folder


def find(tiny_task_set, source, renderer=HERMES, max_tokens=10_000, **settings):
    task_set = TaskSet.open(tiny_task_set)
    return find_demonstrations(
        SftConfig(source=str(source), **settings),
        list(task_set.source(TRAIN)),
        task_set.specs,
        renderer,
        seed=0,
        max_tokens=max_tokens,
    )


def lines(demonstrations):
    return [(one.token_ids.tolist(), one.is_policy.tolist()) for one in demonstrations]


def of_episodes(episodes):
    return [(one.token_ids.tolist(), one.is_policy.tolist()) for one in episodes]


def is_good(tiny_task_set, episode):
    training = {task.task_id for task in TaskSet.open(tiny_task_set).source(TRAIN)}
    return episode.reward == 1.0 and episode.task_id in training


def test_only_what_earned_the_reward_of_a_training_task_is_learned_from(tiny_task_set, run_folder, played):
    """Each once, though some are stored twice; held-out tasks never."""
    found = lines(find(tiny_task_set, run_folder, demonstrations_per_environment=99))
    good = of_episodes(one for one in played if is_good(tiny_task_set, one))
    assert sum(one.reward == 1.0 for one in played) > len(good) == 14
    assert sorted(found) == sorted(good)
    one_file = run_folder / "episodes" / "train" / "step_000000.jsonl"
    assert 0 < len(find(tiny_task_set, one_file, demonstrations_per_environment=99)) < 14


def test_so_many_an_environment_whatever_the_order_of_the_log(tiny_task_set, run_folder, played):
    found = lines(find(tiny_task_set, run_folder, demonstrations_per_environment=3))
    assert len(found) == 3
    for path in (run_folder / "episodes").rglob("*.jsonl"):
        path.unlink()
    write_episodes(run_folder / "episodes" / "eval" / "all.jsonl", played[::-1], lambda _: "")
    assert lines(find(tiny_task_set, run_folder, demonstrations_per_environment=3)) == found


def test_long_episodes_are_left_out(tiny_task_set, run_folder):
    short = find(tiny_task_set, run_folder, max_demonstration_calls=2)
    assert {int(one.is_policy.astype(int).sum()) for one in short} == {
        len(HERMES.render_call(act("Done", answer=4), next(iter(TaskSet.open(tiny_task_set).specs.values()))))
    }
    longest = max(len(one.token_ids) for one in short)
    assert len(find(tiny_task_set, run_folder, max_tokens=longest)) == len(short)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_good_episodes_come_back_from_rows_as_the_same_tokens(tiny_task_set, run_folder, ending, tmp_path):
    """Thoughts, mistakes and what the style said to them included; of training tasks alone unless asked."""
    path = tmp_path / f"rows.{ending}"
    assert main(["export", str(run_folder), "--format", "messages", "--out", str(path)]) == 0
    expected = find(tiny_task_set, run_folder, demonstrations_per_environment=99)
    assert sorted(lines(find(tiny_task_set, path))) == sorted(lines(expected))
    assert export_run(run_folder, RUN, path, splits=["test_config"])[0] == 6
    assert len(lines(find(tiny_task_set, path))) == 6


def test_oracles_come_back_from_rows_as_the_same_tokens(tiny_task_set, tmp_path):
    path = tmp_path / "rows.jsonl"
    arguments = ["export", str(tiny_task_set), "--format", "messages", "--split", "train", "--out", str(path)]
    assert main(arguments) == 0
    for renderer in (HERMES, small_renderer("compact")):
        whole = {"demonstrations_per_environment": 99, "max_demonstration_calls": 99}
        expected = find(tiny_task_set, "oracle", renderer, **whole)
        assert sorted(lines(find(tiny_task_set, path, renderer))) == sorted(lines(expected))


def test_rows_without_an_environment_need_a_style_for_chats(tiny_task_set, tmp_path):
    path = tmp_path / "rows.jsonl"
    call = {"function": {"name": "f", "arguments": "{}"}}
    row = {"messages": [{"role": "assistant", "tool_calls": [call]}], "tools": []}
    path.write_text(json.dumps(row) + "\n")
    assert len(find(tiny_task_set, path)) == 1
    with pytest.raises(ConfigError, match=r"rows\.jsonl:1: only the style hermes"):
        find(tiny_task_set, path, small_renderer("compact"))


def rewrite(folder: pathlib.Path, played, **changes):
    for path in (folder / "episodes").rglob("*.jsonl"):
        path.unlink()
    changed = [dataclasses.replace(one, **changes) for one in played]
    write_episodes(folder / "episodes" / "train" / "step_000001.jsonl", changed, lambda _: "")


def test_what_cannot_be_learned_from_is_said_so(tiny_task_set, run_folder, played, tmp_path):
    cases = [
        ("no/such", HERMES, r"sft\.source must be 'oracle', a run folder"),
        (run_folder, small_renderer("codegym"), r"step_00000\d\.jsonl:1: played with another tokenizer"),
    ]
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    cases.append((empty, HERMES, "holds no rows"))
    for source, renderer, message in cases:
        with pytest.raises(ConfigError, match=message):
            find(tiny_task_set, source, renderer)
    with pytest.raises(ConfigError, match=r"are longer than the 9 tokens of rollout\.max_tokens"):
        find(tiny_task_set, run_folder, max_tokens=9)
    rewrite(run_folder, played, reward=0.0, stop_reason=StopReason.DONE)
    with pytest.raises(ConfigError, match=r"none of the 36 episodes of .* earned the reward"):
        find(tiny_task_set, run_folder)
    with pytest.raises(ExportError, match=r"no episode earned the reward of a task of train"):
        export_run(run_folder, RUN, tmp_path / "rows.jsonl")
    assert not (tmp_path / "rows.jsonl").exists()


def test_a_choice_of_licenses_is_for_task_sets(run_folder, capsys, tmp_path):
    arguments = ["export", str(run_folder), "--format", "messages", "--license", "MIT"]
    assert main([*arguments, "--out", str(tmp_path / "x.jsonl")]) == 2
    assert "a run's episodes go by --split" in capsys.readouterr().err


def test_a_thought_is_exported_as_words(run_folder, tmp_path):
    path = tmp_path / "rows.jsonl"
    export_run(run_folder, RUN, path)
    thinking = next(chat for chat in messages.read_rows(path) if len(chat.replies) == 4)
    first, second, *_ = thinking.replies
    assert (first.words, first.call and first.call.name) == (
        "<think>What <tool_call> is?</think>\n",
        "Observe",
    )
    assert (second.words, second.call) == ("no call", None)
    assert second.followed_by[0].text.startswith("Error: no call; it begins with <tool_call>")
