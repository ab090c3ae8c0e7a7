"""A worker's sessions, and what becomes of a worker that dies, hangs or does not speak the protocol."""

import pathlib
import re
import subprocess
import sys

import pytest

from codegym_jax.evals.suites import environments
from codegym_jax.evals.suites.play import NO_OP, SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.suite import Suite, SuiteError, SuiteFailure, SuiteRefusal, SuiteSession
from codegym_jax.evals.suites.worker import WorkerSuite


def attempt(suite, subset, task, speaker=oracle):
    return play(suite, subset, task, 0, speaker, 10)


def test_a_worker_says_what_it_is(sums):
    assert isinstance(sums, Suite)
    assert (sums.facts.suite, sums.facts.subsets, sums.facts.single_turn) == (
        "sums",
        ("sums", "bad", "flawed"),
        False,
    )
    assert sums.tasks("sums")[0] == "1+2+3"


def test_a_session_is_played_call_by_call(sums):
    """1 + 2 = 3, then 3 + 3 = 6, then the answer."""
    session = sums.open("sums", "1+2+3")
    assert isinstance(session, SuiteSession)
    assert session.opening.tools[0]["function"]["name"] == "add"
    heard = []
    for _ in range(2):
        reaction = session.reply(session.gold())
        assert not reaction.finished
        heard += [message["content"] for message in reaction.messages]
    assert heard == ["3", "6"]
    last = session.gold()
    assert last["content"] == "6"
    assert session.reply(last).finished
    assert session.score().score == 1.0
    session.close()


def test_sessions_do_not_feel_one_another(sums):
    one, other = sums.open("sums", "1+2+3"), sums.open("sums", "7+7+7")
    one.reply(one.gold())
    assert other.gold()["tool_calls"][0]["function"]["arguments"] == '{"a": 7, "b": 7}'
    assert one.gold()["tool_calls"][0]["function"]["arguments"] == '{"a": 3, "b": 3}'
    one.close()
    other.reply(other.gold())
    other.close()


def test_an_oracle_is_right_and_a_no_op_is_not(sums):
    right, wrong = attempt(sums, "sums", "9+1+90"), attempt(sums, "sums", "9+1+90", no_op)
    assert (right.score, right.stop, right.turns, right.calls) == (1.0, SuiteStop.FINISHED, 3, 2)
    assert (wrong.score, wrong.stop, wrong.turns) == (0.0, SuiteStop.FINISHED, 1)
    said = [message["role"] for message in right.messages]
    assert said == ["user", "assistant", "tool", "assistant", "tool", "assistant"]


def test_a_dead_worker_spoils_its_sessions_and_no_later_one(sums):
    bystander = sums.open("sums", "1+2+3")
    dead = attempt(sums, "bad", "dies")
    assert (dead.stop, dead.valid) == (SuiteStop.HOST_FAILURE, False)
    assert "worker of suite sums died with exit code 3, when asked to reply" in dead.error
    assert "out of luck" in dead.error
    with pytest.raises(SuiteFailure, match="exit code 3"):
        bystander.gold()
    bystander.close()
    assert attempt(sums, "sums", "1+2+3").score == 1.0


def test_a_worker_that_writes_no_json_is_ended(sums):
    spoiled = attempt(sums, "bad", "babbles")
    assert not spoiled.valid
    assert "answered what is no JSON object: 'no JSON'" in spoiled.error
    assert attempt(sums, "sums", "1+2+3").score == 1.0


def test_a_worker_that_hangs_is_ended(open_sums):
    suite = open_sums(answer_s=2.0)
    spoiled = attempt(suite, "bad", "hangs")
    assert not spoiled.valid
    assert re.search("gave no answer to [a-z]+ in 2 s", spoiled.error)


def test_an_error_of_the_suite_spoils_one_attempt_alone(sums):
    bystander = sums.open("sums", "1+2+3")
    spoiled = attempt(sums, "bad", "breaks")
    assert (spoiled.valid, spoiled.error) == (False, "suite sums, reply: lost its table")
    assert bystander.gold()["tool_calls"]
    bystander.close()


def test_a_message_that_the_suite_refuses_is_the_policys_doing(sums):
    refused = attempt(sums, "bad", "refuses", no_op)
    assert (refused.stop, refused.valid, refused.score) == (SuiteStop.REFUSED, True, 0.0)
    assert "what is that?" in refused.error


def test_a_score_above_1_is_none(sums):
    spoiled = attempt(sums, "bad", "lies")
    assert not spoiled.valid
    assert "score, with a number from 0 to 1" in spoiled.error


