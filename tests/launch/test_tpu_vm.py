"""`launch/tpu_vm.sh` beside a stand-in for gcloud: what it would run, what it runs, what it refuses."""

import subprocess
import time

import pytest

CONFIG = "configs/smoke_cpu.py"
VERBS = {
    "create": ["create"],
    "create_spot": ["create", "--spot", "--network=net", "--service-account=me@mine.iam.gserviceaccount.com"],
    "setup": ["setup"],
    "run": ["run", CONFIG, "--set", "train.steps=4", "--set", "note=it's here"],
    "logs": ["logs"],
    "logs_follow": ["logs", "--worker", "3", "--follow"],
    "status": ["status"],
    "stop": ["stop"],
    "delete": ["delete"],
}


@pytest.mark.parametrize("name", VERBS)
def test_the_plan(laptop, hold_to_plan, name):
    hold_to_plan(f"tpu_vm_{name}", laptop.plan("tpu_vm.sh", *VERBS[name]))


@pytest.mark.parametrize(
    ("accelerator", "version"),
    [
        ("v2-8", "tpu-ubuntu2204-base"),
        ("v3-32", "tpu-ubuntu2204-base"),
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v5p-32", "v2-alpha-tpuv5"),
        ("v6e-256", "v2-alpha-tpuv6e"),
    ],
)
def test_the_runtime_version_is_that_of_the_generation(laptop, accelerator, version):
    plan = laptop.plan("tpu_vm.sh", "create", ACCELERATOR_TYPE=accelerator)
    assert f" --accelerator-type={accelerator} --version={version}\n" in plan
    assert " --version=mine\n" in laptop.plan("tpu_vm.sh", "create", RUNTIME_VERSION="mine")


def test_a_run_on_two_workers_from_create_to_delete(laptop):
    laptop.play(workers=2, environment={"SYNC_SECONDS": "1"})

    def ask(*words: str) -> str:
        done = laptop.launch("tpu_vm.sh", *words)
        assert (done.returncode, done.stderr) == (0, ""), words
        return done.stdout

    ask("create")
    ask("setup")
    homes = sorted(laptop.place.glob("nodes/pod/worker-*"))
    for home in homes:
        assert (home / "python.log").read_text().splitlines() == [
            "-m pip install --quiet --constraint requirements.lock jax[tpu]"
        ]
    # Worker 0 stays at step 2 until it is told to stop, so that both are running for sure.
    (laptop.place / "milestone").write_text("2")
    assert [line.partition(":")[0] for line in ask("run", CONFIG).splitlines()] == [
        "slice-0-worker-0",
        "slice-0-worker-1",
    ]
    status = ask("status").splitlines()
    assert status[0] == "READY\tHEALTHY"
    assert [line.rpartition(" ")[0] for line in status[1:]] == [
        f"slice-0-worker-{worker}: running, process" for worker in (0, 1)
    ]
    assert ask("run", CONFIG).splitlines() == [
        f"slice-0-worker-{worker}: running already" for worker in (0, 1)
    ]
    refused = laptop.launch("tpu_vm.sh", "setup")
    assert refused.returncode == 2 and "a run is going on here; stop it first" in refused.stderr
    assert ask("stop").splitlines() == [f"slice-0-worker-{worker}: stopped" for worker in (0, 1)]
    assert ask("logs").splitlines()[-1] == "launch/tpu_node.sh: slice-0-worker-0 ends with exit code 42"
    assert laptop.steps() == [0, 1]
    (laptop.place / "milestone").unlink()
    ask("run", CONFIG)
    wait_for_end(laptop)
    assert laptop.steps() == [0, 1, 2, 3, 4, 5]
    assert "exit code 0" in ask("status")
    log = (laptop.run_folder / "logs" / "slice-0-worker-0.log").read_text()
    assert [line.rpartition(" ")[2] for line in log.splitlines() if "ends with" in line] == ["42", "0"]
    ask("delete")
    assert laptop.cloud()["nodes"] == {}


def wait_for_end(laptop) -> None:
    """Until both workers have told of it."""
    states = [laptop.run_folder / "launch" / f"slice-0-worker-{worker}.state" for worker in (0, 1)]
    while [path.read_text().split()[1] for path in states] != ["0", "0"]:
        time.sleep(0.05)


def test_a_run_that_heeds_no_term_is_killed(laptop):
    laptop.play(environment={"SYNC_SECONDS": "1"})
    for words in (["create"], ["setup"]):
        assert laptop.launch("tpu_vm.sh", *words).returncode == 0
    [installed] = laptop.place.glob("nodes/pod/worker-0/codegym-jax/.venv/bin/codegym")
    ready = laptop.place / "ready"
    installed.write_text(f"#!/bin/bash\ntrap '' TERM\ntouch {ready}\nwhile :; do sleep 0.05; done\n")
    assert laptop.launch("tpu_vm.sh", "run", CONFIG).returncode == 0
    while not ready.exists():
        time.sleep(0.05)
    stopped = laptop.launch("tpu_vm.sh", "stop", GRACE_SECONDS="1")
    assert stopped.stdout.splitlines() == [
        "slice-0-worker-0: not over after 1 s, so it is killed",
        "slice-0-worker-0: stopped",
    ]
    assert (laptop.run_folder / "launch" / "slice-0-worker-0.state").read_text() == "slice-0-worker-0 137\n"


@pytest.mark.parametrize("name", VERBS)
def test_what_runs_is_what_was_planned(laptop, name):
    """The plan, run as a script, gives the cloud the very commands that the launch script gives."""
    plan = laptop.plan("tpu_vm.sh", *VERBS[name])
    planned = laptop.commands_of_plan(plan)
    laptop.play(only_records=True)
    assert laptop.launch("tpu_vm.sh", *VERBS[name]).returncode == 0
    assert laptop.commands() == planned != []


