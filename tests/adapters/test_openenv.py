"""OpenEnv's own clients play a task set on its server; needs the package, hence `make test-adapters`."""

# ruff: noqa: E402
import json
import threading
import time
from contextlib import contextmanager

import pytest

openenv = pytest.importorskip("openenv.core", reason="make test-adapters")

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from codegym_jax.adapters.openenv.server import make_app, make_server
from codegym_jax.adapters.openenv.tasks import Tasks
from codegym_jax.cli import main
from codegym_jax.report.live.serving import listen

# FastAPI gives notice of a way to register what runs at its start, which OpenEnv uses.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@contextmanager
def serving(task_set, sandbox, *, max_sessions=8, idle_s=600.0):
    """The address of a server in a thread of this process."""
    app = make_app(Tasks(task_set, sandbox), max_sessions=max_sessions, idle_s=idle_s)
    server = make_server(app)
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def url(task_set, sandbox):
    with serving(task_set, sandbox) as address:
        yield address


def client(url):
    return openenv.GenericEnvClient(base_url=url).sync()


def call(name, **arguments):
    return {"type": "call_tool", "tool_name": name, "arguments": arguments}


def calls(task):
    """The oracle's calls as actions."""
    actions = map(json.loads, task.oracle_actions)
    return [call(action["name"], **action["parameters"]) for action in actions]


def test_an_oracle_earns_its_reward(url, specs, tasks):
    with client(url) as env:
        for index, task in enumerate(tasks[:-1]):
            first = env.reset(split="train", index=index)
            spec = specs[task.env_id]
            assert (first.observation["env_id"], first.done) == (task.env_id, False)
            assert first.observation["statement"] == spec.statement.strip()
            assert [one["function"]["name"] for one in first.observation["schemas"]] == [
                tool.name for tool in spec.tools
            ]
            assert task.config_json not in json.dumps(first.observation)
            *steps, last = [env.step(action) for action in calls(task)]
            assert [step.observation["result"] for step in steps] == list(task.oracle_observations[:-1])
            assert [(step.reward, step.done) for step in steps] == [(0.0, False)] * len(steps)
            assert (last.reward, last.done) == (1.0, True)
            assert last.observation["result"] == "The episode has ended."
            state = env.state()
            assert (state["finished"], state["valid"], state["index"]) == (True, True, index)
            assert state["step_count"] == len(task.oracle_actions)


def test_the_client_of_tools_plays_the_same_episode(url, tasks):
    with openenv.MCPToolClient(base_url=url).sync() as env:
        env.reset(split="train", index=0)
        names = [tool.name for tool in env.list_tools(use_cache=False)]
        assert names == ["Observe", "GetLength", "GetItem", "SortNumbers", "Done"]
        told = [env.call_tool(one["tool_name"], **one["arguments"]) for one in calls(tasks[0])]
        assert [one["result"] for one in told[:-1]] == list(tasks[0].oracle_observations[:-1])
        assert (told[-1]["reward"], told[-1]["done"]) == (1.0, True)


def test_the_task_provider_tells_what_may_be_played(url, tasks, specs):
    with httpx.Client(base_url=url) as http:

        def asked(what, **about):
            answer = http.post(f"/codegym/{what}", json=about)
            return answer.status_code, answer.json()

        assert http.get("/list_environments").json() == ["codegym"]
        splits = http.get("/codegym/splits").json()
        assert splits == [{"name": "train", "type": "train"}, {"name": "test_env", "type": "test"}]
        assert asked("num_tasks", split="train") == (200, {"num_tasks": len(tasks) - 1})
        _, all_of_them = asked("tasks", split="train")
        assert [one["index"] for one in all_of_them["tasks"]] == list(range(len(tasks) - 1))
        _, some = asked("task_range", split="train", start=-2)
        assert some["tasks"] == all_of_them["tasks"][-2:]
        _, one = asked("task", split="test_env", index=0)
        assert (one["task"]["env_id"], one["task"]["id"]) == (tasks[-1].env_id, "test_env/0")
        assert not any(task.config_json in json.dumps(all_of_them) for task in tasks)
        for index in (-1, len(tasks)):
            assert asked("task", split="train", index=index)[0] == 400
        status, why = asked("num_tasks", split="general")
        assert (status, why["detail"]) == (
            400,
            "no split 'general' with tasks; there are: train, test_env",
        )


