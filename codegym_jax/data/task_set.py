"""A task set on disk: environments, their tasks by split, and what was refused on the way.

    <folder>/environments/<env_id>.py      the published format, byte for byte
    <folder>/environments.jsonl            one environment a line: `EnvSpec` without its source, and features
    <folder>/tfds/codegym_tasks/1.0.0/     the tasks: a TFDS data set of ArrayRecord files, one split each
    <folder>/training_instance.jsonl       the same tasks as published rows
    <folder>/manifest.json                 counts, sha256 of every file, and the writer's own entries

The folder appears at once and complete, by rename; its manifest is what makes it one. TFDS is used without
TensorFlow: only its builder, its ArrayRecord writer and its random-access reader.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
import tensorflow_datasets as tfds

from codegym_jax.config import UserError
from codegym_jax.data.splits import SPLITS
from codegym_jax.records import EnvSpec, ParameterSpec, Task, ToolSpec

_DATA_SET = pathlib.PurePosixPath("tfds", "codegym_tasks", "1.0.0")
_MANIFEST = "manifest.json"
_ENVIRONMENTS = "environments.jsonl"
_ROWS = "training_instance.jsonl"
_OWN_KEYS = ("counts", "files")
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


class TaskSetError(UserError):
    """A task set folder that is missing, incomplete or damaged, or records that cannot make one."""


class CodegymTasks(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder `codegym_tasks`; tasks keep the order in which they were given."""

    VERSION = tfds.core.Version("1.0.0")
    # TFDS would look for a file of download checksums beside this module, through a package that Pythons
    # of today no longer have. Nothing is downloaded.
    code_path = None

    def __init__(self, tasks_by_split: Mapping[str, Sequence[Task]], **settings: Any) -> None:
        self._tasks_by_split = tasks_by_split
        super().__init__(**settings)

    def _info(self) -> tfds.core.DatasetInfo:
        text = tfds.features.Text
        return tfds.core.DatasetInfo(
            builder=self,
            description="Verified tool-use tasks: an environment, one hidden config, the oracle's calls.",
            features=tfds.features.FeaturesDict(
                {
                    "task_id": text(),
                    "env_id": text(),
                    "config_json": text(),
                    "oracle_actions": tfds.features.Sequence(text()),
                    "oracle_observations": tfds.features.Sequence(text()),
                    "answer_json": text(),
                    "oracle_calls": np.int64,
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: object) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager  # nothing to download
        return {split: self._generate_examples(tasks) for split, tasks in self._tasks_by_split.items()}

    def _generate_examples(self, tasks: Sequence[Task]) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, task in enumerate(tasks):
            yield index, _to_example(task)


class TaskSource(Sequence[Task]):
    """The tasks of one split by index, read from the record files on demand."""

    def __init__(self, records: Any | None) -> None:
        self._records = records

    def __len__(self) -> int:
        return 0 if self._records is None else len(self._records)

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]  # negative indices and IndexError as for any sequence
        assert self._records is not None
        return _to_task(self._records[position])


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TaskSet:
    """A task set that was opened and found whole."""

    folder: pathlib.Path
    specs: dict[str, EnvSpec]
    """By environment id, in the order written."""
    features: dict[str, dict[str, Any]]
    """By environment id: what the synthesizer noted about it."""
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | os.PathLike[str]) -> "TaskSet":
        """Reads a folder that `write_task_set` wrote.

        Raises:
          TaskSetError: when there is no such folder, its manifest is missing, or a file differs from it.
        """
        folder = pathlib.Path(folder)
        manifest = _read_manifest(folder)
        _check_files(folder, manifest["files"])
        specs, features = {}, {}
        for line in (folder / _ENVIRONMENTS).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            source = (folder / "environments" / f"{row['env_id']}.py").read_bytes().decode("utf-8")
            specs[row["env_id"]] = _to_spec(row, source)
            features[row["env_id"]] = row["features"]
        return cls(folder=folder, specs=specs, features=features, manifest=manifest)

    @property
    def counts(self) -> dict[str, int]:
        """Tasks in each split."""
        return dict(self.manifest["counts"]["tasks"])

    @property
    def digest(self) -> str:
        """A short hash of every file's content; names caches derived from this task set."""
        return _sha256(json.dumps(self.manifest["files"], sort_keys=True).encode())[:16]

    def source(self, split: str) -> TaskSource:
        """The tasks of one split; empty when nothing was assigned to it.

        Raises:
          TaskSetError: when `split` is not one of `SPLITS`.
        """
        if split not in SPLITS:
            raise TaskSetError(f"no split {split!r}; known: {', '.join(SPLITS)}")
        if not self.counts[split]:
            return TaskSource(None)
        # Any: TFDS hides the signatures of its methods behind an untyped decorator.
        builder: Any = tfds.builder_from_directory(str(self.folder / _DATA_SET))
        return TaskSource(builder.as_data_source(split=split))


