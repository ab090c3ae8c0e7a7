"""A process at work in a run folder: what it clears up, and the word that it leaves when it ends."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from codegym_jax.cli import main
from codegym_jax.config import ExitCode, Outage, UserError
from codegym_jax.data.atomic import replacing, write_atomically
from codegym_jax.data.folder_lock import SharedLock
from codegym_jax.data.store import Store
from codegym_jax.data.working_copy import find_copy, run_path
from codegym_jax.pipelines.last_word import FILE, LAST_WORD
from codegym_jax.pipelines.presence import Presence
from tests.pipelines.test_preemption import write_experiment

ROOT = pathlib.Path(__file__).parents[2]


def word_of(folder: pathlib.Path) -> dict:
    word = json.loads((folder / FILE).read_text())
    assert word.pop("at_s") > 0
    return word


def end(folder: pathlib.Path, code: int = ExitCode.RESUMABLE, why: str = "stopped") -> None:
    """A command that works in the folder and ends so."""
    with LAST_WORD.of("run"):
        Presence(folder, None)
        LAST_WORD.say(code, why)


def test_the_word_is_there_from_the_end_until_the_next_process_works(tmp_path):
    end(tmp_path)
    assert word_of(tmp_path) == {"command": "run", "code": 42, "why": "stopped"}
    with LAST_WORD.of("train"):
        Presence(tmp_path, None)
        assert not (tmp_path / FILE).exists()
        LAST_WORD.say(ExitCode.USER, "a mistake")
        LAST_WORD.say(ExitCode.DONE, "only the first word counts")
    assert word_of(tmp_path) == {"command": "train", "code": 2, "why": "a mistake"}


def test_an_error_that_nobody_foresaw_is_a_last_word_too(tmp_path):
    with pytest.raises(ValueError, match="a defect"), LAST_WORD.of("run"):
        Presence(tmp_path, None)
        raise ValueError("a defect" * 1000)
    word = word_of(tmp_path)
    assert word["code"] == 1 and word["why"].startswith("ValueError: a defecta") and len(word["why"]) == 1000


def test_a_command_that_works_on_no_run_leaves_no_word(tmp_path):
    end(tmp_path)
    with LAST_WORD.of("synth"):
        LAST_WORD.say(ExitCode.USER, "a mistake")
    assert word_of(tmp_path)["command"] == "run"


def test_a_complete_run_needs_no_word(tmp_path):
    (tmp_path / "result.json").write_text("{}")
    end(tmp_path, ExitCode.DONE)
    assert not (tmp_path / FILE).exists()
    end(tmp_path, ExitCode.RESUMABLE)  # more supervised learning, say
    assert (tmp_path / FILE).exists()


def test_a_word_that_cannot_be_left_is_none(tmp_path):
    with LAST_WORD.of("run"):
        Presence(tmp_path, None)
        for refuse in (OSError(28, "full"), UserError("taken"), Outage("no answer")):

            def leave(code: int, word: str, error: Exception = refuse) -> None:
                raise error

            LAST_WORD.goes_to(leave, lambda: None)
            LAST_WORD.say(ExitCode.WRONG, "it failed")


def test_what_a_killed_process_had_begun_to_write_goes_with_the_next_one(tmp_path):
    kept = {
        "config.json",
        "episodes/train/step_000001.jsonl",
        "checkpoints/train/0001_step_00000001/state/d/x.partial",
    }
    left = {
        ".config.json.0af3.partial",
        "episodes/train/step_000002.tmp",
        "task_set.tmp/rows",
        "evaluations/.a.json.9c.partial",
    }
    for name in kept | left:
        write_atomically(tmp_path / name, "")
    with LAST_WORD.of("run"):
        Presence(tmp_path, None)
        found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert found == kept | {"lock"}
    assert not (tmp_path / "task_set.tmp").exists()


def test_beside_another_process_nothing_is_cleared_up_and_no_word_left(tmp_path):
    """That one may be writing, and goes on."""
    other = SharedLock(tmp_path)
    with replacing(tmp_path / "report.html") as partial:
        partial.write_text("half")
        end(tmp_path)
        assert partial.exists()
    assert not (tmp_path / FILE).exists()
    other.close()
    end(tmp_path)
    assert (tmp_path / FILE).exists()


def test_who_is_alone_in_a_folder(tmp_path):
    one, other = SharedLock(tmp_path), SharedLock(tmp_path)
    assert not one.is_mine_alone() and not other.is_mine_alone()
    other.close()
    assert one.is_mine_alone()
    other = SharedLock(tmp_path)
    assert not one.is_mine_alone()
    for lock in (one, other):
        lock.close()


def test_a_command_that_fails_in_a_run_says_so_there(tiny_config, tiny_task_set, tmp_path, capsys):
    """Its tokenizer is a folder."""
    run = tmp_path / "run"
    shutil.copytree(tiny_task_set, run / "task_set")
    experiment = write_experiment(tmp_path / "tiny.py", tiny_config)
    (run / "tokenizer.json").mkdir()
    assert main(["sft", str(experiment), "--run", str(run)]) == ExitCode.USER
    said = capsys.readouterr().err.removeprefix("codegym sft: ").strip()
    assert word_of(run) == {"command": "sft", "code": 2, "why": said}
    assert main(["status", str(run)]) == 0
    assert re.search(r"failed .* ago, codegym sft: ", capsys.readouterr().out)


def test_a_process_that_a_thread_ends_leaves_a_word(tmp_path):
    program = """
import pathlib, sys
from codegym_jax.pipelines.last_word import LAST_WORD
from codegym_jax.pipelines.presence import Presence
from tests.pipelines.test_preemption import write_experiment
from codegym_jax.pipelines.processes import end_this_process

with LAST_WORD.of("train"):
    Presence(pathlib.Path(sys.argv[1]), None)
    end_this_process("process 1 of 2 is gone", 42)
"""
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=os.environ)
    assert ended.returncode == ExitCode.RESUMABLE
    assert word_of(tmp_path) == {"command": "train", "code": 42, "why": "process 1 of 2 is gone"}


def test_on_a_bucket_the_word_is_for_other_machines_too(bucket, tmp_path):
    """From whoever has the run; the next process takes it away there, too."""
    url = f"{bucket}/last-word"
    copies = [find_copy(run_path(url, tmp_path / machine)) for machine in "ab"]
    for copy, has_the_run in zip(copies, (True, False), strict=True):
        assert copy is not None and copy.lock()
        copy.pull()
        with LAST_WORD.of("run"):
            Presence(copy.folder, copy)
            assert FILE not in Store(url).names()
            if has_the_run:
                copy.take()
            LAST_WORD.say(ExitCode.RESUMABLE, "stopped")
        copy.unlock()
        assert (FILE in Store(url).names()) == has_the_run
    looker = find_copy(run_path(url, tmp_path / "c"))
    assert looker is not None
    copies[0].put(FILE, '{"at_s": 1}')
    looker.pull()
    assert word_of(looker.folder) == {}
