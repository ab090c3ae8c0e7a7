"""Whatever a policy writes is judged, never raised."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.action import ActionParser, BadCall
from codegym_jax.records import CallError, ParameterSpec, ToolSpec

TOOLS = (
    ToolSpec(name="Observe"),
    ToolSpec(name="Get", parameters=(ParameterSpec(name="i"), ParameterSpec(name="deep", required=False))),
)
PARSER = ActionParser(TOOLS, SandboxConfig())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def judged(action: str) -> str:
    verdict = PARSER.tool_of(action)
    if isinstance(verdict, BadCall):
        assert verdict.text.startswith("Error: ")
        verdict.text.encode()
        return verdict.error
    return verdict


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ('{"name": "Observe", "parameters": {}}', "Observe"),
        ('{"name": "Get", "parameters": {"i": [1, {"@": null}]}}', "Get"),
        ('{"name": "Get", "parameters": {"i": 1, "deep": 2}, "thought": "a comment is no harm"}', "Get"),
        ("", CallError.NOT_JSON),
        ("Get(1)", CallError.NOT_JSON),
        ("[]", CallError.NOT_JSON),
        ('{"name": "Observe", "parameters": {}} {"name": "Observe", "parameters": {}}', CallError.NOT_JSON),
        (
            '[{"name": "Observe", "parameters": {}}, {"name": "Observe", "parameters": {}}]',
            CallError.NOT_JSON,
        ),
        ('{"name": "Observe"}', CallError.NOT_JSON),
        ('{"name": 3, "parameters": {}}', CallError.NOT_JSON),
        ('{"name": "Nope", "parameters": {}}', CallError.UNKNOWN_TOOL),
        ('{"name": "Observe", "parameters": []}', CallError.BAD_PARAMETERS),
        ('{"name": "Observe", "parameters": {"x": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"deep": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"i": 1, "\\ud800": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"i": ' + "1" * 5000 + "}}", CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": "' + "x" * 70_000 + '"}}', CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": ' + "[" * 63 + "]" * 63 + "}}", CallError.NOT_JSON),
        ("[" * 60_000, CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": "\ud800"}}', CallError.NOT_JSON),
    ],
)
def test_hand_picked(action, verdict):
    assert judged(action) == verdict


def test_the_depth_bound_is_exact():
    """The call and its parameters are the two outermost of 64 containers."""
    assert judged('{"name": "Get", "parameters": {"i": ' + "[" * 62 + "]" * 62 + "}}") == "Get"


@given(st.text())
def test_any_text_is_judged(text):
    judged(text)


@given(JSON)
def test_any_json_is_judged(value):
    judged(json.dumps(value))


@given(st.dictionaries(st.sampled_from(["i", "deep", "other"]), JSON))
def test_parameters_are_held_against_the_signature(parameters):
    verdict = judged(json.dumps({"name": "Get", "parameters": parameters}))
    fits = "i" in parameters and "other" not in parameters
    assert verdict == ("Get" if fits else CallError.BAD_PARAMETERS)
