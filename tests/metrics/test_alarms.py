"""Each rule speaks once, at a history with its smell, and never at a healthy one; it names real settings."""

import dataclasses
import math
import re

import pytest

from codegym_jax.config import RunConfig
from codegym_jax.metrics import METRICS, RULES, AlarmBell, alarms

HEALTHY = {
    "reward": 0.4,
    "valid_fraction": 1.0,
    "signal_share": 0.5,
    "solved_share": 0.25,
    "failed_share": 0.25,
    "stop/max_tokens": 0.2,
    "stop/turn_too_long": 0.05,
    "call_error/not_json": 0.1,
    "loss": 0.01,
    "grad_norm": 0.5,
    "entropy": 0.3,
    "ratio_max": 3.0,
    "clip_fraction": 0.01,
    "mismatch_kl": 0.002,
    "kl_reference": 0.02,
    "explained_variance": 0.3,
    "sampling_s": 4.0,
    "tools_s": 1.0,
    "compiles": 0,
}


def history(count, stage="train", **changed):
    """So many rows; a change is a value, or what gives it for a step counted from 1."""
    rows = []
    for step in range(1, count + 1):
        given = {name: value(step) if callable(value) else value for name, value in changed.items()}
        rows.append({"stage": stage, "step": step} | HEALTHY | given)
    return rows


SMELLS = [
    ("not_finite", {"entropy": lambda step: None if step == 7 else 0.3}, 7, "entropy is not finite"),
    ("no_reward", {"reward": lambda step: 0.1 * (step <= 4)}, 14, "no episode of the last 10 steps"),
    ("reward_fell", {"reward": lambda step: 0.4 if step <= 20 else 0.2}, 27, "0.260 over the last 10 steps"),
    ("no_group_signal", {"signal_share": 0.0625}, 5, "differ in 6.2% of the groups; all succeed in 25%"),
    ("entropy_collapse", {"entropy": lambda step: 0.5 if step <= 5 else 0.05}, 10, "10% of the 0.5"),
    ("large_ratios", {"ratio_max": lambda step: 20.0 if step > 5 else 5.0}, 7, "is 11 on average"),
    ("sampler_mismatch", {"mismatch_kl": 0.1}, 5, "0.1 nats"),
    ("clipping", {"clip_fraction": 0.5}, 5, "50% of the tokens"),
    ("kl_runaway", {"kl_reference": 0.75}, 5, "0.75 nats"),
    ("useless_critic", {"explained_variance": -0.5}, 20, "-0.50 of the variance"),
    ("truncation", {"stop/max_tokens": 0.3, "stop/max_turns": 0.1}, 5, "45% of the episodes"),
    ("failing_calls", {"call_error/bad_parameters": 0.5}, 5, "60% of the turns"),
    ("host_failures", {"valid_fraction": lambda step: 1.0 - 0.21 * (step == 3)}, 3, "7.0% of the episodes"),
    ("device_waits", {"tools_s": 3.0}, 5, "3.0 of 4.0 s"),
    ("recompiles", {"compiles": lambda step: step % 2}, 15, "5 of the last 10"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changed", "step", "seen"), SMELLS)
def test_a_smell_rings_once_at_the_step_that_shows_it(name, changed, step, seen):
    [alarm] = alarms(history(max(step, 19), **changed))
    assert (alarm.name, alarm.stage, alarm.step) == (name, "train", step)
    assert seen in alarm.seen
    assert alarm.text.endswith(RULES[name].advice)


def test_every_rule_has_a_smell_here():
    assert {name for name, *_ in SMELLS} == set(RULES)


def test_a_healthy_run_is_silent():
    def noisy(step):
        return 0.4 + 0.1 * math.sin(step)

    rows = history(
        300, reward=noisy, entropy=lambda step: 0.05 + 0.25 * 0.98**step, compiles=lambda step: step < 4
    )
    assert alarms(rows) == []


@pytest.mark.parametrize("row", [{}, {"loss": 1.0, "tokens": 5}, dict.fromkeys(HEALTHY, 0.0)])
def test_rows_that_lack_metrics_never_fail(row):
    alarms([{"stage": "sft", "step": step} | row for step in range(1, 40)])


def test_stages_are_apart():
    rows = history(3, stage="control", mismatch_kl=1.0) + history(4, mismatch_kl=1.0)
    assert alarms(rows) == []
    assert [alarm.stage for alarm in alarms(rows + history(9, stage="control", mismatch_kl=1.0)[3:])] == [
        "control"
    ]


@pytest.mark.parametrize("killed_after", [1, 4, 5, 6, 20])
def test_a_resumed_run_rings_as_an_uninterrupted_one(killed_after):
    """What rang before the checkpoint was told by the killed process, and is not told again."""
    rows = history(30, mismatch_kl=0.1, entropy=lambda step: 0.5 if step <= 12 else 0.01)
    bell = AlarmBell(rows[:killed_after])
    late = [alarm for row in rows[killed_after:] for alarm in bell.add(row)]
    assert late == [alarm for alarm in alarms(rows) if alarm.step > killed_after]


def test_rules_speak_of_settings_and_metrics_that_exist():
    sections = {
        field.name: field.default_factory()
        for field in dataclasses.fields(RunConfig)
        if callable(field.default_factory)
    }
    for rule in RULES.values():
        named = re.findall(r"\b([a-z]+)\.([a-z_]+)", rule.advice)
        assert all(hasattr(sections[section], name) for section, name in named), named
    assert HEALTHY.keys() <= METRICS.keys() | {"stop/max_tokens", "stop/turn_too_long", "call_error/not_json"}
