"""Files of rows to environments with the tasks to verify on them; nothing runs here."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegym_jax.config import ConfigError, UserError
from codegym_jax.data.export import read_parquet
from codegym_jax.envs.codegym_format import FormatError
from codegym_jax.envs.published_rows import EnvironmentRow, TaskRow, read_row
from codegym_jax.records import Rejection, Task

_SAFE_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*__[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An environment with the tasks that rows give it."""

    env_id: str
    source: str
    statement: str
    license: str
    origin: str
    tasks: tuple[TaskRow, ...]


@dataclass(slots=True)
class Gathered:
    """What the files hold."""

    environments: list[Environment] = field(default_factory=list)
    """In the order of their ids; each has at least one task."""
    rows: int = 0
    """Task rows, those that were refused included."""
    refused: list[Rejection] = field(default_factory=list)
    """Task rows that give no task to verify."""


def gather(files: Sequence[Path], license: str) -> Gathered:
    """Reads all rows and puts each task with its environment.

    An environment is what its first task row carries; where none carries it, what an environment row has.
    Refused are rows of no known form (`bad_row`), repeated tasks (`duplicate`), tasks whose environment no
    row has (`unknown_environment`) and those that carry another source than the first (`other_source`).

    Args:
      files: JSON lines; Parquet where the name ends so; environment files `<code_id>__<Class>.py` and folders
        of them.
      license: of rows that name none.

    Raises:
      UserError: when a file cannot be read.
      ConfigError: when a row has no license and none is given.
    """
    gathered = Gathered()
    described: dict[str, EnvironmentRow] = {}
    first: dict[str, TaskRow] = {}
    tasks: dict[str, list[tuple[str, TaskRow]]] = {}
    seen: set[str] = set()
    for path in files:
        for subject, value in _values(path):
            row = _checked(value, subject)
            if isinstance(row, EnvironmentRow):
                described.setdefault(row.env_id, row)
                continue
            gathered.rows += 1
            if isinstance(row, Rejection):
                gathered.refused.append(row)
                continue
            task_id = Task(env_id=row.env_id, config_json=row.config_json).task_id
            if task_id in seen:
                gathered.refused.append(Rejection(reason="duplicate", subject=subject))
                continue
            seen.add(task_id)
            if row.source and first.setdefault(row.env_id, row).source != row.source:
                detail = f"{row.env_id} has another source in an earlier row"
                gathered.refused.append(Rejection(reason="other_source", detail=detail, subject=subject))
                continue
            # The source is kept once, with the environment.
            tasks.setdefault(row.env_id, []).append((subject, replace(row, source="")))
    for env_id in sorted(tasks):
        found = _environment(env_id, first.get(env_id), described.get(env_id), tasks[env_id], license)
        if found is not None:
            gathered.environments.append(found)
            continue
        detail = f"no row carries the source of {env_id}; give the environment rows with --environments"
        gathered.refused += [
            Rejection(reason="unknown_environment", detail=detail, subject=subject)
            for subject, _ in tasks[env_id]
        ]
    return gathered


def _environment(
    env_id: str,
    first: TaskRow | None,
    described: EnvironmentRow | None,
    tasks: Sequence[tuple[str, TaskRow]],
    license: str,
) -> Environment | None:
    source = first.source if first else described.source if described else ""
    if not source:
        return None
    subject, row = tasks[0]
    named = row.license or (described.license if described else "") or license
    if not named:
        raise ConfigError(
            f"{subject}: the row names no license; say what the rows are under with --license, such as"
            " CC-BY-NC-4.0 for the published CodeGym data"
        )
    return Environment(
        env_id=env_id,
        source=source,
        statement=row.statement,
        license=named,
        origin=row.origin or (described.origin if described else "") or _file_of(subject),
        tasks=tuple(replace(one, statement="") for _, one in tasks),
    )


def _file_of(subject: str) -> str:
    return Path(subject.rpartition(":")[0]).name


def _checked(value: Any, subject: str) -> TaskRow | EnvironmentRow | Rejection:
    if isinstance(value, Rejection):
        return value
    try:
        row = read_row(value)
        if not _SAFE_ID.fullmatch(row.env_id):
            raise FormatError(f"the environment's id {row.env_id[:80]!r} cannot name a file and a class")
    except FormatError as error:
        return Rejection(reason="bad_row", detail=str(error), subject=subject)
    return row


def _values(path: Path) -> Iterator[tuple[str, Any]]:
    """(file:row, value) of every row; a `Rejection` for a line that is not JSON.

    Raises:
      UserError: when the file cannot be read.
    """
    if path.is_dir():
        for source in sorted(path.glob("*.py")):
            yield from _values(source)
        return
    if path.suffix == ".py":
        yield str(path), _environment_file(path)
        return
    if path.suffix == ".parquet":
        for number, row in enumerate(read_parquet(path), start=1):
            yield f"{path}:{number}", row
        return
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}:{number}", _parsed(line, f"{path}:{number}")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from error


def _environment_file(path: Path) -> Mapping[str, Any]:
    """An environment file as an environment row."""
    try:
        return {"env_name": path.stem, "env_code": path.read_text(encoding="utf-8")}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _parsed(line: bytes, subject: str) -> Mapping[str, Any] | Rejection:
    try:
        return json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        return Rejection(reason="bad_row", detail=f"not JSON: {error}", subject=subject)
