"""The soak finds nothing in a few seconds, and would find what is wrong if there were something."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.soak import make_stage
from benchmarks.soak_episodes import (
    EXHAUST,
    LIMITS,
    Stage,
    attempt,
    difference,
    make_plan,
    referee,
)
from benchmarks.soak_watch import FILES_ALLOWANCE, MEMORY_ALLOWANCE_BYTES, Look, Watch
from codegym_jax.records import CallError

ROOT = Path(__file__).parents[2]
MIB = 2**20


@pytest.fixture(scope="module")
def stage() -> Stage:
    return make_stage(0, None)


def test_a_short_soak_is_clean():
    command = [sys.executable, "-m", "benchmarks.soak", "--minutes", "0.1", "--workers", "2", "--seed", "3"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    line = json.loads(ended.stdout.splitlines()[-1])
    assert line["ok"]
    assert (line["wrong"], line["lost"], line["failures"], line["out_of_order"]) == (0, 0, {}, 0)
    assert line["episodes"] > 0
    assert line["invalid"] <= line["kills"]


def test_careless_play_is_what_the_referee_sees(stage):
    """Traps and detours leave no trace; oracles win, with or without noise."""
    traps, detours, won = Counter(), 0, 0
    for index in range(40):
        plan, played = make_plan(stage, index), attempt(stage, index)
        assert difference(plan, played, referee(stage, index)) is None
        traps.update(played.traps)
        detours += len(played.detours)
        won += plan.is_won
    assert traps.keys() >= {CallError.OUT_OF_FUEL, CallError.FORBIDDEN}
    assert detours > 0
    assert 0 < won < 40


def test_plans_depend_on_seed_and_index_alone(stage):
    plans = [make_plan(stage, index) for index in range(50)]
    assert plans == [make_plan(stage, index) for index in range(50)]
    other = dataclasses.replace(stage, seed=1)
    assert sum(make_plan(other, index) == plan for index, plan in enumerate(plans)) <= 1
    actions = [action for plan in plans for action in plan.actions]
    assert any(EXHAUST in action for action in actions)
    assert any("\ud83d" in action for action in actions)
    assert max(map(len, actions)) > LIMITS.max_action_bytes


def test_every_kind_of_difference_is_found(stage):
    index = next(index for index in range(999) if make_plan(stage, index).detours)
    plan, right = make_plan(stage, index), referee(stage, index)
    (observation, error), *others = right.results
    changed = {
        "call 0 gave": {"results": [(observation + "!", error), *others]},
        "call 1 gave": {"results": [(observation, error), ("", CallError.REFUSED), *others[1:]]},
        "calls: ": {"results": right.results[:-1]},
        "detour 0, calls": {"detours": [[], *right.detours[1:]]},
        "reward": {"reward": 0.5},
    }
    assert difference(plan, right, right) is None
    for text, change in changed.items():
        assert text in difference(plan, dataclasses.replace(right, **change), right)


def test_an_oracle_must_win_and_read_what_the_task_says(stage):
    """Even where attempt and referee agree."""
    index = next(index for index in range(999) if make_plan(stage, index).told)
    plan, right = make_plan(stage, index), referee(stage, index)
    lost = dataclasses.replace(right, reward=0.0)
    assert "reward 0.0, for the referee 0.0, instead of 1.0" in difference(plan, lost, lost)
    other = dataclasses.replace(plan, told={position: "?" for position in plan.told})
    assert "in the task '?'" in difference(other, right, right)


def test_an_environment_that_tells_batches_from_single_calls_is_found(stage):
    """It shows an address, which depends on how calls arrive."""
    spec, task = stage.tasks[0]
    source = spec.source.replace('"Nothing is known yet."\n\n    def', "str(id(bytearray(1000)))\n\n    def")
    assert source != spec.source
    stage = dataclasses.replace(stage, tasks=((dataclasses.replace(spec, source=source), task),))
    wild = [index for index in range(30) if not make_plan(stage, index).is_won]
    found = [difference(make_plan(stage, i), attempt(stage, i), referee(stage, i)) for i in wild]
    assert any(text and "gave" in text for text in found)


@pytest.mark.parametrize(
    ("growth", "grown"),
    [
        ({}, []),
        ({"parent_bytes": MEMORY_ALLOWANCE_BYTES / 10}, []),
        ({"parent_bytes": MEMORY_ALLOWANCE_BYTES / 5}, ["parent"]),
        ({"worker_bytes": MEMORY_ALLOWANCE_BYTES / 5}, ["worker"]),
        ({"files": FILES_ALLOWANCE / 5}, ["files"]),
    ],
)
def test_growth_beyond_the_allowance_is_named(growth, grown):
    """Ten looks, the first of which is left out; of nine the first and the last are compared: 8 times."""
    flat = {"parent_bytes": 40 * MIB, "worker_bytes": 50 * MIB, "files": 14}
    looks = [
        Look(
            time_s=60.0 * number,
            children=2,
            **{name: int(value + number * growth.get(name, 0)) for name, value in flat.items()},
        )
        for number in range(10)
    ]
    summary = Watch(looks, most_children=2).summary()
    assert summary["grown"] == grown
    assert summary["parent_mib"]["first"] == round((40 * MIB + int(growth.get("parent_bytes", 0))) / MIB, 2)
