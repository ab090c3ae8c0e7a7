"""Where the time went, by hand-worked numbers: by stage, by part, and step by step however many there are."""

import json
import re
import xml.etree.ElementTree as ElementTree

import pytest

from codegym_jax.report.charts import Stack, stacked_bars
from codegym_jax.report.page import write_report
from codegym_jax.report.run_folder import read_run
from codegym_jax.report.timeline import parts_of, stage_times, timeline

NONE = dict.fromkeys(
    ("sampling", "tools", "waiting for episodes", "scoring", "updates", "checkpoint", "the rest"), 0.0
)


def row(**seconds):
    """A step that samples 3 s, 1 of them in tools, scores 1 s, updates 4 s, saves 1 s, and takes 10 s."""
    told = {"rollout": 3.0, "sampling": 3.0, "tools": 1.0, "score": 1.0, "update": 4.0, "checkpoint": 1.0}
    return {f"{name}_s": value for name, value in (told | {"step": 10.0} | seconds).items()}


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (
            {},
            {
                "sampling": 2.0,
                "tools": 1.0,
                "scoring": 1.0,
                "updates": 4.0,
                "checkpoint": 1.0,
                "the rest": 1.0,
            },
        ),
        # played ahead, for longer than the step waited for it: 10 - (0.5 + 1 + 4 + 1) = 3.5
        (
            {"rollout": 0.5},
            {"waiting for episodes": 0.5, "scoring": 1.0, "updates": 4.0, "checkpoint": 1.0, "the rest": 3.5},
        ),
        # read from a record
        (
            {"sampling": 0.0, "tools": 0.0},
            {"waiting for episodes": 3.0, "scoring": 1.0, "updates": 4.0, "checkpoint": 1.0, "the rest": 1.0},
        ),
        # clocks that disagree, and what was never measured
        ({"step": 2.0, "score": None, "update": 0.0, "checkpoint": 0.0}, {"sampling": 2.0, "tools": 1.0}),
        (
            {"tools": 9.0, "update": 0.0, "checkpoint": 0.0, "step": 4.0, "score": 1.0},
            {"tools": 3.0, "scoring": 1.0},
        ),
    ],
)
def test_the_parts_of_a_step(seconds, expected):
    assert parts_of(row(**seconds)) == NONE | expected


def run_of(folder, rows, timing=None):
    folder.mkdir(exist_ok=True)
    lines = (json.dumps({"stage": "train", "step": step, **values}) for step, values in enumerate(rows, 1))
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if timing is not None:
        (folder / "timing.json").write_text(json.dumps(timing))
    return read_run(folder)


def test_stages_and_their_shares(tmp_path):
    """30 + 90 + 3,480 s are an hour: 0.8%, 2.5% and 96.7%."""
    run = run_of(tmp_path, [], {"synth": 30.0, "sft": 90.0, "train": 3480.0})
    assert [(stage.label, stage.text, round(stage.share, 1)) for stage in stage_times(run)] == [
        ("synthesis", "30.0 s", 0.8),
        ("warm start", "1 min 30 s", 2.5),
        ("reinforcement learning", "58 min 0 s", 96.7),
    ]
    assert timeline(run) is None


def test_before_any_stage_has_ended_nothing_is_told(tmp_path):
    assert stage_times(run_of(tmp_path, [])) == []
    assert "No stage has ended yet." in write_report(tmp_path).read_text()


def test_the_parts_of_all_steps(tmp_path):
    """20 steps of 10 s and one of 31 s, whose update took 25 s: updates are 20 x 4 + 25 = 105 of 231 s."""
    found = timeline(run_of(tmp_path, [row()] * 7 + [row(update=25.0, step=31.0)] + [row()] * 13))
    assert found is not None and (found.steps, found.steps_a_bar) == (21, 1)
    [updates] = [part for part in found.parts if part.label == "updates"]
    assert (updates.total, round(updates.share, 1)) == ("1 min 45 s", 45.5)
    assert (updates.median, updates.slow, updates.slowest, updates.slowest_step) == ("4", "4", "25", 8)
    assert [part.label for part in found.parts] == [
        "sampling",
        "tools",
        "scoring",
        "updates",
        "checkpoint",
        "the rest",
    ]
    assert sum(part.share for part in found.parts) == pytest.approx(100)


def hints(markup):
    return [title.text for title in ElementTree.fromstring(str(markup)).iter("title")]


def test_a_bar_says_what_its_step_spent(tmp_path):
    found = timeline(run_of(tmp_path, [row(), row(update=9.0, step=15.0)]))
    assert found is not None
    assert hints(found.chart)[1].splitlines() == [
        "step 2: 15 s",
        "sampling: 2 s",
        "tools: 1 s",
        "scoring: 1 s",
        "updates: 9 s",
        "checkpoint: 1 s",
        "the rest: 1 s",
    ]


def test_thousands_of_steps_are_some_bars_of_means_that_name_their_slowest(tmp_path):
    """6,001 steps make 118 bars: 117 of 51 steps, and one of 34. (50 x 10 + 61) / 51 = 11."""
    rows = [row(update=55.0, step=61.0) if step == 60 else row() for step in range(1, 6002)]
    found = timeline(run_of(tmp_path, rows))
    assert found is not None and (found.steps, found.steps_a_bar) == (6001, 51)
    told = hints(found.chart)
    assert len(told) == 118
    lines = told[1].splitlines()
    assert lines[0] == "steps 52 to 102: 11 s on average"
    assert "updates: 5 s" in lines
    assert lines[-1] == "slowest: step 60, 61 s"
    assert told[-1].startswith("steps 5968 to 6001: 10 s on average")
    assert len(str(found.chart)) < 100_000


def test_bars_stand_on_one_another_and_meet_the_corners():
    """Two steps: x from 42 to 720 - 8, so the second begins at 377. y from 172 (0 s) up to 8 (4 s)."""
    chart = stacked_bars(
        [Stack(1, 1, [1.0, 3.0], "a"), Stack(2, 2, [2.0, 0.0], "b")], ["red", "blue"], title="T"
    )
    bands = [path.get("d") for path in ElementTree.fromstring(str(chart)).iter("path")]
    assert bands == ["M42,172V131H377V172ZM377,172V90H712V172Z", "M42,131V8H377V131Z"]


def test_the_page_shows_it_and_hostile_stages_stay_text(tmp_path):
    hostile = "</td><script>alert(1)</script>"
    run_of(tmp_path, [row()] * 250, {"train": 2500.0, hostile: 1.0})
    page = write_report(tmp_path).read_text()
    assert "a bar is the mean of 3" in page
    assert "<script" not in page and "&lt;script&gt;" in page
    assert re.search(r"updates</th>\s*<td>16 min 40 s</td>\s*<td>40\.0%</td>\s*<td>4</td>", page)
