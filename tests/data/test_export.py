"""Exported rows say everything, in either format alike, and nothing is written by halves."""

import json
import sys

import pytest

from codegym_jax.data.export import (
    COLUMNS,
    ExportError,
    read_parquet,
    task_record,
    write_jsonl,
    write_parquet,
)
from codegym_jax.records import EnvSpec, ParameterSpec, Task, ToolSpec

SPEC = EnvSpec(
    code_id="Own_1",
    class_name="XEnv",
    source="# é\r\n",
    tools=(
        ToolSpec(name="Get", parameters=(ParameterSpec(name="at", type_name="list[int]"),), doc="Reads."),
    ),
    statement="What?",
    license="MIT",
    origin="mine",
)
TASK = Task(
    env_id=SPEC.env_id,
    config_json='{"xs":[1]}',
    oracle_actions=('{"name": "Get", "parameters": {"at": [0]}}', "done"),
    oracle_observations=("1", "é"),
    answer_json="null",
)
RECORD = task_record(SPEC, TASK, "train")


def test_a_row_holds_everything():
    assert RECORD.keys() == COLUMNS.keys()
    assert json.loads(RECORD["tools_json"])[0]["function"]["parameters"]["properties"] == {
        "at": {"type": "array", "items": {"type": "integer"}}
    }
    rebuilt = Task(
        env_id=RECORD["env_id"],
        config_json=RECORD["config_json"],
        oracle_actions=tuple(RECORD["oracle_actions"]),
        oracle_observations=tuple(RECORD["oracle_observations"]),
        answer_json=RECORD["answer_json"],
    )
    assert rebuilt == TASK
    assert (RECORD["split"], RECORD["license"], RECORD["origin"]) == ("train", "MIT", "mine")


@pytest.mark.parametrize("count", [0, 1, 2500])
def test_both_formats_read_back_the_same(tmp_path, count):
    records = [RECORD | {"config_json": str(number)} for number in range(count)]
    assert write_jsonl(tmp_path / "rows.jsonl", records) == count
    assert write_parquet(tmp_path / "rows.parquet", iter(records)) == count
    lines = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == list(read_parquet(tmp_path / "rows.parquet")) == records
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.jsonl", "rows.parquet"]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_parquet(tmp_path / name, [RECORD] * 3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_parquet_cannot_hold_is_named_and_the_old_file_stays(tmp_path):
    path = tmp_path / "rows.parquet"
    write_parquet(path, [RECORD])
    before = path.read_bytes()
    odd = RECORD | {"oracle_observations": ["1", "\ud800"]}
    with pytest.raises(ExportError, match=r"Own_1__XEnv.*oracle_observations .* --format jsonl"):
        write_parquet(path, [RECORD, odd])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write_jsonl(tmp_path / "rows.jsonl", [odd])
    assert json.loads((tmp_path / "rows.jsonl").read_text()) == odd


def test_a_file_that_is_no_parquet_is_named(tmp_path):
    (tmp_path / "rows.parquet").write_text("{}")
    with pytest.raises(ExportError, match=r"rows\.parquet: not a Parquet file"):
        list(read_parquet(tmp_path / "rows.parquet"))
    with pytest.raises(ExportError, match="none: not a Parquet file"):
        list(read_parquet(tmp_path / "none"))


def test_a_missing_pyarrow_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ExportError, match="pip install pyarrow"):
        write_parquet(tmp_path / "rows.parquet", [RECORD])
    assert list(tmp_path.iterdir()) == []
