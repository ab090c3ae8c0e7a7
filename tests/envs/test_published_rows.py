"""Each kind of row gives what it carries, or the key that is wrong."""

import pytest

from codegym_jax.envs.codegym_format import FormatError, load_environment, task_row
from codegym_jax.envs.published_rows import EnvironmentRow, TaskRow, read_row
from codegym_jax.records import Task

ABILITY = 'codegym_v1@Own_1__XEnv@{"n": 1, "at": "@"}'
PROMPT = [
    {"role": "system", "content": "tools"},
    {"role": "user", "content": "Do so.\n\nQuestion:\n\n\nWhat?\n"},
]


def test_a_published_task_row():
    row = {
        "ability": ABILITY,
        "prompt": PROMPT,
        "extra_info": {"gym_env": "class XEnv: pass", "license": "MIT", "origin": "mine", "index": "3"},
        "plugin_call_max_round": 512,
        "reward_model": {"style": "agent_env"},
    }
    assert read_row(row) == TaskRow(
        env_id="Own_1__XEnv",
        config_json='{"at":"@","n":1}',
        source="class XEnv: pass",
        statement="What?",
        license="MIT",
        origin="mine",
        max_round=512,
    )


@pytest.mark.parametrize("extra", [{}, {"extra_info": None}, {"extra_info": '{"std_traj": "[]"}'}])
def test_a_published_task_row_may_carry_little(extra):
    assert read_row({"ability": ABILITY} | extra) == TaskRow(
        env_id="Own_1__XEnv", config_json='{"at":"@","n":1}'
    )


@pytest.mark.parametrize("prompt", ["What?", [{"role": "user", "content": "What?"}]])
def test_a_prompt_without_the_line_is_the_statement(prompt):
    row = read_row({"ability": ABILITY, "prompt": prompt})
    assert isinstance(row, TaskRow) and row.statement == "What?"


@pytest.mark.parametrize(
    ("name", "source"),
    [("Own_1__XEnv", "Leetcode"), ("Own_1__XEnv.py", "Leetcode"), ("XEnv", "Own_1")],
)
def test_an_environment_row(name, source):
    row = read_row({"env_name": name, "env_code": "class XEnv: pass", "source": source})
    assert row == EnvironmentRow(env_id="Own_1__XEnv", source="class XEnv: pass", origin=source)


def test_our_own_rows_read_back(tmp_path):
    """`task_row` writes what `read_row` takes."""
    path = tmp_path / "Own_1__XEnv.py"
    methods = "".join(f"    def {name}(self): pass\n" for name in ("reset", "step", "finished", "reward"))
    methods += "".join(
        f"    def {name}(self): pass\n" for name in ("Observe", "Done", "get_ref_answer", "solve")
    )
    path.write_text(f"class XEnv:\n    func_mapping = {{'Observe': 0, 'Done': 1}}\n{methods}")
    spec = load_environment(path)
    task = Task(env_id=spec.env_id, config_json='{"n":1}')
    row = read_row(task_row(spec, task, 0))
    assert isinstance(row, TaskRow)
    assert (row.env_id, row.config_json, row.source) == (spec.env_id, task.config_json, spec.source)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([], "expected an object"),
        ({"a": 1}, "neither a task .* its keys: a"),
        ({"ability": 3}, "the key ability must hold"),
        ({"ability": "x@y"}, "expected codegym_v1@"),
        ({"ability": ABILITY, "extra_info": 3}, "extra_info must hold an object"),
        ({"ability": ABILITY, "extra_info": "{"}, "extra_info is not JSON"),
        ({"ability": ABILITY, "extra_info": {"gym_env": 3}}, "gym_env must hold text"),
        ({"ability": ABILITY, "plugin_call_max_round": "many"}, "plugin_call_max_round must hold"),
        ({"env_name": "XEnv"}, "under the keys env_name and env_code"),
        ({"env_name": "XEnv", "env_code": "c", "source": "some where"}, "must be <code_id>__<Class>"),
        ({"config_json": "{}", "env_id": "x"}, "env_id must hold <code_id>__<Class>, got 'x'"),
        ({"config_json": "[]", "env_id": "x__X"}, "not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_row_is_named(row, message):
    with pytest.raises(FormatError, match=message):
        read_row(row)
