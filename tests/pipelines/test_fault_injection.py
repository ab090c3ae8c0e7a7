"""A run that is killed anywhere, any number of times, ends with the bytes of one that was never killed.

`make test-faults` kills runs at twenty random points; `make test` at three. The points are calls of functions
(`mortal.PLACES`) and changes of files, in every stage. What must agree in the end: parameters; optimizer and
position of curriculum and data (the last checkpoints); every row of metrics but its clock; every file of
episodes, transcripts and evaluations.
"""

import dataclasses
import json
import pathlib
import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from codegym_jax.config import AlgorithmConfig, CurriculumConfig, MeshConfig, RunConfig, TrainConfig, to_json
from codegym_jax.metrics import read_metrics, without_clock
from tests.pipelines.lives import Server, log_path
from tests.pipelines.mortal import (
    AFTER,
    BEFORE,
    CHANGE,
    HALF,
    PLACES,
    STAGES,
    Fault,
    Life,
    Outcome,
    params_path,
)

SEED, POINTS, KILLS_A_RUN = 5, 20, 5
MESH_TOLERANCE = 1e-6
"""Largest difference of a parameter after two steps on another mesh, which adds up in another order."""

TRAIN = TrainConfig(steps=6, episodes_per_update=4, rows_per_batch=4, checkpoint_every=2)
VARIANTS: Mapping[str, dict[str, Any]] = {
    "ahead": {
        "train": dataclasses.replace(TRAIN, max_off_policy_steps=1),
        "curriculum": CurriculumConfig(prefer_learnable=0.5),
    },
    "in_turn": {
        "train": TRAIN,
        "curriculum": CurriculumConfig(prefer_learnable=0.5, dynamic_sampling=True, max_draws=2),
        "algorithm": AlgorithmConfig(kl="k3", kl_coefficient=0.01),
    },
}
"""With episodes of a step sampled while the one before is learned; and with a reference policy, and tasks
drawn again where all attempts ended alike."""

KINDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "episodes are sampled": (
        *(("train", place) for place in ("prompt", "decode", "tool")),
        *((stage, "decode") for stage in ("before", "after")),
    ),
    "an update": (("train", "update"), ("train", "judge"), ("sft", "update")),
    "a checkpoint is written": (("train", CHANGE), ("train", "save"), ("sft", CHANGE), ("sft", "save")),
    "a row of metrics is written": (("train", "row"), ("sft", "row")),
    "episodes are written": tuple((stage, "episodes") for stage in ("train", "before", "after")),
    "data is drawn": (("train", "draw"), ("sft", "demonstrations")),
    "a file is renamed": (
        *((stage, "replace") for stage in ("train", "open", "sft", "before", "after")),
        ("open", "rename"),
    ),
}
"""What is interrupted, and the stages and places where; those of RL are drawn twice as often."""


class Lives:
    """Runs in folders of their own, lived by the processes of `mortal`."""

    def __init__(self, config: RunConfig, task_set: pathlib.Path, folder: pathlib.Path) -> None:
        self._config, self._task_set, self._folder = config, task_set, folder
        self._whole: dict[str, Outcome] = {}
        self._server = Server("tests.pipelines.mortal", folder / "mortal.log")

    def folder(self, name: str) -> pathlib.Path:
        """Of a run."""
        return self._folder / name

    def live(
        self, name: str, variant: str, fault: Fault | None = None, *, devices: int = 1, **changes: Any
    ) -> Outcome | None:
        """One life of a run: its outcome, or None when it died of `fault`."""
        config = dataclasses.replace(self._config, **VARIANTS[variant] | changes)
        settings = self._folder / "settings.json"
        settings.write_text(to_json(config))
        folder = self.folder(name)
        answer = self._server.live(Life(str(settings), str(folder), str(self._task_set), devices, fault))
        said = log_path(folder).read_text()
        assert answer["ended"] or (answer["died"] and fault), f"{name}, {fault}: {answer}\n{said[-4000:]}"
        return Outcome(**answer["ended"]) if answer["ended"] else None

    def whole(self, variant: str) -> Outcome:
        """The run of a variant that is never killed, in the folder of its name; lived once."""
        if variant not in self._whole:
            outcome = self.live(variant, variant)
            assert outcome is not None
            self._whole[variant] = outcome
        return self._whole[variant]

    def calls(self, variant: str, stage: str, place: str) -> int:
        """How often the uninterrupted run comes by."""
        counts = {(stage, place): count for stage, place, count in self.whole(variant).calls}
        return counts[stage, place]

    def require_same_end(self, name: str, variant: str, outcome: Outcome | None) -> None:
        """Compares a run that has ended with the one that was never killed, naming what differs."""
        assert outcome is not None
        whole = self.whole(variant)
        assert outcome.params == whole.params, name
        assert outcome.checkpoints == whole.checkpoints, name
        [rows, expected] = (rows_of(self.folder(run)) for run in (name, variant))
        assert rows == expected, name
        [files, expected] = (files_of(self.folder(run)) for run in (name, variant))
        assert files.keys() == expected.keys(), name
        assert not [path for path in files if files[path] != expected[path]], name

    def close(self) -> None:
        """Ends the server; a life that is under way ends first."""
        self._server.close()