def write_task_set(
    folder: str | os.PathLike[str],
    specs: Sequence[EnvSpec],
    tasks: Sequence[Task],
    features: Mapping[str, Mapping[str, Any]],
    split_of: Mapping[str, str],
    manifest: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]] = (),
) -> None:
    """Writes a task set, replacing what was at `folder`.

    The same arguments give the same bytes.

    Args:
      folder: where it will appear, complete, or not at all.
      specs: the environments.
      tasks: the tasks, in the order in which their split will hold them.
      features: environment id -> JSON-able notes; environments without any get `{}`.
      split_of: task id -> one of `SPLITS`.
      manifest: JSON-able entries of the writer's own, such as the guest's hash and rejections by reason.
      rows: the tasks in the published row format, for `training_instance.jsonl`.

    Raises:
      TaskSetError: when two environments or tasks share an id, a task names an unknown environment or has
        no split, an environment's id cannot name a file, or `manifest` uses a reserved key.
    """
    folder = pathlib.Path(folder)
    _check_records(specs, tasks, split_of, manifest)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.partial"
    partial.mkdir()
    try:
        by_split = {split: [task for task in tasks if split_of[task.task_id] == split] for split in SPLITS}
        _write_environments(partial, specs, features)
        _write_data_set(partial, by_split)
        _write_lines(partial / _ROWS, rows)
        whole = {
            **manifest,
            "counts": {
                "environments": len(specs),
                "tasks": {split: len(members) for split, members in by_split.items()},
                "environments_by_split": {
                    split: len({task.env_id for task in members}) for split, members in by_split.items()
                },
                "environments_by_license": dict(sorted(Counter(spec.license for spec in specs).items())),
            },
            "files": {name: _sha256((partial / name).read_bytes()) for name in _relative_files(partial)},
        }
        (partial / _MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        _replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_records(
    specs: Sequence[EnvSpec], tasks: Sequence[Task], split_of: Mapping[str, str], manifest: Mapping[str, Any]
) -> None:
    env_ids = Counter(spec.env_id for spec in specs)
    task_ids = Counter(task.task_id for task in tasks)
    for kind, counted in (("environments", env_ids), ("tasks", task_ids)):
        for name, count in counted.items():
            if count > 1:
                raise TaskSetError(f"{count} {kind} share the id {name!r}; ids must be unique")
    for env_id in env_ids:
        if not _SAFE_NAME.fullmatch(env_id):
            raise TaskSetError(f"environment id {env_id!r} cannot name a file: use letters, digits, . _ -")
    for task in tasks:
        if task.env_id not in env_ids:
            raise TaskSetError(f"task {task.task_id!r} names an environment that is not in the set")
        if split_of.get(task.task_id) not in SPLITS:
            found = split_of.get(task.task_id)
            raise TaskSetError(f"task {task.task_id!r} has split {found!r}; known: {', '.join(SPLITS)}")
    for key in _OWN_KEYS:
        if key in manifest:
            raise TaskSetError(f"manifest key {key!r} is reserved for what the task set counts itself")


def _write_environments(
    folder: pathlib.Path, specs: Sequence[EnvSpec], features: Mapping[str, Mapping[str, Any]]
) -> None:
    (folder / "environments").mkdir()
    for spec in specs:
        (folder / "environments" / f"{spec.env_id}.py").write_bytes(spec.source.encode("utf-8"))
    _write_lines(folder / _ENVIRONMENTS, (_to_row(spec, features.get(spec.env_id, {})) for spec in specs))


def _write_data_set(folder: pathlib.Path, by_split: Mapping[str, Sequence[Task]]) -> None:
    """Writes the splits that have tasks: TFDS refuses an empty one, so the manifest alone records those."""
    filled = {split: tasks for split, tasks in by_split.items() if tasks}
    if not filled:
        return
    # TFDS announces itself on both streams and has no switch for it.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder = CodegymTasks(filled, data_dir=str(folder / _DATA_SET.parts[0]), file_format="array_record")
        builder.download_and_prepare()


def _replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Renames `new` to `folder`; a folder already there is moved aside first, then deleted."""
    if not folder.exists():
        new.rename(folder)
        return
    old = folder.parent / f".{folder.name}.{uuid.uuid4().hex}.old"
    folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old)


def _read_manifest(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / _MANIFEST
    if not folder.is_dir():
        raise TaskSetError(f"{folder}: no such task set folder")
    if not path.is_file():
        raise TaskSetError(f"{folder}: not a complete task set (no {_MANIFEST}); write it again")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise TaskSetError(f"{path}: damaged, not JSON ({error}); write the task set again") from error
    if not isinstance(manifest, dict) or any(key not in manifest for key in _OWN_KEYS):
        raise TaskSetError(f"{path}: not a task set's manifest (needs the keys {', '.join(_OWN_KEYS)})")
    return manifest


def _check_files(folder: pathlib.Path, expected: Mapping[str, str]) -> None:
    for name, sha256 in expected.items():
        path = folder / name
        if not path.is_file():
            raise TaskSetError(f"{path}: missing, though {_MANIFEST} lists it; write the task set again")
        if _sha256(path.read_bytes()) != sha256:
            raise TaskSetError(f"{path}: damaged, its sha256 is not the one in {_MANIFEST}; write it again")


def _relative_files(folder: pathlib.Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _write_lines(path: pathlib.Path, rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(json.dumps(row) + "\n")


def _to_row(spec: EnvSpec, features: Mapping[str, Any]) -> dict[str, Any]:
    fields = dataclasses.asdict(spec)
    del fields["source"]  # lies beside, in a file of its own
    return {"env_id": spec.env_id, **fields, "features": dict(features)}


def _to_spec(row: Mapping[str, Any], source: str) -> EnvSpec:
    tools = tuple(
        ToolSpec(**{**tool, "parameters": tuple(ParameterSpec(**one) for one in tool["parameters"])})
        for tool in row["tools"]
    )
    fields = {key: value for key, value in row.items() if key not in ("env_id", "features", "tools")}
    return EnvSpec(**fields, tools=tools, source=source)


def _to_example(task: Task) -> dict[str, Any]:
    return {
        "task_id": _to_bytes(task.task_id),
        "env_id": _to_bytes(task.env_id),
        "config_json": _to_bytes(task.config_json),
        "oracle_actions": [_to_bytes(action) for action in task.oracle_actions],
        "oracle_observations": [_to_bytes(observation) for observation in task.oracle_observations],
        "answer_json": _to_bytes(task.answer_json),
        "oracle_calls": len(task.oracle_actions),
    }


def _to_task(example: Mapping[str, Any]) -> Task:
    return Task(
        env_id=_to_text(example["env_id"]),
        config_json=_to_text(example["config_json"]),
        oracle_actions=tuple(_to_text(action) for action in example["oracle_actions"]),
        oracle_observations=tuple(_to_text(observation) for observation in example["oracle_observations"]),
        answer_json=_to_text(example["answer_json"]),
    )


def _to_bytes(text: str) -> bytes:
    """UTF-8 that also takes the lone surrogates a Python string, hence a tool's result, may hold."""
    return text.encode("utf-8", "surrogatepass")


def _to_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
