"""What is written comes back equal, in the same order and bytes; what is not whole is refused by name."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import pytest

from codegym_jax.data.splits import SPLITS, TEST_ENV, TRAIN
from codegym_jax.data.task_set import TaskSet, TaskSetError, write_task_set
from codegym_jax.records import EnvSpec, ParameterSpec, Task, ToolSpec

BELOW = EnvSpec(
    code_id="HumanEval_52",
    class_name="BelowThresholdEnv",
    source="# Unchanged: é, CRLF\r\n\tand no newline at the end",
    tools=(
        ToolSpec(name="Observe", doc="Tells nothing.\n\nReturns:\n    str: nothing"),
        ToolSpec(
            name="GetItem",
            parameters=(
                ParameterSpec(name="index", type_name="int", description="from 0"),
                ParameterSpec(name="base", required=False),
            ),
        ),
    ),
    statement="Say whether all are “below”.",
    license="MIT",
    origin="humaneval",
)
OTHER = EnvSpec(code_id="codeio-7", class_name="OtherEnv", source="", tools=())


def make_task(spec: EnvSpec, number: int, calls: int = 2) -> Task:
    return Task(
        env_id=spec.env_id,
        config_json=json.dumps({"values": [number, "é@", True, None]}, separators=(",", ":")),
        oracle_actions=tuple(f'{{"name": "GetItem", "parameters": {{"index": {i}}}}}' for i in range(calls)),
        oracle_observations=tuple(str(number + i) if i else "" for i in range(calls)),
        answer_json="true",
    )


TASKS = [
    make_task(BELOW, 5),
    make_task(OTHER, 1, calls=0),
    make_task(BELOW, 3, calls=40),
    make_task(OTHER, 2),
    make_task(BELOW, 4, calls=1),
]
SPLIT_OF = {task.task_id: TEST_ENV if task.env_id == OTHER.env_id else TRAIN for task in TASKS}
FEATURES = {BELOW.env_id: {"median_calls": 3.5, "hidden": True, "answer": "boolean"}}
MANIFEST = {"guest_hash": "ab12", "rejections": {"out_of_fuel": 2}}


def write(folder: pathlib.Path, **changes) -> pathlib.Path:
    arguments = {
        "specs": [BELOW, OTHER],
        "tasks": TASKS,
        "features": FEATURES,
        "split_of": SPLIT_OF,
        "manifest": MANIFEST,
        "rows": [{"ability": task.task_id} for task in TASKS],
    }
    write_task_set(folder, **(arguments | changes))
    return folder


def file_bytes(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_everything_comes_back_equal_and_in_order(tmp_path):
    task_set = TaskSet.open(write(tmp_path / "set"))
    assert list(task_set.specs.values()) == [BELOW, OTHER]
    assert task_set.features == {**FEATURES, OTHER.env_id: {}}
    assert list(task_set.source(TRAIN)) == [TASKS[0], TASKS[2], TASKS[4]]
    assert list(task_set.source(TEST_ENV)) == [TASKS[1], TASKS[3]]
    assert task_set.manifest["guest_hash"] == "ab12"
    assert task_set.manifest["rejections"] == {"out_of_fuel": 2}
    assert task_set.counts == {split: {TRAIN: 3, TEST_ENV: 2}.get(split, 0) for split in SPLITS}
    rows = (tmp_path / "set/training_instance.jsonl").read_text().splitlines()
    assert [json.loads(row)["ability"] for row in rows] == [task.task_id for task in TASKS]


def test_many_tasks_keep_their_order(tmp_path):
    tasks = [make_task(BELOW, number) for number in range(100)]
    written = write(tmp_path / "set", tasks=tasks, split_of={task.task_id: TRAIN for task in tasks})
    assert list(TaskSet.open(written).source(TRAIN)) == tasks


def test_a_source_is_a_sequence(tmp_path):
    source = TaskSet.open(write(tmp_path / "set")).source(TRAIN)
    assert source[-1] == TASKS[4]
    assert source[1:] == [TASKS[2], TASKS[4]]
    with pytest.raises(IndexError):
        source[3]


@pytest.mark.parametrize("split", [split for split in SPLITS if split not in (TRAIN, TEST_ENV)])
def test_a_split_without_tasks_is_empty(tmp_path, split):
    assert list(TaskSet.open(write(tmp_path / "set")).source(split)) == []


def test_a_set_without_tasks_is_whole(tmp_path):
    task_set = TaskSet.open(write(tmp_path / "set", tasks=[]))
    assert set(task_set.specs) == {BELOW.env_id, OTHER.env_id}
    assert sum(task_set.counts.values()) == 0


def test_a_lone_surrogate_in_a_tool_result_survives(tmp_path):
    task = dataclasses.replace(TASKS[0], oracle_observations=("\ud800", "\x00"))
    written = write(tmp_path / "set", tasks=[task], split_of={task.task_id: TRAIN})
    assert list(TaskSet.open(written).source(TRAIN)) == [task]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    first, second = write(tmp_path / "one" / "set"), write(tmp_path / "two" / "set")
    assert file_bytes(first) == file_bytes(second)
    assert TaskSet.open(first).digest == TaskSet.open(second).digest


def test_other_content_gives_another_digest(tmp_path):
    first = write(tmp_path / "one")
    second = write(tmp_path / "two", specs=[dataclasses.replace(BELOW, source="pass"), OTHER])
    assert TaskSet.open(first).digest != TaskSet.open(second).digest


def test_writing_again_replaces_the_folder_and_leaves_nothing_beside_it(tmp_path):
    write(tmp_path / "set")
    (tmp_path / "set/stray.txt").write_text("from before")
    write(tmp_path / "set", tasks=TASKS[:1])
    assert TaskSet.open(tmp_path / "set").counts[TRAIN] == 1
    assert not (tmp_path / "set/stray.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_failed_write_leaves_the_old_set_untouched(tmp_path):
    before = file_bytes(write(tmp_path / "set"))

    def failing_rows():
        yield {"ability": "one"}
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="disk is full"):
        write(tmp_path / "set", rows=failing_rows())
    assert file_bytes(tmp_path / "set") == before
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(TaskSetError, match="nowhere: no such task set folder"):
        TaskSet.open(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_incomplete(tmp_path):
    (write(tmp_path / "set") / "manifest.json").unlink()
    with pytest.raises(TaskSetError, match="set: not a complete task set"):
        TaskSet.open(tmp_path / "set")


@pytest.mark.parametrize("text", ["{", "[]", '{"counts": {}}'])
def test_a_broken_manifest_is_named(tmp_path, text):
    (write(tmp_path / "set") / "manifest.json").write_text(text)
    with pytest.raises(TaskSetError, match=r"manifest\.json: (damaged|not a task set's)"):
        TaskSet.open(tmp_path / "set")


def test_every_damaged_or_missing_file_is_named(tmp_path):
    folder = write(tmp_path / "set")
    names = [name for name in file_bytes(folder) if name != "manifest.json"]
    assert len(names) == 8  # 2 sources, their index, 2 record files and their 2 descriptions, the rows
    for name in names:
        path = folder / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + b"#")
        with pytest.raises(TaskSetError, match=f"{re.escape(name)}: damaged"):
            TaskSet.open(folder)
        path.unlink()
        with pytest.raises(TaskSetError, match=f"{re.escape(name)}: missing"):
            TaskSet.open(folder)
        path.write_bytes(whole)
    TaskSet.open(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"specs": [BELOW, OTHER, BELOW]}, "2 environments share the id 'HumanEval_52__BelowThresholdEnv'"),
        ({"tasks": [*TASKS, TASKS[0]]}, "2 tasks share the id"),
        ({"specs": [BELOW]}, "names an environment that is not in the set"),
        ({"split_of": {}}, "has split None; known: train"),
        ({"split_of": SPLIT_OF | {TASKS[0].task_id: "tset"}}, "has split 'tset'"),
        ({"manifest": {"counts": {}}}, "manifest key 'counts' is reserved"),
        (
            {"specs": [BELOW, OTHER, dataclasses.replace(BELOW, code_id="../x")]},
            r"'\.\./x__BelowThresholdEnv' cannot name a file",
        ),
    ],
)
def test_records_that_make_no_set_are_refused(tmp_path, changes, message):
    with pytest.raises(TaskSetError, match=message):
        write(tmp_path / "set", **changes)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_split_is_named(tmp_path):
    with pytest.raises(TaskSetError, match="no split 'test'; known: train"):
        TaskSet.open(write(tmp_path / "set")).source("test")


def test_tensorflow_is_never_imported(tmp_path):
    """In a process of its own: another test's imports must not hide ours."""
    write(tmp_path / "set")
    program = """
import sys
from codegym_jax.data import chat, pipeline, task_set
opened = task_set.TaskSet.open(sys.argv[1])
tasks = list(opened.source("train"))
next(pipeline.task_iterator(tasks, seed=0, tasks_per_step=2))
task_set.write_task_set(sys.argv[2], list(opened.specs.values()), tasks, {},
                        {task.task_id: "train" for task in tasks}, {})
assert "tensorflow" not in sys.modules
print(len(tasks))
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "set"), str(tmp_path / "copy")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
