"""`launch/gke/submit.sh`: the JobSets it makes, what a cluster does with them, and what it refuses.

The schema is that of kubeflow-trainer-api, which has Kubernetes' and JobSet's API as models; what JobSet's
webhook and JAX demand beyond it is written out here. The cluster is `stand_in/bin/kubectl`.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

from codegym_jax.cli import main as codegym
from codegym_jax.models.devices import ACCELERATORS, parse_devices

ROOT = Path(__file__).parents[2]
BIN = Path(__file__).parent / "stand_in" / "bin"
CONFIG = "configs/smoke_cpu.py"
SETTINGS = {
    "PROJECT": "mine",
    "ZONE": "us-east5",
    "CLUSTER": "tpus",
    "RUN_NAME": "grpo-1",
    "BASE_OUTPUT_DIRECTORY": "gs://bucket/codegym/",
    "IMAGE": "us-docker.pkg.dev/mine/codegym/tpu:1",
    "ACCELERATOR_TYPE": "v5p-64",
}
RUN = "gs://bucket/codegym/grpo-1"

_SPEC = importlib.util.spec_from_file_location("render", ROOT / "launch" / "gke" / "render.py")
assert _SPEC and _SPEC.loader
render = importlib.util.module_from_spec(_SPEC)
sys.modules["render"] = render  # dataclasses look their module up
_SPEC.loader.exec_module(render)

Done = subprocess.CompletedProcess[str]


class Cluster:
    """`submit.sh` with a stand-in for kubectl, and what that remembers."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def submit(self, *words: str, **settings: str) -> Done:
        """Runs the script; a setting that is empty is unset."""
        path = f"{BIN}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        given = {**SETTINGS, "PATH": path, "STAND_IN": str(self.place), **settings}
        return subprocess.run(
            [str(ROOT / "launch" / "gke" / "submit.sh"), *words],
            env={name: value for name, value in given.items() if value},
            capture_output=True,
            text=True,
        )

    def ask(self, *words: str, **settings: str) -> str:
        """The same where all must be well: what it prints."""
        done = self.submit(*words, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def jobset(self, *words: str, **settings: str) -> dict[str, Any]:
        """What would be submitted."""
        return yaml.safe_load(self.ask("--print", *words, **settings))

    def lives(self, *endings: int | str) -> tuple[str, int]:
        """Submits a run whose attempts end so: how it ended, and after how many restarts."""
        self.place.joinpath("scenario.json").write_text(json.dumps(endings))
        self.ask("single", CONFIG)
        assert self.ask("status").splitlines()[1] == "grpo-1 - 0"
        _, state, restarts = self.ask("status").splitlines()[1].split()
        return state, int(restarts)


@pytest.fixture
def cluster(tmp_path) -> Cluster:
    return Cluster(tmp_path)


def pod_of(jobset: dict[str, Any]) -> dict[str, Any]:
    [job] = jobset["spec"]["replicatedJobs"]
    return job["template"]["spec"]["template"]["spec"]


JOBS = {
    "single": (["single", CONFIG, "--set", "train.steps=4", "note=it's $HOME"], {}),
    "single_spot": (["--spot", "single", CONFIG], {"ACCELERATOR_TYPE": "v6e-8", "MAX_RESTARTS": "0"}),
    "single_topology": (["single", CONFIG], {"ACCELERATOR_TYPE": "v5p-384", "TOPOLOGY": "4x4x12"}),
    "multi": (
        ["--reservation", "ours", "multi", CONFIG, "--preset", "dapo"],
        {
            "ACCELERATOR_TYPE": "v5litepod-16",
            "NUM_SLICES": "4",
            "SERVICE_ACCOUNT": "trainer",
            "NAMESPACE": "rl",
        },
    ),
    "gpu": (["gpu", CONFIG], {"ACCELERATOR_TYPE": "h100-16"}),
    "gpu_alone": (["--spot", "gpu", CONFIG], {"ACCELERATOR_TYPE": "a100-1"}),
}


@pytest.mark.parametrize("name", JOBS)
def test_the_plan(cluster, hold_to_plan, name):
    words, settings = JOBS[name]
    hold_to_plan(f"gke_{name}", cluster.ask("--dry-run", *words, **settings))


@pytest.mark.parametrize("words", [["status"], ["logs"], ["logs", "--all"], ["delete"]], ids="_".join)
def test_the_plan_for_what_runs(cluster, hold_to_plan, words):
    hold_to_plan(f"gke_{'_'.join(words).replace('--', '')}", cluster.ask("--dry-run", *words))


def test_the_plan_for_xpk(cluster, hold_to_plan):
    words, settings = JOBS["multi"]
    plan = cluster.ask("--xpk", *words, **settings)
    hold_to_plan("gke_xpk", plan)
    # Of `xpk workload create` 1.16.0, parser/workload.py and parser/common.py.
    known = (
        "--cluster --command --docker-image --env --max-restarts --num-slices --project --reservation --spot"
        " --termination-grace-period-seconds --tpu-type --workload --zone"
    )
    assert set(re.findall(r" (--[a-z-]+)=", plan)) <= set(known.split())


def lost(before: Any, after: Any) -> list[str]:
    """What of a document is not in another one that may say more."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [f"{key}/{path}" for key in before for path in lost(before[key], after.get(key))]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [path for pair in zip(before, after, strict=True) for path in lost(*pair)]
    return [] if before == after else [f"{before!r} became {after!r}"]


@pytest.mark.parametrize("name", JOBS)
def test_a_jobset_is_one_by_the_schema_and_the_rules(cluster, name):
    words, settings = JOBS[name]
    jobset = cluster.jobset(*words, **settings)
    parsed = JobsetV1alpha2JobSet.from_dict(jobset)
    assert parsed is not None
    assert lost(jobset, parsed.to_dict()) == []  # an unknown field would not come back
    # What JobSet's webhook demands (pkg/webhooks/jobset_webhook.go).
    rules = jobset["spec"]["failurePolicy"]["rules"]
    assert len({rule["name"] for rule in rules}) == len(rules)
    assert all(re.fullmatch("[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", rule["name"]) for rule in rules)
    actions = {"FailJobSet", "RestartJobSet", "RestartJobSetAndIgnoreMaxRestarts"}
    assert {rule["action"] for rule in rules} <= actions
    assert all(rule["onJobFailureReasons"] == ["PodFailurePolicy"] for rule in rules)
    # What a Job demands where it has a podFailurePolicy.
    [job] = jobset["spec"]["replicatedJobs"]
    spec, pod = job["template"]["spec"], pod_of(jobset)
    [container] = pod["containers"]
    assert pod["restartPolicy"] == "Never" and spec["completionMode"] == "Indexed"
    assert spec["parallelism"] == spec["completions"]
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule.get("onExitCodes", {}).get("containerName", container["name"]) == container["name"]
    ports = {port["containerPort"] for port in container["ports"]}
    assert render.COORDINATOR_PORT in ports or 8482 in ports  # JAX's on TPU pods


def test_the_schema_check_can_fail(cluster):
    jobset = cluster.jobset("single", CONFIG)
    jobset["spec"]["failurePolicy"]["maxRestart"] = jobset["spec"]["failurePolicy"].pop("maxRestarts")
    parsed = JobsetV1alpha2JobSet.from_dict(jobset)
    assert parsed and lost(jobset, parsed.to_dict()) == ["spec/failurePolicy/maxRestart/3 became None"]


@pytest.mark.parametrize("name", JOBS)
def test_the_command_is_one_that_codegym_takes(cluster, name, capsys, monkeypatch, tmp_path):
    """With Kubernetes' variables filled in it gets as far as the experiment's settings."""
    words, settings = JOBS[name]
    [container] = pod_of(cluster.jobset(*words, **settings))["containers"]
    arguments = [word.replace("$(PROCESS_ID)", "0") for word in container["args"]]
    assert arguments[:4] == ["run", CONFIG, "--run", RUN]
    arguments[3] = str(tmp_path)  # a bucket would be asked
    monkeypatch.chdir(ROOT)
    assert codegym([*arguments, "--set", "note=1"]) == 2
    assert "codegym run: unknown setting note" in capsys.readouterr().err


def test_what_a_slice_is_agrees_with_the_planner():
    """Processes and devices are those that `codegym plan` counts with."""
    for name, tpu in render.TPUS.items():
        assert ACCELERATORS[name].named_by == tpu.named_by
        for chips in tpu.shapes:
            accelerator_type = f"{name}-{chips * tpu.named_by}"
            hosts, devices = render.slice_hosts(accelerator_type), parse_devices(accelerator_type)
            assert (hosts.count, hosts.count * hosts.devices) == (devices.processes, devices.count)
    for name in render.GPUS:
        for number in (1, 8, 16, 64):
            hosts, devices = render.gpu_hosts(f"{name}-{number}"), parse_devices(f"{name}-{number}")
            assert (hosts.count, hosts.count * hosts.devices) == (devices.processes, devices.count)


def test_slices_and_their_machines():
    """By hand from Google's tables; for Multislice a slice of eight chips is two machines."""

    def words(accelerator_type: str, **how: Any) -> str:
        return render.slice_hosts(accelerator_type, **how).words

    assert words("v4-8") == "1 x ct4p-hightpu-4t, topology 2x2x1"
    assert words("v5p-64") == "8 x ct5p-hightpu-4t, topology 2x4x4"
    assert words("v5litepod-256") == words("v5e-256") == "64 x ct5lp-hightpu-4t, topology 16x16"
    assert words("v6e-1") == "1 x ct6e-standard-1t, topology 1x1"
    assert words("v6e-8") == "1 x ct6e-standard-8t, topology 2x4"
    assert words("v6e-8", several=True) == "2 x ct6e-standard-4t, topology 2x4"
    assert words("v5p-384", topology="4x4x12") == "48 x ct5p-hightpu-4t, topology 4x4x12"


def test_processes_find_each_other(cluster):
    """On TPUs JAX asks GKE; on GPU nodes process 0's name is the one that JobSet gives pod 0 of job 0."""
    [tpu] = pod_of(cluster.jobset("single", CONFIG))["containers"]
    assert tpu["args"][-2:] == ["--coordinator", "auto"]
    [alone] = pod_of(cluster.jobset("single", CONFIG, ACCELERATOR_TYPE="v6e-8"))["containers"]
    assert "--coordinator" not in alone["args"]
    jobset = cluster.jobset("gpu", CONFIG, ACCELERATOR_TYPE="h100-32")
    [gpu] = pod_of(jobset)["containers"]
    assert gpu["args"][-6:] == [
        *("--coordinator", f"grpo-1-node-0-0.grpo-1:{render.COORDINATOR_PORT}"),
        *("--process-id", "$(PROCESS_ID)", "--process-count", "4"),
    ]
    environment = {each["name"]: each.get("value") for each in gpu["env"]}
    assert environment["JAX_LOCAL_DEVICE_IDS"] == "0,1,2,3,4,5,6,7"
    assert jobset["spec"]["network"]["enableDNSHostnames"] is True


def test_the_grace_period_is_shorter_than_what_the_nodes_give(cluster):
    """25 s, and on spot machines 10 of the 15 that they give their pods, unless told otherwise."""

    def grace_s(*words: str, **settings: str) -> str | None:
        [container] = pod_of(cluster.jobset(*words, CONFIG, **settings))["containers"]
        return {each["name"]: each.get("value") for each in container["env"]}["CODEGYM_GRACE_S"]

    assert [grace_s("single"), grace_s("--spot", "single")] == ["25", "10"]
    assert grace_s("--spot", "single", CODEGYM_GRACE_S="85") == "85"
    assert " --env=CODEGYM_GRACE_S=10 " in cluster.ask("--xpk", "--spot", "single", CONFIG)


def test_a_task_set_that_is_not_in_the_image_must_be_in_the_run_folder(cluster):
    """The cloud is empty, then there is one; what is asked of it is a plan."""
    words = ["single", CONFIG, "--set", "data.task_set=task_sets/mine"]
    looks = "gcloud storage ls gs://bucket/codegym/grpo-1/task_set/manifest.json"
    cluster.place.joinpath("scenario.json").write_text("{}")
    refused = cluster.submit(*words)
    assert (
        refused.returncode == 2 and "data.task_set task_sets/mine is on this machine alone" in refused.stderr
    )
    assert not (cluster.place / "kubectl.jsonl").exists()
    assert cluster.ask("--dry-run", *words).splitlines()[0] == looks
    manifest = cluster.place / "bucket" / "bucket" / "codegym" / "grpo-1" / "task_set" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert cluster.ask(*words) == "jobset.jobset.x-k8s.io/grpo-1 created\n"


def test_words_arrive_as_they_were_written(cluster):
    """Nothing of an option is read by YAML, by Kubernetes' $(NAME), or by the template's $name."""
    words = ["--set", "a=$(PROCESS_ID)", "b=$image", "c: [d", "\"e' #f", "no", "1", "é\\n"]
    [container] = pod_of(cluster.jobset("single", CONFIG, *words))["containers"]
    kept = [word.replace("$$(", "$(") for word in container["args"]]
    assert kept == ["run", CONFIG, "--run", RUN, *words, "--coordinator", "auto"]
    assert "a=$$(PROCESS_ID)" in container["args"]


@pytest.mark.parametrize(
    ("endings", "ended"),
    [
        ([0], ("Completed", 0)),
        ([42, 42, 42, 42, 42, 0], ("Completed", 5)),  # more often than MAX_RESTARTS
        (["DisruptionTarget", "DisruptionTarget", 42, "DisruptionTarget", "running"], ("-", 4)),
        ([42, 2], ("Failed", 1)),
        ([130], ("Failed", 0)),
        ([1, 42, 139, 137, 0], ("Completed", 4)),  # three others are allowed, and the fourth is not
        ([1, 42, 139, 137, 1, 0], ("Failed", 4)),
    ],
    ids=str,
)
def test_what_an_exit_code_does(cluster, endings, ended):
    assert cluster.lives(*endings) == ended


def test_messages_in_other_words_end_the_run(cluster):
    """Were Kubernetes to say it otherwise, nothing would start again for ever."""
    rules = cluster.jobset("single", CONFIG)["spec"]["failurePolicy"]["rules"]
    assert [rule["name"] for rule in rules] == ["mistake", "resumable", "unknown"]
    said = "Exit code of container codegym: 42"
    assert not any(
        re.search(pattern, said) for rule in rules for pattern in rule.get("onJobFailureMessagePatterns", [])
    )
    assert rules[-1]["action"] == "FailJobSet" and "onJobFailureMessagePatterns" not in rules[-1]


def test_from_submit_to_delete(cluster):
    cluster.place.joinpath("scenario.json").write_text(json.dumps([42, "running"]))
    assert cluster.ask("multi", CONFIG, NUM_SLICES="2") == "jobset.jobset.x-k8s.io/grpo-1 created\n"
    assert cluster.ask("logs") == "attempt 0\n"
    cluster.ask("status")
    assert cluster.ask("logs") == "attempt 1\n"
    everybody = cluster.ask("logs", "--all").splitlines()
    assert len(everybody) == 16 and everybody[-1] == "[pod/grpo-1-slice-1-7-abcde/codegym] attempt 1"
    assert len(cluster.ask("status").splitlines()) == 2 + 16
    refused = cluster.submit("single", CONFIG)
    assert refused.returncode == 2 and "already exists" in refused.stderr
    assert refused.stderr.splitlines()[-1] == (
        "launch/submit.sh: not submitted; where RUN_NAME=grpo-1 is there already, `delete` it first: the run"
        " goes on from its checkpoint"
    )
    assert cluster.ask("delete") == 'jobset.jobset.x-k8s.io "grpo-1" deleted\n'
    assert cluster.submit("status").returncode == 1
    cluster.ask("single", CONFIG)


def test_the_plan_is_a_script_that_submits(cluster):
    """What --dry-run prints does the same where a shell runs it."""
    plan = cluster.ask("--dry-run", "single", CONFIG)
    path = f"{BIN}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-c", plan],
        env={"PATH": path, "STAND_IN": str(cluster.place)},
        check=True,
        capture_output=True,
    )
    kept = json.loads((cluster.place / "grpo-1.json").read_text())
    kept.pop("status")
    assert kept == cluster.jobset("single", CONFIG)


