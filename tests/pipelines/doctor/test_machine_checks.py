"""What each check of a machine says where all is well, and where something real is wrong."""

import importlib.util
import os
import pathlib
import resource
import time

import jax
import pytest

from codegym_jax.config import MeshConfig, PolicyConfig, RunConfig, SamplingMeshConfig, SandboxConfig
from codegym_jax.data.store import Store
from codegym_jax.envs.artefact import Artefact, default_cache_dir, find_artefact
from codegym_jax.pipelines.doctor import devices, guest, joint, machine, storage, versions
from codegym_jax.pipelines.doctor.finding import Status
from codegym_jax.pipelines.processes import ALONE

OK, WARN, FAIL, NOT_CHECKED = Status.OK, Status.WARN, Status.FAIL, Status.NOT_CHECKED

INSTALLED = dict.fromkeys(versions.SHOWN, "1.2.3")
REQUIRED = ["python>=3.11", *(f"{name}>=1.2" for name in versions.SHOWN), "rich>=14"]


def of(findings, check):
    [found] = [finding for finding in findings if finding.check == check]
    return found


def test_versions_as_required_and_as_tested():
    lock = ["# a comment", "jax==1.2.3 ; python_version >= '3'", "jax==9 ; python_version < '3'"]
    found = versions.check_versions(INSTALLED | {"rich": "14.1"}, REQUIRED, "3.11.7", lock)
    assert {finding.status for finding in found} == {OK}
    assert [finding.check for finding in found] == ["python", *versions.SHOWN, "other packages"]


@pytest.mark.parametrize(
    ("installed", "python", "check", "status", "says"),
    [
        ({"jax": "1.1"}, "3.11", "jax", FAIL, ("1.1, but >=1.2 is needed", "pip install 'jax>=1.2'")),
        ({"flax": None}, "3.11", "flax", FAIL, ("not installed", "pip install 'flax>=1.2'")),
        ({}, "3.10.4", "python", FAIL, ("3.10.4, but >=3.11 is needed", "install Python >=3.11")),
        ({"rich": "13"}, "3.11", "rich", FAIL, ("13, but >=14 is needed", "pip install 'rich>=14'")),
        ({"jax": "1.3"}, "3.11", "jax", WARN, ("1.3; tested with 1.2.3", "requirements.lock")),
    ],
)
def test_a_version_out_of_range_is_named_with_what_to_install(installed, python, check, status, says):
    there = {name: version for name, version in (INSTALLED | {"rich": "14"} | installed).items() if version}
    found = of(versions.check_versions(there, REQUIRED, python, ["jax==1.2.3"]), check)
    assert (found.status, found.found) == (status, says[0])
    assert says[1] in found.fix


def test_the_plugin_of_an_accelerator_goes_with_jaxlib():
    plugin = {"jaxlib": "0.10.2", "jax-cuda13-plugin": "0.10.2"}
    assert versions.check_plugins({"jaxlib": "0.10.2"}) == []
    assert of(versions.check_plugins(plugin), "accelerator plugin").status is OK
    odd = of(versions.check_plugins(plugin | {"jax-cuda13-plugin": "0.9"}), "accelerator plugin")
    assert (odd.status, odd.fix) == (FAIL, "pip install jax-cuda13-plugin==0.10.2")


def test_this_environment_passes():
    assert FAIL not in {finding.status for finding in versions.check_here()}


def test_devices_and_an_accelerator_that_jax_did_not_find(tmp_path):
    [found] = devices.check_devices(tmp_path, path="")
    assert (found.status, found.found) == (OK, f"{jax.device_count()} x cpu (cpu)")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "accel0").touch()
    [found] = devices.check_devices(tmp_path, path="")
    assert found.status is WARN and "accel0 tells of a TPU" in found.found
    (tmp_path / "dev" / "accel0").rename(tmp_path / "nvidia-smi")
    (tmp_path / "nvidia-smi").chmod(0o755)
    [found] = devices.check_devices(tmp_path, path=str(tmp_path))
    assert found.status is WARN and found.found.endswith("nvidia-smi tells of a NVIDIA GPU")


