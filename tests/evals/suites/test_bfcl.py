"""BFCL's worker: the parts that need no package, and the lines of all its tasks."""

import importlib.util
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.evals.suites.environments import worker_command, worker_file
from codegym_jax.evals.suites.play import SuiteStop, no_op, oracle, play
from codegym_jax.evals.suites.worker import WorkerSuite

SUBSETS = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
CALLS = {
    "cd(folder='document')": ("cd", {"folder": "document"}),
    "sort('final_report.pdf')": ("sort", {"file_name": "final_report.pdf"}),
    "mean([1, -2.5])": ("mean", {"numbers": [1, -2.5]}),
    "ls(a=True)": ("ls", {"a": True}),
    "sort('a', descending=False)": ("sort", {"file_name": "a", "descending": False}),
}
PARAMETERS = {"cd": ["folder"], "sort": ["file_name", "descending"], "mean": ["numbers"], "ls": ["a"]}


@pytest.fixture(scope="module")
def bfcl():
    """The worker's file as a module."""
    spec = importlib.util.spec_from_file_location("bfcl_worker", worker_file("bfcl"))
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@given(methods=st.lists(st.text(alphabet="ab._", min_size=1), unique=True))
def test_names_of_tools_lead_back_to_their_methods(bfcl, methods):
    tools = bfcl.tool_names(methods)
    assert list(tools.values()) == methods
    assert not any(set(tool) - set("ab_0123456789") for tool in tools)


def test_a_dot_becomes_an_underscore_and_a_name_that_is_taken_gets_a_number(bfcl):
    assert bfcl.tool_names(["a.b", "a_b", "cd"]) == {"a_b": "a.b", "a_b_2": "a_b", "cd": "cd"}


def test_a_document_becomes_a_schema(bfcl):
    """Types are renamed at every depth; descriptions, defaults and required names stay."""
    document = {
        "type": "dict",
        "properties": {
            "numbers": {"type": "array", "items": {"type": "float"}, "description": "To add."},
            "update": {"type": "dict", "properties": {"at": {"type": "tuple", "items": {"type": "any"}}}},
            "depth": {"type": "integer", "default": 0},
        },
        "required": ["numbers"],
    }
    assert bfcl.json_schema(document) == {
        "type": "object",
        "properties": {
            "numbers": {"type": "array", "items": {"type": "number"}, "description": "To add."},
            "update": {
                "type": "object",
                "properties": {"at": {"type": "array", "items": {"type": "string"}}},
            },
            "depth": {"type": "integer", "default": 0},
        },
        "required": ["numbers"],
    }
    tool = bfcl.openai_tool("sum", {"description": "Adds.", "parameters": document, "response": {}})
    assert tool["function"].keys() == {"name", "description", "parameters"}


@pytest.mark.parametrize("text", CALLS)
def test_the_ground_truth_is_read(bfcl, text):
    assert bfcl.gold_call(text, PARAMETERS) == CALLS[text]


@given(
    arguments=st.dictionaries(
        st.text(alphabet="abx_", min_size=1),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers()
            | st.floats(allow_nan=False, allow_infinity=False)
            # text with what would end a literal, or be taken for a call
            | st.text(alphabet="a'\"\\\n(){}#"),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(alphabet="k'"), inner),
            max_leaves=5,
        ),
    )
)
def test_a_call_is_text_that_reads_back(bfcl, arguments):
    assert bfcl.gold_call(bfcl.call_text("touch", arguments, {"touch"}), {"touch": []}) == (
        "touch",
        arguments,
    )


