"""Environments outlined from small problems: right, tight, and the same every time.

The outliner is plain Python, so these tests run it on the host, on code written for them.
"""

import ast
import json
import random
from typing import Any

import pytest
from small_problems import ALIASED, EARLY_EXIT, PROBLEMS, WHILE_LOOP, SmallProblem

from codegym_jax.synthesis.outline import guest


def synthesize(problem: SmallProblem, **changes: Any) -> dict[str, Any]:
    arguments = {
        "code_id": "Test_1",
        "source": problem.source,
        "entry": problem.entry,
        "statement": "What is asked.",
        "license": "MIT",
        "generator": problem.generator,
        "test": "",
        "seed": 3,
        "tasks": 12,
        "min_calls": 3,
        "max_calls": 256,
        "max_answer_chars": 100,
    }
    return json.loads(guest.synthesize(json.dumps(arguments | changes)))


def load(result: dict[str, Any]) -> type:
    namespace: dict[str, Any] = {"__name__": "environment"}
    exec(compile(result["source"], "<environment>", "exec"), namespace)
    return namespace[result["class_name"]]


def play(result: dict[str, Any], config: dict[str, Any]) -> tuple[Any, list[tuple[str, dict, str]]]:
    """The environment after its oracle ran, and the calls that it made."""
    env = load(result).from_env_str(f"{result['class_name']}@{json.dumps(config)}")
    log = []
    step = env.step

    def recorded(action: str) -> tuple[bool, str]:
        answer = step(action)
        call = json.loads(action)
        log.append((call["name"], call["parameters"], answer[1]))
        return answer

    env.step = recorded
    env.solve()
    return env, log


@pytest.fixture(scope="module", params=PROBLEMS, ids=lambda problem: problem.name)
def problem(request: pytest.FixtureRequest) -> SmallProblem:
    return request.param


@pytest.fixture(scope="module")
def result(problem: SmallProblem) -> dict[str, Any]:
    made = synthesize(problem)
    assert "reason" not in made, made
    return made


def test_the_oracle_gives_the_original_answer(problem: SmallProblem, result: dict[str, Any]):
    """On inputs it was not made from: the answer through tools equals the published solution's."""
    namespace: dict[str, Any] = {}
    exec(problem.source + problem.generator, namespace)
    for seed in range(1_000, 1_040):
        inputs = namespace["generate_inputs"](random.Random(seed))
        expected = namespace[problem.entry](**json.loads(json.dumps(inputs)))
        if isinstance(expected, dict) and len(expected) == 1:
            [expected] = expected.values()
        env, log = play(result, inputs)
        assert log[-1][1]["answer"] == json.loads(json.dumps(expected)) == env.get_ref_answer()
        assert env.reward == 1.0


def test_the_expected_tools_are_there(problem: SmallProblem, result: dict[str, Any]):
    assert problem.tools <= set(load(result)().func_mapping)


def test_observe_shows_no_hidden_value(problem: SmallProblem, result: dict[str, Any]):
    """Changing the hidden inputs alone changes nothing that `Observe` says."""
    first, second = result["configs"][:2]
    hidden = json.loads(load(result)().Observe())["hidden"]
    assert hidden
    mixed = first | {name: second[name] for name in hidden}
    assert play(result, first)[1][0] == play(result, mixed)[1][0]
    assert set(json.loads(play(result, first)[1][0][2])) == set(first) - set(hidden) | {"hidden"}


def test_no_single_call_hands_over_the_answer(problem: SmallProblem, result: dict[str, Any]):
    """In most tasks no tool that is called once returns the answer, unless a chain of calls led to it."""
    suspicious = 0
    for config in result["configs"]:
        _, log = play(result, config)
        answer = json.dumps(log[-1][1]["answer"])
        names = [name for name, _, _ in log]
        repeated = {text for name, _, text in log if names.count(name) > 1}
        suspicious += any(
            names.count(name) == 1
            and text == answer
            and not {json.dumps(v) for v in parameters.values()} & repeated
            and name not in ("Observe", "Done")
            and not name.startswith("Get")
            for name, parameters, text in log
        )
    assert suspicious <= len(result["configs"]) / 2


def test_solve_touches_nothing_but_step(result: dict[str, Any]):
    tree = ast.parse(result["source"])
    [solve] = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "solve"]
    touched = {
        node.attr
        for node in ast.walk(solve)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    }
    assert touched == {"step"}
    assert not {"inputs", "get_ref_answer"} & {n.id for n in ast.walk(solve) if isinstance(n, ast.Name)}