@pytest.fixture(scope="module")
def lives(tiny_config, tiny_task_set, tmp_path_factory) -> Iterator[Lives]:
    lives = Lives(tiny_config, tiny_task_set, tmp_path_factory.mktemp("lives"))
    yield lives
    lives.close()


def rows_of(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The metrics, less what the clock says."""
    return [without_clock(row) for row in read_metrics(folder / "metrics.jsonl")]


def files_of(folder: pathlib.Path) -> dict[str, bytes]:
    """What the stages wrote, by name. A killed write may leave a hidden file under a name of its own."""
    found = {}
    for kind in ("episodes", "transcripts", "evaluations"):
        for path in (folder / kind).rglob("*"):
            if path.is_file() and not path.name.endswith(".partial"):
                found[path.relative_to(folder).as_posix()] = path.read_bytes()
    return found


def checkpoints_of(folder: pathlib.Path, stage: str) -> list[pathlib.Path]:
    """The complete ones, oldest first. What a kill left behind without a manifest is none."""
    found = (folder / "checkpoints" / stage).glob("[0-9]*/manifest.json")
    return sorted(path.parent for path in found)


def damage(checkpoint: pathlib.Path) -> None:
    """Changes one byte of its largest file, the arrays."""
    files = [path for path in checkpoint.rglob("*") if path.is_file()]
    file = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def require_named(folder: pathlib.Path, checkpoint: pathlib.Path) -> None:
    """The log must name the checkpoint that was passed over."""
    assert f"{checkpoint} is damaged" in log_path(folder).read_text()


def test_a_run_killed_at_three_points_and_damaged_ends_the_same(lives):
    """Killed while it learns and samples, with half a row written, and while a thread writes what it saved;
    then its newest checkpoint is spoiled, so that metrics and episodes go back a further two steps."""
    updates = lives.calls("ahead", "train", "update")
    points = (
        Fault("train", "update", AFTER, updates // 2 + 1),
        Fault("train", "row", HALF, 3),
        Fault("train", "save", AFTER, 2),  # which has waited for the one before
    )
    for point in points:
        assert lives.live("killed", "ahead", point) is None, f"not reached: {point}"
    folder = lives.folder("killed")
    *_, older, newest = checkpoints_of(folder, "train")
    damage(newest)
    lives.require_same_end("killed", "ahead", lives.live("killed", "ahead"))
    require_named(folder, newest)
    assert older.name not in log_path(folder).read_text()
    steps = [row for row in rows_of(folder) if row["stage"] == "train"]
    assert sum(row["used_episodes"] > 0 for row in steps[3:]) > 0, "else nothing was learned after the kills"


def draw_points(rng: random.Random, lives: Lives, variant: str, numbers: range) -> list[Fault]:
    """Points of all kinds in turn, so early within a life that it mostly comes by after a restart, too."""
    points = []
    for number in numbers:
        places = list(KINDS.values())[number % len(KINDS)]
        [(stage, place)] = rng.choices(places, weights=[1 + (stage == "train") for stage, _ in places])
        moments = PLACES[place].moments if place in PLACES else (BEFORE,)
        calls = lives.calls(variant, stage, place)
        points.append(Fault(stage, place, rng.choice(moments), rng.randint(1, -(-calls // 3))))
    return points


@pytest.mark.slow
def test_twenty_random_points(lives, capsys):
    """Runs of both variants, each killed up to five times and then let live, until all points have killed.

    A run that outlives a point, since it came by there less often after a restart, is compared and begun
    again with the point moved ahead.
    """
    rng = random.Random(SEED)
    killed: list[Fault] = []
    for index, variant in enumerate(VARIANTS):
        share = POINTS // len(VARIANTS)
        waiting = draw_points(rng, lives, variant, range(index * share, (index + 1) * share))
        for number in range(POINTS):
            batch = sorted(waiting[:KILLS_A_RUN], key=lambda point: STAGES.index(point.stage))
            if not batch:
                break
            del waiting[:KILLS_A_RUN]
            name, outcome = f"{variant}_{number}", None
            died: list[Fault] = []
            while batch and outcome is None:
                outcome = lives.live(name, variant, batch[0])
                if outcome is None:
                    died.append(batch.pop(0))
                else:
                    batch[0] = dataclasses.replace(batch[0], call=(batch[0].call + 1) // 2)
            waiting = batch + waiting
            lives.require_same_end(name, variant, outcome or lives.live(name, variant))
            killed += died
            with capsys.disabled():
                print(f"\n{name}: identical after {[dataclasses.astuple(point) for point in died]}", end="")
    with capsys.disabled():
        print(f"\n{len(killed)} of {POINTS} identical", end="")
    assert len(killed) == POINTS


@pytest.mark.slow
def test_a_damaged_checkpoint_of_an_earlier_stage_costs_nothing_of_the_later(lives):
    """The last of SFT is spoiled while RL is under way: SFT ends again, and RL goes on where it was."""
    assert lives.live("sft_spoiled", "ahead", Fault("train", "row", AFTER, 3)) is None
    folder = lives.folder("sft_spoiled")
    before = (folder / "metrics.jsonl").read_bytes()
    saved = int(checkpoints_of(folder, "train")[-1].name[-8:])
    newest = checkpoints_of(folder, "sft")[-1]
    damage(newest)
    outcome = lives.live("sft_spoiled", "ahead")
    lives.require_same_end("sft_spoiled", "ahead", outcome)
    require_named(folder, newest)
    kept = before.splitlines()[: saved - 3]  # behind it are steps that were not saved
    assert (folder / "metrics.jsonl").read_bytes().splitlines()[: len(kept)] == kept
    assert ("sft", "update") in {(stage, place) for stage, place, _ in outcome.calls}


@pytest.mark.slow
def test_a_stage_without_an_intact_checkpoint_begins_again(lives):
    """All checkpoints of RL are spoiled: its rows of metrics are written anew, not twice."""
    assert lives.live("all_spoiled", "ahead", Fault("train", "row", AFTER, 5)) is None
    folder = lives.folder("all_spoiled")
    spoiled = checkpoints_of(folder, "train")
    assert len(spoiled) >= 2
    for checkpoint in spoiled:
        damage(checkpoint)
    lives.require_same_end("all_spoiled", "ahead", lives.live("all_spoiled", "ahead"))
    for checkpoint in spoiled:
        require_named(folder, checkpoint)


@pytest.mark.slow
def test_a_killed_run_goes_on_on_another_mesh(lives):
    """From one device to eight, divided along all axes: what was before stays to the byte, the last steps
    agree within `MESH_TOLERANCE`, and their episodes are the same tokens."""
    lives.whole("in_turn")
    assert lives.live("moved", "in_turn", Fault("train", "save", BEFORE, 4)) is None
    kept = int(checkpoints_of(lives.folder("moved"), "train")[-1].name[-8:])
    assert kept in (2, 4), "else it began again, or had ended"
    mesh = MeshConfig(data=2, fsdp=2, tensor=2)
    assert lives.live("moved", "in_turn", devices=8, mesh=mesh) is not None
    folders = [lives.folder(name) for name in ("in_turn", "moved")]
    rows = [rows_of(folder) for folder in folders]
    made_again = 6 - kept
    assert rows[0][:-made_again] == rows[1][:-made_again]
    assert [row["step"] for row in rows[1][-made_again:]] == list(range(kept + 1, 7))
    for row, other in zip(rows[0][-made_again:], rows[1][-made_again:], strict=True):
        assert row.keys() == other.keys() and row["stage"] == other["stage"]
        for name in row.keys() - {"stage"}:
            assert row[name] == pytest.approx(other[name], rel=1e-3, abs=1e-6), name
    files = [files_of(folder) for folder in folders]
    assert files[0].keys() == files[1].keys()
    for step in range(1, 7):
        name = f"episodes/train/step_{step:06d}.jsonl"
        if step <= kept:
            assert files[0][name] == files[1][name]
        assert tokens_of(files[0][name]) == tokens_of(files[1][name])
    [params, moved] = (np.load(params_path(folder)) for folder in folders)
    assert sorted(params) == sorted(moved)
    for name in params:
        np.testing.assert_allclose(moved[name], params[name], rtol=0, atol=MESH_TOLERANCE, err_msg=name)


def tokens_of(episodes: bytes) -> list[tuple[str, int, list[int]]]:
    """Task, attempt and tokens of each episode of a file."""
    rows = map(json.loads, episodes.splitlines())
    return [(row["task_id"], row["attempt"], row["token_ids"]) for row in rows]
