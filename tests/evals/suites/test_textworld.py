"""TextWorldExpress's worker: the parts that need no package, and the lines of its games."""

import importlib.util
import json
import os
import pathlib
import select
import signal
import subprocess

import pytest

from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.evals.suites import environments
from codegym_jax.evals.suites.environments import worker_command, worker_file
from codegym_jax.evals.suites.play import SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.registry import SuiteOptions, check_choice, parse_suites
from codegym_jax.evals.suites.suite import SuiteError, SuiteFailure
from codegym_jax.evals.suites.worker import WorkerSuite

KITCHEN = "You are in the kitchen."
EMPTY = "Inventory: \n  Your inventory is currently empty.\n"


@pytest.fixture(scope="module")
def textworld():
    """The worker's file as a module."""
    spec = importlib.util.spec_from_file_location("textworld_worker", worker_file("textworld"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(arguments, name="act", number=0):
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def saying(*commands):
    calls = [call(json.dumps({"command": command}), number=number) for number, command in enumerate(commands)]
    return {"role": "assistant", "content": "So.", "tool_calls": calls}


def state(observation, look=KITCHEN, inventory=EMPTY, commands=("look around", "inventory")):
    return {"observation": observation, "look": look, "inventory": inventory, "validActions": commands}


def test_what_has_been_shown_and_still_holds_is_not_shown_again(textworld):
    display = textworld.Display()
    said = [
        display.text(state(f"{KITCHEN} ")),
        display.text(state("You take the coin.", inventory="a coin", commands=("look around",))),
        display.text(state("Unknown action.", inventory="a coin", commands=("look around",))),
    ]
    assert said[0].split("\n\n") == [KITCHEN, EMPTY.strip(), "Valid commands: look around; inventory"]
    assert said[1].split("\n\n") == ["You take the coin.", "a coin", "Valid commands: look around"]
    assert said[2].split("\n\n") == ["Unknown action.", "Valid commands: look around"]


def test_a_world_without_surroundings_shows_none(textworld):
    assert textworld.Display().text(state("Simon says.", look="", inventory="")) == (
        "Simon says.\n\nValid commands: look around; inventory"
    )


@pytest.mark.parametrize("arguments", ['{"command": "look"', "[1]", "{}", '{"command": 1}', "[" * 100_000])
def test_what_is_no_command_is_none(textworld, arguments):
    assert textworld.read_command(call(arguments)) is None


def test_a_command_is_that_of_the_tool(textworld):
    assert textworld.read_command(call('{"command": "take coin"}')) == "take coin"
    assert textworld.read_command(call('{"command": "take coin"}', name="look")) is None
    gold = textworld.calling("take coin")
    assert textworld.read_command(gold["tool_calls"][0]) == "take coin"
    assert textworld.tool_schema()["function"]["name"] == gold["tool_calls"][0]["function"]["name"]


def test_without_java_or_its_packages_it_says_what_to_install(tmp_path, monkeypatch):
    (choice,) = parse_suites("textworld:coin")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SuiteError, match=r"needs the program `java`.*install it"):
        check_choice(choice, SuiteOptions(cache=tmp_path))
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\n")
    java.chmod(0o755)
    with pytest.raises(SuiteError, match="run `codegym suites install textworld`"):
        check_choice(choice, SuiteOptions(cache=tmp_path))
    assert not environments.is_installed(tmp_path, "textworld")


@pytest.fixture(scope="module")
def suite():
    """Fails with the command that installs it, where it is not installed."""
    suite = WorkerSuite(worker_command(default_cache_dir(), "textworld"), name="textworld")
    yield suite
    suite.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "subset", ["cookingworld", "coin", "twc", "mapreader", "arithmetic", "simonsays", "peckingorder"]
)
def test_gold_paths_end_games_in_success_and_knowing_nothing_none(suite, subset):
    """Of every fourth task."""
    names = suite.tasks(subset)
    assert names == [str(seed) for seed in range(20000, 20100)]
    for speaker, score in ((oracle, 1.0), (no_op, 0.0)):
        attempts = [play(suite, subset, task, 0, speaker, 200) for task in names[::4]]
        assert {(attempt.score, attempt.stop) for attempt in attempts} == {(score, SuiteStop.FINISHED)}


