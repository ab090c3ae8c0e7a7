"""The official MCP client lists an environment's tools and plays episodes, over every transport."""

import json
import sys
import threading
import time
from contextlib import contextmanager

import anyio
import httpx2
import pytest
from mcp import Client, ClientSession, MCPError, StdioServerParameters, stdio_client

from codegym_jax.adapters.mcp_server import EPISODE_URI, PROMPT, TaskServer, open_task
from codegym_jax.cli import main
from codegym_jax.config import UserError
from codegym_jax.report.live.serving import listen

GAP = "Own_01_I__LargestGapEnv"
BEGUN = {"calls": 0, "finished": False, "valid": True, "reward": None}
HEADERS = {"accept": "application/json, text/event-stream"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}


@pytest.fixture(scope="module")
def task(tasks):
    return tasks[0]


@pytest.fixture(scope="module")
def served(sandbox, specs, task):
    return TaskServer(sandbox, specs[GAP], task)


@contextmanager
def http(served, **limits):
    """The address of a server in a thread of this process."""
    server = served.http_server("127.0.0.1", **({"max_sessions": 4, "idle_s": 60.0} | limits))
    with listen("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/mcp"
        finally:
            server.should_exit = True
            thread.join()


async def play(client, actions):
    """What the calls gave."""
    calls = map(json.loads, actions)
    return [await client.call_tool(call["name"], call["parameters"]) for call in calls]


def texts(results):
    return [result.content[0].text for result in results]


async def facts(client):
    return json.loads((await client.read_resource(EPISODE_URI)).contents[0].text)


async def check_an_oracle_earns_its_reward(client, spec, task):
    tools = (await client.list_tools()).tools
    assert [tool.name for tool in tools] == [tool.name for tool in spec.tools]
    assert await facts(client) == BEGUN
    *steps, last = await play(client, task.oracle_actions)
    assert texts(steps) == list(task.oracle_observations[:-1])
    assert not any(step.is_error or step.structured_content for step in steps)
    ended = {"calls": len(task.oracle_actions), "finished": True, "valid": True, "reward": 1.0}
    assert (texts([last]), last.structured_content) == (["The episode has ended."], ended)
    assert await facts(client) == ended
    (again,) = await play(client, task.oracle_actions[-1:])
    assert (again.is_error, texts([again])) == (True, ["Error: the episode has ended"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_an_oracle_earns_its_reward_in_this_process(served, specs, task, mode):
    async def session():
        async with Client(served.for_one_client(), mode=mode) as client:
            await check_an_oracle_earns_its_reward(client, specs[GAP], task)

    anyio.run(session)


def test_an_oracle_earns_its_reward_on_standard_streams(task_set, specs, task):
    command = ["-m", "codegym_jax.cli", "mcp", str(task_set), "--env", GAP]

    async def session():
        streams = stdio_client(StdioServerParameters(command=sys.executable, args=command))
        async with streams as (incoming, outgoing), ClientSession(incoming, outgoing) as client:
            told = await client.initialize()
            assert told.instructions == specs[GAP].statement.strip()
            await check_an_oracle_earns_its_reward(client, specs[GAP], task)

    anyio.run(session)


def test_sessions_over_http_are_episodes_of_their_own(served, specs, task):
    async def sessions(url):
        async with Client(url) as first, Client(url, mode="legacy") as second:
            await play(first, task.oracle_actions[:1])
            await check_an_oracle_earns_its_reward(second, specs[GAP], task)
            assert (await facts(first))["calls"] == 1
            await play(first, task.oracle_actions[1:])
            assert (await facts(first))["reward"] == 1.0

    with http(served) as url:
        anyio.run(sessions, url)


def test_what_is_wrong_with_a_call_is_a_result(served, task):
    async def session():
        async with Client(served.for_one_client()) as client:
            for name, arguments, words in (
                ("Fly", {}, "there is no tool Fly"),
                ("GetItem", {}, "GetItem lacks the parameter index"),
                ("GetItem", {"index": 0, "x": "\ud800"}, "GetItem has no parameter x"),
                ("GetItem", {"index": "\x00"}, "Error:"),
            ):
                result = await client.call_tool(name, arguments)
                assert result.is_error and words in result.content[0].text
            assert (await facts(client)) == BEGUN | {"calls": 4}
            await play(client, task.oracle_actions)
            assert (await facts(client))["reward"] == 1.0

    anyio.run(session)


def test_a_wrong_answer_earns_nothing_and_tells_nothing(served):
    async def session():
        async with Client(served.for_one_client()) as client:
            result = await client.call_tool("Done", {"answer": -1})
            assert (texts([result]), result.is_error) == (["The episode has ended."], False)
            assert result.structured_content["reward"] == 0.0

    anyio.run(session)


def test_the_statement_is_a_prompt(served, specs):
    async def session():
        async with Client(served.for_one_client()) as client:
            assert [prompt.name for prompt in (await client.list_prompts()).prompts] == [PROMPT]
            (said,) = (await client.get_prompt(PROMPT)).messages
            assert (said.role, said.content.text) == ("user", specs[GAP].statement.strip())
            for wrong in (client.get_prompt("other"), client.read_resource("codegym://other")):
                with pytest.raises(MCPError, match="there is one"):
                    await wrong

    anyio.run(session)


def test_calls_at_once_are_made_one_after_the_other(served):
    async def session():
        async with Client(served.for_one_client()) as client:
            async with anyio.create_task_group() as group:
                for _ in range(8):
                    group.start_soon(client.call_tool, "GetLength", {})
            assert (await facts(client))["calls"] == 8

    anyio.run(session)


def test_sessions_are_limited_and_end_when_idle(served):
    with http(served, max_sessions=1, idle_s=0.5) as url, httpx2.Client() as client:

        def begun():
            """Begins a session, and says how that ended. A client that listens would never be idle."""
            return client.post(url, json=INITIALIZE, headers=HEADERS)

        assert begun().status_code == 200
        refused = begun()
        assert (refused.status_code, refused.json()["error"]["message"]) == (503, "Too many open sessions")
        while begun().status_code == 503:
            time.sleep(0.1)


def test_a_request_without_a_session_is_told_to_begin_one(served):
    async def session(url):
        async with Client(url, mode="2026-07-28") as client:
            with pytest.raises(MCPError, match="an episode needs a session; begin one with `initialize`"):
                await client.call_tool("Observe", {})

    with http(served) as url:
        anyio.run(session, url)


def test_what_is_not_there_is_named(task_set, capsys):
    with pytest.raises(UserError, match="has 3 tasks in the split train, from 0, and no task 3"):
        open_task(task_set, "train", GAP, 3)
    assert main(["mcp", str(task_set), "--env", "Own_99__XEnv"]) == 2
    assert "no environment 'Own_99__XEnv' with tasks in the split train" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["mcp", str(task_set), "--env", GAP, "--idle-s", "0"])
    assert "must be more than 0" in capsys.readouterr().err
