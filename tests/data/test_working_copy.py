"""A local folder that stands for one on a bucket: what is there, what comes here, whose it is."""

import re
import sys

import pytest

from codegym_jax.data.store import Store, StoreError
from codegym_jax.data.working_copy import (
    OWNER,
    RunTaken,
    checkpoint_place,
    find_copy,
    looked_at,
    own_folder,
    run_path,
)

FILES = {
    "config.json": b"{}",
    "metrics.jsonl": b"1\n2\n",
    "task_set/manifest.json": b"{}",
    "task_set/rows": b"all of them",
    "episodes/train/step_000001.jsonl": b"one\n",
    "episodes/train/step_000002.jsonl": b"two\n",
}
LATER = {name for name in FILES if name.startswith("episodes/")}
"""Brought when asked for."""


def write(copy, files):
    for name, data in files.items():
        path = copy.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def files_of(copy):
    found = {path.relative_to(copy.folder).as_posix() for path in copy.folder.rglob("*") if path.is_file()}
    return {name: (copy.folder / name).read_bytes() for name in found - {".origin", "lock"}}


@pytest.fixture
def url(bucket, request):
    return f"{bucket}/{re.sub('[^a-z0-9]+', '-', request.node.name)}"


@pytest.fixture
def machine(url, tmp_path):
    """The working copy of a machine, by its name; one that is named again is the same machine."""

    def enter(name):
        copy = find_copy(run_path(url, tmp_path / name))
        assert copy is not None
        return copy

    return enter


@pytest.fixture
def first(machine):
    """A machine that has put everything on the bucket."""
    copy = machine("first")
    write(copy, FILES)
    copy.push()
    return copy


def test_a_local_run_is_left_alone(tmp_path):
    assert run_path("runs/own", tmp_path) == run_path("./runs/own", tmp_path)
    assert find_copy(tmp_path) is None
    assert own_folder(tmp_path, 3) == looked_at(tmp_path) == tmp_path
    assert checkpoint_place(tmp_path, "train") == f"{tmp_path}/checkpoints/train"
    assert list(tmp_path.iterdir()) == []


def test_a_fresh_machine_gets_what_was_pushed(first, machine, url):
    fresh = machine("fresh")
    fresh.pull()
    assert files_of(fresh) == {name: FILES[name] for name in FILES if name not in LATER}
    one = fresh.folder / "episodes/train/step_000001.jsonl"
    assert fresh.fetch(one).read_bytes() == b"one\n"
    assert files_of(fresh).keys() & LATER == {"episodes/train/step_000001.jsonl"}
    fresh.fetch_all()
    assert files_of(fresh) == FILES
    assert checkpoint_place(fresh.folder, "train") == f"{url}/checkpoints/train"


def test_a_machine_that_was_ahead_goes_back_to_the_bucket(first, machine):
    """What it wrote and never pushed is gone; what another machine pushed since has come."""
    write(first, {"metrics.jsonl": b"1\n2\n3\n", "episodes/train/step_000003.jsonl": b"never pushed\n"})
    other = machine("other")
    other.pull()
    write(other, {"metrics.jsonl": b"1\n4\n", "episodes/train/step_000002.jsonl": b"another\n"})
    other.push()
    first.pull()
    assert files_of(first) == {name: FILES[name] for name in FILES if name not in LATER} | {
        "metrics.jsonl": b"1\n4\n",
        "episodes/train/step_000001.jsonl": b"one\n",
    }
    assert first.fetch(first.folder / "episodes/train/step_000002.jsonl").read_bytes() == b"another\n"


def test_only_what_changed_is_pushed_and_nothing_unfinished(first, url):
    store = Store(url)
    store.write("config.json", b"changed on the bucket")
    write(first, {"metrics.jsonl": b"1\n2\n3\n", "episodes/train/x.tmp": b"half", ".a.partial": b"half"})
    write(first, {"task_set.tmp/rows": b"half", "checkpoints/train/0001_step_00000001/state": b"a local one"})
    first.push()
    assert store.read("metrics.jsonl") == b"1\n2\n3\n"
    assert store.read("config.json") == b"changed on the bucket"
    assert set(store.names()) == FILES.keys()


def test_half_a_task_set_is_none(first, machine, url):
    """Its manifest goes last, so a machine that was killed before it left nothing that counts."""
    Store(url).remove("task_set/manifest.json")
    fresh = machine("fresh")
    fresh.pull()
    assert not (fresh.folder / "task_set").exists()


def test_the_last_start_has_the_run(first, machine, url):
    assert first.take() == ""
    write(first, {"metrics.jsonl": b"of the first"})
    first.push()
    second = machine("second")
    before = second.take()
    assert re.match(r"process \d+ of .+ on .+ at .+ UTC$", before)
    write(second, {"metrics.jsonl": b"of the second"})
    second.push()
    second.require_own()
    write(first, {"metrics.jsonl": b"too late"})
    for act in (first.push, first.require_own):
        with pytest.raises(RunTaken, match=f"{url} was taken over by process .*; this process stops"):
            act()
    assert Store(url).read("metrics.jsonl") == b"of the second"
    Store(url).remove(OWNER)
    with pytest.raises(RunTaken, match=r"somebody who removed its owner\.json"):
        second.require_own()


def test_one_process_of_a_machine_works_in_the_folder_and_others_may_look(first, machine):
    assert first.lock() and first.lock()
    write(first, {"metrics.jsonl": b"newer than on the bucket"})
    beside = machine("first")
    assert not beside.lock()
    assert (looked_at(beside.folder) / "metrics.jsonl").read_bytes() == b"newer than on the bucket"
    first.unlock()
    assert (looked_at(beside.folder) / "metrics.jsonl").read_bytes() == FILES["metrics.jsonl"]
    assert beside.lock()


def test_processes_of_a_machine_have_folders_of_their_own(first, machine):
    [zero, one] = (own_folder(first.folder, index) for index in (0, 1))
    assert zero == first.folder != one
    copy = find_copy(one)
    copy.pull()
    assert copy.lock() and first.lock()
    assert (one / "config.json").read_bytes() == FILES["config.json"]


def test_what_cannot_be_used_is_told(bucket, tmp_path):
    missing = find_copy(run_path(f"{bucket.replace('bucket', 'no-such')}/run", tmp_path))
    with pytest.raises(StoreError, match="gs://no-such/run: there is no bucket no-such"):
        missing.require_bucket()
    with pytest.raises(StoreError, match="s3://bucket/run is neither a local path nor gs://BUCKET/FOLDER"):
        run_path("s3://bucket/run", tmp_path)


def test_a_missing_package_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(StoreError, match=r"needs the package gcsfs: pip install 'codegym-jax\[gcs\]'"):
        run_path("gs://bucket/run", tmp_path)
