"""Hand-worked metrics of hand-made episodes; every name that comes out is declared."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.metrics import MetricsWriter
from codegym_jax.models.peak import Peak
from codegym_jax.models.presets import ModelConfig
from codegym_jax.pipelines.step_metrics import (
    Speedometer,
    average,
    summarize,
    summarize_groups,
    tool_errors,
    worst_tools_line,
)
from codegym_jax.pipelines.stopwatch import Stopwatch
from codegym_jax.records import CallError, Episode, StopReason, Turn

ENV = "Test_1__PeekEnv"
TIMES = {"sampling_s": 2.0, "score_s": 1.0, "update_s": 4.0, "step_s": 10.0}


def turn(tool="Observe", error=None):
    action = f'{{"name":"{tool}","parameters":{{}}}}' if error is not CallError.NOT_JSON else "hm"
    return Turn(message=action, action=action, observation="", error=error)


def episode(*turns, tokens=10, own=4, reward=0.0, stop=StopReason.DONE, version=0, env_id=ENV):
    zeros = np.zeros(tokens, np.float32)
    return Episode(
        task_id=f"codegym_v1@{env_id}@{{}}",
        attempt=0,
        policy_version=version,
        token_ids=np.zeros(tokens, np.int32),
        is_policy=np.arange(tokens) >= tokens - own,
        sampler_logp=zeros,
        policy_logp=zeros,
        turns=turns,
        reward=reward,
        stop_reason=stop,
    )


PLAYED = [
    episode(turn(), turn("Done"), tokens=12, own=6, reward=1.0, version=2),
    episode(turn("Get", CallError.BAD_PARAMETERS), turn("Done"), tokens=10, own=4, version=2),
    episode(turn("", CallError.NOT_JSON), tokens=8, own=8, stop=StopReason.TURN_TOO_LONG, version=1),
    episode(tokens=2, own=0, stop=StopReason.HOST_FAILURE, version=1),
]


def test_episodes_match_hand_computation():
    values = summarize(PLAYED, policy_version=3)
    expected = {
        "reward": 1 / 3,
        "success": 1 / 3,
        "valid_fraction": 3 / 4,
        "turns_per_episode": 5 / 4,
        "calls_per_episode": 4 / 4,
        "tokens_per_episode": 32 / 4,
        "tokens_per_turn": 18 / 6,
        "policy_tokens": 18,
        "staleness": (1 + 1 + 2 + 2) / 4,
        "stop/done": 2 / 4,
        "stop/turn_too_long": 1 / 4,
        "stop/host_failure": 1 / 4,
        "call_error/bad_parameters": 1 / 5,
        "call_error/not_json": 1 / 5,
    }
    assert {name: value for name, value in values.items() if value} == pytest.approx(expected)
    assert sum(values[f"stop/{reason}"] for reason in StopReason) == 1.0


def test_groups_match_hand_computation():
    """Successes of valid attempts: 1 of 4, 3 of 3, 0 of 4, 0 of 0. pass@2 of the first: 1 - C(3,2)/C(4,2),
    a half."""
    rewards_PG = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 0, 0], [0, 0, 1, 0]], np.float32)
    valid_PG = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]], bool)
    assert summarize_groups(rewards_PG, valid_PG) == pytest.approx(
        {
            "drawn_groups": 4,
            "signal_share": 1 / 4,
            "solved_share": 1 / 4,
            "failed_share": 2 / 4,
            "pass_at/1": (1 / 4 + 1 + 0) / 3,
            "pass_at/2": (1 / 2 + 1 + 0) / 3,
            "pass_at/4": (1 + 0) / 2,
        }
    )


@given(st.integers(1, 5), st.integers(2, 9), st.randoms(use_true_random=False))
def test_pass_at_k_rises_from_the_success_rate_to_any_success(P, G, random):
    rewards_PG = np.array([[float(random.random() < 0.3) for _ in range(G)] for _ in range(P)], np.float32)
    values = summarize_groups(rewards_PG, np.ones((P, G), bool))
    rates = [value for name, value in values.items() if name.startswith("pass_at/")]
    assert rates == sorted(rates)
    assert rates[0] == pytest.approx(float(rewards_PG.mean()))
    assert rates[-1] == pytest.approx(float(rewards_PG.any(axis=1).mean()))
    assert values["signal_share"] + values["solved_share"] + values["failed_share"] == pytest.approx(1.0)


def test_updates_are_averaged_but_for_the_largest():
    updates = [{"loss": 1.0, "ratio_max": 2.0}, {"loss": 3.0, "ratio_max": np.float32(5.0)}]
    assert average(updates) == {"updates": 2, "loss": 2.0, "ratio_max": 5.0}
    assert average([]) == {}


def test_speed_matches_hand_computation():
    """One layer of 2 x 2 x 2 + 2 x 2 x 2 + 3 x 2 x 1 = 22 and a head of 3 x 2: 28 parameters; 8 a pair of
    tokens. Drawn at positions 6 to 9: 2 x 28 x 4 + 8 x 30 = 464. Learned from 10 tokens: 2 x 28 x 10 + 8 x 55
    = 1000 a pass."""
    shape = ModelConfig(width=2, layers=1, query_heads=1, kv_heads=1, head_width=2, ffn_width=1)
    meter = Speedometer(shape=shape, vocabulary=3, peak=Peak(1000.0, "a slow one"))
    values = meter.measure([episode(turn())], [10], **TIMES, scorings=1)
    assert values == pytest.approx(
        {
            "sampled_tokens_per_second": 4 / 2,
            "tokens_per_second": 10 / 5,
            "mfu_rollout": 0.464 / 2,
            "mfu_update": 3.0 / 4,
            "mfu": 4.464 / 10,
        }
    )
    read = meter.measure([episode(turn())], [10], **TIMES | {"sampling_s": 0.0}, scorings=1)
    assert read == pytest.approx(
        {name: values[name] for name in ("tokens_per_second", "mfu_update")} | {"mfu": 0.4}
    )


def test_tools_that_fail_are_named_and_those_that_the_policy_made_up_are_not():
    played = [
        episode(turn("Get", CallError.TOOL_RAISED), turn("Get"), turn("<b>", CallError.UNKNOWN_TOOL)),
        episode(turn("Get", CallError.TOOL_RAISED), turn("", CallError.NOT_JSON), env_id="Test_2__XEnv"),
        episode(turn("Get", CallError.OUT_OF_FUEL), turn("Observe")),
    ]
    assert tool_errors(played) == [
        (ENV, "Get", 2, 3),
        (ENV, "?", 1, 1),
        ("Test_2__XEnv", "?", 1, 1),
        ("Test_2__XEnv", "Get", 1, 1),
    ]
    assert worst_tools_line(played, 2) == f"failed calls: {ENV}.Get 2/3, {ENV}.? 1/1"
    assert worst_tools_line([episode(turn())]) == ""


def test_a_stopwatch_tells_parts_the_whole_and_what_was_compiled():
    ticks = itertools.count()
    with Stopwatch("rollout", "update", clock=lambda: float(next(ticks))) as watch:
        with watch.time("rollout"):
            jax.jit(lambda x: x * 3 + 1)(jnp.arange(7))
        for _ in range(2):
            with pytest.raises(RuntimeError), watch.time("update"):
                next(ticks)
                raise RuntimeError
        first, second = watch.lap(), watch.lap()
        assert first.pop("compiles") >= 1 and first.pop("compile_s") > 0
        assert first == {"rollout_s": 1, "update_s": 4, "step_s": 9}
        assert second == {"rollout_s": 0, "update_s": 0, "step_s": 1, "compiles": 0, "compile_s": 0}
        with pytest.raises(KeyError), watch.time("lunch"):
            pass
    jax.jit(lambda x: x * 5 + 1)(jnp.arange(7))
    assert watch.lap()["compiles"] == 0
    watch.close()


def test_all_of_it_is_declared(tmp_path):
    shape = ModelConfig(width=2, layers=1, query_heads=1, kv_heads=1, head_width=2, ffn_width=1)
    meter = Speedometer(shape=shape, vocabulary=3, peak=Peak(1.0, ""))
    values = summarize(PLAYED, policy_version=3) | meter.measure(PLAYED, [3], **TIMES)
    values |= summarize_groups(np.ones((2, 6), np.float32), np.ones((2, 6), bool)) | average([{"loss": 0.0}])
    with Stopwatch("rollout", "score", "update", "checkpoint") as watch:
        values |= watch.lap()
    with MetricsWriter(tmp_path / "metrics.jsonl") as metrics:
        metrics.write("train", 1, values)
