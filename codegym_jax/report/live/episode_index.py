"""An index of a run's episodes, kept up with its files: what they are filtered by, their place, their text.

A SQLite file outside the run. It holds no episode, only the place of its line; and a table of the text's
trigrams, so that any piece of text is found. Several processes may keep the same file up at once.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from codegym_jax.report.live.searched import folded, storable
from codegym_jax.report.live.tail import Line, Look, Mark, read_on
from codegym_jax.rollout.episode_log import logged_step

_VERSION = 1
"""Of the tables below; a file of another one is made anew."""
_TABLES = """
CREATE TABLE files(
  id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL,
  end INTEGER NOT NULL, inode INTEGER NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
  witness INTEGER NOT NULL, lines INTEGER NOT NULL, damaged INTEGER NOT NULL
);
CREATE TABLE episodes(
  id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL, file TEXT NOT NULL, line INTEGER NOT NULL,
  start INTEGER NOT NULL, bytes INTEGER NOT NULL, place TEXT UNIQUE NOT NULL,
  stage TEXT NOT NULL, step INTEGER NOT NULL, split TEXT NOT NULL, mode TEXT NOT NULL,
  task TEXT NOT NULL, env TEXT NOT NULL, attempt INTEGER NOT NULL, version INTEGER NOT NULL,
  reward REAL NOT NULL, stop TEXT NOT NULL,
  turns INTEGER NOT NULL, errors INTEGER NOT NULL, kinds TEXT NOT NULL,
  tokens INTEGER NOT NULL, logp REAL NOT NULL
);
CREATE INDEX episodes_task ON episodes(task);
CREATE INDEX episodes_file ON episodes(file_id);
CREATE VIRTUAL TABLE texts USING fts5(body, tokenize = 'trigram case_sensitive 1', detail = none);
"""
_STAGES = ("eval_before", "train", "eval_after")
"""In the order of the policy's age; others come behind them."""
_MODES = ("sampled", "greedy")
_NEEDED = {"task_id", "turns", "reward", "stop_reason"}