def test_a_seed_chooses_a_task_and_nothing_goes_through_them_all(url, tasks):
    with client(url) as env:

        def begun(**arguments):
            seen = env.reset(**arguments).observation
            return seen["split"], seen["index"]

        count = len(tasks) - 1
        assert [begun() for _ in range(count + 1)] == [("train", i % count) for i in range(count + 1)]
        assert begun(seed=7) == begun(seed=7)
        assert len({begun(seed=seed) for seed in range(40)}) == count
        assert begun(split="test_env", episode_id="mine") == ("test_env", 0)
        assert env.state()["episode_id"] == "mine"


def test_what_is_wrong_with_a_call_is_an_observation(url, tasks):
    with client(url) as env:
        env.reset(split="train", index=0)
        for action, kind, words in (
            (call("Fly"), "tool_not_found", "there is no tool Fly"),
            (call("GetItem"), "invalid_args", "GetItem lacks the parameter index"),
            (call("GetItem", index=0, x=1), "invalid_args", "GetItem has no parameter x"),
        ):
            result = env.step(action)
            assert (result.reward, result.done) == (0.0, False)
            assert words in result.observation["result"]
            assert result.observation["error"]["error_type"] == kind
        assert env.state()["step_count"] == 3
        assert [env.step(action) for action in calls(tasks[0])][-1].reward == 1.0
        late = env.step(call("Observe"))
        assert (late.done, late.reward) == (True, 0.0)
        assert late.observation["result"] == "Error: the episode has ended"


def test_what_is_no_call_is_told_and_the_session_goes_on(url, tasks):
    with client(url) as env:
        with pytest.raises(RuntimeError, match="call reset first"):
            env.step(call("Observe"))
        for wrong, words in (
            ({"split": "general"}, "no split 'general'"),
            ({"index": 99}, "no task 99 in the split train"),
            ({"tusk": 1}, "reset takes seed, episode_id, split and index, not tusk"),
        ):
            with pytest.raises(RuntimeError, match=words):
                env.reset(**wrong)
        env.reset(split="train", index=0)
        for action in ({"type": "call_tool"}, {"type": "call_tool", "tool_name": 1}, {"more": 1}):
            with pytest.raises(RuntimeError, match="Invalid message"):
                env.step(action)
        assert [env.step(action) for action in calls(tasks[0])][-1].reward == 1.0


def test_a_wrong_answer_earns_nothing_and_tells_nothing(url, tasks):
    with client(url) as env:
        env.reset(split="train", index=0)
        result = env.step(call("Done", answer=-1))
        assert (result.reward, result.done) == (0.0, True)
        assert tasks[0].answer_json not in json.dumps(result.observation)


def test_sessions_are_apart_and_limited(task_set, sandbox, tasks):
    with serving(task_set, sandbox, max_sessions=2) as url, client(url) as first:
        with client(url) as second:
            for env, index in ((first, 0), (second, 1)):
                env.reset(split="train", index=index)
            for one, other in zip(calls(tasks[0])[:2], calls(tasks[1])[:2], strict=True):
                assert first.step(one).done == second.step(other).done == False  # noqa: E712
            with connect(url.replace("http", "ws") + "/ws") as third:
                assert json.loads(third.recv())["data"]["code"] == "CAPACITY_REACHED"
            assert [second.step(action) for action in calls(tasks[1])[2:]][-1].reward == 1.0
        assert [first.step(action) for action in calls(tasks[0])[2:]][-1].reward == 1.0


def test_an_idle_session_is_ended_and_makes_room(task_set, sandbox):
    """OpenEnv looks every five seconds."""
    with serving(task_set, sandbox, max_sessions=1, idle_s=0.5) as url, client(url) as idle:
        idle.reset(split="train", index=0)
        while True:
            try:
                with client(url) as other:
                    other.reset()
                break
            except (RuntimeError, ConnectionClosed):  # there is no room yet
                time.sleep(0.2)
        for late in (lambda: idle.step(call("Observe")), idle.reset):
            with pytest.raises(RuntimeError, match="ended after being idle for too long; connect again"):
                late()


def test_a_task_set_that_is_none_is_named(tmp_path, capsys):
    assert main(["openenv", str(tmp_path / "nowhere")]) == 2
    assert "no such task set" in capsys.readouterr().err
