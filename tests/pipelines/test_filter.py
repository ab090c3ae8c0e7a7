"""`codegym filter` on a real tiny policy: the right tasks are kept, and a kill changes no byte."""

import dataclasses
import json
import shutil

import pytest

from codegym_jax.config import ConfigError
from codegym_jax.data.splits import SPLITS, TEST_CONFIG, TRAIN
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.pipelines import pass_rates
from codegym_jax.pipelines.filter import PassRateBounds, filter_task_set
from codegym_jax.pipelines.pass_rates import PassRate
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.optimizer import make_optimizer

BOUNDS = PassRateBounds(tries=3, max_pass_rate=0.4, seed=5)


@pytest.fixture(scope="module")
def run(tiny_task_set, tiny_config, tmp_path_factory):
    """A run whose policy solves some tasks, some of the time."""
    folder = tmp_path_factory.mktemp("runs") / "policy"
    config = dataclasses.replace(tiny_config, sft=dataclasses.replace(tiny_config.sft, steps=90))
    open_run(config, folder)
    bench = Workbench(config, folder, default_cache_dir())
    bench.adopt_task_set(tiny_task_set)
    run_sft(bench)
    return folder


@pytest.fixture(scope="module")
def filtered(tiny_task_set, run, tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "hard"
    assert filter_task_set(tiny_task_set, run, out, BOUNDS, default_cache_dir()) == out
    return out


def rates_of(out) -> dict[str, PassRate]:
    lines = (out.parent / f"{out.name}.filter" / "pass_rates.jsonl").read_text().splitlines()
    return {rate.task_id: rate for rate in (PassRate(**json.loads(line)) for line in lines)}


def tasks_of(folder) -> dict[str, str]:
    task_set = TaskSet.open(folder)
    return {task.task_id: split for split in SPLITS for task in task_set.source(split)}


def files_of(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_tasks_within_the_bounds_are_kept_with_their_splits(tiny_task_set, filtered):
    before, rates = tasks_of(tiny_task_set), rates_of(filtered)
    assert rates.keys() == before.keys()
    assert all(rate.attempts == 3 and sum(rate.stops.values()) == 3 for rate in rates.values())
    wanted = {name for name, rate in rates.items() if rate.rate <= 0.4}
    assert 0 < len(wanted) < len(before), "else the policy is no test of the filter"
    assert tasks_of(filtered) == {name: split for name, split in before.items() if name in wanted}


def test_the_manifest_tells_what_left_and_why(tiny_task_set, filtered):
    before, after = TaskSet.open(tiny_task_set), TaskSet.open(filtered)
    kept = len(tasks_of(filtered))
    assert after.manifest["funnel"][-1] == {
        "stage": "policy_pass_rate",
        "things": "tasks",
        "entered": 12,
        "left": {"passed_too_often": 12 - kept},
        "passed": kept,
    }
    assert after.manifest["filter"]["task_set"] == before.digest
    assert (after.manifest["tasks"], after.manifest["environments"]) == (kept, 1)
    kept_rates = [rate.rate for name, rate in rates_of(filtered).items() if name in tasks_of(filtered)]
    [features] = after.features.values()
    assert features["pass_rate"] == pytest.approx(sum(kept_rates) / len(kept_rates), abs=1e-4)


def test_a_second_time_gives_the_same_bytes_and_attempts_nothing(
    tiny_task_set, run, filtered, tmp_path, monkeypatch
):
    again = filter_task_set(tiny_task_set, run, tmp_path / "hard", BOUNDS, default_cache_dir())
    assert files_of(again) == files_of(filtered)
    assert rates_of(again) == rates_of(filtered)
    monkeypatch.delattr(pass_rates, "Workbench")  # what plays
    assert filter_task_set(tiny_task_set, run, filtered, BOUNDS, default_cache_dir()) == filtered


class PowerCut(Exception):
    pass


class FailingBench(Workbench):
    """Loses power when the fourth task has been noted, and leaves half a line."""

    def play(self, params, requests, *, on_episode, **settings):
        ended = []

        def failing(episode):
            on_episode(episode)
            ended.append(episode)
            journal = self.folder.parent / "pass_rates.jsonl"
            if journal.read_text().count("\n") == 4:
                with journal.open("a") as file:
                    file.write('{"task_id": "codeg')
                raise PowerCut

        return super().play(params, requests, on_episode=failing, **settings)


def test_a_killed_command_goes_on_with_the_policy_that_it_began_with(
    tiny_task_set, run, filtered, tmp_path, monkeypatch
):
    """Whatever becomes of its run in the meantime."""
    out = tmp_path / "hard"
    with monkeypatch.context() as patched:
        patched.setattr(pass_rates, "Workbench", FailingBench)
        with pytest.raises(PowerCut):
            filter_task_set(tiny_task_set, run, out, BOUNDS, default_cache_dir())
    assert not out.exists()
    journal = tmp_path / "hard.filter" / "pass_rates.jsonl"
    assert len(journal.read_text().split("\n")) == 5
    elsewhere = tmp_path / "run"
    elsewhere.mkdir()
    assert filter_task_set(tiny_task_set, elsewhere, out, BOUNDS, default_cache_dir()) == out
    assert files_of(out) == files_of(filtered)
    assert journal.read_bytes() == (filtered.parent / "hard.filter" / "pass_rates.jsonl").read_bytes()


def test_other_bounds_cost_no_attempts(tiny_task_set, run, filtered, tmp_path, monkeypatch):
    out = tmp_path / "hard"
    filter_task_set(tiny_task_set, run, out, BOUNDS, default_cache_dir())
    out.rename(tmp_path / "other")
    monkeypatch.delattr(pass_rates, "Workbench")
    easy = dataclasses.replace(BOUNDS, min_pass_rate=0.5, max_pass_rate=1.0)
    filter_task_set(tiny_task_set, run, out, easy, default_cache_dir())
    assert {*tasks_of(out)} == {*tasks_of(tiny_task_set)} - {*tasks_of(tmp_path / "other")}
    assert TaskSet.open(out).manifest["funnel"][-1]["left"].keys() == {"passed_too_rarely"}


def test_tasks_of_other_splits_are_kept_unattempted(tiny_task_set, run, filtered, tmp_path):
    bounds = dataclasses.replace(BOUNDS, splits=(TRAIN,))
    out = filter_task_set(tiny_task_set, run, tmp_path / "hard", bounds, default_cache_dir())
    before, whole = tasks_of(tiny_task_set), rates_of(filtered)
    assert rates_of(out) == {name: rate for name, rate in whole.items() if before[name] == TRAIN}
    assert [*tasks_of(out).values()].count(TEST_CONFIG) == [*before.values()].count(TEST_CONFIG) > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tries": 0}, "--tries must be at least 1, got 0"),
        ({"min_pass_rate": 0.5}, r"--max-pass-rate must be in \[0.5, 1\], got 0.25"),
        ({"max_pass_rate": 1.5}, r"--max-pass-rate must be in \[0.0, 1\], got 1.5"),
        ({"splits": ("tests",)}, "--split must be among train"),
    ],
)
def test_bad_bounds_are_named(settings, message):
    with pytest.raises(ConfigError, match=message):
        PassRateBounds(**settings)


