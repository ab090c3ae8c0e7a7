"""A stored episode replays byte for byte, whatever its calls were, and what was changed in it is found."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

from codegym_jax.config import ConfigError, SandboxConfig
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.codegym_format import load_environment
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.replay import run_replay
from codegym_jax.records import EnvSpec, Episode, StopReason, Task, Turn
from codegym_jax.rollout.episode_log import write_episodes

SPEC = load_environment(pathlib.Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py")
LIMITS = SandboxConfig(fuel_per_call=30_000_000, max_observation_chars=64)
CONFIG = '{"xs":[4,2]}'
STACK_DEPTH = "len(__import__('traceback').extract_stack())"


def act(name: str, **parameters: object) -> str:
    return json.dumps({"name": name, "parameters": parameters})


MIXED = [act("Peek", i=0), "no call", act("Spin"), act("Observe"), act("Peek", i=7), act("Observe"), "[[["]
LOST = (MIXED, StopReason.MAX_TURNS)
WON = ([*MIXED, act("Done", answer=4)], StopReason.DONE)


def observing(expression: str) -> EnvSpec:
    """The environment, with what `Observe` returns replaced."""
    assert "return str(len(self.xs))" in SPEC.source
    source = SPEC.source.replace("return str(len(self.xs))", f"return str({expression})")
    return dataclasses.replace(SPEC, source=source)


@pytest.fixture
def make_run(tmp_path):
    """Makes a run folder with episodes, each given as (actions, why it stopped), and says where it is."""
    sandbox = Sandbox(LIMITS)

    def make(*played: tuple[list[str], StopReason], spec: EnvSpec = SPEC, **changes: object):
        task = Task(env_id=spec.env_id, config_json=CONFIG)
        write_task_set(tmp_path / "task_set", [spec], [task], {}, {task.task_id: "train"}, {})
        episodes = []
        for actions, stop_reason in played:
            env = Env(sandbox, spec, CONFIG)
            results = [env.step(action) for action in actions]
            env.close()
            turns = tuple(
                Turn(message=action, action=action, observation=result.observation, error=result.error)
                for action, result in zip(actions, results, strict=True)
            )
            nothing = np.zeros(0, np.float32)
            episode = Episode(
                task_id=task.task_id,
                attempt=0,
                policy_version=0,
                token_ids=np.zeros(0, np.int32),
                is_policy=np.zeros(0, bool),
                sampler_logp=nothing,
                policy_logp=nothing,
                turns=turns,
                reward=env.reward,
                stop_reason=stop_reason,
            )
            episodes.append(dataclasses.replace(episode, **changes))
        write_episodes(tmp_path / "episodes" / "train" / "step_000001.jsonl", episodes, lambda _: "")
        return tmp_path

    return make


def test_every_kind_of_call_replays(make_run):
    """Malformed ones, one that ran out of fuel, one that raised, and what is refused after the end."""
    after_the_end = ([act("Done", answer=4), act("Observe")], StopReason.DONE)
    folder = make_run(LOST, WON, after_the_end, ([], StopReason.MAX_TOKENS))
    report = run_replay(folder, LIMITS, None, workers=2)
    assert report.identical, report.differences
    assert (report.replayed, report.different, report.skipped_invalid) == (4, 0, 0)


def test_a_cut_observation_replays(make_run):
    report = run_replay(make_run(WON, spec=observing("'long' * 100")), LIMITS, None, workers=1)
    assert report.identical, report.differences


@pytest.mark.parametrize("shown", [STACK_DEPTH, "id(bytearray(1000))"])
def test_what_depends_on_how_calls_arrive_is_judged_by_single_calls(make_run, shown):
    spec = observing(shown)
    actions = [act("Observe")] * 6
    folder = make_run((actions, StopReason.MAX_TURNS), spec=spec)
    stored = json.loads((folder / "episodes" / "train" / "step_000001.jsonl").read_text())["turns"]
    env = Env(Sandbox(LIMITS), spec, CONFIG)
    in_one_call = [result.observation for result in env.step_many(actions)]
    env.close()
    assert in_one_call != [turn["observation"] for turn in stored], "else nothing is shown here"
    assert run_replay(folder, LIMITS, None, workers=1).identical


def test_changes_are_found_and_named_in_order(make_run):
    folder = make_run(WON, LOST, WON, WON)
    path = folder / "episodes" / "train" / "step_000001.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1]["turns"][5]["observation"] += "!"
    rows[3]["reward"] = 0.0
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = run_replay(folder, LIMITS, None, workers=2)
    assert (report.identical, report.replayed, report.different) == (False, 4, 2)
    assert report.differences == [
        "episodes/train/step_000001.jsonl:2: call 6 returned '2', stored '2!'",
        "episodes/train/step_000001.jsonl:4: reward 1.0, stored 0.0",
    ]


def test_an_episode_that_did_not_end_by_done_has_no_reward(make_run):
    """The reward counts only where the episode says that the environment ended it."""
    report = run_replay(make_run(WON, stop_reason=StopReason.MAX_TOKENS), LIMITS, None, workers=1)
    assert report.differences == ["episodes/train/step_000001.jsonl:1: reward 0.0, stored 1.0"]


def test_an_environment_that_does_not_load_is_a_difference(make_run):
    folder = make_run(([], StopReason.MAX_TURNS), task_id=f"codegym_v1@{SPEC.env_id}@[")
    report = run_replay(folder, LIMITS, None, workers=1)
    assert report.different == 1
    assert report.differences[0].startswith("episodes/train/step_000001.jsonl:1: EnvError: does_not_load")


def test_where_the_host_failed_there_is_nothing_to_compare(make_run):
    report = run_replay(make_run(WON, stop_reason=StopReason.HOST_FAILURE), LIMITS, None, workers=1)
    assert (report.replayed, report.skipped_invalid, report.identical) == (0, 1, False)


def test_a_folder_without_episodes_is_the_user_s_mistake(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no episodes"):
        run_replay(tmp_path, LIMITS, None)
