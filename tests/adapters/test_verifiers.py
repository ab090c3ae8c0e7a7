"""verifiers runs the environments with its own commands; needs the package, hence `make test-adapters`.

A model is an endpoint; here an oracle sits behind it. Everything else is verifiers' own: its program that
talks to the model, its client of the tools' server, its scoring.
"""

import json
import os
import pathlib
import ssl
import subprocess
import sys

import pytest

from tests.adapters.oracle_endpoint import oracle, served

pytest.importorskip("verifiers", reason="make test-adapters")

OBSERVE = ("Observe", "{}")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """verifiers keeps what it makes under the home folder; uv keeps packages there."""
    return tmp_path_factory.mktemp("home")


def run(home, command, *arguments):
    """A command of verifiers, in a process of its own; what it printed."""
    environment = os.environ | {
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(home),
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME") or str(pathlib.Path.home() / ".cache"),
    }
    if cafile := ssl.get_default_verify_paths().cafile:
        environment.setdefault("SSL_CERT_FILE", cafile)  # uv's own list of authorities may know fewer
    done = subprocess.run(
        [command, "codegym-verifiers", *map(str, arguments)],
        env=environment,
        cwd=home,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    return done.returncode, done.stdout


def evaluated(home, url, folder, *arguments):
    """The traces of `vf-eval`."""
    settings = ["--model", "oracle", "--client.base-url", url, "--no-push", "--no-rich", "-o", home / "out"]
    code, printed = run(
        home, "vf-eval", "--env.taskset.folder", folder, *settings, "--run.name", "one", "--clean", *arguments
    )
    assert code == 0, printed
    (traces,) = (home / "out").glob("one/**/traces.jsonl")
    episodes = [json.loads(line) for line in traces.read_text().splitlines()]
    found = [trace for episode in episodes for trace in episode.get("traces", [episode])]
    assert found, printed
    return found


def said(trace, role):
    return [node["message"] for node in trace["nodes"] if node["message"]["role"] == role]


def test_vf_eval_lets_an_oracle_earn_every_reward(home, task_set, tasks):
    with served(oracle(tasks)) as url:
        traces = evaluated(home, url, task_set, "-n", 3, "-c", 2)
    assert [trace["errors"] for trace in traces] == [[]] * 3
    assert [trace["rewards"]["solved"]["score"] for trace in traces] == [1.0] * 3
    assert {trace["stop_condition"] for trace in traces} == {"episode_ended"}
    played = {trace["task"]["data"]["id"]: trace for trace in traces}
    assert set(played) == {task.task_id for task in tasks[:3]}
    for task in tasks[:3]:
        trace = played[task.task_id]
        assert trace["metrics"] == {"tool_calls": len(task.oracle_actions), "failed_calls": 0}
        told = [message["content"] for message in said(trace, "tool")]
        assert told == list(task.oracle_observations[: len(told)])


def test_what_a_model_is_told_hides_the_config(home, task_set, tasks, specs):
    heard = []

    def listens(messages):
        heard.append(messages)
        return []

    with served(listens) as url:
        (trace,) = evaluated(home, url, task_set, "--env.taskset.split", "test_env")
    task, spec = tasks[-1], specs[tasks[-1].env_id]
    assert heard == [[{"role": "user", "content": spec.statement}]]
    assert task.config_json not in json.dumps(heard)
    assert [tool["name"] for tool in trace["tools"]] == [tool.name for tool in spec.tools]
    assert trace["rewards"]["solved"]["score"] == 0.0


def test_what_a_model_does_wrong_is_told_to_it(home, task_set):
    turns = [
        [("Count", "{}")],  # no such tool: verifiers' own answer
        [("Done", "{}"), OBSERVE],  # two calls, the first without its answer
        [("Done", '{"answer": "no"}')],
    ]
    with served(lambda messages: turns[sum(one["role"] == "assistant" for one in messages)]) as url:
        (trace,) = evaluated(home, url, task_set, "-n", 1)
    told = [message["content"] for message in said(trace, "tool")]
    assert "unknown tool" in told[0]
    assert told[1] == "Error: Done lacks the parameter answer"
    assert trace["metrics"] == {"tool_calls": 3, "failed_calls": 1}
    assert (trace["rewards"]["solved"]["score"], trace["errors"]) == (0.0, [])


def test_vf_validate_plays_the_oracles(home, task_set):
    local = ("--runtime.type", "subprocess", "--no-rich")
    code, printed = run(home, "vf-validate", "--taskset.folder", task_set, *local)
    assert code == 0, printed
    summary = json.loads(printed[printed.rindex("\n{") :])
    assert (summary["total"], summary["valid_rate"]) == (5, 1.0)


def test_a_folder_that_is_none_is_named(home, tmp_path):
    code, printed = run(home, "vf-eval", "--env.taskset.folder", tmp_path, "--no-push", "--no-rich")
    assert code != 0
    assert "not a complete task set" in printed
