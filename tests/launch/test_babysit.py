"""`launch/babysit.sh` in a cloud that takes nodes away: the run ends complete, or it says why it cannot."""

import subprocess

import pytest

CONFIG = "configs/smoke_cpu.py"
QUEUE = ["WAITING_FOR_RESOURCES", "PROVISIONING"]
TAKEN = [
    {"queue": QUEUE, "preempt_at": 1, "then": "SUSPENDED"},
    {"queue": QUEUE, "preempt_at": 3, "then": "PREEMPTED"},
    {"queue": QUEUE, "preempt_at": 4, "then": "FAILED"},
]
WATCH = {"POLL_SECONDS": "7", "BACKOFF_SECONDS": "10", "BACKOFF_CAP_SECONDS": "35"}


def babysit(laptop, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return laptop.launch("babysit.sh", *(words or (CONFIG,)), **WATCH, **settings)


def sent(laptop, *words: str) -> int:
    """How many commands with these words went to the cloud."""
    return sum(set(words) <= set(command) for command in laptop.commands())


def waits(laptop) -> list[int]:
    """The sleeps that are not between two looks."""
    sleeps = [int(words[1]) for words in laptop.commands() if words[0] == "sleep"]
    return [seconds for seconds in sleeps if seconds != 7]


def test_the_plan(laptop, hold_to_plan):
    words = ["--spot", CONFIG, "--set", "train.steps=4"]
    hold_to_plan("babysit", laptop.plan("babysit.sh", *words))
    hold_to_plan("babysit_multislice", laptop.plan("babysit.sh", *words, NUM_SLICES="2"))


def test_what_runs_undisturbed_is_what_was_planned(laptop):
    planned = laptop.commands_of_plan(laptop.plan("babysit.sh", CONFIG))
    laptop.play(attempts=[{}])
    assert laptop.launch("babysit.sh", CONFIG).returncode == 0
    assert laptop.commands() == planned


def test_three_preemptions_end_with_the_run_complete(laptop):
    """Every step is made once: each node goes on where the one before was taken away."""
    laptop.play(attempts=[*TAKEN, {"queue": QUEUE}])
    done = babysit(laptop)
    assert done.returncode == 0, done.stdout + done.stderr
    assert laptop.steps() == [0, 1, 2, 3, 4, 5]
    assert "the run is complete: gs://bucket/codegym/grpo-1" in done.stdout
    cloud = laptop.cloud()
    assert (cloud["created"], cloud["resource"], cloud["nodes"]) == (4, None, {})
    assert sent(laptop, "queued-resources", "create") == sent(laptop, "queued-resources", "delete") == 4
    assert waits(laptop) == [10, 10, 10], "nodes came each time, so the wait does not grow"
    states = [line.partition(" ")[2] for line in done.stdout.splitlines()]
    assert states[:6] == [
        "pod: ABSENT",
        "attempt 1: queueing for 1 x v5litepod-16",
        "pod: PROVISIONING",
        "pod: ACTIVE",
        "pod: SUSPENDED",
        "SUSPENDED: deleting, to queue again",
    ]
    log = (laptop.run_folder / "logs" / "slice-0-worker-0.log").read_text()
    assert log.endswith("done: 6 steps\nlaunch/tpu_node.sh: slice-0-worker-0 ends with exit code 0\n")


def test_all_attempts_run_the_same_commit(laptop):
    laptop.play(attempts=[*TAKEN, {}])
    assert babysit(laptop).returncode == 0
    assert sent(laptop, "storage", "cp") == 1


@pytest.mark.parametrize("code", [1, 2, 137])
def test_a_run_that_cannot_go_on_stops_it_with_the_reason(laptop, code):
    laptop.play(attempts=[{}, {}])
    done = babysit(laptop, CONFIG, "--set", f"fail={code}")
    assert done.returncode == code
    assert "train.steps: must be positive, got -1" in done.stdout
    assert f"slice-0-worker-0 ended with exit code {code}" in done.stdout
    assert laptop.cloud()["created"] == 1
    assert (laptop.cloud()["resource"], laptop.cloud()["nodes"]) == (None, {})


def test_a_resumable_end_on_nodes_that_stay_is_resumed_on_new_ones(laptop):
    laptop.play(attempts=[{}, {}], environment={"RESTARTS": "0"})
    (laptop.place / "exits").write_text("42")
    done = babysit(laptop)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (laptop.cloud()["created"], laptop.steps()) == (2, [0, 1, 2, 3, 4, 5])
    assert "the run ended and can be resumed" in done.stdout


def test_the_wait_doubles_up_to_a_cap_while_no_nodes_come(laptop):
    failing = {"queue": ["FAILED"]}
    laptop.play(attempts=[failing, {"refused": True}, failing, failing, TAKEN[0], failing, {}])
    assert babysit(laptop).returncode == 0
    assert waits(laptop) == [10, 20, 35, 35, 10, 20]


def test_attempts_have_an_end_after_which_the_same_command_goes_on(laptop):
    laptop.play(attempts=[{"queue": ["FAILED"]}] * 2)
    done = babysit(laptop, MAX_ATTEMPTS="2")
    assert done.returncode == 42
    assert "gave up after 2 attempts; the same command goes on" in done.stdout


@pytest.mark.parametrize("state", [*QUEUE, "ACTIVE", "FAILED"])
def test_another_babysitter_takes_up_what_there_is(laptop, state):
    """Nothing is remembered but by the cloud."""
    laptop.play(attempts=[{"queue": [state] if state != "ACTIVE" else []}, {}])
    assert laptop.launch("tpu_queued.sh", "create", CONFIG).returncode == 0
    assert babysit(laptop).returncode == 0
    assert laptop.cloud()["created"] == (2 if state == "FAILED" else 1)
    assert laptop.steps() == [0, 1, 2, 3, 4, 5]


def test_ends_of_earlier_nodes_are_no_news(laptop):
    laptop.play(attempts=[{}])
    (laptop.run_folder / "launch").mkdir(parents=True)
    for worker, code in ((0, 0), (1, 2)):
        name = f"slice-0-worker-{worker}"
        (laptop.run_folder / "launch" / f"{name}.state").write_text(f"{name} {code}\n")
    assert babysit(laptop).returncode == 0
    assert laptop.steps() == [0, 1, 2, 3, 4, 5]


def test_a_cloud_that_cannot_be_asked_is_asked_again(laptop):
    laptop.play(attempts=[{"queue": QUEUE}], unreachable=[1, 2])
    done = babysit(laptop)
    assert (done.returncode, laptop.steps()) == (0, [0, 1, 2, 3, 4, 5])
    assert done.stdout.count("the cloud could not be asked; looking again") == 2


def test_a_cloud_that_cannot_be_asked_at_the_start_is_a_mistake(laptop):
    laptop.play(attempts=[{}], unreachable=[0])
    refused = babysit(laptop)
    assert (refused.returncode, laptop.cloud()["created"]) == (2, 0)
    assert "the queued resources of mine in europe-west4-b cannot be listed" in refused.stderr


def test_nodes_that_never_tell_of_the_run_are_given_up(laptop):
    """As when their service account may not read the bucket."""
    laptop.play(attempts=[{}], denied=True)
    done = babysit(laptop, START_POLLS="3")
    assert done.returncode == 3
    assert "no worker has told of the run after 3 looks at active nodes" in done.stdout
    assert laptop.cloud()["resource"] is None


def test_a_mistake_is_not_tried_again(laptop):
    laptop.play(attempts=[{}])
    done = babysit(laptop, "configs/none.py")
    assert done.returncode == 2 and "configs/none.py is not in the last commit" in done.stderr
    assert (laptop.cloud()["created"], waits(laptop)) == (0, [])


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"TPU_NAME": ""}, "TPU_NAME is not set; --help says what it is"),
        ({"ACCELERATOR_TYPE": ""}, "ACCELERATOR_TYPE is not set; --help says what it is"),
        ({"RUN_NAME": ""}, "RUN_NAME is not set; --help says what it is"),
        ({"MAX_ATTEMPTS": "0"}, "MAX_ATTEMPTS must be a number of attempts, got 0"),
    ],
)
def test_settings_are_checked_first(laptop, settings, complaint):
    refused = babysit(laptop, **settings)
    assert (refused.returncode, refused.stdout, laptop.commands()) == (2, "", [])
    assert refused.stderr == f"launch/babysit.sh: {complaint}\n"
