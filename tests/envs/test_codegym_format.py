"""The published format as text: sources, task strings, rows."""

import json
from pathlib import Path

import pytest
import toy_env
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.envs.codegym_format import (
    FormatError,
    canonical_json,
    load_environment,
    parse_env_string,
    parse_source,
    read_rows,
    task_row,
)
from codegym_jax.records import ParameterSpec, Rejection, Task

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=12,
)


def test_a_tool_is_its_signature_and_its_docstring_without_the_example():
    tools = {tool.name: tool for tool in toy_env.spec().tools}
    assert list(tools) == ["Observe", "Add", "Total", "Act", "Done"]
    assert tools["Add"].parameters == (
        ParameterSpec(name="index", type_name="int", description="position from 0."),
        ParameterSpec(name="times", type_name="int", description="how often.", required=False),
    )
    assert tools["Act"].doc == "Do what a test wants.\n\nReturns:\n    str: anything."


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("def solve", "def solv"), "Toy: class ToyEnv lacks solve"),
        (("def Total", "def Sum"), "Toy: class ToyEnv lacks Total, named in func_mapping"),
        (
            ("self.func_mapping =", "self.tools ="),
            "Toy: expected one class with self.func_mapping, found none",
        ),
        (("def Total(self)", "def Total(self, **all)"), "Toy: tool Total takes * or ** parameters"),
        (("class ToyEnv", "class ToyEnv("), "Toy: line 6: does not parse"),
        (("import json", "import json\0"), "Toy: line "),
        (("import json", "(" * 9999), "Toy: "),
    ],
)
def test_a_source_that_lacks_something_is_named(change, complaint):
    with pytest.raises(FormatError) as caught:
        parse_source(toy_env.source().replace(*change), code_id="Toy")
    assert str(caught.value).startswith(complaint)
    assert "\n" not in str(caught.value)


def test_methods_of_a_base_class_in_the_same_file_count():
    base = toy_env.source().replace("class ToyEnv", "class Base")
    spec = parse_source(base + "\nclass ToyEnv(Base):\n    pass\n", code_id="Toy", class_name="ToyEnv")
    assert [tool.name for tool in spec.tools][-1] == "Done"


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("Missing__ToyEnv.py", None, "No such file or directory"),
        ("ToyEnv.py", b"", "an environment file is named <code_id>__<Class>.py"),
        ("A__OtherEnv.py", b"class ToyEnv: pass", "has no class OtherEnv"),
        ("A__ToyEnv.py", b"\xff", "not UTF-8 text"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, complaint):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        load_environment(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert complaint in str(caught.value)


def test_an_environment_string_may_hold_at_signs_and_json_constants():
    text = 'codegym_v1@A_1__XEnv@{"b": "me@x.org", "a": [true, null, "é"]}'
    assert parse_env_string(text) == ("A_1__XEnv", '{"a":[true,null,"é"],"b":"me@x.org"}')


@pytest.mark.parametrize(
    "text",
    [
        "",
        "codegym_v1@A__XEnv",
        "codegym_v1@XEnv@{}",
        "codegym_v2@A__XEnv@{}",
        "codegym_v1@A__XEnv@[1]",
        "codegym_v1@A__XEnv@{'a': True}",
        "codegym_v1@A__XEnv@{} {}",
        "codegym_v1@A__XEnv@" + '{"a":' * 99_999,
    ],
)
def test_another_string_is_refused_in_one_short_line(text):
    with pytest.raises(FormatError) as caught:
        parse_env_string(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@given(st.text())
def test_any_string_is_parsed_or_refused(text):
    for candidate in (text, f"codegym_v1@A__XEnv@{text}"):
        try:
            parse_env_string(candidate)
        except FormatError:
            continue


@given(st.dictionaries(st.text(st.characters()), JSON, max_size=4))
def test_a_config_keeps_its_meaning(config):
    env_id, text = parse_env_string(f"codegym_v1@A__XEnv@{json.dumps(config)}")
    assert env_id == "A__XEnv"
    assert json.loads(text) == config
    assert canonical_json(json.loads(text)) == text
    text.encode()


def test_rows_are_read_back_and_bad_ones_passed_over(tmp_path):
    spec = toy_env.spec()
    task = Task(env_id=spec.env_id, config_json='{"numbers":[1]}', oracle_actions=("a", "b"), answer_json="1")
    row = task_row(spec, task, 5)
    assert row["extra_info"]["solve_fc_round"] == 2
    assert row["answer"] == 1
    assert "def Add(index, times=...):" in row["prompt"][0]["content"]
    assert "Example Output" not in row["prompt"][0]["content"]
    path = tmp_path / "rows.jsonl"
    bad = ['{"ability": 3}', "[]", "{", '{"ability": "codegym_v1@A__XEnv@{}", "extra_info": {"gym_env": 3}}']
    path.write_text("\n".join([*bad, "", json.dumps(row)]) + "\n")
    read = list(read_rows(path))
    assert read[-1] == (6, Task(env_id=spec.env_id, config_json='{"numbers":[1]}'), spec.source)
    refused = [item for item in read if isinstance(item, Rejection)]
    assert [item.subject for item in refused] == [f"{path}:{number}" for number in (1, 2, 3, 4)]
    assert {item.reason for item in refused} == {"bad_row"}


def test_a_row_that_is_no_text_is_passed_over(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xff\xfe\n{"ability": "codegym_v1@A__XEnv@{}"}\n')
    first, second = read_rows(path)
    assert isinstance(first, Rejection)
    assert second == (2, Task(env_id="A__XEnv", config_json="{}"), None)


def test_a_missing_rows_file_is_named(tmp_path):
    with pytest.raises(FormatError, match="No such file"):
        list(read_rows(tmp_path / "none.jsonl"))


def test_the_published_files_parse():
    files = sorted((Path(__file__).parents[1] / "fixtures" / "published").glob("*.py"))
    assert len(files) == 16
    for path in files:
        assert load_environment(path).env_id == path.stem