@pytest.mark.parametrize(
    ("method", "arguments", "why"),
    [
        ("open", {"file": "x", "mode": "w"}, "not defined"),
        ("__import__('os').system", {"command": "true"}, "not defined"),
        ("cd", {"folder=print(1) or x": "y"}, "unexpected argument"),
        ("cd", {"class": "y"}, "unexpected argument"),
        ("power", {"base": 10, "exponent": 10**9}, "at most 1000"),
        ("power", {"base": 2, "exponent": 1e300}, "at most 1000"),
    ],
)
def test_nothing_but_a_call_of_a_tasks_own_methods_is_evaluated(bfcl, method, arguments, why):
    with pytest.raises(bfcl.CallError, match=why):
        bfcl.call_text(method, arguments, {"cd", "power"})


def test_a_call_with_broken_arguments_makes_the_whole_message_one_without_calls(bfcl):
    def call(arguments):
        return {"id": "x", "function": {"name": "cd", "arguments": arguments}}

    good, broken, no_object = call('{"folder": "a"}'), call('{"folder": '), call("[1]")
    assert bfcl.read_calls({"tool_calls": [good]}) == [("x", "cd", {"folder": "a"})]
    assert bfcl.read_calls({"tool_calls": [good, broken]}) == []
    assert bfcl.read_calls({"tool_calls": [no_object]}) == []
    assert bfcl.read_calls({"content": "no", "tool_calls": None}) == []


@pytest.fixture(scope="module")
def suite():
    """Fails with the command that installs it, where it is not installed."""
    suite = WorkerSuite(worker_command(default_cache_dir(), "bfcl"), name="bfcl")
    yield suite
    suite.close()


@pytest.mark.slow
@pytest.mark.parametrize("subset", SUBSETS)
def test_the_ground_truth_scores_1_and_saying_nothing_0_on_every_task(suite, subset):
    tasks = suite.tasks(subset)
    assert len(tasks) == 200
    for speaker, score in ((oracle, 1.0), (no_op, 0.0)):
        attempts = [play(suite, subset, task, 0, speaker, 200) for task in tasks]
        assert {attempt.stop for attempt in attempts} == {SuiteStop.FINISHED}
        assert [attempt.task for attempt in attempts if attempt.score != score] == []


def calling(name, **arguments):
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": function}]}


@pytest.mark.slow
def test_a_function_that_is_held_back_comes_in_its_turn(suite):
    """Task 0 lacks `sort` until its fourth turn; a message without calls ends a turn."""
    session = suite.open("multi_turn_miss_func", "multi_turn_miss_func_0")
    assert "sort" not in {tool["function"]["name"] for tool in session.opening.tools}
    heard = [session.reply({"role": "assistant", "content": "No."}).messages[0]["content"] for _ in range(3)]
    assert ['"name": "sort"' in text for text in heard] == [False, False, True]
    session.close()


@pytest.mark.slow
def test_what_a_policy_calls_wrongly_is_answered_and_executes_nothing(suite, tmp_path):
    session = suite.open("multi_turn_base", "multi_turn_base_0")
    target = tmp_path / "made"
    for message in (
        calling("open", file=str(target), mode="w"),
        calling("cd", nowhere="x"),
        calling("cd", **{f"folder=open({str(target)!r},'w') or folder": "x"}),
    ):
        reaction = session.reply(message)
        assert not reaction.finished
        assert reaction.messages[0]["content"].startswith("Error during execution: ")
    assert not target.exists()
    session.close()


@pytest.mark.slow
def test_the_21st_step_of_a_turn_ends_an_attempt(suite):
    session = suite.open("multi_turn_base", "multi_turn_base_0")
    finished = [session.reply(calling("pwd")).finished for _ in range(21)]
    assert finished == [False] * 20 + [True]
    assert session.score().score == 0.0
    session.close()


@pytest.mark.slow
def test_sessions_of_one_task_do_not_share_its_state(suite):
    one, other = (suite.open("multi_turn_base", "multi_turn_base_0") for _ in range(2))
    one.reply(calling("mkdir", dir_name="mine"))
    listing = other.reply(calling("ls")).messages[0]["content"]
    assert "mine" not in listing
    assert "mine" in one.reply(calling("ls")).messages[0]["content"]
    one.close()
    other.close()
