"""Fast path, unfused component and this very Python tell the same of a task; `differential.py` is the law."""

import json
import pathlib
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import differential
import pytest
from differential import Comparison, Paths, compare
from odd_calls import odd_calls

from codegym_jax import config
from codegym_jax.config import RunConfig, SandboxConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.envs.codegym_format import load_environment, parse_source, read_rows
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.pipelines.synth import synthesize
from codegym_jax.records import Rejection, Task

ROOT = pathlib.Path(__file__).parents[2]
PUBLISHED = ROOT / "tests" / "fixtures" / "published"
TINY = ROOT / "tests" / "fixtures" / "tiny" / "Test_1__PeekEnv.py"

LITTLE_FUEL = SandboxConfig(fuel_per_call=10_000_000)
ITEM_DEADLINE_S = 300.0  # host backstop: in process, nothing else ends a tool that does not end


def published_tasks() -> list[Task]:
    rows = [row for row in read_rows(PUBLISHED / "rows.jsonl") if not isinstance(row, Rejection)]
    return [task for _, task, _ in rows]


@pytest.fixture(scope="module")
def paths() -> Paths:
    return Paths.open(SandboxConfig())


def test_all_published_tasks_are_there():
    assert len(published_tasks()) == 52


@pytest.mark.parametrize("index", range(52))
def test_a_published_task_is_the_same_on_all_paths(paths, index):
    task = published_tasks()[index]
    comparison = compare(paths, load_environment(PUBLISHED / f"{task.env_id}.py"), task)
    assert comparison.differences == []
    assert comparison.plays == 17
    assert comparison.left_out == 0


def test_the_tiny_task_set_is_the_same_on_all_paths_where_a_tool_never_returns_too(tiny_task_set):
    paths = Paths.open(LITTLE_FUEL)
    task_set = TaskSet.open(tiny_task_set)
    tasks = [task for split in task_set.counts for task in task_set.source(split)]
    comparisons = [compare(paths, task_set.specs[task.env_id], task) for task in tasks]
    assert len(tasks) == 12
    assert [difference for one in comparisons for difference in one.differences] == []
    assert sum(one.left_out for one in comparisons) > 12


OUTSIDE = "(__import__('sys').platform == 'linux')"


@pytest.mark.parametrize(
    ("old", "new", "whats"),
    [
        ("str(self.xs[i])", f"str(self.xs[i]) + ' ' * {OUTSIDE}", {"observations"}),
        ("return ''", f"return '' if {OUTSIDE} else 'Error: no'", {"errors"}),
        ("int(answer == self.get_ref_answer())", f"int({OUTSIDE})", {"reward", "verdict"}),
        ("max(self.xs)", f"max(self.xs) + {OUTSIDE}", {"answer_json", "verdict"}),
        ("for i in range(n)", f"for i in range(n - {OUTSIDE})", {"actions"}),
    ],
)
def test_the_law_sees_every_difference(paths, old, new, whats):
    """Code that knows whether it is in a guest; this process stands for a component that is wrong."""
    source = TINY.read_text(encoding="utf-8").replace("while True:\n            pass", "return ''")
    assert old in source
    spec = parse_source(source.replace(old, new), code_id="Test_1", class_name="PeekEnv")
    task = Task(env_id=spec.env_id, config_json='{"xs":[4,8,15,16,23,42]}')
    found = compare(replace(paths, component=paths.in_process), spec, task).differences
    for path in ("component", "in process"):
        seen = {one.what for one in found if one.way.startswith(path)}
        assert whats <= seen
    assert not [one for one in found if one.way.startswith("fast")]


def test_odd_calls_end_an_episode_and_go_on_after_it():
    spec = load_environment(TINY)
    actions = odd_calls(spec.tools, ['{"name": "Done", "parameters": {"answer": 1}}'], "key")
    assert actions == odd_calls(spec.tools, ['{"name": "Done", "parameters": {"answer": 1}}'], "key")
    assert actions != odd_calls(spec.tools, ['{"name": "Done", "parameters": {"answer": 1}}'], "other key")
    assert json.loads(actions[-4])["name"] == "Done"


@pytest.fixture(scope="module")
def settings() -> RunConfig:
    return config.load(ROOT / "configs" / "smoke_cpu.py")


@pytest.fixture(scope="module")
def smoke_set(settings) -> TaskSet:
    return TaskSet.open(synthesize(settings, default_cache_dir()))


@pytest.mark.slow
def test_every_task_of_the_smoke_set_is_the_same_on_all_paths(settings, smoke_set, capsys, monkeypatch):
    """Tells how far it is, and in the end what was compared."""
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # of the workers: what differs in process differs every time
    with capsys.disabled():
        comparisons = list(compare_all(smoke_set, settings.sandbox))
    assert [one for one in comparisons if isinstance(one, WorkerFailure)] == []
    differences = [difference for one in comparisons for difference in one.differences]
    assert not differences, "\n".join(map(str, differences[:20]))


def all_tasks(task_set: TaskSet) -> list[Task]:
    return [task for split in task_set.counts for task in task_set.source(split)]


def compare_all(task_set: TaskSet, limits: SandboxConfig) -> Iterator[Comparison | WorkerFailure]:
    """Compares every task, in one worker process per core; prints."""
    tasks = all_tasks(task_set)
    items = ((task_set.specs[task.env_id], task) for task in tasks)
    setup = {"initializer": differential.open_paths, "initargs": (limits,), "deadline_s": ITEM_DEADLINE_S}
    counts: Counter[str] = Counter()
    ways: Counter[str] = Counter()
    started_s = time.monotonic()
    for number, one in enumerate(parallel_map(differential.compare_one, items, **setup), start=1):
        if isinstance(one, WorkerFailure):
            ways[f"worker: {one.detail}"] += 1
        else:
            counts += Counter(transcripts=one.plays, steps=one.steps, left_out=one.left_out)
            ways += Counter(f"{difference.way}: {difference.what}" for difference in one.differences)
        if number % 100 == 0 or number == len(tasks):
            print(f"\r{number}/{len(tasks)} tasks, {ways.total()} differences", end="", flush=True)
        yield one
    print(
        f"\n{len(tasks)} tasks of {len(task_set.specs)} environments: {counts['transcripts']} transcripts"
        f" of {counts['steps']} steps compared in {time.monotonic() - started_s:.0f} s; not in process:"
        f" {counts['left_out']} calls that hit a limit"
    )
    for way, count in ways.most_common():
        print(f"  {count} differences: {way}")
