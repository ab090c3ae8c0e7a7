"""Verification accepts every published fixture, and refuses each kind of fault by its reason."""

import json
import shutil
from pathlib import Path

import pytest
import toy_env

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.check import replay, verify_environment, verify_paths, verify_task
from codegym_jax.envs.codegym_format import load_environment, parse_source, task_row
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import Rejection, Task

PUBLISHED = Path(__file__).parents[1] / "fixtures" / "published"
BOUNDS = {"min_calls": 3, "max_calls": 64, "max_answer_chars": 100}
CONFIG = '{"numbers":[5,7]}'


@pytest.fixture(scope="module")
def strict_sandbox() -> Sandbox:
    """One with little fuel, so that what never ends ends soon."""
    return Sandbox(SandboxConfig(fuel_per_call=200_000_000))


def reason(sandbox, **parts):
    result = verify_task(sandbox, toy_env.spec(**parts), CONFIG, **BOUNDS)
    assert isinstance(result, Rejection)
    assert result.subject == f"codegym_v1@Toy__ToyEnv@{CONFIG}"
    return result.reason


def test_the_published_fixtures_pass(sandbox):
    report = verify_paths(sorted(PUBLISHED.glob("*.py")), PUBLISHED / "rows.jsonl", sandbox)
    assert report.rejections == []
    assert report.ok
    assert len(report.tasks) == 52
    answers = {type(task["answer"]) for task in report.tasks}
    assert answers == {int, float, str, bool, type(None), list, dict}


def test_the_fixtures_hold_what_they_should():
    """Stateful tools are covered by name; configs by what they contain."""
    rows = (PUBLISHED / "rows.jsonl").read_text(encoding="utf-8").splitlines()
    configs = [json.loads(row)["ability"].split("@", 2)[2] for row in rows]
    for needed in ("@", "true", "null", "é"):
        assert any(needed in config for config in configs)
    sources = "\n".join(path.read_text() for path in PUBLISHED.glob("*.py"))
    for needed in ("import random", "import heapq", "from collections", "import datetime", "print("):
        assert needed in sources


def test_a_verified_task_replays_from_its_record(sandbox):
    spec = load_environment(PUBLISHED / "Own_09_I__ShuffledDeckEnv.py")
    task = verify_task(sandbox, spec, '{"cards":10,"depth":4,"seed":7}', **BOUNDS)
    assert isinstance(task, Task)
    observations, reward = replay(sandbox, spec, task.config_json, task.oracle_actions)
    assert observations == [*task.oracle_observations[:-1], ""]
    assert reward == 1.0


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"solve": 'return call("Done", answer=0)'}, "oracle_fails"),
        ({"solve": "return 5"}, "oracle_fails"),
        ({"solve": "raise ValueError"}, "oracle_raised"),
        ({"solve": 'call("Done", answer=0)\nreturn call("Done", answer=12)'}, "too_few_oracle_calls"),
        ({"solve": 'call("Observe")\ncall("Done", answer=0)\ncall("Done", answer=12)'}, "not_deterministic"),
        ({"solve": 'while True: call("Observe")'}, "too_many_oracle_calls"),
        ({"solve": "while True: pass"}, "out_of_fuel"),
        ({"act": "while True: pass", "solve": 'call("Act")'}, "out_of_fuel"),
        ({"act": "x = [0]\nwhile True: x = x * 2", "solve": 'call("Act")'}, "out_of_memory"),
        ({"act": "return str(json.loads('[' * 99999))", "solve": 'call("Act")'}, "stack_overflow"),
        ({"act": "def f(n): return f(n + 1)\nreturn f(0)", "solve": 'call("Act")'}, "oracle_fails"),
        ({"act": "return open('/etc/passwd').read()", "solve": 'call("Act")'}, "forbidden"),
        ({"imports": "import os", "act": "return str(os.getpid())", "solve": 'call("Act")'}, "forbidden"),
        ({"imports": "import pathlib", "reset": "pathlib.Path.home()"}, "forbidden"),
        ({"act": "import socket", "solve": 'call("Act")'}, "forbidden"),
        ({"imports": "import subprocess"}, "forbidden"),
        ({"answer": "return 'x' * 99", "solve": 'call("Act")\ncall("Act")\ncall("Done", answer="x" * 99)'},
         "answer_too_long"),
        ({"answer": "return {1, 2}"}, "answer_raised"),
        ({"act": "return 'x' * 9000", "solve": 'call("Act")\ncall("Act")\ncall("Done", answer=12)'},
         "observation_too_long"),
        ({"done": 'self._done, self._reward = True, 1\nreturn "ok"'}, "any_answer_wins"),
        ({"reset": "raise ValueError"}, "does_not_load"),
    ],
)  # fmt: skip
def test_a_faulty_task_is_refused_by_its_reason(strict_sandbox, parts, expected):
    assert reason(strict_sandbox, **parts) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (('"Add": 1, "Total": 2, ', ""), ["too_few_tools"]),
        (('"Observe": 0, ', ""), ["lacks_tool"]),
        (("Args:\n            index", "index"), ["undocumented_tool"]),
        (("return call(", "self.numbers\n        return call("), ["oracle_reads_state"]),
        (("import json", "import json  # nothing is wrong"), []),
    ],
)
def test_a_faulty_environment_is_refused_before_it_runs(change, expected):
    spec = parse_source(toy_env.source().replace(*change), code_id="Toy")
    assert [rejection.reason for rejection in verify_environment(spec)] == expected