@pytest.mark.parametrize("setting", ["PROJECT", "ZONE", "TPU_NAME", "ACCELERATOR_TYPE"])
def test_what_create_needs_is_named(laptop, setting):
    refused = laptop.launch("tpu_vm.sh", "create", **{setting: ""})
    assert (refused.returncode, refused.stdout, laptop.commands()) == (2, "", [])
    assert refused.stderr == f"launch/tpu_vm.sh: {setting} is not set; --help says what it is\n"


@pytest.mark.parametrize(
    ("words", "settings", "complaint"),
    [
        (["setup"], {"RUN_NAME": ""}, "RUN_NAME is not set; --help says what it is"),
        (["setup"], {"RUN_NAME": "Mine"}, "RUN_NAME must be small letters, digits and dashes, got Mine"),
        (
            ["stop"],
            {"BASE_OUTPUT_DIRECTORY": "runs"},
            "BASE_OUTPUT_DIRECTORY must begin with gs://, got runs",
        ),
        (["create"], {"TPU_NAME": "a_b"}, "TPU_NAME must be small letters, digits and dashes, got a_b"),
        (
            ["create"],
            {"ACCELERATOR_TYPE": "v9-8"},
            "ACCELERATOR_TYPE must be such as v4-8, v5litepod-16, v5p-32 or v6e-64, got v9-8",
        ),
        (
            ["create"],
            {"ACCELERATOR_TYPE": "v5e-16"},
            "ACCELERATOR_TYPE is v5litepod-16 in Google's words, got v5e-16",
        ),
        (
            ["create"],
            {"ACCELERATOR_TYPE": "tpu7x-128"},
            "ACCELERATOR_TYPE tpu7x-128 is served by Kubernetes only: launch/gke/",
        ),
        (["run"], {}, "run needs a CONFIG; --help shows one"),
        (
            ["run", "configs/none.py"],
            {},
            "config file configs/none.py is not in the last commit, which is what workers get:"
            " name it from here and commit it",
        ),
        (["logs", "--worker"], {}, "--worker needs a value; --help says which"),
        (["logs", "--lines"], {}, "unknown option --lines; --help lists them"),
        (["--fast", "status"], {}, "unknown option --fast; --help lists them"),
        (["status", "--fast"], {}, "unknown option --fast; --help lists them"),
        (["restart"], {}, "unknown command restart; --help lists them"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(laptop, words, settings, complaint):
    refused = laptop.launch("tpu_vm.sh", *words, **settings)
    assert (refused.returncode, refused.stdout, laptop.commands()) == (2, "", [])
    assert refused.stderr == f"launch/tpu_vm.sh: {complaint}\n"


def test_the_stand_in_refuses_what_gcloud_would(laptop):
    refused = laptop.launch("tpu_vm.sh", "create", "--runtime-version=x")
    assert refused.returncode == 2 and "unrecognized arguments: --runtime-version=x" in refused.stderr


def test_changes_that_are_not_committed_are_told(laptop):
    laptop.play(only_records=True)
    (laptop.checkout / "configs" / "smoke_cpu.py").write_text("")
    told = laptop.launch("tpu_vm.sh", "setup")
    assert told.stderr == "launch/tpu_vm.sh: changes that are not committed are not sent\n"


def test_a_task_set_that_workers_would_not_have_is_told_before_they_are_asked(laptop):
    """They have it where the run folder holds it, or the last commit; a path from / may be of any machine."""
    laptop.install()
    named = ["run", CONFIG, "--preset", "dapo", "--set", "train.steps=4", "data.task_set=task_sets/mine"]
    looks = ["gcloud", "storage", "ls", "gs://bucket/codegym/grpo-1/task_set/manifest.json"]
    refused = laptop.launch("tpu_vm.sh", *named)
    assert (refused.returncode, laptop.commands()) == (2, [looks])
    assert refused.stderr.splitlines()[-2:] == [
        "launch/tpu_vm.sh: data.task_set task_sets/mine is on this machine alone; bring it to the run folder,"
        " which workers see, and start again:",
        "  gcloud storage rsync --recursive task_sets/mine gs://bucket/codegym/grpo-1/task_set",
    ]
    laptop.play(only_records=True)
    assert laptop.launch("tpu_vm.sh", *named).returncode == 0
    found, started = laptop.commands()
    assert found == looks and started[-1].endswith("data.task_set=task_sets/mine")
    for fine in (["run", CONFIG], [*named, "--set", "data.task_set=/shared/mine"]):
        laptop.play(only_records=True)
        assert laptop.launch("tpu_vm.sh", *fine).returncode == 0
        assert looks not in laptop.commands()


def test_a_task_set_of_the_last_commit_is_sent_with_it(laptop):
    laptop.install()
    manifest = laptop.checkout / "task_sets" / "mine" / "manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    author = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for words in (["add", "."], [*author, "commit", "--quiet", "-m", "with a task set"]):
        subprocess.run(["git", *words], cwd=laptop.checkout, check=True)
    plan = laptop.plan("tpu_vm.sh", "run", CONFIG, "--set", "data.task_set=task_sets/mine")
    assert "gcloud storage" not in plan


def test_a_grace_period_reaches_the_workers(laptop):
    plan = laptop.plan("tpu_vm.sh", "run", CONFIG, CODEGYM_GRACE_S="100")
    assert "CODEGYM_GRACE_S=100" in plan
