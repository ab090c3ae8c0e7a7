"""What `launch/dataflow_synth.sh` would run, word for word, and what it refuses to run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "launch" / "dataflow_synth.sh"
SETTINGS = {
    "PROJECT": "mine",
    "REGION": "europe-west4",
    "BASE_OUTPUT_DIRECTORY": "gs://bucket/codegym/",
    "RUN_NAME": "corpora-1",
    "NUM_WORKERS": "32",
}
CLOUD = "gs://bucket/codegym/corpora-1"
OPTIONS = (
    f"--project=mine --region=europe-west4 --job_name=corpora-1 --temp_location={CLOUD}/temp"
    f" --staging_location={CLOUD}/staging --max_num_workers=32 --machine_type=n2-standard-2"
    " --number_of_worker_harness_threads=1"
)
SYNTH = ".venv/bin/codegym synth configs/smoke_cpu.py --runner dataflow --out runs/corpora-1/task_set"


def plan(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **SETTINGS, **settings}
    return subprocess.run(
        [str(SCRIPT), "--dry-run", *arguments],
        env={name: value for name, value in environment.items() if value},
        capture_output=True,
        text=True,
    )


def test_the_plan_with_an_image():
    planned = plan(
        "configs/smoke_cpu.py", "--set", "seed=1", SDK_CONTAINER_IMAGE="europe-docker.pkg.dev/mine/i:1"
    )
    assert (planned.returncode, planned.stderr) == (0, "")
    assert planned.stdout.splitlines() == [
        "make setup",
        ".venv/bin/python -m pip install --quiet --constraint requirements.lock apache-beam\\[gcp\\]",
        f"{SYNTH} --set seed=1 -- {OPTIONS} --sdk_container_image=europe-docker.pkg.dev/mine/i:1"
        " --sdk_location=container",
        f"gcloud storage cp --recursive runs/corpora-1/task_set {CLOUD}/",
    ]


def test_the_plan_without_one_sends_this_package_to_the_workers():
    lines = plan("configs/smoke_cpu.py").stdout.splitlines()
    staged = "build/dataflow/corpora-1"
    assert lines[2] == f"mkdir -p {staged}"
    assert lines[3] == (
        f".venv/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir {staged} ."
    )
    assert lines[4].startswith("bash -c grep") and lines[4].endswith(f"{staged}/requirements.txt")
    assert lines[5] == (
        f"{SYNTH} -- {OPTIONS} --extra_package={staged}/codegym_jax-0.0.1-py3-none-any.whl"
        f" --requirements_file={staged}/requirements.txt --requirements_cache=skip"
    )
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"PROJECT": ""}, "PROJECT is not set; --help says what it is"),
        ({"REGION": ""}, "REGION is not set; --help says what it is"),
        ({"BASE_OUTPUT_DIRECTORY": ""}, "BASE_OUTPUT_DIRECTORY is not set; --help says what it is"),
        ({"RUN_NAME": ""}, "RUN_NAME is not set; --help says what it is"),
        ({"BASE_OUTPUT_DIRECTORY": "runs"}, "BASE_OUTPUT_DIRECTORY must begin with gs://, got runs"),
        ({"RUN_NAME": "Corpora_1"}, "RUN_NAME must be small letters, digits and dashes, got Corpora_1"),
        ({"NUM_WORKERS": "many"}, "NUM_WORKERS must be a number of machines, got many"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(settings, complaint):
    refused = plan("configs/smoke_cpu.py", **settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"launch/dataflow_synth.sh: {complaint}\n"


def test_a_missing_config_is_named():
    refused = plan("configs/none.py")
    assert (refused.returncode, refused.stderr) == (
        2,
        "launch/dataflow_synth.sh: config file not found: configs/none.py\n",
    )


def test_workers_get_all_that_they_import():
    """Whatever a worker imports beside Beam is in the list, which names packages of the lock."""
    program = """
import sys
import apache_beam
before = set(sys.modules)
import codegym_jax.pipelines.beam
print(*{name.partition(".")[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    imported = {name for name in printed.split() if not name.startswith("_") and name != "codegym_jax"}
    [listed] = re.findall(r'^worker_packages="(.*)"$', SCRIPT.read_text(), re.MULTILINE)
    assert imported <= set(listed.split())
    locked = set(re.findall(r"^[\w-]+", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert set(listed.split()) <= locked