def test_one_bad_input_never_stops_the_rest(strict_sandbox, tmp_path):
    good = tmp_path / "Toy__ToyEnv.py"
    good.write_text(toy_env.source())
    (tmp_path / "Bad__ToyEnv.py").write_text("class ToyEnv(")
    (tmp_path / "Slow__ToyEnv.py").write_text(toy_env.source(reset="while True: pass"))
    row = task_row(toy_env.spec(), Task(env_id="Toy__ToyEnv", config_json=CONFIG), 0)
    del row["extra_info"]["gym_env"]
    carried = {"ability": f"codegym_v1@Else__ToyEnv@{CONFIG}", "extra_info": {"gym_env": toy_env.source()}}
    rows = tmp_path / "rows.jsonl"
    unknown = {"ability": f"codegym_v1@Who__WhoEnv@{CONFIG}"}
    refused = {"ability": f"codegym_v1@Bad__ToyEnv@{CONFIG}"}
    rows.write_text("\n".join(["{", *map(json.dumps, [unknown, refused, carried, row])]))
    lines: list[str] = []
    paths = [tmp_path / "None__ToyEnv.py", tmp_path / "Bad__ToyEnv.py", tmp_path / "Slow__ToyEnv.py", good]
    report = verify_paths(paths, rows, strict_sandbox, progress=lines.append)
    assert [(r.reason, r.subject) for r in report.rejections] == [
        ("bad_environment", str(paths[0])),
        ("bad_environment", str(paths[1])),
        ("bad_row", f"{rows}:1"),
        ("unknown_environment", f"{rows}:2"),
        ("environment_refused", f"{rows}:3"),
        ("out_of_fuel", "Slow__ToyEnv (default config)"),
    ]
    assert [task["subject"] for task in report.tasks if task["ok"]] == [f"{rows}:4", f"{rows}:5"]
    assert not report.ok
    assert json.loads(json.dumps(report.to_dict()))["reasons"]["bad_environment"] == 2
    assert all("\n" not in line for line in lines)


def test_an_environment_without_rows_is_tried_on_its_default_config(sandbox, tmp_path):
    source = PUBLISHED / "Own_12_I__CanReachEnv.py"
    shutil.copy(source, tmp_path)
    report = verify_paths([tmp_path / source.name], None, sandbox)
    assert report.ok
    assert [task["config"] for task in report.tasks] == ["{}"]


def test_nothing_to_verify_is_not_a_success(sandbox):
    assert not verify_paths([], None, sandbox).ok


def test_an_escape_that_python_remarks_on_is_no_fault(sandbox):
    """Warnings are errors here, as they may be for a user."""
    remarked = toy_env.spec(act="return '\\d'")
    assert verify_environment(remarked) == []
    assert isinstance(verify_task(sandbox, remarked, CONFIG, **BOUNDS), Task)


def test_what_an_environment_says_does_not_steer_the_terminal(sandbox, tmp_path):
    path = tmp_path / "Toy__ToyEnv.py"
    path.write_text(toy_env.source(reset="raise ValueError('\\x1b[2J\\u202e')"))
    lines = []
    verify_paths([path], None, sandbox, progress=lines.append)
    assert any(r"\x1b[2J\u202e" in line for line in lines)
    assert all(line.isprintable() for line in lines)