def test_what_hides_an_accelerator_on_purpose_is_named(tmp_path, monkeypatch):
    (tmp_path / "dev" / "vfio").mkdir(parents=True)
    (tmp_path / "dev" / "vfio" / "0").touch()
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    [found] = devices.check_devices(tmp_path, path="")
    assert "unset JAX_PLATFORMS, which is 'cpu'" in found.fix


def test_a_mesh_that_fits_and_one_that_is_too_large():
    """Of 8 devices."""
    fitting = RunConfig(mesh=MeshConfig(fsdp=4), sampling_mesh=SamplingMeshConfig(data=2, fsdp=1, tensor=4))
    assert [(found.status, found.found) for found in devices.check_meshes(fitting)] == [
        (OK, "data=2 fsdp=4 tensor=1"),
        (OK, "data=2 fsdp=1 tensor=4"),
    ]
    [found] = devices.check_meshes(RunConfig(mesh=MeshConfig(data=1, fsdp=16)))
    assert (found.status, found.found) == (FAIL, "data x fsdp x tensor = 16, but there are 8 devices")
    assert found.fix.startswith("--set mesh.data=-1")


def test_a_run_that_fits_and_one_that_does_not():
    """7.6 billion parameters with two moments each, all of them on each of the 8 devices of one host."""
    small = RunConfig(policy=PolicyConfig(preset="nano"))
    large = RunConfig(policy=PolicyConfig(preset="qwen2.5-7b", scan_layers=True))
    assert devices.check_plan(small).status is OK
    found = devices.check_plan(large)
    assert found.status is FAIL and "GB" in found.found and "mesh.fsdp" in found.fix
    assert 0 < devices.state_bytes(small) < 1e7
    assert devices.state_bytes(large) == pytest.approx(7.6e9 * 4 * 3, rel=0.01)
    impossible = RunConfig(policy=PolicyConfig(preset="no-such"))
    assert devices.check_plan(impossible).status is FAIL
    assert devices.state_bytes(impossible) == 0


def test_the_artefact_and_damaged_copies_of_it(tmp_path):
    whole = find_artefact()
    assert guest.check_artefact(whole).status is OK
    content = whole.path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    for name, damaged in {"flipped": flipped, "cut off": content[:middle], "empty": b""}.items():
        path = tmp_path / name
        path.write_bytes(damaged)
        found = guest.check_artefact(Artefact("guest", path, whole.wasm_sha256))
        assert found.status is FAIL and str(path) in found.found and "make guest" in found.fix, name
    other = guest.check_artefact(Artefact("guest", whole.path, "0" * 64))
    assert other.status is FAIL and "not the artefact of its manifest" in other.found
    assert guest.check_artefact(Artefact("guest", tmp_path / "absent", "0" * 64)).status is FAIL


def test_an_environment_is_played_and_its_limits_fire():
    limits = SandboxConfig(fuel_per_call=200_000_000)
    found = list(guest.check_sandbox(limits, default_cache_dir()))
    assert [(one.check, one.status) for one in found] == [
        ("sandbox", OK),
        ("sandbox episode", OK),
        ("sandbox limit, fuel", OK),
        ("sandbox limit, memory", OK),
    ]
    assert found[1].found.startswith("5 calls twice, reward 1")


def test_an_environment_that_runs_out_of_fuel_at_once_is_told():
    [_, found] = guest.check_sandbox(SandboxConfig(fuel_per_call=1_000_000), default_cache_dir())
    assert (found.check, found.status) == ("sandbox episode", FAIL)


def test_a_cache_that_cannot_be_made_is_told():
    [found] = guest.check_sandbox(SandboxConfig(), pathlib.Path("/dev/null/cache"))
    assert found.status is FAIL and "/dev/null/cache" in found.found


