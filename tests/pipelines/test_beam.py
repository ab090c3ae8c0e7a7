"""The same stages in Apache Beam: the same bytes."""

from pathlib import Path

import pytest

from codegym_jax.config import ConfigError, DataConfig, RunConfig, SynthesisConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.pool import WorkerFailure
from codegym_jax.pipelines.beam import BeamWorkers
from codegym_jax.pipelines.synth import synthesize
from codegym_jax.pipelines.workers import EXTEND, MAKE, LocalWorkers, unpack
from codegym_jax.synthesis.problems import Problem, load_problems
from codegym_jax.synthesis.stages import environments_of

CONFIG = RunConfig(
    synthesis=SynthesisConfig(
        seed=161,
        sources=("humaneval",),
        problems_per_source=6,
        tasks_per_environment=10,
        learnable_environments=0,
        tasks_per_learnable_environment=12,
        workers=1,
    ),
    data=DataConfig(heldout_environments=0),
)


def test_beam_gives_the_bytes_of_a_local_run(tmp_path: Path):
    local = synthesize(CONFIG, tmp_path / "local")
    beam = synthesize(CONFIG, tmp_path / "beam", runner="direct")
    assert TaskSet.open(beam).manifest["files"] == TaskSet.open(local).manifest["files"]
    assert (beam / "manifest.json").read_bytes() == (local / "manifest.json").read_bytes()
    assert [path.name for path in beam.parent.iterdir()] == [beam.name]


def test_extending_is_the_same_too(tmp_path: Path):
    problems = load_problems(CONFIG.synthesis.sources, 6, CONFIG.synthesis.seed)
    local = LocalWorkers(CONFIG.sandbox, CONFIG.synthesis)
    packed = [
        result for _, result in local.map(MAKE, {problem.code_id: problem for problem in problems}, tmp_path)
    ]
    made = [one for result in packed if isinstance(result, bytes) for one in environments_of(unpack(result))]
    items = {one.spec.env_id: one for one in made[:2]}
    beam = BeamWorkers(CONFIG.sandbox, CONFIG.synthesis, "direct", [])
    assert len(items) == 2
    assert dict(beam.map(EXTEND, items, tmp_path)) == dict(local.map(EXTEND, items, tmp_path))


def test_a_result_that_is_there_is_not_made_again_and_a_failure_stops_nothing_else(tmp_path: Path):
    """An item that is no problem fails in its worker; when it is one, the same call makes it."""
    problem = Problem(code_id="P_2", origin="o", license="MIT", statement="s", source="x =", entry="f")
    folder = tmp_path / "set.partial"
    workers = BeamWorkers(CONFIG.sandbox, CONFIG.synthesis, "direct", [])
    (one, failed), (two, refused) = workers.map(MAKE, {"P_1": None, "P_2": problem}, folder)
    assert (one, two) == ("P_1", "P_2")
    assert isinstance(failed, WorkerFailure) and "None" in failed.detail
    assert isinstance(refused, bytes) and len(unpack(refused)) == 1
    stamp = (folder / "beam" / MAKE / "P_2.result").stat().st_mtime_ns
    results = dict(workers.map(MAKE, {"P_1": problem, "P_2": problem}, folder))
    assert results == {"P_1": refused, "P_2": refused}
    assert (folder / "beam" / MAKE / "P_2.result").stat().st_mtime_ns == stamp


def test_dataflow_says_which_options_it_lacks():
    options = ["--project=mine", "--region=europe-west4"]
    with pytest.raises(ConfigError, match=r"--temp_location=\.\.\.$"):
        BeamWorkers(CONFIG.sandbox, CONFIG.synthesis, "dataflow", options)
