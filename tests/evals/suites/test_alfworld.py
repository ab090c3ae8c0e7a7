"""ALFWorld's worker: the parts that need no package, and games of our own by the package's rules."""

import importlib.util
import json
import pathlib

import pytest

from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.evals.suites.environments import worker_command, worker_file
from codegym_jax.evals.suites.play import SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.registry import SuiteOptions, check_choice, parse_suites
from codegym_jax.evals.suites.suite import SuiteError, SuiteFailure
from codegym_jax.evals.suites.worker import WorkerSuite

KINDS = ["pick_and_place_simple", "pick_clean_then_place_in_recep"]
ROOM = """
(define (problem tidy)
 (:domain alfred)
 (:objects
  someone - agent
  MugType BookType - otype
  DeskType CabinetType SinkBasinType - rtype
  Mug_bar_1 Book_bar_1 - object
  Desk_bar_1 Cabinet_bar_1 Sink_bar_basin_1 - receptacle
  middle at_desk at_cabinet at_sink - location)
 (:init
  (= (total-cost) 0)
  (atLocation someone middle)
  (receptacleAtLocation Desk_bar_1 at_desk) (receptacleType Desk_bar_1 DeskType)
  (receptacleAtLocation Cabinet_bar_1 at_cabinet) (receptacleType Cabinet_bar_1 CabinetType)
  (receptacleAtLocation Sink_bar_basin_1 at_sink) (receptacleType Sink_bar_basin_1 SinkBasinType)
  (openable Cabinet_bar_1)
  (canContain DeskType MugType) (canContain DeskType BookType) (canContain SinkBasinType MugType)
  (objectType Mug_bar_1 MugType) (pickupable Mug_bar_1) (cleanable Mug_bar_1)
  (objectType Book_bar_1 BookType) (pickupable Book_bar_1)
  (inReceptacle Mug_bar_1 Cabinet_bar_1) (objectAtLocation Mug_bar_1 at_cabinet)
  (inReceptacle Book_bar_1 Desk_bar_1) (objectAtLocation Book_bar_1 at_desk))
 (:goal (and (inReceptacle Mug_bar_1 Desk_bar_1) %s)))
"""
GAMES = {
    "valid_seen": ("pick_and_place_simple-Mug-None-Desk-1", "put some mug on desk", ""),
    "valid_unseen": (
        "pick_clean_then_place_in_recep-Mug-None-Desk-2",
        "put a clean mug on desk",
        "(isClean Mug_bar_1)",
    ),
}
"""Subset -> the folder of a game, its task as a player is told it, and what its goal has beside the place."""