@pytest.fixture
def file_limit():
    """Sets the soft limit on open files for the time of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_limit_on_open_files(file_limit):
    for limit, status in ((100, FAIL), (300, WARN), (4096, OK)):
        file_limit(limit)
        found = machine.check_open_files()
        assert found.status is status
        assert (found.fix == "") == (status is OK)
        assert found.fix.startswith("ulimit -n " if found.fix else "")


def test_more_workers_than_cores_are_told():
    cores = machine.usable_cores()
    assert 0 < cores <= len(os.sched_getaffinity(0))
    found = machine.check_cores(workers=int(cores) + 1)
    assert found.status is WARN and f"synthesis.workers = {int(cores) + 1}" in found.found


@pytest.mark.parametrize(
    ("newest_s", "passed_s", "truly_s", "status"),
    [
        (999.0, 0.05, 0.05, OK),
        (1001.0, 0.05, 0.05, OK),  # within the two seconds that file systems round to
        (4600.0, 0.05, 0.05, FAIL),  # an hour behind a file of this program
        (999.0, 0.05, 0.0, FAIL),
        (999.0, 3600.05, 0.05, WARN),  # it was set while we looked
    ],
)
def test_clocks(newest_s, passed_s, truly_s, status):
    assert machine.judge_clock(1000.0, newest_s, passed_s, truly_s).status is status


def test_this_clock():
    assert machine.check_clock(time.time() - 60).status is OK
    assert machine.check_clock(time.time() + 3600).status is FAIL


def test_room_on_a_disk(tmp_path):
    assert storage.check_disk("disk", str(tmp_path / "not" / "yet")).status in (OK, WARN)
    found = storage.check_disk("disk", str(tmp_path), needed_bytes=1e18)
    assert found.status is FAIL and "1,000,000,000.00 GB for checkpoints" in found.found
    assert storage.check_disk("disk", "gs://bucket/run").status is NOT_CHECKED


@pytest.mark.parametrize("place", ["", "not/there/yet"])
def test_a_folder_takes_files_and_nothing_stays(tmp_path, place):
    found = storage.check_writable("run folder", str(tmp_path / place))
    assert [one.status for one in found] == [OK, OK]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/self", "/dev/null/run"])
def test_a_place_that_takes_no_files_is_told(place):
    """Not even from the super-user."""
    [found] = storage.check_writable("run folder", place)
    assert found.status is FAIL and found.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_read_only_folder_is_told(tmp_path):
    tmp_path.chmod(0o500)
    [found] = storage.check_writable("run folder", str(tmp_path))
    tmp_path.chmod(0o700)
    assert found.status is FAIL and "Permission denied" in found.found and "chmod" in found.fix


def test_a_bucket_takes_a_file_and_keeps_nothing(bucket):
    [found] = storage.check_writable("run folder", f"{bucket}/doctor/run")
    assert found.status is OK and found.found.startswith(f"{bucket}/doctor/run takes files")
    assert Store(f"{bucket}/doctor").names() == []


def test_a_bucket_that_is_not_there_is_named(bucket):
    """On the same service as one that is."""
    [found] = storage.check_writable("run folder", "gs://no-such-bucket/run")
    assert (found.status, found.found) == (FAIL, "gs://no-such-bucket/run: there is no such bucket")


@pytest.mark.skipif(importlib.util.find_spec("gcsfs") is not None, reason="the package is installed")
def test_without_the_package_for_buckets_nothing_is_checked_there():
    [found] = storage.check_writable("run folder", "gs://bucket/run")
    assert found.status is NOT_CHECKED and "gcsfs" in found.found and "gcs]" in found.fix


def test_the_devices_of_one_process_add_up_and_its_folder_is_seen(tmp_path):
    found = joint.check_joint(ALONE, str(tmp_path))
    assert [one.status for one in found] == [OK, OK, OK]
    assert "over 8 devices" in found[1].found
    assert not list(tmp_path.iterdir())
    assert joint.check_joint(ALONE, "/proc/self")[2].status is FAIL


@pytest.mark.parametrize(
    ("counts", "count", "status", "says"),
    [
        ([4, 4], 8, OK, "8, 4 on each of 2"),
        ([4, 2], 6, FAIL, "4 on process 0, 2 on process 1"),
        ([4, 4], 12, FAIL, "12 are seen, but 4 on process 0, 4 on process 1"),
    ],
)
def test_devices_of_several_processes(counts, count, status, says):
    found = joint.judge_devices(counts, count)
    assert (found.status, found.found) == (status, says)
