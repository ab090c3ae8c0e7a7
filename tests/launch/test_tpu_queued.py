"""`launch/tpu_queued.sh` beside a stand-in for gcloud whose nodes run the startup script."""

import subprocess

import pytest

CONFIG = "configs/smoke_cpu.py"
CREATE = {
    "on_demand": (["create", CONFIG], {}),
    "spot": (
        ["create", "--spot", "--valid-until-duration", "6h", CONFIG, "--set", "train.steps=4"],
        {"CREATE_FLAGS": "--network=net --internal-ips"},
    ),
    "reserved_multislice": (
        ["create", "--reserved", CONFIG],
        {"NUM_SLICES": "4", "ACCELERATOR_TYPE": "v6e-256"},
    ),
    "kept": (["create", "--keep-checkout", CONFIG], {}),
}
VERBS = {
    **{f"create_{name}": case for name, case in CREATE.items()},
    "status": (["status"], {}),
    "logs": (["logs", "--worker", "1-3"], {}),
    "delete": (["delete"], {}),
}


@pytest.mark.parametrize("name", VERBS)
def test_the_plan(laptop, hold_to_plan, name):
    words, settings = VERBS[name]
    hold_to_plan(f"tpu_queued_{name}", laptop.plan("tpu_queued.sh", *words, **settings))


@pytest.mark.parametrize("name", ["create_on_demand", "create_spot", "create_reserved_multislice", "delete"])
def test_what_runs_is_what_was_planned(laptop, name):
    words, settings = VERBS[name]
    plan = laptop.plan("tpu_queued.sh", *words, **settings)
    planned = laptop.commands_of_plan(plan)
    script = laptop.checkout / "build" / "launch" / "grpo-1" / "startup.sh"
    written = script.read_text() if script.exists() else ""
    laptop.play(only_records=True)
    assert laptop.launch("tpu_queued.sh", *words, **settings).returncode == 0
    assert laptop.commands() == planned != []
    assert not written or script.read_text() == written


def test_the_startup_script_is_a_script(laptop):
    """Whatever the words of the command, the shell of a worker reads the same ones."""
    laptop.play(only_records=True)
    words = ["--set", 'note=it\'s  "here" $HOME']
    assert laptop.launch("tpu_queued.sh", "create", CONFIG, *words).returncode == 0
    script = laptop.checkout / "build" / "launch" / "grpo-1" / "startup.sh"
    subprocess.run(["bash", "-n", script], check=True)
    last = script.read_text().splitlines()[-1]
    assert last.startswith("exec launch/tpu_node.sh boot ")
    said = subprocess.run(
        ["bash", "-c", last.replace("exec launch/tpu_node.sh boot", "printf '%s\\0'")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert said.split("\0")[:-1] == [CONFIG, *words]


def test_a_task_set_that_nodes_would_not_have_is_told_before_anything_is_made(laptop):
    laptop.install()
    words = ["create", CONFIG, "--set", "data.task_set=task_sets/mine"]
    refused = laptop.launch("tpu_queued.sh", *words)
    assert (
        refused.returncode == 2 and "data.task_set task_sets/mine is on this machine alone" in refused.stderr
    )
    assert laptop.cloud()["resource"] is None


def test_a_grace_period_reaches_the_nodes(laptop):
    plan = laptop.plan("tpu_queued.sh", "create", CONFIG, CODEGYM_GRACE_S="100")
    assert "\nexport CODEGYM_GRACE_S=100\nexec launch/tpu_node.sh boot " in plan


def test_nodes_run_by_themselves_and_tell_how_it_went(laptop):
    """Two slices of two workers; only the laptop's sleep lets time pass."""
    laptop.play(workers=2, attempts=[{"queue": ["WAITING_FOR_RESOURCES"]}])

    def ask(*words: str) -> str:
        done = laptop.launch("tpu_queued.sh", *words, NUM_SLICES="2")
        assert (done.returncode, done.stderr) == (0, ""), words
        return done.stdout

    ask("create", CONFIG)
    assert ask("status") == "WAITING_FOR_RESOURCES\nno worker has told of the run yet\n"
    for _ in range(2):
        subprocess.run(["sleep", "60"], env=laptop.environment({}), check=True)
    assert ask("status").splitlines() == [
        "ACTIVE",
        "pod-0\tREADY",
        "pod-1\tREADY",
        *(f"slice-{piece}-worker-{worker} 0" for piece in (0, 1) for worker in (0, 1)),
    ]
    assert laptop.steps() == [0, 1, 2, 3, 4, 5]
    assert "done: 6 steps" in ask("logs")
    assert "slice-1-worker-1 ends with exit code 0" in ask("logs", "--worker", "1-1")
    ask("delete")
    assert (laptop.cloud()["nodes"], laptop.cloud()["resource"]) == ({}, None)


@pytest.mark.parametrize(
    ("exits", "ends"),
    [("42 42", "0"), ("42 42 42 42", "42"), ("42 1", "1")],
    ids=["resumed", "resumed too often", "resumed, then wrong"],
)
def test_a_worker_resumes_a_run_that_lost_another_worker(laptop, exits, ends):
    """It tries three times; RESTART_SECONDS is the only clock, and it is set to nothing here."""
    laptop.play(attempts=[{}], environment={"RESTART_SECONDS": "0"})
    (laptop.place / "exits").write_text(exits)
    assert laptop.launch("tpu_queued.sh", "create", CONFIG).returncode == 0
    subprocess.run(["sleep", "60"], env=laptop.environment({}), check=True)
    state = laptop.run_folder / "launch" / "slice-0-worker-0.state"
    assert state.read_text() == f"slice-0-worker-0 {ends}\n"
    assert (laptop.place / "exits").read_text() == ""


def test_the_same_nodes_cannot_be_made_twice(laptop):
    laptop.play(attempts=[{"queue": ["WAITING_FOR_RESOURCES"]}] * 2)
    assert laptop.launch("tpu_queued.sh", "create", CONFIG).returncode == 0
    again = laptop.launch("tpu_queued.sh", "create", CONFIG)
    assert again.returncode == 1 and "ALREADY_EXISTS" in again.stderr


@pytest.mark.parametrize(
    ("words", "settings", "complaint"),
    [
        (["create"], {}, "create needs a CONFIG; --help shows one"),
        (["create", "--spot", "--reserved", CONFIG], {}, "--spot and --reserved exclude each other"),
        (["create", "--preemptible", CONFIG], {}, "unknown option --preemptible; --help lists them"),
        (["create", "--valid-until-duration"], {}, "--valid-until-duration needs a value; --help says which"),
        (["create", CONFIG], {"NUM_SLICES": "two"}, "NUM_SLICES must be a number of slices, got two"),
        (["create", CONFIG], {"ZONE": ""}, "ZONE is not set; --help says what it is"),
        (["create", CONFIG], {"RUN_NAME": ""}, "RUN_NAME is not set; --help says what it is"),
        (["logs", "--worker", "3"], {}, "--worker must be SLICE-WORKER such as 0-3, got 3"),
        (["delete", "now"], {}, "unknown option now; --help lists them"),
        (["run"], {}, "unknown command run; --help lists them"),
    ],
)
def test_mistakes_are_answered_before_anything_runs(laptop, words, settings, complaint):
    refused = laptop.launch("tpu_queued.sh", *words, **settings)
    assert (refused.returncode, refused.stdout, laptop.commands()) == (2, "", [])
    assert refused.stderr == f"launch/tpu_queued.sh: {complaint}\n"
