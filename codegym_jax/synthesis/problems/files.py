"""Files of problems, a row each: JSON lines, also gzipped, and Parquet."""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import PROBLEM_FILES
from codegym_jax.records import Rejection
from codegym_jax.synthesis.problems import rows
from codegym_jax.synthesis.problems.problem import Problem, ProblemError

_BATCH_ROWS = 256


class RowFile:
    """A source: every row is a candidate. The file is read once for the ids, then for each block of rows."""

    def __init__(self, path: Path, own_license: str):
        """Checks every row and notes its id.

        Args:
          path: the file; its ending tells the format.
          own_license: of rows that name none.

        Raises:
          ProblemError: naming file, row, field, value and fix.
        """
        self._path, self._own_license = path, own_license
        self._row_of: dict[str, int] = {}
        self._repeated: set[str] = set()
        for number, row in _checked_rows(path):
            code_id = rows.code_id(row, path.name.partition(".")[0])
            if code_id in self._row_of:
                code_id = f"{code_id}_row{number}"
                self._repeated.add(code_id)
            self._row_of[code_id] = number

    @property
    def code_ids(self) -> Sequence[str]:
        """One for every row; a row that repeats another's id has its number in it."""
        return list(self._row_of)

    def build(self, code_ids: Sequence[str]) -> Iterator[Problem | Rejection]:
        """The problems of those ids, in that order, or why there is none."""
        wanted = {self._row_of[code_id] for code_id in code_ids}
        found = {number: row for number, row in _checked_rows(self._path) if number in wanted}
        for code_id in code_ids:
            if code_id in self._repeated:
                yield Rejection(reason="duplicate_id", subject=code_id)
            else:
                row = found[self._row_of[code_id]]
                yield rows.problem_of(row, code_id, self._path.name, self._own_license)


def is_row_file(name: str) -> bool:
    """Whether a name ends like a file of rows."""
    return name.endswith(PROBLEM_FILES)


def _checked_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(number from 1, row) of every row."""
    read = _parquet_rows if path.name.endswith(".parquet") else _json_rows
    for number, row in read(path):
        yield number, rows.checked(row, f"{path}, row {number}")


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row) of every line that is not blank."""
    number = 0
    try:
        with gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield number, json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ProblemError(f"{path}, row {number}: not UTF-8 ({error}); save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise ProblemError(
            f"{path}, row {number}: not JSON ({error}); a row is one object on one line"
        ) from error
    except (OSError, EOFError, zlib.error) as error:
        raise ProblemError(f"{path}: cannot be read after row {number} ({error}); fetch it again") from error


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ProblemError(f"{path}: reading Parquet takes pyarrow; run: pip install pyarrow") from error
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise ProblemError(f"{path}: no Parquet file ({error}); fetch it again") from error
