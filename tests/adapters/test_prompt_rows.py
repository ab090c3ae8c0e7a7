"""Exported prompts are rows that trainers read, and lead back to the task."""

import json

import pyarrow.parquet
import pytest

from codegym_jax.adapters.openenv.tasks import Tasks
from codegym_jax.cli import main


@pytest.fixture
def rows(task_set, tmp_path):
    def read(suffix, *more):
        out = tmp_path / f"prompts{suffix}"
        assert main(["export", str(task_set), "--format", "prompts", "--out", str(out), *more]) == 0
        if suffix == ".parquet":
            return pyarrow.parquet.read_table(out).to_pylist()
        return [json.loads(line) for line in out.read_text().splitlines()]

    return read


def test_both_formats_hold_the_same(rows):
    assert rows(".parquet") == rows(".jsonl")


def test_a_row_has_the_form_that_trainers_document(rows, tasks, specs):
    for row, task in zip(rows(".parquet", "--split", "train"), tasks, strict=False):
        spec = specs[task.env_id]
        assert row["prompt"] == [{"role": "user", "content": spec.statement.strip()}]
        tools = json.loads(row["tools"])
        assert [tool["function"]["name"] for tool in tools] == [tool.name for tool in spec.tools]
        assert {tool["type"] for tool in tools} == {"function"}
        assert row["answer"] == task.answer_json
        assert json.loads(row["info"])["task_id"] == task.task_id
        assert task.config_json not in json.dumps(row["prompt"]) + row["tools"]


def test_the_index_leads_to_the_task_also_where_some_are_left_out(task_set, sandbox, tasks, rows):
    served = Tasks(task_set, sandbox)
    infos = [json.loads(row["info"]) for row in rows(".jsonl")]
    assert [info["task_id"] for info in infos] == [task.task_id for task in tasks]
    for info in infos:
        assert served.describe(info["split"], info["index"])["env_id"] == info["env_id"]
    assert [info["index"] for info in infos if info["split"] == "train"] == [0, 1, 2, 3, 4]