@pytest.mark.parametrize(
    ("words", "settings", "complaint"),
    [
        *[
            (["single", CONFIG], {name: ""}, f"{name} is not set; --help says what it is")
            for name in SETTINGS
        ],
        (["status"], {"RUN_NAME": "A_1"}, "RUN_NAME must be small letters, digits and dashes, got A_1"),
        (["single", CONFIG], {"IMAGE": "a b"}, "IMAGE must be a container image, such as"),
        (
            ["single", CONFIG],
            {"BASE_OUTPUT_DIRECTORY": "/runs"},
            "BASE_OUTPUT_DIRECTORY must be gs://BUCKET/FOLDER",
        ),
        (["single", CONFIG], {"BASE_OUTPUT_DIRECTORY": 'gs://b/"x'}, "BASE_OUTPUT_DIRECTORY must be gs://"),
        (["single", CONFIG], {"MAX_RESTARTS": "many"}, "MAX_RESTARTS must be a number, got many"),
        (
            ["single", CONFIG],
            {"SERVICE_ACCOUNT": "me@x"},
            "SERVICE_ACCOUNT must be a Kubernetes service account",
        ),
        (["single", CONFIG], {"NUM_SLICES": "2"}, "NUM_SLICES must be 1 for single, got 2"),
        (["multi", CONFIG], {}, "NUM_SLICES must be 2 or more for multi, got 1"),
        (
            ["multi", CONFIG],
            {"NUM_SLICES": "2", "ACCELERATOR_TYPE": "v6e-4"},
            "must be a slice of several hosts",
        ),
        (["single", CONFIG], {"ACCELERATOR_TYPE": "v5p-7"}, "ACCELERATOR_TYPE must be one of v5p-8, v5p-16"),
        (
            ["single", CONFIG],
            {"ACCELERATOR_TYPE": "h100-8"},
            "ACCELERATOR_TYPE must be one of v4, v5p, v5e, v6e",
        ),
        (
            ["single", CONFIG],
            {"ACCELERATOR_TYPE": "v6e-2", "TOPOLOGY": "1x2"},
            "must be whole machines of 4 chips",
        ),
        (
            ["gpu", CONFIG],
            {"ACCELERATOR_TYPE": "h100-12"},
            "or whole nodes of 8, such as h100-16, got h100-12",
        ),
        (
            ["single", CONFIG],
            {"TOPOLOGY": "4x4"},
            "TOPOLOGY of v5p-64 must be 3 numbers whose product is its 32",
        ),
        (
            ["single", CONFIG],
            {"TOPOLOGY": "2x2x2"},
            "TOPOLOGY of v5p-64 must be 3 numbers whose product is its 32",
        ),
        (["single", CONFIG], {"RUN_NAME": "a" * 50}, "RUN_NAME must have at most 47 characters here"),
        (["single", CONFIG, "a\nb"], {}, r"an option must be printable text, got 'a\nb'"),
        (["single", "none.py"], {}, "config file not found: none.py"),
        (["single", "/etc/passwd"], {}, "CONFIG must be a path from the repository's root"),
        (["--xpk", "gpu", CONFIG], {"ACCELERATOR_TYPE": "h100-8"}, "--xpk is for TPU slices"),
        (["start"], {}, "the first argument must be single, multi, gpu, status, logs or delete, got start"),
        (["--reservation"], {}, "--reservation needs a value"),
    ],
)
def test_what_is_wrong_is_said_before_anything_runs(cluster, words, settings, complaint):
    refused = cluster.submit(*words, **settings)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("launch/submit.sh: ") and complaint in refused.stderr
    assert not (cluster.place / "kubectl.jsonl").exists()


def test_help_names_every_setting(cluster):
    printed = cluster.ask("--help")
    assert all(
        re.search(rf"^ .*\b{name}\b", printed, re.MULTILINE) for name in (*render._PATTERNS, *SETTINGS)
    )
    assert "examples:" in printed
    for config in re.findall(r"configs/\w+\.py", printed):
        assert (ROOT / config).is_file()
