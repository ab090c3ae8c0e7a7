"""A task set on disk: environments, their tasks by split, and what was refused on the way.

    <folder>/environments/<env_id>.py      the published format, byte for byte
    <folder>/environments.jsonl            one environment a line: `EnvSpec` without its source, and features
    <folder>/tfds/codegym_tasks/2.0.0/     the tasks: a TFDS data set of ArrayRecord files, one split each
    <folder>/training_instance.jsonl       the same tasks as published rows
    <folder>/manifest.json                 version, counts, sha256 of every file, the writer's own entries
    <folder>/README.md, card.html, ...     the card: made of the rest, so the manifest does not list it

The folder appears at once and complete, by rename; its manifest is what makes it one.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from codegym_jax.config import UserError
from codegym_jax.data.codegym_tasks import VERSION, TaskSource, read_tasks, write_tasks
from codegym_jax.data.splits import SPLITS
from codegym_jax.records import EnvSpec, ParameterSpec, Task, ToolSpec

ROWS = "training_instance.jsonl"
_DATA_SETS = "tfds"
_MANIFEST = "manifest.json"
_ENVIRONMENTS = "environments.jsonl"
_OWN_KEYS = ("version", "counts", "files")
_FIRST_VERSION = "1.0.0"  # of task sets whose manifest names none
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*")


class TaskSetError(UserError):
    """A task set folder that is missing, incomplete or damaged, or records that cannot make one."""


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
          TaskSetError: when there is no such folder, it is of another version, its manifest is missing, or a
            file differs from it.
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
        if self._is_whole:
            return dict(self.manifest["counts"]["tasks"])
        return {split: len(self.source(split)) for split in SPLITS}

    @property
    def digest(self) -> str:
        """A short hash of every file's content; names caches derived from this task set."""
        part = "" if self._is_whole else json.dumps(sorted(self.specs))
        return _sha256((json.dumps(self.manifest["files"], sort_keys=True) + part).encode())[:16]

    def source(self, split: str) -> TaskSource:
        """The tasks of one split; empty when nothing was assigned to it.

        Raises:
          TaskSetError: when `split` is not one of `SPLITS`.
        """
        if split not in SPLITS:
            raise TaskSetError(f"no split {split!r}; known: {', '.join(SPLITS)}")
        if not self.manifest["counts"]["tasks"][split]:
            return TaskSource(None)
        return read_tasks(self.folder / _DATA_SETS, split, None if self._is_whole else frozenset(self.specs))

    def filtered(self, *, licenses: Collection[str] = (), origins: Collection[str] = ()) -> "TaskSet":
        """The environments, and the tasks of every split, that come from some licenses and origins.

        Args:
          licenses: such as `MIT`; all when empty.
          origins: such as `humaneval`; all when empty.

        Raises:
          TaskSetError: when nothing in the task set has one of them.
        """
        for kind, wanted in (("license", licenses), ("origin", origins)):
            known = sorted({getattr(spec, kind) for spec in self.specs.values()})
            for name in wanted:
                if name not in known:
                    there = ", ".join(map(repr, known))
                    raise TaskSetError(
                        f"{self.folder}: no environment has the {kind} {name!r}; there are: {there}"
                    )
        specs = {
            env_id: spec
            for env_id, spec in self.specs.items()
            if (not licenses or spec.license in licenses) and (not origins or spec.origin in origins)
        }
        return dataclasses.replace(
            self, specs=specs, features={env_id: self.features[env_id] for env_id in specs}
        )

    @property
    def _is_whole(self) -> bool:
        return len(self.specs) == self.manifest["counts"]["environments"]


def write_task_set(
    folder: str | os.PathLike[str],
    specs: Sequence[EnvSpec],
    tasks: Sequence[Task],
    features: Mapping[str, Mapping[str, Any]],
    split_of: Mapping[str, str],
    manifest: Mapping[str, Any],
    rows: Iterable[Mapping[str, Any]] = (),
    card: Callable[[TaskSet], Mapping[str, str]] | None = None,
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
        `command` is what a user is told to make the task set again with.
      rows: the tasks in the published row format, for `training_instance.jsonl`.
      card: the card's files, name -> text, made of the rest just before the folder appears.

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
        write_tasks(partial / _DATA_SETS, by_split, {spec.env_id: spec for spec in specs})
        _write_lines(partial / ROWS, rows)
        whole = {
            "version": VERSION,
            **manifest,
            "counts": _counts(specs, by_split),
            "files": {name: _sha256((partial / name).read_bytes()) for name in _relative_files(partial)},
        }
        (partial / _MANIFEST).write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")
        for name, text in card(TaskSet.open(partial)).items() if card else ():
            (partial / name).write_text(text, encoding="utf-8", newline="\n")
        _replace_folder(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _counts(specs: Sequence[EnvSpec], by_split: Mapping[str, Sequence[Task]]) -> dict[str, Any]:
    spec_of = {spec.env_id: spec for spec in specs}
    tasks = [spec_of[task.env_id] for members in by_split.values() for task in members]
    return {
        "environments": len(specs),
        "tasks": {split: len(members) for split, members in by_split.items()},
        "environments_by_split": {
            split: len({task.env_id for task in members}) for split, members in by_split.items()
        },
        **{
            f"{kind}_by_{key}": dict(sorted(Counter(getattr(spec, key) for spec in counted).items()))
            for kind, counted in (("environments", specs), ("tasks", tasks))
            for key in ("license", "origin")
        },
    }


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
    if not isinstance(manifest, dict) or any(key not in manifest for key in ("counts", "files")):
        raise TaskSetError(f"{path}: not a task set's manifest (needs the keys {', '.join(_OWN_KEYS)})")
    version = manifest.get("version", _FIRST_VERSION)
    if version != VERSION:
        command = manifest.get("command", "codegym synth CONFIG")
        raise TaskSetError(
            f"{folder}: a task set of version {version}, but this codegym-jax reads {VERSION};"
            f" make it again with `{command}`"
        )
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
