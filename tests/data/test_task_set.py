"""What is written comes back equal, in the same order and bytes; what is not whole is refused by name."""

import dataclasses
import json
import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow_datasets as tfds

from codegym_jax.data.codegym_tasks import RELEASE_NOTES, VERSION
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


def test_a_task_set_of_another_version_is_named_with_what_makes_it_again(tmp_path):
    folder = write(tmp_path / "set", manifest={"command": "codegym import FILE..."})
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"version": "9.1.0"}))
    with pytest.raises(TaskSetError, match=rf"version 9\.1\.0, .* reads {VERSION}; .*`codegym import FILE"):
        TaskSet.open(folder)


def test_a_task_set_from_before_versions_is_of_the_first(tmp_path):
    folder = write(tmp_path / "set")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["version"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(TaskSetError, match=rf"version 1\.0\.0, .* reads {VERSION}; .*`codegym synth CONFIG`"):
        TaskSet.open(folder)


def test_every_version_has_notes():
    assert VERSION in RELEASE_NOTES
    assert list(RELEASE_NOTES) == sorted(RELEASE_NOTES)


def test_every_task_says_its_license_and_origin(tmp_path):
    folder = write(tmp_path / "set", specs=[BELOW, dataclasses.replace(OTHER, license="CC0-1.0", origin="x")])
    builder = tfds.builder_from_directory(str(folder / "tfds/codegym_tasks" / VERSION))
    for split, expected in ((TRAIN, (b"MIT", b"humaneval")), (TEST_ENV, (b"CC0-1.0", b"x"))):
        examples = list(builder.as_data_source(split=split))
        assert {(example["license"], example["origin"]) for example in examples} == {expected}
    counts = TaskSet.open(folder).manifest["counts"]
    assert counts["tasks_by_license"] == {"CC0-1.0": 2, "MIT": 3}
    assert counts["environments_by_origin"] == {"humaneval": 1, "x": 1}


@pytest.mark.parametrize("wanted", [{"licenses": ["MIT"]}, {"origins": ["humaneval"]}])
def test_a_filtered_set_holds_what_is_wanted_of_every_split(tmp_path, wanted):
    mixed = {task.task_id: TRAIN for task in TASKS}
    whole = TaskSet.open(write(tmp_path / "set", split_of=mixed))
    part = whole.filtered(**wanted)
    assert list(part.specs) == list(part.features) == [BELOW.env_id]
    assert list(part.source(TRAIN)) == [TASKS[0], TASKS[2], TASKS[4]]
    assert part.source(TRAIN)[-1] == TASKS[4]
    assert list(part.source(TEST_ENV)) == []
    assert part.counts == {split: 3 * (split == TRAIN) for split in SPLITS}
    assert part.digest != whole.digest
    assert whole.filtered() == whole


def test_a_license_that_nothing_has_is_named(tmp_path):
    task_set = TaskSet.open(write(tmp_path / "set"))
    with pytest.raises(TaskSetError, match="license 'MTI'; there are: '', 'MIT'"):
        task_set.filtered(licenses=["MTI"])


def test_a_card_lies_beside_and_is_no_part_of_the_content(tmp_path):
    def card(task_set: TaskSet) -> dict[str, str]:
        return {"README.md": f"{len(list(task_set.source(TRAIN)))} tasks\n"}

    plain, described = write(tmp_path / "plain"), write(tmp_path / "described", card=card)
    assert (described / "README.md").read_bytes() == b"3 tasks\n"
    assert TaskSet.open(plain).digest == TaskSet.open(described).digest


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
import numpy
from codegym_jax.data import chat, pipeline, task_set
opened = task_set.TaskSet.open(sys.argv[1])
tasks = list(opened.source("train"))
pipeline.task_order(tasks, seed=0)(2)
rows = [chat.Demonstration(token_ids=numpy.arange(3), is_policy=numpy.ones(3, bool))]
next(pipeline.demonstration_iterator(rows, seed=0, rows=2))
task_set.write_task_set(sys.argv[2], list(opened.specs.values()), tasks, {},
                        {task.task_id: "train" for task in tasks}, {})
assert "tensorflow" not in sys.modules
print(len(tasks))
"""
    command = [
        sys.executable,
        "-W",
        "error",
        "-W",
        "ignore:label() is deprecated:DeprecationWarning",
        "-c",
        program,
        str(tmp_path / "set"),
        str(tmp_path / "copy"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")
