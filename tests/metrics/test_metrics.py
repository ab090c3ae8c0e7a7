"""`metrics.jsonl`: declared names only, nothing lost or repeated over kills and resumes."""

import itertools
import json
import math

import numpy as np
import pytest

from codegym_jax.metrics import (
    GROUPS,
    METRICS,
    MetricsWriter,
    read_metrics,
    series,
    stage_rows,
    without_clock,
)
from codegym_jax.records import CallError, StopReason


def ticking(step_s: float):
    times = itertools.count()
    return lambda: next(times) * step_s


def content(path):
    return [without_clock(row) for row in read_metrics(path)]


def run(path, steps, *, cursor=None, clock_step_s=1.0):
    """Writes the steps as a training stage would; returns the cursor after each."""
    cursors = []
    with MetricsWriter(path, cursor=cursor, clock=ticking(clock_step_s)) as writer:
        for step in steps:
            values = {"loss": np.float32(1 / step), "stop/done": step % 2, "update_s": clock_step_s}
            writer.write("train", step, values)
            cursors.append(writer.cursor)
    return cursors


def test_a_row_reads_back(tmp_path):
    path = tmp_path / "new" / "metrics.jsonl"
    with MetricsWriter(path, clock=ticking(2.5)) as writer:
        writer.write("sft", 1, {"loss": np.float32(0.1), "tokens": 1_000_000_007, "grad_norm": float("nan")})
    assert read_metrics(path) == [
        {"stage": "sft", "step": 1, "wall_s": 2.5, "loss": 0.1, "tokens": 1_000_000_007, "grad_norm": None}
    ]


def test_every_line_is_strict_json_and_on_disk_at_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    writer = MetricsWriter(path)
    writer.write("train", 1, {"loss": math.inf})
    [line] = path.read_bytes().splitlines()
    assert json.loads(line, parse_constant=pytest.fail)["loss"] is None
    writer.close()
    writer.close()


@pytest.mark.parametrize("name", ["Loss", "loss2", "stop/", "stop/Done!", "xstop/done", "step", "wall_s", ""])
def test_an_undeclared_name_is_refused_and_nothing_is_written(tmp_path, name):
    path = tmp_path / "metrics.jsonl"
    with MetricsWriter(path) as writer, pytest.raises(ValueError, match="not declared"):
        writer.write("train", 1, {"loss": 1.0, name: 1.0})
    assert path.read_bytes() == b""


def test_every_stop_reason_and_call_error_has_a_name(tmp_path):
    names = [f"stop/{reason}" for reason in StopReason] + [f"call_error/{kind}" for kind in CallError]
    with MetricsWriter(tmp_path / "metrics.jsonl") as writer:
        writer.write("train", 1, dict.fromkeys(names, 0.5))


def test_every_metric_says_what_it_is():
    for name, metric in METRICS.items():
        assert metric.unit and metric.meaning and metric.group, name
        assert metric.group in GROUPS, name
        assert metric.unit not in ("s", "tokens/s") or metric.group == "clock", name


@pytest.mark.parametrize("killed_after", [3, 4, 5])
@pytest.mark.parametrize("cut_bytes", [0, 1, 17])
def test_killed_and_resumed_equals_uninterrupted(tmp_path, killed_after, cut_bytes):
    """A checkpoint after step 3, death later (perhaps within a line), resume from the checkpoint's cursor."""
    run(tmp_path / "whole.jsonl", range(1, 8))
    path = tmp_path / "killed.jsonl"
    cursor = run(path, range(1, killed_after + 1), clock_step_s=3.7)[2]
    with path.open("r+b") as file:
        file.truncate(max(cursor, path.stat().st_size - cut_bytes))
    run(path, range(4, 8), cursor=cursor, clock_step_s=0.1)
    assert content(path) == content(tmp_path / "whole.jsonl")
    assert [list(row) for row in read_metrics(path)] == [
        list(row) for row in read_metrics(tmp_path / "whole.jsonl")
    ]


def test_cursor_zero_starts_afresh_and_none_appends(tmp_path):
    path = tmp_path / "metrics.jsonl"
    run(path, [1, 2])
    run(path, [1], cursor=0)
    assert series(read_metrics(path), "train", "loss") == ([1], [1.0])
    with path.open("ab") as file:
        file.write(b'{"stage": "tra')  # killed within a line
    run(path, [2])
    assert series(read_metrics(path), "train", "loss")[0] == [1, 2]


def test_a_cursor_past_the_end_names_the_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    run(path, [1])
    size = path.stat().st_size
    with pytest.raises(ValueError, match=r"metrics\.jsonl.*holds " + str(size)):
        MetricsWriter(path, cursor=size + 1)


def test_reading_forgives_a_cut_last_line_only(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_metrics(path) == []
    path.write_text('{"stage": "sft", "step": 1}\n{"stage": "sft", "st')
    assert [row["step"] for row in read_metrics(path)] == [1]
    path.write_text('{"stage": "sft", "step": 1}\noops\n{"stage": "sft", "step": 2}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl:2"):
        read_metrics(path)
    path.write_text("[1]\n")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:1"):
        read_metrics(path)


def test_series_picks_stage_and_name_and_shows_gaps(tmp_path):
    rows = [
        {"stage": "sft", "step": 1, "loss": 9.0},
        {"stage": "train", "step": 1, "loss": None},
        {"stage": "train", "step": 2},
        {"stage": "train", "step": 3, "loss": 2},
    ]
    steps, values = series(rows, "train", "loss")
    assert steps == [1, 3]
    assert math.isnan(values[0]) and values[1] == 2.0


def test_the_rows_of_a_stage_are_found(tmp_path):
    """Two of SFT and two of RL, the last of them cut by a kill."""
    path = tmp_path / "metrics.jsonl"
    assert stage_rows(path, "sft") == (0, 0, False)
    ends = []
    with MetricsWriter(path) as writer:
        for stage, step in (("sft", 1), ("sft", 2), ("train", 1), ("train", 2)):
            writer.write(stage, step, {"loss": 1.0})
            ends.append(writer.cursor)
    with path.open("r+b") as file:
        file.truncate(ends[3] - 5)
    assert stage_rows(path, "sft") == (0, ends[1], True)
    assert stage_rows(path, "train") == (ends[1], ends[2], False)
    assert stage_rows(path, "control") == (ends[2], ends[2], False)
