"""What the type names in docstrings mean, one by one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.data.json_schema import tool_schema, type_schema
from codegym_jax.records import ParameterSpec, ToolSpec

INTEGERS = {"type": "array", "items": {"type": "integer"}}


@pytest.mark.parametrize(
    ("type_name", "schema"),
    [
        ("int", {"type": "integer"}),
        ("float", {"type": "number"}),
        ("bool", {"type": "boolean"}),
        ("str", {"type": "string"}),
        ("Integer", {"type": "integer"}),
        ("None", {"type": "null"}),
        ("list", {"type": "array"}),
        ("dict", {"type": "object"}),
        ("list[int]", INTEGERS),
        ("List[int]", INTEGERS),
        ("typing.List[int]", INTEGERS),
        ("list of int", INTEGERS),
        ("list of integers", INTEGERS),
        ("set[int]", INTEGERS),
        ("tuple[int, ...]", INTEGERS),
        ("list[list[int]]", {"type": "array", "items": INTEGERS}),
        ("tuple[int, str]", {"type": "array", "items": {"type": ["integer", "string"]}}),
        ("dict[str, list[int]]", {"type": "object", "additionalProperties": INTEGERS}),
        ("int | None", {"type": ["integer", "null"]}),
        ("Optional[int]", {"type": ["integer", "null"]}),
        ("Union[int, str]", {"type": ["integer", "string"]}),
        ("int or str", {"type": ["integer", "string"]}),
        ("float or int", {"type": "number"}),  # an integer is a number
        ("list or list[int]", {"type": "array"}),  # a bare array allows any items
        ("list[int] or list[int]", INTEGERS),
        ("bool or list[int]", {"anyOf": [{"type": "boolean"}, INTEGERS]}),
        ("int, optional", {"type": "integer"}),
        ("int, default 3", {"type": "integer"}),
        ("list (sorted)", {"type": "array"}),
        ("list[int", {"type": "array"}),  # cut off by a bracket inside parentheses
        ('Literal["Up", 1]', {"enum": ["Up", 1]}),
        ("any", {}),
        ("int or any", {}),
        ("np.ndarray", {}),
        ("", {}),
    ],
)
def test_a_type_name_has_its_schema(type_name, schema):
    assert type_schema(type_name) == schema


@given(st.text(max_size=30) | st.text("intlsrdc[](),|. orf", max_size=30))
def test_any_text_has_a_schema(text):
    assert isinstance(type_schema(text), dict)


def test_a_tool_lists_what_is_required():
    tool = ToolSpec(
        name="GetItem",
        parameters=(
            ParameterSpec(name="index", type_name="int", description="from 0"),
            ParameterSpec(name="base", required=False),
        ),
        doc=" Reads one item. ",
    )
    assert tool_schema(tool) == {
        "type": "function",
        "function": {
            "name": "GetItem",
            "description": "Reads one item.",
            "parameters": {
                "type": "object",
                "properties": {"index": {"type": "integer", "description": "from 0"}, "base": {}},
                "required": ["index"],
            },
        },
    }
