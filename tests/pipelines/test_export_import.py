"""Rows become a verified task set; what it exports becomes the same tasks again; a kill costs nothing."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from codegym_jax.cli import main
from codegym_jax.config import ConfigError, DataConfig, UserError
from codegym_jax.data.export import ExportError, read_parquet
from codegym_jax.data.task_set import TaskSet, TaskSetError
from codegym_jax.envs.codegym_format import load_environment, task_row
from codegym_jax.pipelines.export import export_task_set
from codegym_jax.pipelines.import_rows import ImportResult, import_rows
from codegym_jax.pipelines.journal import Journal
from codegym_jax.pipelines.workbench import check_task_set
from codegym_jax.records import Task

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published"
PEEK = Path(__file__).parents[1] / "fixtures" / "tiny" / "Test_1__PeekEnv.py"
ROWS = PUBLISHED / "rows.jsonl"
DATA = DataConfig(heldout_environments=2, validation_configs=1, test_configs=1)


def run(files: list[Path], out: Path, **settings) -> ImportResult:
    return import_rows(files, out, **({"license": "CC-BY-NC-4.0", "data": DATA, "workers": 1} | settings))


def peek_rows(folder: Path, *more: dict | str, count: int = 4) -> Path:
    """Rows of one environment, each with its source, then others as they are."""
    spec = load_environment(PEEK)
    tasks = [Task(env_id=spec.env_id, config_json=f'{{"xs":[{n},5]}}') for n in range(count)]
    rows = [*(task_row(spec, task, index) for index, task in enumerate(tasks)), *more]
    path = folder / "peek.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def all_tasks(task_set: TaskSet) -> dict[str, tuple[str, Task]]:
    return {task.task_id: (split, task) for split in task_set.counts for task in task_set.source(split)}


def file_bytes(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def imported(tmp_path_factory) -> TaskSet:
    folder = tmp_path_factory.mktemp("imported") / "set"
    result = run([ROWS, PUBLISHED], folder)
    assert result.folder == folder and not result.rejections
    return TaskSet.open(folder)


def test_published_rows_become_a_task_set_to_train_on(imported):
    count = len(ROWS.read_text().splitlines())
    assert sum(imported.counts.values()) == imported.manifest["tasks"] == count
    assert len(imported.specs) == len(list(PUBLISHED.glob("*.py")))
    assert {spec.license for spec in imported.specs.values()} == {"CC-BY-NC-4.0"}
    assert {spec.origin for spec in imported.specs.values()} == {"rows.jsonl"}
    assert all(spec.statement for spec in imported.specs.values())
    assert imported.counts["test_env"] > 0
    check_task_set(imported.folder)
    assert (imported.folder / "README.md").is_file() and (imported.folder / "card.html").is_file()
    assert [path.name for path in imported.folder.parent.iterdir()] == ["set"]


def test_the_number_of_workers_changes_no_byte(imported, tmp_path):
    run([ROWS, PUBLISHED], tmp_path / "set", workers=2)
    assert file_bytes(tmp_path / "set") == file_bytes(imported.folder)


@pytest.mark.parametrize("format", ["jsonl", "parquet", "published"])
def test_what_is_exported_comes_back_the_same(imported, tmp_path, format):
    out = tmp_path / ("rows" if format == "published" else f"rows.{format}")
    count, paths = export_task_set(imported.folder, out, format)
    assert count == sum(imported.counts.values())
    run(paths, tmp_path / "again", license="")
    again = TaskSet.open(tmp_path / "again")
    assert all_tasks(again) == all_tasks(imported)
    assert again.specs == imported.specs


def test_a_task_that_carries_no_source_finds_it_in_an_environment_row(imported, tmp_path):
    _, (tasks, environments) = export_task_set(imported.folder, tmp_path / "rows", "published")
    rows = [json.loads(line) for line in tasks.read_text().splitlines()]
    for row in rows:
        del row["extra_info"]["gym_env"], row["extra_info"]["origin"], row["extra_info"]["license"]
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    described = [json.loads(line) for line in environments.read_text().splitlines()]
    assert described[0].keys() == {"env_code", "env_name", "source"}
    run([tasks, environments], tmp_path / "again")
    assert TaskSet.open(tmp_path / "again").specs == imported.specs


def test_export_takes_what_is_wanted(imported, tmp_path):
    count, _ = export_task_set(imported.folder, tmp_path / "a.parquet", "parquet", splits=["test_env"])
    rows = list(read_parquet(tmp_path / "a.parquet"))
    assert count == len(rows) == imported.counts["test_env"]
    assert {row["split"] for row in rows} == {"test_env"}
    one = export_task_set(imported.folder, tmp_path / "b.jsonl", "jsonl", licenses=["CC-BY-NC-4.0"])[0]
    assert one == sum(imported.counts.values())
    with pytest.raises(TaskSetError, match=r"license 'MIT'; there are: 'CC-BY-NC-4\.0'"):
        export_task_set(imported.folder, tmp_path / "c.jsonl", "jsonl", licenses=["MIT"])
    with pytest.raises(ExportError, match=r"no task is left to export; .* 0 in general"):
        export_task_set(imported.folder, tmp_path / "c.jsonl", "jsonl", splits=["general"])
    with pytest.raises(ExportError, match="--out must name a file"):
        export_task_set(imported.folder, tmp_path, "jsonl")
    with pytest.raises(ExportError, match="--out must name a folder"):
        export_task_set(imported.folder, tmp_path / "b.jsonl", "published")


def test_everything_refused_is_counted_in_the_funnel(tmp_path):
    source = PEEK.read_text()
    broken = source.replace("return max(self.xs)", "return min(self.xs) - 1").replace("PeekEnv", "PokeEnv")
    rows = peek_rows(
        tmp_path,
        "not JSON",
        {"ability": "codegym_v1@Test_1__PeekEnv@[]"},
        {"ability": 'codegym_v1@Test_1__PeekEnv@{"xs":[0,5]}'},  # as the first
        {"ability": 'codegym_v1@Test_1__PeekEnv@{"xs":[9,9]}', "extra_info": {"gym_env": source + "#"}},
        {"ability": 'codegym_v1@Test_1__PeekEnv@{"xs":[8,9]}'},  # its source stands above
        {"ability": 'codegym_v1@Gone_1__GoneEnv@{"xs":[1]}'},
        {"ability": 'codegym_v1@Bad_1__BadEnv@{"xs":[1]}', "extra_info": {"gym_env": "class BadEnv(:"}},
        {"ability": 'codegym_v1@Test_2__PokeEnv@{"xs":[1,2]}', "extra_info": {"gym_env": broken}},
        {"ability": 'codegym_v1@Test_1__../Env@{"xs":[1]}'},
    )
    result = run([rows], tmp_path / "set")
    assert (result.environments, result.tasks) == (1, 5)
    funnel = {(row["things"], row["stage"]): row for row in result.funnel}
    assert funnel["environments", "parse"]["left"] == {"bad_environment": 1}
    assert funnel["environments", "tasks"]["left"] == {"no_task_verified": 1}
    assert funnel["tasks", "read"] == {
        "stage": "read",
        "things": "tasks",
        "entered": 13,
        "left": {"bad_row": 3, "duplicate": 1, "other_source": 1, "unknown_environment": 1},
        "passed": 7,
    }
    assert funnel["tasks", "environment"]["left"] == {"bad_environment": 1}
    assert funnel["tasks", "verify"]["left"] == {"oracle_fails": 1}
    assert funnel["tasks", "verify"]["passed"] == 5
    assert TaskSet.open(tmp_path / "set").manifest["funnel"] == list(result.funnel)
    subjects = {rejection.subject for rejection in result.rejections if rejection.reason == "bad_row"}
    assert subjects == {f"{rows}:{number}" for number in (5, 6, 13)}


def test_what_was_verified_is_not_verified_again(tmp_path):
    """The first import ends where it writes: no folder can have the temporary name of so long a name."""
    rows, long = peek_rows(tmp_path), "x" * 230
    with pytest.raises(OSError, match="File name too long"):
        run([rows], tmp_path / long)
    (tmp_path / f".{long}.import").rename(tmp_path / ".set.import")
    with Journal(tmp_path / ".set.import") as journal:
        ((key, judged),) = ((key, pickle.loads(packed)) for key, packed in journal.results.items())
        journal.put(key, pickle.dumps(replace(judged, tasks=judged.tasks[:3])))  # to be told apart
    assert run([rows], tmp_path / "set").tasks == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["peek.jsonl", "set"]


def test_a_row_s_license_wins_over_the_one_given(tmp_path):
    rows = peek_rows(tmp_path)
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    for line in lines:
        line["extra_info"] |= {"license": "MIT", "origin": "mine"}
    rows.write_text("".join(json.dumps(line) + "\n" for line in lines))
    run([rows], tmp_path / "set")
    (spec,) = TaskSet.open(tmp_path / "set").specs.values()
    assert (spec.license, spec.origin) == ("MIT", "mine")


def test_rows_without_a_license_need_one(tmp_path):
    with pytest.raises(ConfigError, match=r"peek\.jsonl:1: the row names no license; .* --license"):
        run([peek_rows(tmp_path)], tmp_path / "set", license="")


def test_mistakes_are_named(tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="there exists"):
        run([ROWS], tmp_path / "there")
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        run([tmp_path / "none.jsonl"], tmp_path / "set")


def test_the_commands(capsys, tmp_path):
    rows, folder, out = peek_rows(tmp_path), tmp_path / "set", tmp_path / "out.jsonl"
    arguments = ["import", str(rows), "--out", str(folder), "--license", "MIT", "--workers", "1"]
    assert main([*arguments, "--heldout-environments", "0"]) == 0
    assert "1 environments with 4 verified tasks" in capsys.readouterr().out
    assert main(["export", str(folder), "--format", "jsonl", "--out", str(out), "--license", "MIT"]) == 0
    assert capsys.readouterr().out == f"4 tasks: {out}\n"
    assert main(["card", str(folder), "--out", str(tmp_path / "card")]) == 0
    assert "card.html" in capsys.readouterr().out
    assert main(["import", str(rows), "--out", str(folder), "--license", "MIT"]) == 2
    assert "exists" in capsys.readouterr().err
    shutil.rmtree(folder)
    rows.write_text('{"ability": 1}\n')
    assert main(arguments) == 1
    assert "bad_row" in capsys.readouterr().err
