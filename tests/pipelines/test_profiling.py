"""Traces hold the steps that were asked for and the names of what happens in them, and change nothing."""

import contextlib
import dataclasses
import gzip
import json

import pytest

from codegym_jax.cli import main
from codegym_jax.config import UserError
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.profiling import Profile, parse_profile, profiled
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from tests.test_cli import CONFIG


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("steps=3", Profile(steps=3, first=3)),
        ("steps=1,first=10", Profile(steps=1, first=10)),
        ("first=1,steps=2", Profile(steps=2, first=1)),
    ],
)
def test_what_is_asked_for(text, expected):
    assert parse_profile(text) == expected


@pytest.mark.parametrize(
    "text", ["3", "steps=0", "steps=-1", "steps=x", "first=2", "steps=3,last=5", "steps=3,"]
)
def test_anything_else_is_answered(text):
    with pytest.raises(UserError, match=r"--profile takes steps=N\[,first=K\]"):
        parse_profile(text)


def test_a_wrong_value_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert main(["train", str(CONFIG), "--run", str(tmp_path / "run"), "--profile", "3"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1 and "steps=N[,first=K]" in complaint
    assert not (tmp_path / "run").exists()


def trace(run, stage):
    """The complete events of a stage's trace."""
    [path] = (run / "profile" / "plugins" / "profile" / stage).glob("*.trace.json.gz")
    assert path.with_name(path.name.removesuffix(".trace.json.gz") + ".xplane.pb").stat().st_size
    return [
        event
        for event in json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
        if event.get("ph") == "X"
    ]


def steps_of(events, stage):
    return [int(event["args"]["step_num"]) for event in events if event["name"] == stage]


def inside(events, name, step):
    """Events of a name that lie within another one."""
    begin, end = step["ts"], step["ts"] + step["dur"]
    return [event for event in events if event["name"] == name and begin <= event["ts"] <= end]


@pytest.mark.parametrize(("steps", "first", "traced"), [(2, 3, [3, 4]), (9, 4, [4, 5]), (1, 1, [1])])
def test_the_steps_that_are_asked_for_are_traced_and_all_are_given(tmp_path, steps, first, traced):
    """Of five steps; those beyond the end are not missed."""
    assert list(profiled("some", range(1, 6), Profile(steps=steps, first=first), tmp_path)) == [1, 2, 3, 4, 5]
    assert steps_of(trace(tmp_path, "some"), "some") == traced


def test_steps_are_counted_from_the_first_of_the_process(tmp_path):
    assert list(profiled("some", range(101, 106), Profile(steps=2), tmp_path)) == [101, 102, 103, 104, 105]
    assert steps_of(trace(tmp_path, "some"), "some") == [103, 104]


def test_what_was_traced_is_written_when_the_loop_is_left_early(tmp_path):
    with contextlib.closing(profiled("some", range(1, 6), Profile(steps=3, first=2), tmp_path)) as steps:
        for step in steps:
            if step == 3:
                break
    assert steps_of(trace(tmp_path, "some"), "some") == [2, 3]


def test_a_stage_that_ends_too_soon_says_so(tmp_path, capsys):
    assert list(profiled("some", range(1, 3), Profile(steps=3), tmp_path)) == [1, 2]
    assert "nothing profiled: it makes 2 steps, and --profile begins at step 3" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_run_that_goes_on_leaves_its_profile(tmp_path, capsys):
    profile = Profile(steps=1, first=1)
    assert list(profiled("some", range(1, 3), profile, tmp_path)) == [1, 2]
    before = trace(tmp_path, "some")
    assert list(profiled("some", range(3, 6), profile, tmp_path)) == [3, 4, 5]
    assert trace(tmp_path, "some") == before
    assert "holds a profile, which stays; remove it" in capsys.readouterr().out


def test_a_trace_names_the_parts_of_a_step(tiny_task_set, tiny_config, tmp_path):
    """Step 2 of both stages; of RL it ends with a checkpoint."""
    config = dataclasses.replace(
        tiny_config,
        sft=dataclasses.replace(tiny_config.sft, steps=3),
        train=dataclasses.replace(tiny_config.train, steps=2),
    )
    open_run(config, tmp_path)
    bench = Workbench(config, tmp_path, tmp_path / "cache", profile=Profile(steps=1, first=2))
    bench.__dict__["sandbox"] = Sandbox(config.sandbox)
    bench.adopt_task_set(tiny_task_set)
    run_train(bench, run_sft(bench))
    supervised, reinforced = trace(tmp_path, "sft"), trace(tmp_path, "train")
    assert (steps_of(supervised, "sft"), steps_of(reinforced, "train")) == ([2], [2])
    [update] = [event for event in supervised if event["name"] == "update"]
    [step] = [event for event in reinforced if event["name"] == "train"]
    for part in ("rollout", "score", "update", "checkpoint"):
        assert len(inside(reinforced, part, step)) == 1, part
    [rollout] = inside(reinforced, "rollout", step)
    assert update["dur"] > 0
    assert inside(reinforced, "sample", rollout) and inside(reinforced, "tools", rollout)
