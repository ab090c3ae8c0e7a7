"""The whole of synthesis on a few problems, in real guests."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from codegym_jax.cli import main
from codegym_jax.config import ConfigError, DataConfig, RunConfig, SynthesisConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.check import replay
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.synth import export, synthesize, task_set_digest
from codegym_jax.synthesis.problems import Loaded, Problem

SHELF = Path(__file__).parents[1] / "fixtures" / "shelf"
DATA = DataConfig(heldout_environments=1, validation_configs=2, test_configs=3)


def config(workers: int = 1, learnable: int = 12, problems: int = 20) -> RunConfig:
    synthesis = SynthesisConfig(
        sources=(str(SHELF),),
        problems_per_source=problems,
        own_license="Apache-2.0",
        tasks_per_environment=20,
        learnable_environments=learnable,
        tasks_per_learnable_environment=12,
        workers=workers,
    )
    return RunConfig(seed=0, synthesis=synthesis, data=DATA)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(config(), tmp_path_factory.mktemp("one_worker"))


@pytest.fixture(scope="module")
def task_set(folder: Path) -> TaskSet:
    return TaskSet.open(folder)


@pytest.mark.parametrize(("things", "last"), [("environments", "near_duplicate"), ("tasks", "task_set")])
def test_everything_that_enters_a_stage_passes_it_or_leaves_it_for_a_reason(task_set: TaskSet, things, last):
    is_task = things == "tasks"
    rows = [row for row in task_set.manifest["funnel"] if (row["things"] == "tasks") == is_task]
    assert rows[-1]["stage"] == last
    for row in rows:
        assert row["entered"] == row["passed"] + sum(row["left"].values()), row
        assert all(count > 0 for count in row["left"].values())
    for row, following in itertools.pairwise(rows):
        assert following["entered"] == row["passed"] + following.get("added", 0)
    whole = {"environments": len(task_set.specs), "tasks": sum(task_set.counts.values())}
    assert rows[-1]["passed"] == whole[things] > 0


def test_every_problem_enters_and_every_refusal_is_counted(task_set: TaskSet):
    manifest = task_set.manifest
    first = manifest["funnel"][0]
    assert (first["stage"], first["entered"], manifest["problems"]) == ("problems", 11, 11)
    assert manifest["environments"] == len(task_set.specs) >= 4
    for row in manifest["funnel"]:
        if row["things"] != "tasks":
            assert all(manifest["rejections"][reason] >= count for reason, count in row["left"].items())


def test_of_twins_one_is_kept(task_set: TaskSet):
    left = {
        row["stage"]: row["left"] for row in task_set.manifest["funnel"] if row["things"] == "environments"
    }
    assert left["near_duplicate"] == {"near_duplicate": 1}
    assert len([env_id for env_id in task_set.specs if "__Longest" in env_id]) == 1


def test_splits_are_by_environment_and_by_config(task_set: TaskSet):
    environments = {split: {task.env_id for task in task_set.source(split)} for split in task_set.counts}
    families = {env_id: features["family"] for env_id, features in task_set.features.items()}
    heldout = {families[env_id] for env_id in environments["test_env"]}
    assert heldout and not heldout & {families[env_id] for env_id in environments["train"]}
    assert not environments["test_env"] & (environments["train"] | environments["general"])
    assert environments["train"] == environments["test_config"] == environments["validation_config"]
    assert environments["train"] | environments["test_env"] == set(task_set.manifest["learnable"])
    assert set(task_set.specs) - set(task_set.manifest["learnable"]) == environments["general"]


def test_a_task_replays_on_a_fresh_guest(task_set: TaskSet):
    sandbox = Sandbox()
    for split in ("train", "general"):
        task = task_set.source(split)[0]
        spec = task_set.specs[task.env_id]
        observations, reward = replay(sandbox, spec, task.config_json, task.oracle_actions)
        assert reward == 1.0
        assert tuple(observations[:-1]) == task.oracle_observations[:-1]


def test_observations_of_observe_hold_no_hidden_value(task_set: TaskSet):
    for split in ("train", "general"):
        for task in task_set.source(split):
            told = json.loads(task.oracle_observations[0])
            hidden = set(told.pop("hidden"))
            inputs = json.loads(task.config_json)
            assert hidden and told == {name: inputs[name] for name in inputs if name not in hidden}


def test_learnable_tasks_are_tiny(task_set: TaskSet):
    for env_id in task_set.manifest["learnable"]:
        measured = task_set.features[env_id]
        assert measured["tiny"]["tasks"] == measured["tasks"] > 6
        assert max(measured["oracle_calls"]) <= 24


def test_the_number_of_workers_changes_no_byte(folder: Path, tmp_path: Path):
    other = synthesize(config(workers=2), tmp_path)
    assert other.name == folder.name
    assert (other / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_a_task_set_made_before_is_found(folder: Path):
    stamp = (folder / "manifest.json").stat().st_mtime_ns
    assert synthesize(config(), folder.parent) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == stamp


def test_nothing_is_left_of_the_journal(folder: Path):
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_digest_follows_what_the_bytes_depend_on():
    problem = Problem(code_id="P_1", origin="o", license="MIT", statement="s", source="", entry="f")
    digest = task_set_digest(config(), Loaded((problem,), ()))
    same = replace(config(workers=2), style="hermes", data=replace(DATA, max_vocabulary=300))
    assert task_set_digest(same, Loaded((problem,), ())) == digest
    for settings, problems in (
        (config(learnable=4), [problem]),
        (replace(config(), data=replace(DATA, test_configs=4)), [problem]),
        (config(), [problem, problem]),
        (config(), [replace(problem, source="x = 1")]),
    ):
        assert task_set_digest(settings, Loaded(tuple(problems), ())) != digest


def test_too_few_learnable_environments_are_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"data\.heldout_environments"):
        synthesize(config(learnable=1, problems=3), tmp_path)


def test_export_writes_a_new_folder_only(folder: Path, tmp_path: Path):
    copy = export(folder, tmp_path / "copy")
    assert (copy / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()
    with pytest.raises(ConfigError, match="new folder"):
        export(folder, copy)


def test_options_after_two_dashes_are_beams_and_need_a_runner_of_its(capsys):
    smoke = str(Path(__file__).parents[2] / "configs" / "smoke_cpu.py")
    assert main(["synth", smoke, "--set", "seed=1", "--", "--project=mine"]) == 2
    assert "give --runner direct or dataflow too" in capsys.readouterr().err
    assert main(["synth", smoke, "--runner", "dataflow", "--", "--project=mine", "--region=r"]) == 2
    assert "--temp_location=..." in capsys.readouterr().err