@pytest.fixture(scope="module")
def alfworld():
    """The worker's file as a module."""
    spec = importlib.util.spec_from_file_location("alfworld_worker", worker_file("alfworld"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def call(arguments, name="act", number=0):
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def saying(*commands):
    calls = [call(json.dumps({"command": command}), number=number) for number, command in enumerate(commands)]
    return {"role": "assistant", "content": "So.", "tool_calls": calls}


def put_game(folder, kind, **game):
    folder.mkdir(parents=True)
    (folder / "traj_data.json").write_text(json.dumps({"task_type": kind}))
    (folder / "game.tw-pddl").write_text(json.dumps(game))


@pytest.mark.parametrize("arguments", ['{"command": "look"', "[1]", "{}", '{"command": 1}', "[" * 100_000])
def test_what_is_no_command_is_none(alfworld, arguments):
    assert alfworld.read_command(call(arguments)) is None


def test_a_command_is_that_of_the_tool(alfworld):
    assert alfworld.read_command(call('{"command": "look"}')) == "look"
    assert alfworld.read_command(call('{"command": "look"}', name="say")) is None
    gold = alfworld.calling("go to desk 1")
    assert alfworld.read_command(gold["tool_calls"][0]) == "go to desk 1"
    assert alfworld.tool_schema()["function"]["name"] == gold["tool_calls"][0]["function"]["name"]


def test_games_are_those_that_the_package_would_take_in_order(alfworld, tmp_path):
    put_game(tmp_path / "b" / "trial_2", KINDS[0], solvable=True)
    put_game(tmp_path / "b" / "trial_1", KINDS[1], solvable=True)
    put_game(tmp_path / "a" / "trial_3", KINDS[0], solvable=True)
    put_game(tmp_path / "unsolved" / "trial", KINDS[0], solvable=None)
    put_game(tmp_path / "another" / "trial", "a_kind_of_its_own", solvable=True)
    put_game(tmp_path / "pick_and_place_with_movable_recep" / "trial", KINDS[0], solvable=True)
    put_game(tmp_path / "pick_AppleSliced" / "trial", KINDS[0], solvable=True)
    put_game(tmp_path / "untold" / "trial", KINDS[0], solvable=True)
    (tmp_path / "untold" / "trial" / "traj_data.json").unlink()
    assert alfworld.find_games(tmp_path, KINDS) == ["a/trial_3", "b/trial_1", "b/trial_2"]


def test_splits_are_found_in_the_folder_or_one_below_it(alfworld, tmp_path):
    (tmp_path / "json_2.1.1" / "valid_unseen").mkdir(parents=True)
    for given in (tmp_path, tmp_path / "json_2.1.1"):
        assert alfworld.Games(str(given)).subsets == ["valid_unseen"]
    with pytest.raises(ValueError, match="no folder valid_seen or valid_unseen in"):
        alfworld.Games(str(tmp_path / "json_2.1.1" / "valid_unseen"))


def test_it_asks_for_its_games_and_packages_before_any_work(tmp_path):
    (choice,) = parse_suites("alfworld")
    with pytest.raises(SuiteError, match=r"needs --suite-data alfworld=\.\.\.: ALFWorld's game files"):
        check_choice(choice, SuiteOptions(cache=tmp_path))
    with pytest.raises(SuiteError, match="run `codegym suites install alfworld`"):
        check_choice(choice, SuiteOptions(cache=tmp_path, data={"alfworld": str(tmp_path)}))


@pytest.fixture(scope="module")
def suite(tmp_path_factory):
    """With games of our own; fails with the command that installs it, where it is not installed."""
    command = worker_command(default_cache_dir(), "alfworld")
    environment = pathlib.Path(command[0]).parent.parent
    (rules,) = environment.glob("lib/python*/site-packages/alfworld/data")
    data = tmp_path_factory.mktemp("alfworld")
    for subset, (name, task, goal) in GAMES.items():
        put_game(
            data / "json_2.1.1" / subset / name / "trial_T1",
            name.split("-")[0],
            pddl_domain=(rules / "alfred.pddl").read_text(),
            grammar=(rules / "alfred.twl2").read_text().replace("UNKNOWN GOAL", task),
            pddl_problem=ROOM % goal,
            solvable=True,
        )
    suite = WorkerSuite(command, name="alfworld", settings={"data": str(data)})
    yield suite
    suite.close()


def begun(suite, subset):
    return suite.open(subset, suite.tasks(subset)[0])


@pytest.mark.slow
def test_the_planner_does_every_task_and_knowing_nothing_none(suite):
    assert suite.facts.subsets == ("valid_seen", "valid_unseen")
    for subset, (name, _, _) in GAMES.items():
        (task,) = suite.tasks(subset)
        assert task == f"{name}/trial_T1"
        right, wrong = (play(suite, subset, task, 0, speaker, 60) for speaker in (oracle, no_op))
        assert (right.score, right.stop) == (1.0, SuiteStop.FINISHED)
        assert (wrong.score, wrong.stop, wrong.turns) == (0.0, SuiteStop.FINISHED, 1)


@pytest.mark.slow
def test_a_house_is_told_and_things_are_moved(suite):
    session = begun(suite, "valid_seen")
    told = session.opening.messages[0]["content"]
    assert "Your task is to: put some mug on desk." in told
    assert "\n\nValid commands: go to cabinet 1; go to desk 1; " in told
    reaction = session.reply(saying("open cabinet 1", "go to cabinet 1", "open cabinet 1"))
    answers = [message["content"].split("\n")[0] for message in reaction.messages]
    assert answers == [
        "Nothing happens.",
        "You arrive at cabinet 1. The cabinet 1 is closed.",
        "You open the cabinet 1. The cabinet 1 is open. In it, you see a mug 1.",
    ]
    assert session.score().score == 0.0
    done = session.reply(saying("take mug 1 from cabinet 1", "go to desk 1", "move mug 1 to desk 1", "look"))
    assert done.finished
    assert done.messages[-1]["content"] == "It is over."
    assert (session.score().score, session.score().detail) == (1.0, {"commands": 6})
    session.close()


@pytest.mark.slow
def test_a_dirty_mug_is_not_the_one_that_was_asked_for(suite):
    session = begun(suite, "valid_unseen")
    session.reply(saying("go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1", "go to desk 1"))
    assert not session.reply(saying("move mug 1 to desk 1")).finished
    assert session.score().score == 0.0
    session.close()


@pytest.mark.slow
def test_sessions_of_one_task_do_not_feel_one_another_and_later_ones_begin_anew(suite):
    one, other = begun(suite, "valid_seen"), begun(suite, "valid_seen")
    steps = ["go to cabinet 1", "open cabinet 1", "take mug 1 from cabinet 1"]
    heard = [[session.reply(saying(step)).messages for step in steps] for session in (one, other)]
    assert heard[0] == heard[1]
    one.close()
    again = begun(suite, "valid_seen")
    assert again.opening == other.opening
    assert [again.reply(saying(step)).messages for step in steps] == heard[0]
    other.close()
    again.close()


@pytest.mark.slow
def test_fifty_commands_end_an_attempt(suite):
    session = begun(suite, "valid_seen")
    broken = {"role": "assistant", "content": None, "tool_calls": [call("{")]}
    assert session.reply(broken).messages[0]["content"].startswith("Nothing happens: call `act`")
    assert not session.reply(saying(*["sing \ud800\n"] * 48)).finished
    assert session.reply(saying("look")).finished
    assert session.score().score == 0.0
    session.close()


@pytest.mark.slow
def test_a_task_that_is_not_there_is_no_file_that_is_read(suite):
    with pytest.raises(SuiteFailure, match="no task"):
        suite.open("valid_seen", "../valid_unseen")


@pytest.mark.slow
def test_without_games_it_says_which_folder_it_wants(tmp_path):
    with pytest.raises(SuiteError, match=r"give ALFWorld's json_2\.1\.1"):
        WorkerSuite(
            worker_command(default_cache_dir(), "alfworld"), name="alfworld", settings={"data": str(tmp_path)}
        )