def answers(session, messages):
    return [answer["content"] for message in messages for answer in session.reply(message).messages]


@pytest.mark.slow
def test_games_of_one_task_do_not_feel_one_another(suite):
    for subset in suite.facts.subsets:
        one, other = (suite.open(subset, "20000") for _ in range(2))
        assert one.opening == other.opening
        played = play(suite, subset, "20000", 0, oracle, 200)
        said = [message for message in played.messages if message["role"] == "assistant"]
        heard = [message["content"] for message in played.messages if message["role"] == "tool"]
        for session in (one, other):
            assert answers(session, said) == heard
            assert session.score().score == 1.0
            session.close()


@pytest.mark.slow
def test_partial_work_is_worth_its_part_and_a_wrong_act_ends_it_at_nothing(suite):
    """Simon says five things; the second is done wrong."""
    session = suite.open("simonsays", "20000")
    reaction = session.reply(session.gold())
    assert not reaction.finished
    assert session.score().score == pytest.approx(0.2)
    wrong = session.reply(saying("take tomato", "examine pea"))
    assert [message["content"].splitlines()[0] for message in wrong.messages] == [
        "Incorrect!",
        "The game is over.",
    ]
    assert wrong.finished
    score = session.score()
    assert score.score == 0.0
    assert score.detail == {"success": False, "failure": True, "commands": 2}
    session.close()


@pytest.mark.slow
def test_what_the_game_does_not_understand_is_answered_until_the_commands_are_spent(suite):
    session = suite.open("coin", "20000")
    broken = {"role": "assistant", "content": None, "tool_calls": [call("{")]}
    assert session.reply(broken).messages[0]["content"].startswith("Unknown action: call `act`")
    answers = session.reply(saying(*["xyzzy \n'\"\u00e9\ud800"] * 98))
    assert not answers.finished
    assert answers.messages[0]["content"].startswith("Unknown action: I'm not sure what you mean.")
    last = session.reply(saying("look around", "look around"))
    assert last.finished
    assert last.messages[0]["content"].startswith("You are in ")
    assert last.messages[1]["content"] == "The game is over."
    assert session.score().detail["commands"] == 100
    session.close()


def java_of(worker):
    """The process that holds a worker's games, as a descriptor that can be read from when it has ended."""
    tasks = pathlib.Path(f"/proc/{worker}/task").glob("*/children")
    (java,) = [int(child) for task in tasks for child in task.read_text().split()]
    return java, os.pidfd_open(java)


def ends(descriptor):
    """Whether a process ends; waits for it."""
    return select.select([descriptor], [], [], 60.0)[0] == [descriptor]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the end of its stdin", "a kill"])
def test_java_ends_with_the_worker(how):
    worker = subprocess.Popen(
        worker_command(default_cache_dir(), "textworld"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin and worker.stdout
    worker.stdin.write(b'{"op": "hello"}\n')
    worker.stdin.flush()
    assert json.loads(worker.stdout.readline())["package"] == "textworld-express"
    _, java = java_of(worker.pid)
    if how == "a kill":
        worker.kill()
    worker.stdin.close()
    assert ends(java)
    os.close(java)
    assert worker.wait() == (-signal.SIGKILL if how == "a kill" else 0)
    worker.stdout.close()


@pytest.mark.slow
def test_a_worker_whose_java_died_is_replaced():
    suite = WorkerSuite(worker_command(default_cache_dir(), "textworld"), name="textworld")
    try:
        session = suite.open("coin", "20000")
        java, descriptor = java_of(suite._worker._process.pid)
        os.kill(java, signal.SIGKILL)
        assert ends(descriptor)
        os.close(descriptor)
        with pytest.raises(SuiteFailure, match="worker of suite textworld died"):
            session.reply(saying("look around"))
        assert play(suite, "coin", "20000", 0, oracle, 200).score == 1.0
    finally:
        suite.close()
