"""Sinks show what `metrics.jsonl` holds; event files are read back as TensorBoard's own reader does."""

import struct
import sys
from pathlib import Path

import pytest

from codegym_jax.metrics import MetricsWriter, MissingExtra, open_sinks, read_metrics


def events(path: Path):
    """The events of a file: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data, found = path.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        found.append(Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def shown(folder: Path):
    """(step, name) -> value, as TensorBoard shows a stage: a session's start purges its step and later."""
    from tensorboardX.proto.event_pb2 import SessionLog

    values: dict[tuple[int, str], float] = {}
    for path in sorted(folder.iterdir(), key=lambda path: events(path)[0].wall_time):
        for event in events(path):
            if event.HasField("session_log") and event.session_log.status == SessionLog.START:
                values = {key: value for key, value in values.items() if key[0] < event.step}
            values |= {(event.step, value.tag): value.simple_value for value in event.summary.value}
    return values


def write(folder: Path, steps, *, cursor=None, stage="train", scale=1.0):
    """One process; returns the cursor after each step."""
    cursors = []
    with (
        open_sinks(["tensorboard"], folder, {}) as sinks,
        MetricsWriter(folder / "metrics.jsonl", cursor=cursor, sinks=sinks) as metrics,
    ):
        for step in steps:
            metrics.write(stage, step, {"reward": scale / step, "stop/done": 0.5, "loss": float("nan")})
            cursors.append(metrics.cursor)
    return cursors


def test_tensorboard_shows_the_rows(tmp_path):
    write(tmp_path, [1, 2], stage="sft")
    write(tmp_path, [1, 2, 3])
    rows = read_metrics(tmp_path / "metrics.jsonl")
    for stage in ("sft", "train"):
        expected = {
            (row["step"], name): row[name]
            for row in rows
            if row["stage"] == stage
            for name in ("reward", "stop/done")
        }
        assert shown(tmp_path / "tensorboard" / stage) == pytest.approx(expected)


def test_a_resumed_run_draws_one_line(tmp_path):
    """Killed after step 5, resumed from the checkpoint of step 3; its values are doubled."""
    cursor = write(tmp_path, range(1, 6))[2]
    write(tmp_path, [4], cursor=cursor, scale=2.0)
    values = shown(tmp_path / "tensorboard" / "train")
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert {step: value for (step, name), value in values.items() if name == "reward"} == pytest.approx(
        {row["step"]: row["reward"] for row in rows}
    )


def test_every_row_is_on_disk_at_once(tmp_path):
    with open_sinks(["tensorboard"], tmp_path, {}) as [sink]:
        sink.write({"stage": "train", "step": 1, "wall_s": 0.5, "reward": 0.25})
        assert shown(tmp_path / "tensorboard" / "train") == {(1, "reward"): 0.25}
        sink.close()


def test_without_names_nothing_is_opened(tmp_path):
    with open_sinks([], tmp_path, {}) as sinks:
        assert sinks == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_says_what_to_install(tmp_path, monkeypatch, name):
    for module in ("wandb", "tensorboardX", "tensorboardX.event_file_writer"):
        monkeypatch.setitem(sys.modules, module, None)
    with (
        pytest.raises(MissingExtra, match=rf"pip install 'codegym-jax\[{name}\]'"),
        open_sinks([name], tmp_path, {}),
    ):
        pass


def test_an_unknown_sink_is_named(tmp_path):
    with (
        pytest.raises(MissingExtra, match=r"'tensorbord'; known: tensorboard, wandb"),
        open_sinks(["tensorbord"], tmp_path, {}),
    ):
        pass


def test_wandb_goes_on_with_one_run(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra `wandb` is not part of the lock")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for steps in ([1, 2], [2, 3]):  # killed after step 2, resumed from the checkpoint of step 1
        with open_sinks(["wandb"], tmp_path, {"seed": 0}) as [sink]:
            for step in steps:
                sink.write({"stage": "train", "step": step, "wall_s": 0.5, "reward": 1 / step, "loss": None})
    run_id = (tmp_path / "wandb" / "run_id.txt").read_text().strip()
    logs = list((tmp_path / "wandb").rglob(f"*{run_id}.wandb"))
    assert len(logs) == 2 and all(log.stat().st_size for log in logs)