def test_a_task_that_is_not_there_is_no_fault_of_the_policy(sums):
    """The fixture dies of it, as a careless worker would."""
    spoiled = attempt(sums, "sums", "one+two")
    assert not spoiled.valid
    assert "ValueError" in spoiled.error


@pytest.mark.parametrize(
    ("program", "complaint"),
    [
        ("import sys; sys.exit('no such package: sums')", "no such package: sums"),
        ("print('{}')", "must have suite, package, version and subsets"),
        ("print('hello')", "no JSON object"),
        ("print('{}\\n{}')", "more than was asked"),
    ],
)
def test_a_worker_that_does_not_start_says_which_command_helps(tmp_path, program, complaint):
    path = tmp_path / "worker.py"
    path.write_text(f"{program}\nimport sys\nsys.stdout.flush()\nsys.stdin.readline()\n")
    with pytest.raises(SuiteError, match=r"(?s)codegym suites install sums") as raised:
        WorkerSuite([sys.executable, "-u", str(path)], name="sums", answer_s=60.0)
    assert complaint in str(raised.value)


def test_long_answers_and_long_requests_pass(tmp_path, open_sums):
    """Both are longer than a pipe holds."""
    path = tmp_path / "worker.py"
    path.write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    text = str(len(line)) + 'x' * len(line)\n"
        "    print(json.dumps({'suite': text, 'package': '', 'version': '', 'subsets': ['a'],\n"
        "        'messages': [{'role': 'user', 'content': text}], 'finished': False}), flush=True)\n"
    )
    suite = open_sums(worker=path)
    session = suite.open("a", "b" * 300_000)
    assert len(session.opening.messages[0]["content"]) > 300_000
    assert session.reply({"role": "assistant", "content": "c" * 300_000}).messages[0]["content"][:2] == "30"


def test_errors_are_what_the_protocol_calls_them():
    assert issubclass(SuiteError, ValueError)
    assert not issubclass(SuiteRefusal, SuiteFailure)
    assert NO_OP == "no_op"


def test_an_environment_that_is_missing_says_which_command_makes_it(tmp_path):
    with pytest.raises(SuiteError, match="run `codegym suites install zebra`"):
        environments.worker_command(tmp_path, "zebra")


@pytest.mark.slow
def test_an_environment_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    """Requirements of nothing; then of something that is not there."""
    requirements = tmp_path / "empty.txt"
    requirements.write_text("# no-deps\n")
    monkeypatch.setattr(environments, "WORKERS", tmp_path)
    said: list[str] = []
    environments.install(tmp_path, "empty", said.append)
    python, *flags = environments.worker_command(tmp_path, "empty")
    assert flags == ["-P", "-s", str(tmp_path / "empty.py")]
    found = subprocess.run([python, "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True)
    assert pathlib.Path(found.stdout.strip()) == tmp_path / "suites" / "empty" / "environment"
    environments.install(tmp_path, "empty", said.append)
    assert [line.split(":")[1].split(",")[0].strip() for line in said] == [
        f"installing into {tmp_path / 'suites' / 'empty'}",
        "installed",
        "installed already",
    ]
    requirements.write_text("./no-such-folder\n")
    assert not environments.is_installed(tmp_path, "empty")
    with pytest.raises(SuiteError, match=r"(?s)pip install.*failed:.*no-such-folder"):
        environments.install(tmp_path, "empty", said.append)
    assert not environments.is_installed(tmp_path, "empty")


BACKEND = """
import subprocess, sys, zipfile

def build_wheel(folder, settings=None, metadata=None):
    told = subprocess.check_output(["python", "-c", "import sys; print(sys.prefix)"], text=True)
    name = "built-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        wheel.writestr("built.py", f"PREFIX = {told.strip()!r}")
        wheel.writestr("built-1.dist-info/METADATA", "Metadata-Version: 2.1\\nName: built\\nVersion: 1\\n")
        tags = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr("built-1.dist-info/WHEEL", tags)
        wheel.writestr("built-1.dist-info/RECORD", "")
    return name
"""


@pytest.mark.slow
def test_packages_that_are_compiled_find_the_python_of_their_environment(tmp_path, monkeypatch):
    """On a machine whose PATH has no `python`."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "backend.py").write_text(BACKEND)
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (tmp_path / "built.txt").write_text(f"# no-deps\n{package}\n")
    monkeypatch.setattr(environments, "WORKERS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    environments.install(tmp_path, "built", lambda text: None)
    python, *_ = environments.worker_command(tmp_path, "built")
    asked = subprocess.run(
        [python, "-c", "import built; print(built.PREFIX)"], capture_output=True, text=True
    )
    assert pathlib.Path(asked.stdout.strip()) == tmp_path / "suites" / "built" / "environment"
