"""tau2-bench's worker: the parts that need no package, and the lines of the subsets without a user."""

import http.server
import importlib.util
import json
import threading

import pytest

from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.evals.suites.environments import worker_command, worker_file
from codegym_jax.evals.suites.play import SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.suite import SuiteFailure, SuiteRefusal
from codegym_jax.evals.suites.worker import WorkerSuite

ACTIONS = [
    {"name": "toggle_roaming", "arguments": {}, "requestor": "user"},
    {"name": "refuel_data", "arguments": {"gb_amount": 2.0}, "requestor": "assistant"},
]


@pytest.fixture(scope="module")
def tau2():
    """The worker's file as a module."""
    spec = importlib.util.spec_from_file_location("tau2_worker", worker_file("tau2"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def calling(name, text=None, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": text, "tool_calls": [{"id": "c", "function": function}]}


def test_a_message_is_read(tau2):
    text, calls = tau2.read_message(calling("refuel_data", "I refuel.", gb_amount=2.0))
    assert text == "I refuel."
    assert calls == [{"id": "c", "name": "refuel_data", "arguments": {"gb_amount": 2.0}}]
    assert tau2.read_message({"role": "assistant", "content": "Done."}) == ("Done.", [])


@pytest.mark.parametrize(
    "message",
    [
        {"content": None},
        {"content": " \n", "tool_calls": []},
        {"content": "x", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{"}}]},
        {"content": "x", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}]},
    ],
)
def test_a_message_that_the_benchmark_could_not_take_is_refused(tau2, message):
    with pytest.raises(tau2.PolicyError):
        tau2.read_message(message)


def test_the_sign_of_the_end_counts_only_where_no_calls_stand_beside_it(tau2):
    assert tau2.read_message(calling("f", "So. #END#"), "#END#")[0] == "So. "
    assert tau2.read_message({"content": "So. #END#"}, "#END#")[0] == "So. #END#"


def test_powers_never_reach_the_calculator(tau2):
    """Which would evaluate them, however high."""
    arguments = {"expression": "9**9**9", "note": "2**3"}
    assert tau2.bounded(arguments) == {"expression": "9^9^9", "note": "2**3"}
    assert tau2.bounded({"expression": "2 * (3 + 4)"}) == {"expression": "2 * (3 + 4)"}


def test_gold_is_an_action_a_message_and_then_the_end(tau2):
    criteria = {"actions": ACTIONS, "communicate_info": ["327", "1,000"]}
    alone, told = (tau2.gold_messages(criteria, mode) for mode in ("solo", "scenario"))
    called = [message["tool_calls"][0]["function"] for message in alone]
    assert [one["name"] for one in called] == ["toggle_roaming", "refuel_data", "done"]
    assert json.loads(called[1]["arguments"]) == {"gb_amount": 2.0}
    assert told[:2] == alone[:2]
    assert told[2] == {"role": "assistant", "content": "327\n1,000"}
    assert tau2.gold_messages({}, "scenario")[0]["content"]


@pytest.fixture(scope="module")
def suite():
    """Fails with the command that installs it, where it is not installed."""
    suite = WorkerSuite(worker_command(default_cache_dir(), "tau2"), name="tau2")
    yield suite
    suite.close()


def scores(suite, subset, speaker):
    attempts = [play(suite, subset, task, 0, speaker, 200) for task in suite.tasks(subset)]
    assert {attempt.stop for attempt in attempts} == {SuiteStop.FINISHED}
    return [attempt.score for attempt in attempts]


@pytest.mark.slow
def test_gold_actions_solve_every_ticket_and_saying_something_none(suite):
    assert scores(suite, "telecom_solo", oracle) == [1.0] * 114
    assert scores(suite, "telecom_solo", no_op) == [0.0] * 114


@pytest.mark.slow
@pytest.mark.parametrize(
    ("subset", "tasks", "unearned"), [("airline_scenario", 50, 19), ("retail_scenario", 114, 7)]
)
def test_gold_actions_and_facts_settle_every_scenario(suite, subset, tasks, unearned):
    """Where nothing is to be changed or told, saying that one does not know is right."""
    assert scores(suite, subset, oracle) == [1.0] * tasks
    assert sum(scores(suite, subset, no_op)) == unearned


@pytest.mark.slow
def test_a_policy_that_is_alone_has_the_customers_tools_and_ends_by_done(suite):
    session = suite.open("telecom_solo", suite.tasks("telecom_solo")[0])
    names = {tool["function"]["name"] for tool in session.opening.tools}
    assert {"toggle_airplane_mode", "enable_roaming", "done"} <= names
    reaction = session.reply(calling("no_such_tool"))
    assert reaction.messages[0]["content"].startswith("Error: ")
    with pytest.raises(SuiteRefusal):
        session.reply({"role": "assistant", "content": ""})
    assert session.reply(calling("done")).finished
    assert session.score().score == 0.0
    session.close()


@pytest.mark.slow
def test_ten_errors_end_an_attempt(suite):
    session = suite.open("telecom_solo", suite.tasks("telecom_solo")[0])
    finished = [session.reply(calling("no_such_tool")).finished for _ in range(10)]
    assert finished == [False] * 9 + [True]
    assert session.score().detail["termination_reason"] == "too_many_errors"
    session.close()


@pytest.mark.slow
def test_a_subset_with_a_user_needs_one(suite):
    with pytest.raises(SuiteFailure, match="user_endpoint and user_model"):
        suite.open("airline", suite.tasks("airline")[0])


class Customer(http.server.BaseHTTPRequestHandler):
    """An OpenAI-compatible interface: says hello, and at the second message that all is settled."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        heard = sum(message["role"] == "user" for message in body["messages"])
        said = "Hello, it is me." if heard == 1 else "###STOP###"
        answer = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def endpoint():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Customer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.slow
def test_a_user_behind_an_endpoint_begins_and_ends_the_conversation(endpoint):
    settings = {"user_endpoint": endpoint, "user_model": "customer"}
    suite = WorkerSuite(worker_command(default_cache_dir(), "tau2"), name="tau2", settings=settings)
    try:
        session = suite.open("airline", suite.tasks("airline")[0])
        roles = [message["role"] for message in session.opening.messages]
        assert roles == ["system", "assistant", "user"]
        assert session.opening.messages[2]["content"] == "Hello, it is me."
        assert not session.reply(calling("calculate", expression="2 * 3")).finished
        assert session.reply({"role": "assistant", "content": "I may not cancel it."}).finished
        assert session.score().score == 1.0  # its ground truth has no actions
        session.close()
    finally:
        suite.close()
