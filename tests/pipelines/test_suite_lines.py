"""Lines of suites: kept, gone on with, and the same whatever order they are played in."""

import itertools
import json
import pathlib
import subprocess
import sys

import pytest

from codegym_jax.config import UserError
from codegym_jax.evals.suites.play import Spoken, no_op, oracle
from codegym_jax.evals.suites.registry import SuiteChoice, SuiteEntry, SuiteOptions, parse_suites
from codegym_jax.evals.suites.worker import WorkerSuite
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.suite_lines import LinePlan, chosen_tasks, play_line
from codegym_jax.pipelines.suites import PolicyLine, SuiteSettings, play_suites

WORKER = pathlib.Path(__file__).parents[1] / "evals" / "suites" / "sums_worker.py"


@pytest.fixture
def sums():
    suite = WorkerSuite([sys.executable, str(WORKER)], name="sums", answer_s=60.0)
    yield suite
    suite.close()


def plan(speaker_of=oracle, slots=1, runs=2, line="start", **identity):
    return LinePlan(
        line=line, speaker_of=speaker_of, identity=identity, runs=runs, max_turns=9, slots=slots
    )  # fmt: skip


def files(folder):
    """Path -> bytes of all that a line leaves."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Guess:
    """Says the sum in a way that depends on task and run: right where both are even."""

    def __init__(self, session, task, run):
        self.session, self.right = session, (len(task) + run) % 2 == 0

    def say(self, heard):
        return Spoken(
            message=self.session.gold() if self.right else {"role": "assistant", "content": "7"}, tokens=3
        )


class StopsAt:
    """A speaker that has the command stopped after so many messages."""

    def __init__(self, messages):
        self.left = messages

    def __call__(self, session, task, run):
        guess = Guess(session, task, run)
        say = guess.say

        def counted(heard):
            self.left -= 1
            if self.left < 0:
                raise preemption.Stopped
            return say(heard)

        guess.say = counted
        return guess


def test_neither_slots_nor_the_order_of_tasks_make_a_difference(sums, tmp_path):
    tasks = sums.tasks("sums")
    play_line(tmp_path / "one", sums, "sums", tasks, plan(Guess))
    play_line(tmp_path / "four", sums, "sums", tasks, plan(Guess, slots=4))
    play_line(tmp_path / "turned", sums, "sums", tasks[::-1], plan(Guess, slots=3))
    play_line(tmp_path / "turned", sums, "sums", tasks, plan(Guess))
    assert files(tmp_path / "one") == files(tmp_path / "four") == files(tmp_path / "turned")
    assert set(files(tmp_path / "one")) == {"sums/sums/start.json", "sums/sums/start.jsonl"}


def test_resumed_is_the_same_as_never_stopped(sums, tmp_path):
    tasks = sums.tasks("sums")
    whole = play_line(tmp_path / "whole", sums, "sums", tasks, plan(Guess))
    assert 0.0 < whole.figures["mean"] < 1.0
    for messages in (0, 5, 9):
        with pytest.raises(preemption.Stopped, match="finished attempts are kept"):
            play_line(tmp_path / "resumed", sums, "sums", tasks, plan(StopsAt(messages)))
    play_line(tmp_path / "resumed", sums, "sums", tasks, plan(Guess))
    assert files(tmp_path / "resumed") == files(tmp_path / "whole")


def test_a_killed_line_goes_on_where_it_was(sums, tmp_path):
    """The process is killed by what it plays, at its ninth attempt, when the others are kept."""
    program = (
        "import os, pathlib, sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from test_suite_lines import *\n"
        "journal = pathlib.Path(sys.argv[2], 'sums', 'sums', '.start', 'journal')\n"
        "class Kills(StopsAt):\n"
        "    def __call__(self, session, task, run):\n"
        "        self.left -= 1\n"
        "        if self.left:\n"
        "            return Guess(session, task, run)\n"
        "        while journal.read_bytes().count(b'\"task\"') < 8:\n"
        "            time.sleep(0.01)\n"
        "        os._exit(9)\n"
        "suite = WorkerSuite([sys.executable, str(WORKER)], name='sums')\n"
        "play_line(pathlib.Path(sys.argv[2]), suite, 'sums', suite.tasks('sums'), plan(Kills(9)))\n"
    )
    here = str(pathlib.Path(__file__).parent)
    killed = subprocess.run(
        [sys.executable, "-c", program, here, str(tmp_path / "killed")], capture_output=True
    )
    assert killed.returncode == 9, killed.stderr.decode()
    tasks, made = sums.tasks("sums"), []

    def counting(session, task, run):
        made.append((task, run))
        return Guess(session, task, run)

    play_line(tmp_path / "killed", sums, "sums", tasks, plan(counting))
    assert len(made) == 12 - 8
    play_line(tmp_path / "whole", sums, "sums", tasks, plan(Guess))
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_nothing_is_played_twice_and_other_settings_are_played_anew(sums, tmp_path):
    made = []

    def counting(session, task, run):
        made.append((task, run))
        return Guess(session, task, run)

    tasks = sums.tasks("sums")
    play_line(tmp_path, sums, "sums", tasks[:2], plan(counting, runs=1, seed=0))
    play_line(tmp_path, sums, "sums", tasks, plan(counting, runs=2, seed=0))
    assert len(made) == len(set(made)) == 2 * len(tasks)
    line = play_line(tmp_path, sums, "sums", tasks[:2], plan(counting, runs=1, seed=0))
    assert (len(made), len(line.attempts)) == (12, 2)
    play_line(tmp_path, sums, "sums", tasks[:2], plan(counting, runs=1, seed=1))
    assert len(made) == 14


def test_a_larger_choice_of_tasks_holds_a_smaller_one(sums):
    tasks = sums.tasks("sums")
    chosen = [chosen_tasks(sums, "sums", limit) for limit in (1, 2, 3, 0)]
    assert [len(some) for some in chosen] == [1, 2, 3, 6]
    for fewer, more in itertools.pairwise(chosen):
        assert fewer == [task for task in more if task in fewer]
        assert more == [task for task in tasks if task in more]


def test_what_a_dead_worker_took_with_it_is_played_again_alone(tmp_path):
    """One of the tasks kills the worker, but only the first time; others are under way then."""
    mischief = tmp_path / "mischief"
    mischief.mkdir()
    suite = WorkerSuite([sys.executable, str(WORKER), f"once={mischief}"], name="sums", answer_s=60.0)
    line = play_line(tmp_path, suite, "bad", ["dies", "well"], plan(slots=4, runs=3))
    suite.close()
    assert [attempt.score for attempt in line.attempts] == [1.0] * 6
    assert line.figures["invalid"] == 0


def test_invalid_attempts_are_counted_and_made_again_by_the_next_command(sums, tmp_path):
    line = play_line(tmp_path, sums, "bad", ["breaks", "well"], plan(runs=1))
    assert (line.figures["invalid"], line.figures["attempts"], line.figures["mean"]) == (1, 1, 1.0)
    made = []

    def counting(session, task, run):
        made.append(task)
        return oracle(session, task, run)

    play_line(tmp_path, sums, "bad", ["breaks", "well"], plan(counting, runs=1))
    assert made == ["sums/bad/breaks"] * 2


SUMS = SuiteEntry(name="sums", about="", instructions="Add.", default_subsets=("sums",))


@pytest.fixture
def registered(monkeypatch):
    """The suite of sums among the others, as if it were installed."""
    from codegym_jax.evals.suites import environments, registry

    monkeypatch.setattr(environments, "WORKERS", WORKER.parent)
    monkeypatch.setattr(environments, "worker_file", lambda name: WORKER)
    monkeypatch.setattr("codegym_jax.pipelines.suites.worker_file", lambda name: WORKER)
    monkeypatch.setattr(registry, "worker_command", lambda cache, name: [sys.executable, str(WORKER)])
    return SuiteChoice(entry=SUMS)


def test_a_suite_has_its_oracle_and_its_no_op_beside_every_score(registered, tmp_path):
    told = []

    def speakers(instructions):
        told.append(instructions)
        return Guess

    policy = PolicyLine(line="start", identity={"parameters": "none"}, speaker_of=speakers)
    settings = SuiteSettings(runs=2, limit=4, slots=2)
    played = play_suites(tmp_path, [registered], SuiteOptions(cache=tmp_path), settings, lambda: policy)
    assert (played.wrong, told) == ([], ["Add."])
    rows = {row["label"]: row["cells"][0] for row in played.table["rows"]}
    assert [rows[name]["mean"] for name in ("oracle", "no-op")] == [1.0, 0.0]
    assert (rows["base"]["tasks"], rows["base"]["runs"]) == (4, 2)
    assert json.loads((tmp_path / "suites" / "table.json").read_text()) == played.table
    shown = (tmp_path / "transcripts" / "suites" / "sums" / "sums" / "oracle.txt").read_text()
    assert "-> add(" in shown
    assert played.text.startswith("|  | sums | mean |\n")


def test_an_oracle_that_fails_is_said_loudly(registered, tmp_path, capsys):
    """One task breaks, and one refuses what the suite itself calls right."""
    flawed = SuiteChoice(entry=SUMS, subset="flawed")
    played = play_suites(tmp_path, [flawed], SuiteOptions(cache=tmp_path), SuiteSettings(slots=2))
    oracle_wrong, no_op_wrong = played.wrong
    assert (
        "sums flawed: the oracle fails 2 of 3 tasks (breaks: suite sums, reply: lost its table; ref"
        in oracle_wrong
    )
    assert "not to be trusted" in oracle_wrong
    assert "the host spoiled 1 of 3 attempts of no_op" in no_op_wrong
    assert "WRONG: sums flawed" in capsys.readouterr().out


def test_names_of_suites():
    assert [(one.entry.name, one.subset) for one in parse_suites("zebra,held_out:test_env")] == [
        ("zebra", ""),
        ("held_out", "test_env"),
    ]
    with pytest.raises(UserError, match="no suite 'zerba'; did you mean zebra"):
        parse_suites("zerba")


def test_the_no_op_never_calls_a_tool(sums, tmp_path):
    line = play_line(tmp_path, sums, "sums", sums.tasks("sums"), plan(no_op, line="no_op", runs=1))
    assert {attempt.calls for attempt in line.attempts} == {0}
    assert line.figures["mean"] == 0.0
