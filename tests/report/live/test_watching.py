"""The commands status and top, as a user calls them."""

import json
import os
import pty
import subprocess
import sys

import pytest
from live_run import add_rows, save, spread, start

from codegym_jax.cli import main
from codegym_jax.report.live.terminal import sparkline


@pytest.fixture
def run(tmp_path):
    folder = start(tmp_path / "mine", steps=12)
    save(folder, 1, spread(4))
    return folder


def test_status_of_one_run_says_all(run, capsys):
    assert main(["status", str(run)]) == 0
    told = capsys.readouterr().out
    for word in (
        "mine",
        "running",
        "warm start",
        "last rewards",
        "0.120",
        "invalid attempts",
        "none yet",
        "disk",
        "free",
    ):
        assert word in told


def test_status_of_several_runs_is_a_table_and_skips_what_is_no_run(run, tmp_path, capsys):
    start(tmp_path / "other")
    (tmp_path / "notes").mkdir()
    assert main(["status", *map(str, sorted(tmp_path.iterdir()))]) == 0
    told = capsys.readouterr()
    assert [line.split()[0] for line in told.out.splitlines()] == ["run", "mine", "other"]
    assert "notes is not a run folder" in told.err


def test_status_says_how_the_last_process_ended(run, capsys):
    """What an error says may be hostile; it steers no terminal."""
    word = {"command": "run", "code": 42, "why": "stopped: \x1b[2J; the same command resumes", "at_s": 0.0}
    (run / "ended.json").write_text(json.dumps(word))
    for command in ("status", "top"):
        assert main([command, str(run)]) == 0
        told = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert "stopped" in told and "running" not in told
        assert "codegym run: stopped: \\x1b[2J; the same command resumes" in told


def test_a_rate_of_no_tasks_is_none(run, capsys):
    (run / "evaluations").mkdir()
    rate = {"success": 0.0, "ci95": [0.0, 1.0], "n": 0, "by_env": {}}
    (run / "evaluations" / "before.json").write_text(json.dumps({"sampled": {"test_env": rate}}))
    assert main(["status", str(run)]) == 0
    assert "no tasks before" in " ".join(capsys.readouterr().out.split())


def test_status_as_json(run, capsys):
    assert main(["status", str(run), "--json"]) == 0
    (facts,) = json.loads(capsys.readouterr().out)
    assert facts["name"] == "mine" and facts["rewards"][-1] == 0.12 and facts["life"]["state"] == "running"


def test_a_folder_that_is_no_run_is_a_users_mistake(tmp_path, capsys):
    for command in ("status", "top", "view"):
        assert main([command, str(tmp_path)]) == 2
        assert "is not a run folder" in capsys.readouterr().err


def test_top_prints_one_frame_where_there_is_no_terminal(run, capsys):
    assert main(["top", str(run)]) == 0
    told = capsys.readouterr().out
    assert "mine" in told and "reward" in told and "▁" in told and "█" in told


def test_q_ends_top_on_a_terminal(run):
    """Draws on a terminal of its own, gets the key, ends with 0 and leaves the screen as it was."""
    ours, theirs = pty.openpty()
    try:
        command = [sys.executable, "-m", "codegym_jax.cli", "top", str(run)]
        process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"}
        )
        os.close(theirs)
        seen = b""
        while b"reward" not in seen:
            seen += os.read(ours, 4096)
        os.write(ours, b"q")
        while chunk := _read(ours):
            seen += chunk
        assert process.wait() == 0
    finally:
        os.close(ours)
    assert b"\x1b[?1049h" in seen and b"\x1b[?1049l" in seen


def _read(descriptor):
    """What comes; b"" once the other side is closed."""
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return b""


def test_a_sparkline_goes_from_the_lowest_to_the_highest():
    assert sparkline([0.0, 1.0, 7.0], 8) == "▁▂█"
    assert sparkline([3.0] * 5, 8) == "▁▁▁▁▁"
    assert sparkline([0.0, 0.0, 1.0, 1.0], 2) == "▁█"
    assert sparkline([], 8) == ""


def test_a_stage_that_has_just_begun_has_a_frame(tmp_path, capsys):
    run = start(tmp_path / "new")
    add_rows(run, [1], stage="sft")
    assert main(["top", str(run)]) == 0
    assert "loss" in capsys.readouterr().out
