"""A whole study, by real processes: killed and told to stop at bad moments, it ends with the same bytes."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import jax
import pytest

from codegym_jax.pipelines.study.budget import LEARNED

STUDY = '''"""A test."""

from codegym_jax.config import (
    DataConfig, EvalConfig, PolicyConfig, RolloutConfig, RunConfig, SftConfig, TrainConfig
)
from codegym_jax.config.study import Arm, FilterConfig, PoolConfig, Question, StudyConfig


def study():
    return StudyConfig(
        title="A test",
        base=RunConfig(
            policy=PolicyConfig(preset="nano"),
            data=DataConfig(max_vocabulary=300),
            sft=SftConfig(demonstrations_per_environment=4, max_demonstration_calls=9, steps=90, rows=8,
                          warmup_steps=5),
            rollout=RolloutConfig(tasks_per_step=2, attempts_per_task=4, slots=8, max_tokens=96, max_turns=8),
            train=TrainConfig(steps=60, episodes_per_update=8, rows_per_batch=8, checkpoint_every=2),
            evaluation=EvalConfig(max_tasks=6),
        ),
        pool=PoolConfig(max_calls=9, max_chars=300, tasks_per_environment=5, test_configs=1,
                        heldout_environments=2),
        budget=3_000,
        distill_steps=3,
        arms={
            "rl": Arm(method="rl", environments=4, about="all"),
            "rl-hard": Arm(method="rl", environments=4, about="hard", keep=FilterConfig(tries=2, max_pass_rate=0.6)),
            "sft": Arm(method="sft", environments=4, about="oracle"),
            "distill": Arm(method="distill", environments=4, about="own"),
            "rl-2": Arm(method="rl", environments=2, about="two"),
        },
        questions=(
            Question(title="Filter", arms=("rl", "rl-hard")),
            Question(title="Method", arms=("rl", "sft", "distill")),
            Question(title="How many", arms=("rl-2", "rl"), by_environments=True),
        ),
        seeds=(0,),
    )
'''  # noqa: E501


class Study:
    """The command, as often as it is started."""

    def __init__(self, file: pathlib.Path, folder: pathlib.Path, task_set: pathlib.Path) -> None:
        self.folder, self.task_set = folder, task_set
        self._command = [sys.executable, "-m", "codegym_jax.cli", "study", str(file), "--out", str(folder)]
        self._command += ["--task-set", str(task_set), "--workers", "2"]

    def start(self) -> subprocess.Popen[bytes]:
        cache = {"JAX_COMPILATION_CACHE_DIR": str(jax.config.jax_compilation_cache_dir)}
        with self.folder.with_suffix(".log").open("ab") as log:
            return subprocess.Popen(self._command, env=os.environ | cache, stdout=log, stderr=log)

    def finish(self) -> int:
        return self.start().wait()

    def interrupted(self, number: signal.Signals, moment: Callable[[pathlib.Path], bool]) -> int:
        """The exit code of a start that gets a signal at a moment."""
        process = self.start()
        while process.poll() is None and not moment(self.folder):
            time.sleep(0.01)
        assert process.poll() is None, "the study ended before its moment"
        process.send_signal(number)
        return process.wait()

    def bytes_of(self) -> dict[str, bytes]:
        """The files that a study is for."""
        places = [self.folder / "results.jsonl", *self.folder.glob("study.*"), *self.folder.glob("*.svg")]
        return {path.name: path.read_bytes() for path in places}


def rows_of(folder: pathlib.Path, run: str, stage: str) -> int:
    path = folder / "runs" / run / "metrics.jsonl"
    return path.read_text().count(f'"stage": "{stage}"') if path.exists() else 0


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("file") / "study.py"
    path.write_text(STUDY)
    return path


@pytest.fixture(scope="module")
def whole(file, many_environments, tmp_path_factory):
    """A study that was left alone."""
    study = Study(file, tmp_path_factory.mktemp("whole") / "study", many_environments)
    assert study.finish() == 0, study.folder.with_suffix(".log").read_text()
    return study


@pytest.mark.slow
def test_every_arm_spends_the_budget_and_no_more_than_a_step_beyond(whole):
    head, *rows = map(json.loads, (whole.folder / "results.jsonl").read_text().splitlines())
    assert [row["arm"] for row in rows] == ["warm-2", "warm-4", "rl", "rl-hard", "sft", "distill", "rl-2"]
    for row in rows[2:]:
        spent = row["spent"]
        assert spent["total"] == spent["sampled"] + LEARNED * spent["learned"]
        assert 0.8 * head["budget"] < spent["total"] < 1.8 * head["budget"], row["arm"]
        assert (spent["sampled"] == 0) == (row["method"] == "sft")
    assert head["pool"]["qualified"] == 8 and head["pool"]["heldout"] == 2


@pytest.mark.slow
def test_a_killed_study_ends_with_the_bytes_of_one_that_was_left_alone(
    whole, file, many_environments, tmp_path
):
    study = Study(file, tmp_path / "study", many_environments)
    killed = study.interrupted(signal.SIGKILL, lambda folder: rows_of(folder, "warm-4-0", "sft") >= 3)
    assert killed == -signal.SIGKILL
    told = study.interrupted(signal.SIGTERM, lambda folder: rows_of(folder, "rl-0", "train") >= 2)
    assert told == 42
    killed = study.interrupted(signal.SIGKILL, lambda folder: rows_of(folder, "distill-0", "control") >= 1)
    assert killed == -signal.SIGKILL
    assert study.finish() == 0, study.folder.with_suffix(".log").read_text()
    assert study.bytes_of() == whole.bytes_of()


@pytest.mark.slow
def test_a_finished_study_makes_nothing_again_and_a_folder_is_of_one_study(whole, file, tmp_path):
    before, runs = whole.bytes_of(), whole.folder / "runs"
    times = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    assert whole.finish() == 0
    assert whole.bytes_of() == before
    assert times == {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    other = tmp_path / "other.py"
    other.write_text(STUDY.replace("budget=3_000", "budget=4_000"))
    assert Study(other, whole.folder, whole.task_set).finish() == 2
    assert "holds a study with another budget" in whole.folder.with_suffix(".log").read_text()