class EpisodeIndex:
    """Finds the episodes of one run.

    Args:
      run: the run folder; `run/episodes` may come later.
      folder: where index files are kept, one a run.
    """

    def __init__(self, run: Path, folder: Path) -> None:
        self._episodes = run / "episodes"
        folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(str(run.resolve()).encode("utf-8", "surrogateescape")).hexdigest()[:16]
        self.path = folder / f"{name}.sqlite"
        if not _usable(self.path):
            _remove(self.path)
            with self.connect() as connection:
                connection.executescript(f"BEGIN IMMEDIATE;{_TABLES}PRAGMA user_version = {_VERSION};COMMIT;")

    @contextmanager
    def connect(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread; its rows are read by name."""
        with closing(sqlite3.connect(self.path, timeout=30.0, isolation_level=None)) as connection:
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = OFF")  # it can be made again
            yield connection

    def update(self) -> bool:
        """Reads what is new in the run's files; each file's part is there at once, or not at all.

        Returns:
          Whether anything had changed.
        """
        paths = {
            path.relative_to(self._episodes).as_posix(): path for path in self._episodes.rglob("*.jsonl")
        }
        changed = False
        with self.connect() as connection:
            marks = {row["name"]: _mark(row) for row in connection.execute("SELECT * FROM files")}
            for name in sorted(marks.keys() - paths.keys()):
                with _transaction(connection):
                    _forget(connection, name)
                changed = True
            for name in sorted(paths, key=_age):
                changed |= _update_file(connection, name, paths[name], marks.get(name, Mark()))
        return changed


def _update_file(connection: sqlite3.Connection, name: str, path: Path, mark: Mark) -> bool:
    try:
        if read_on(path, mark) is None:
            return False
        with _transaction(connection):  # another process may have been faster
            row = connection.execute("SELECT * FROM files WHERE name = ?", (name,)).fetchone()
            look = read_on(path, _mark(row) if row else Mark())
            if look is not None:
                _take_in(connection, name, look)
        return True
    except FileNotFoundError:
        return False


def _take_in(connection: sqlite3.Connection, name: str, look: Look) -> None:
    if look.anew:
        _forget(connection, name)
        connection.execute("INSERT INTO files VALUES(NULL, ?, 0, 0, 0, 0, 0, 0, 0)", (name,))
    file_id, lines, damaged = connection.execute(
        "SELECT id, lines, damaged FROM files WHERE name = ?", (name,)
    ).fetchone()
    for number, line in enumerate(look.lines, lines):
        fields = _fields(line)
        if fields is None:
            damaged += 1
            continue
        body = fields.pop("body")
        values = (
            {"file_id": file_id, "file": name.removesuffix(".jsonl"), "line": number} | fields | _origin(name)
        )
        values["place"] = f"{_rank(name)}{values['stage']}/{values['step']:09d}/{values['file']}/{number:09d}"
        names = ", ".join(values)
        cursor = connection.execute(
            f"INSERT INTO episodes({names}) VALUES({', '.join('?' * len(values))})", tuple(values.values())
        )
        connection.execute("INSERT INTO texts(rowid, body) VALUES(?, ?)", (cursor.lastrowid, body))
    connection.execute(
        "UPDATE files SET end = ?, inode = ?, size = ?, mtime_ns = ?, witness = ?, lines = ?, damaged = ?"
        " WHERE id = ?",
        (*look.mark, lines + len(look.lines), damaged, file_id),
    )


def _fields(line: Line) -> dict[str, Any] | None:
    """What is kept of an episode; None for a line that is none."""
    try:
        row = json.loads(line.text)
        if not isinstance(row, dict) or not row.keys() >= _NEEDED:
            return None
        errors = [turn["error"] for turn in row["turns"] if turn.get("error")]
        policy = [value for value, own in zip(row["policy_logp"], row["is_policy"], strict=True) if own]
        return {
            "start": line.start,
            "bytes": len(line.text),
            "task": storable(row["task_id"]),
            "env": storable(row["task_id"].split("@", 2)[1]),
            "attempt": int(row["attempt"]),
            "version": int(row["policy_version"]),
            "reward": float(row["reward"]),
            "stop": storable(row["stop_reason"]),
            "turns": len(row["turns"]),
            "errors": len(errors),
            "kinds": "".join(f",{kind}" for kind in sorted(set(errors))) + "," if errors else "",
            "tokens": len(row["token_ids"]),
            "logp": sum(policy) / max(1, len(policy)),
            "body": folded(said(row)),
        }
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, RecursionError):
        return None


def said(row: dict[str, Any]) -> str:
    """The text of an episode that a search looks through: what the policy wrote and what came back."""
    return "\n".join(
        text
        for turn in row["turns"]
        for text in (turn["message"], turn["observation"], turn.get("fault", ""))
        if text
    )


def _origin(name: str) -> dict[str, Any]:
    """Stage, step, split and mode, by the name of the file."""
    stage, _, stem = name.removesuffix(".jsonl").rpartition("/")
    step = logged_step(stem)
    mode = next((mode for mode in _MODES if stem.endswith(f"_{mode}")), "sampled")
    split = "train" if step is not None else stem.removesuffix(f"_{mode}")
    return {"stage": stage, "step": step or 0, "split": split, "mode": mode}


def _rank(name: str) -> int:
    stage = name.rpartition("/")[0]
    return _STAGES.index(stage) if stage in _STAGES else len(_STAGES)


def _age(name: str) -> tuple[int, str]:
    return -_rank(name), name


def _mark(row: sqlite3.Row) -> Mark:
    return Mark(*(row[name] for name in Mark._fields))


def _forget(connection: sqlite3.Connection, name: str) -> None:
    ids = "SELECT id FROM episodes WHERE file_id = (SELECT id FROM files WHERE name = :name)"
    connection.execute(f"DELETE FROM texts WHERE rowid IN ({ids})", {"name": name})
    connection.execute(f"DELETE FROM episodes WHERE id IN ({ids})", {"name": name})
    connection.execute("DELETE FROM files WHERE name = :name", {"name": name})


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _usable(path: Path) -> bool:
    """Whether there is an index of these tables."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(path, timeout=30.0)) as connection:
            return connection.execute("PRAGMA user_version").fetchone()[0] == _VERSION
    except sqlite3.DatabaseError:  # no database, or a damaged one
        return False


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