def test_every_tool_is_documented(result: dict[str, Any]):
    env = load(result)()
    for name in env.func_mapping:
        doc = getattr(env, name).__doc__
        assert "Args:" in doc and "Returns:" in doc and "Example Output:" in doc


def test_configs_are_distinct_and_courses_vary(result: dict[str, Any]):
    configs = result["configs"]
    assert len({json.dumps(config, sort_keys=True) for config in configs}) == len(configs) >= 10
    assert len({tuple(call[0] for call in play(result, config)[1]) for config in configs}) > 1


def test_the_same_seed_gives_the_same_bytes(problem: SmallProblem, result: dict[str, Any]):
    assert synthesize(problem) == result


def test_reading_stops_with_the_search():
    """The oracle of an early exit reads no item that it does not need."""
    result = synthesize(EARLY_EXIT)
    _, log = play(result, {"items": [9, 9, 1, 1, 1], "limit": 10})
    assert [call[0] for call in log].count("GetItemsItem") == 2


def test_binary_search_reads_only_what_it_compares():
    result = synthesize(WHILE_LOOP)
    _, log = play(result, {"items": [1, 3, 5, 7, 9, 11, 13], "wanted": 13})
    assert {call[1]["index"] for call in log if call[0] == "GetItemsItem"} <= {3, 5, 6}


def test_a_helper_that_is_the_solution_is_looked_into():
    """`count_above` would return the answer, so it is no tool; its loop is outlined instead."""
    assert "CountAbove" not in load(synthesize(ALIASED))().func_mapping


def test_errors_are_told_and_counted():
    result = synthesize(EARLY_EXIT)
    env = load(result)()
    assert env.step("nonsense")[1].startswith("Error:")
    assert env.step('{"name": "solve", "parameters": {}}')[1].startswith("Error: ValueError: no tool")
    assert env.step('{"name": "GetItemsItem", "parameters": {"index": 99}}')[1].startswith(
        "Error: IndexError"
    )
    assert env.step_count == 3


def test_texts_in_rows_of_one_width_are_a_table():
    """A map of characters is read cell by cell, however its inputs were altered."""
    problem = SmallProblem(
        name="map",
        source="""
def main_solution(grid):
    row, column = 0, 0
    for i in range(len(grid)):
        for j in range(len(grid[i])):
            if grid[i][j] == 'p':
                row, column = i, j
    return row * 10 + column
""",
        generator="""
def generate_inputs(rng):
    rows, columns = rng.randint(2, 5), rng.randint(2, 5)
    grid = [["-"] * columns for _ in range(rows)]
    grid[rng.randrange(rows)][rng.randrange(columns)] = "p"
    return {"grid": ["".join(row) for row in grid]}
""",
    )
    made = synthesize(problem)
    assert {"GetGridRowCount", "GetGridRowLength", "GetGridCell"} <= set(made["tool_kinds"])
    assert all(len({len(row) for row in config["grid"]}) == 1 for config in made["configs"])


@pytest.mark.parametrize(
    ("source", "generator", "reason"),
    [
        (
            "def main_solution(mode, unit):\n    return len(mode) + len(unit)\n",
            "def generate_inputs(rng):\n"
            "    return {k: rng.choice(['', 'a', 'bb', 'ccc']) for k in ('mode', 'unit')}\n",
            "nothing to hide",
        ),
        (
            "import random\ndef main_solution(items):\n    return random.random()\n",
            "def generate_inputs(rng):\n    return {'items': [rng.randint(0, 9)]}\n",
            "the solution fails or is not deterministic",
        ),
        (
            "def main_solution(items):\n    return str(items) * 50\n",
            "def generate_inputs(rng):\n    return {'items': [rng.randint(0, 9) for _ in range(9)]}\n",
            "long answers",
        ),
        (
            "def main_solution(items):\n    return items[-1]\n",
            "def generate_inputs(rng):\n    return {'items': [rng.randint(0, 9) for _ in range(9)]}\n",
            "no operation left for a tool",
        ),
    ],
)
def test_what_makes_no_environment_is_refused_with_the_reason(source: str, generator: str, reason: str):
    problem = SmallProblem(name="", source=source, generator=generator)
    assert synthesize(problem) == {"reason": reason}


def test_answers_longer_than_allowed_make_no_task():
    result = synthesize(EARLY_EXIT, max_answer_chars=1)
    for config in result.get("configs", []):
        assert len(json.dumps(play(result, config)[0].get_ref_answer())) <= 1
