"""The episodes of a run folder follow from the ids of what its policy said, and what was changed is found."""

import dataclasses
import json
import pathlib

import pytest

from codegym_jax.config import ConfigError, RolloutConfig, RunConfig, SandboxConfig
from codegym_jax.data.task_set import write_task_set
from codegym_jax.data.tokenizer import TokenizerError
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.episode_rules import episode_limits, tokenizer_path
from codegym_jax.pipelines.reverify import run_reverify
from codegym_jax.records import EnvSpec, StopReason, Task
from codegym_jax.rollout.episode_log import write_episodes
from tests.rollout.scripted import act, play, small_renderer

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
CONFIG = RunConfig(
    sandbox=SandboxConfig(fuel_per_call=30_000_000, max_observation_chars=64),
    rollout=RolloutConfig(max_tokens=4000, max_turn_tokens=200, max_turns=12, max_errors=9),
)
TASK = Task(env_id=SPEC.env_id, config_json='{"xs":[4,2]}')
STACK_DEPTH = "len(__import__('traceback').extract_stack())"
MIXED = [act("Peek", i=0), "no call", act("Spin"), act("Observe"), act("Peek", i=7), act("Observe"), "[[["]
WON = [*MIXED, act("Done", answer=4)]
LOST = [act("Observe")] * 12


def observing(expression: str) -> EnvSpec:
    """The environment, with what `Observe` returns replaced."""
    assert "return str(len(self.xs))" in SPEC.source
    source = SPEC.source.replace("return str(len(self.xs))", f"return str({expression})")
    return dataclasses.replace(SPEC, source=source)


@pytest.fixture
def make_run(tmp_path):
    """Makes a run folder with episodes, each given by what its policy said, and says where it is."""
    sandbox = Sandbox(CONFIG.sandbox)

    def make(*said: list[str], spec: EnvSpec = SPEC, style: str = "compact", **changes: object):
        renderer = small_renderer(style)
        renderer.tokenizer.save(tokenizer_path(tmp_path))
        write_task_set(tmp_path / "task_set", [spec], [TASK], {}, {TASK.task_id: "train"}, {})
        limits = episode_limits(CONFIG.rollout)
        episodes = [play(sandbox, renderer, spec, TASK.config_json, one, limits) for one in said]
        episodes = [dataclasses.replace(episode, **changes) for episode in episodes]
        write_episodes(tmp_path / "episodes" / "train" / "step_000001.jsonl", episodes, lambda _: "")
        return tmp_path

    return make


def reverify(folder, workers=1, config=CONFIG):
    return run_reverify(folder, config, None, workers=workers)


def change(folder, edit):
    """Lets `edit` change the stored rows."""
    path = folder / "episodes" / "train" / "step_000001.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    edit(rows)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("style", ["compact", "hermes"])
def test_every_kind_of_call_is_derived_again(make_run, style):
    """Malformed ones, one that ran out of fuel, one that raised; won, lost, cut short."""
    folder = make_run(WON, LOST, [act("Observe"), "x" * 300], [act("Done", answer=2)], style=style)
    report = reverify(folder, workers=2, config=dataclasses.replace(CONFIG, style=style))
    assert report.identical, report.differences
    counts = (report.episodes, report.calls, report.different, report.skipped_invalid)
    assert counts == (4, len(WON) + len(LOST) + 1 + 1, 0, 0)
    assert report.tokens > 4 * len(small_renderer(style).render_prompt(SPEC))
    assert report.summary() == "reverified 4 episodes: all identical"


@pytest.mark.parametrize("shown", ["'long' * 100", STACK_DEPTH, "id(bytearray(1000))"])
def test_what_depends_on_how_calls_arrive_is_derived_too(make_run, shown):
    """Calls are made one by one, as they were in the episode."""
    report = reverify(make_run(LOST, spec=observing(shown)))
    assert report.identical, report.differences


def test_changes_are_found_and_named_in_order(make_run):
    def edit(rows):
        rows[1]["turns"][5]["observation"] += "!"
        rows[3]["reward"] = 0.0

    folder = make_run(WON, LOST, WON, WON)
    change(folder, edit)
    report = reverify(folder, workers=2)
    assert (report.identical, report.episodes, report.different) == (False, 4, 2)
    assert report.differences == [
        "episodes/train/step_000001.jsonl:2: call 6: observation '2', stored '2!'",
        "episodes/train/step_000001.jsonl:4: reward 1.0, stored 0.0",
    ]
    assert report.summary() == "reverified 4 episodes: 2 differ"


def test_an_environment_that_does_not_load_is_a_difference(make_run):
    folder = make_run(LOST, task_id=f"codegym_v1@{SPEC.env_id}@[")
    report = reverify(folder)
    assert report.different == 1
    assert report.differences[0].startswith("episodes/train/step_000001.jsonl:1: EnvError: does_not_load")


def test_an_environment_that_the_task_set_lacks_is_a_difference(make_run):
    report = reverify(make_run(LOST, task_id="codegym_v1@Other_1__NoEnv@{}"))
    assert report.differences == [
        "episodes/train/step_000001.jsonl:1: the task set has no environment of the task"
        " 'codegym_v1@Other_1__NoEnv@{}'"
    ]


def test_where_the_host_failed_there_is_nothing_to_compare(make_run):
    report = reverify(make_run(WON, stop_reason=StopReason.HOST_FAILURE))
    assert (report.episodes, report.skipped_invalid, report.identical) == (0, 1, False)


def test_a_folder_without_episodes_is_the_user_s_mistake(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no episodes"):
        reverify(tmp_path)


def test_a_damaged_line_is_named(make_run):
    folder = make_run(LOST, LOST)
    change(folder, lambda rows: rows[1].pop("token_ids"))
    with pytest.raises(ConfigError, match=r"step_000001\.jsonl:2: not an episode"):
        reverify(folder)


def test_a_run_without_its_tokenizer_is_the_user_s_to_mend(make_run):
    folder = make_run(LOST)
    tokenizer_path(folder).unlink()
    with pytest.raises(TokenizerError, match=r"no such tokenizer file"):
        reverify(folder)