def test_what_does_not_fit_is_the_user_s_mistake(tiny_task_set, run, filtered, tmp_path):
    def refuse(message, source=tiny_task_set, policy=run, out=tmp_path / "out", bounds=BOUNDS, **more):
        with pytest.raises(ConfigError, match=message):
            filter_task_set(source, policy, out, bounds, default_cache_dir(), **more)

    refuse("--policy must name a run folder", policy=tmp_path)
    refuse("holds no checkpoint of control", stage="control")
    refuse("--out must name a new folder", out=tiny_task_set)
    refuse("--out must name a new folder", out=filtered, bounds=dataclasses.replace(BOUNDS, seed=6))
    other = tmp_path / "hard"
    (tmp_path / "hard.filter").symlink_to(filtered.parent / "hard.filter")
    refuse("tries: 3 there, 4 given", out=other, bounds=dataclasses.replace(BOUNDS, tries=4))
    refuse("no task has a pass rate", out=other, bounds=dataclasses.replace(BOUNDS, min_pass_rate=0.39))


def test_a_newer_policy_adds_nothing_to_the_attempts_of_an_older_one(
    tiny_task_set, tiny_config, run, tmp_path
):
    moving, out = tmp_path / "run", tmp_path / "hard"
    shutil.copytree(run, moving)
    filter_task_set(tiny_task_set, moving, out, BOUNDS, default_cache_dir())
    out.rename(tmp_path / "first")
    bench = Workbench(tiny_config, moving, default_cache_dir())
    optimizer = make_optimizer(
        "adamw", 1.0, warmup_steps=0, weight_decay=0.0, b1=0.9, b2=0.9, max_grad_norm=1.0
    )
    newer = bench.init_state(bench.init_params(), optimizer)
    with Checkpointer(moving / "checkpoints" / "sft") as checkpoints:
        checkpoints.save(41, newer, {})
    with pytest.raises(ConfigError, match=r"hard.filter holds other attempts \(policy: "):
        filter_task_set(tiny_task_set, moving, out, BOUNDS, default_cache_dir())
