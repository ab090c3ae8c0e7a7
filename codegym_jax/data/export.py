"""Tasks as flat rows for other tools: JSON lines or Parquet.

What differs in form from task to task (config, answer, the tools' schemas) is JSON text, as column stores and
most readers want one type a column. Rows of `task_record` hold all that rebuilds a task, and `codegym import`
takes them back. Rows of `prompt_record` are what trainers read: a prompt to play from, and an answer.

Source: https://huggingface.co/docs/trl/dataset_formats (a prompt as a list of messages; tools may be JSON
text), https://docs.primeintellect.ai/verifiers/environments (prompt, answer, info as JSON text).
"""

import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from codegym_jax.config import UserError
from codegym_jax.data.atomic import replacing
from codegym_jax.data.json_schema import tool_schema
from codegym_jax.data.task_set import TaskSet
from codegym_jax.records import EnvSpec, Task

COLUMNS = {
    "task_id": "string",
    "env_id": "string",
    "split": "string",
    "license": "string",
    "origin": "string",
    "statement": "string",
    "tools_json": "string",
    "environment": "string",
    "config_json": "string",
    "oracle_actions": "strings",
    "oracle_observations": "strings",
    "oracle_calls": "integer",
    "answer_json": "string",
}
"""Name -> type of what a row holds. `tools_json` is a list of function schemas as chat interfaces take them,
`environment` the Python source, `config_json` and `answer_json` are hidden from a policy."""
PROMPT_COLUMNS = {"prompt": "prompt", "tools": "string", "answer": "string", "info": "string"}
"""Of `prompt_record`. `tools` and `info` are JSON text; so is `answer`, which is hidden from a policy."""
_BATCH_ROWS = 1024


class ExportError(UserError):
    """Rows that cannot be written: the message names what, why, and what would do."""


def task_record(spec: EnvSpec, task: Task, split: str) -> dict[str, Any]:
    """A task as one row; its keys are `COLUMNS`."""
    return {
        "task_id": task.task_id,
        "env_id": task.env_id,
        "split": split,
        "license": spec.license,
        "origin": spec.origin,
        "statement": spec.statement,
        "tools_json": json.dumps([tool_schema(tool) for tool in spec.tools]),
        "environment": spec.source,
        "config_json": task.config_json,
        "oracle_actions": list(task.oracle_actions),
        "oracle_observations": list(task.oracle_observations),
        "oracle_calls": len(task.oracle_actions),
        "answer_json": task.answer_json,
    }


def prompt_record(spec: EnvSpec, task: Task, split: str, index: int) -> dict[str, Any]:
    """A task as a prompt for trainers; its keys are `PROMPT_COLUMNS`.

    Args:
      spec: its environment.
      task: the task.
      split: that it is in.
      index: its place there, by which the servers of a task set find it.
    """
    info = {
        "task_id": task.task_id,
        "env_id": task.env_id,
        "split": split,
        "index": index,
        "license": spec.license,
        "origin": spec.origin,
        "oracle_calls": len(task.oracle_actions),
    }
    return {
        "prompt": [{"role": "user", "content": spec.statement.strip()}],
        "tools": json.dumps([tool_schema(tool) for tool in spec.tools]),
        "answer": task.answer_json,
        "info": json.dumps(info),
    }


def task_records(task_set: TaskSet, splits: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The rows of some splits, one after the other."""
    for split in splits:
        for task in task_set.source(split):
            yield task_record(task_set.specs[task.env_id], task, split)


def write_jsonl(path: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Writes one JSON object a line, whole or not at all; returns how many."""
    count = 0
    with replacing(path) as partial, partial.open("w", encoding="utf-8", newline="\n") as file:
        for record in records:
            file.write(json.dumps(record) + "\n")
            count += 1
    return count


def write_parquet(
    path: pathlib.Path, records: Iterable[Mapping[str, Any]], columns: Mapping[str, str] = COLUMNS
) -> int:
    """Writes a Parquet file, whole or not at all; returns how many rows.

    Args:
      path: of the file.
      records: each with the keys of `columns`.
      columns: name -> type: "string", "strings", "integer", "messages" of a chat, or a "prompt" of messages
        without calls.

    Raises:
      ExportError: when the package pyarrow is missing, or a text has no UTF-8 form.
    """
    arrow, parquet = _pyarrow()
    text = arrow.string()
    function = arrow.struct([("name", text), ("arguments", text)])
    call = arrow.struct([("id", text), ("type", text), ("function", function)])
    message = arrow.struct(
        [("role", text), ("content", text), ("tool_calls", arrow.list_(call)), ("tool_call_id", text)]
    )
    types = {
        "string": text,
        "strings": arrow.list_(text),
        "integer": arrow.int64(),
        "messages": arrow.list_(message),
        "prompt": arrow.list_(arrow.struct([("role", text), ("content", text)])),
    }
    schema = arrow.schema([(name, types[kind]) for name, kind in columns.items()])
    count = 0
    with (
        replacing(path) as partial,
        parquet.ParquetWriter(partial, schema, compression="zstd", use_dictionary=True) as writer,
    ):
        remaining = iter(records)
        while batch := list(itertools.islice(remaining, _BATCH_ROWS)):
            for record in batch:
                _check_text(record)
            writer.write_table(arrow.Table.from_pylist([dict(record) for record in batch], schema=schema))
            count += len(batch)
    return count


def read_parquet(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """The rows of any Parquet file, in order.

    Raises:
      ExportError: when the package pyarrow is missing, or the file is none.
    """
    arrow, parquet = _pyarrow()
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                yield from batch.to_pylist()
    except (arrow.ArrowException, OSError) as error:
        raise ExportError(f"{path}: not a Parquet file that can be read: {error}") from error


def _check_text(record: Mapping[str, Any]) -> None:
    """Refuses lone surrogates: Python strings, hence tools' results, may hold them, Parquet may not."""
    for name, value in record.items():
        for text in value if isinstance(value, list) else [value]:
            try:
                (text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)).encode("utf-8")
            except UnicodeEncodeError as error:
                subject = record.get("task_id") or record.get("env_id") or json.dumps(record["prompt"])
                raise ExportError(
                    f"{subject[:200]!r}: {name} has a character without a UTF-8 form, which Parquet"
                    " cannot hold; export it with --format jsonl"
                ) from error


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ExportError("Parquet needs the package pyarrow: pip install pyarrow") from error
    return pyarrow, pyarrow.parquet
