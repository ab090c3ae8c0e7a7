"""Whatever a policy writes is judged, never raised."""

import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.action import ActionParser, BadCall
from codegym_jax.records import CallError, ParameterSpec, ToolSpec

TOOLS = (
    ToolSpec(name="Observe"),
    ToolSpec(name="Get", parameters=(ParameterSpec(name="i"), ParameterSpec(name="deep", required=False))),
)
SIGNATURES = {"Observe": (set(), set()), "Get": ({"i"}, {"i", "deep"})}  # tool -> (required, all) parameters
LIMITS = SandboxConfig()
PARSER = ActionParser(TOOLS, LIMITS)
SMALL = SandboxConfig(max_action_bytes=64, max_json_depth=4)
SMALL_PARSER = ActionParser(TOOLS, SMALL)
MAX_TEXT_CHARS = 1500  # of what the policy reads about a bad call, whatever it wrote

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["Observe", "Get", "get", "", "Done"]) | st.text(max_size=3)
PARAMETERS = st.dictionaries(st.sampled_from(["i", "deep", "other"]), JSON, max_size=3)
CALLS = st.fixed_dictionaries({"name": NAMES, "parameters": PARAMETERS | JSON}) | st.dictionaries(
    st.sampled_from(["name", "parameters", "thought"]), NAMES | PARAMETERS | JSON
)
PIECES = st.sampled_from(
    [
        *(
            '"',
            "\\",
            "\\u",
            "\ud800",
            "\x00",
            "[",
            "]",
            "{",
            "}",
            ":",
            ",",
            "1e999",
            "-",
            "NaN",
            " ",
            "\ufeff",
        ),
        *('"name"', '"Get"', '"parameters"', '{"i": 1}', "9" * 5000, "[" * 70, "]" * 70, "é", "\ufeff"),
    ]
)


def judged(action: str, parser: ActionParser = PARSER) -> str:
    verdict = parser.tool_of(action)
    if isinstance(verdict, BadCall):
        assert verdict.text.startswith("Error: ")
        assert len(verdict.text.encode()) <= MAX_TEXT_CHARS
        return verdict.error
    return verdict


class Repeated(dict):
    """A JSON object as a dict, with the values of repeated keys kept in `hidden`."""

    def __init__(self, pairs):
        super().__init__(pairs)
        self.hidden = [value for _, value in pairs]


def depth(value: Any) -> int:
    """How many containers lie within each other; what a repeated key hides counts."""
    inner = value.hidden if isinstance(value, Repeated) else value
    return 1 + max(map(depth, inner), default=0) if isinstance(inner, list) else 0


def reference(action: str, limits: SandboxConfig = LIMITS) -> str:
    """The definition, clause by clause: what an action is, with no regard to speed or to the error's text."""
    try:
        data = action.encode("utf-8")
    except UnicodeEncodeError:
        return CallError.NOT_JSON  # no text at all
    if len(data) > limits.max_action_bytes:
        return CallError.NOT_JSON
    try:
        call = json.loads(data.decode("utf-8"), object_pairs_hook=Repeated)
    except (ValueError, RecursionError):
        return CallError.NOT_JSON
    if not isinstance(call, dict) or depth(call) > limits.max_json_depth:
        return CallError.NOT_JSON
    if not isinstance(call.get("name"), str) or "parameters" not in call:
        return CallError.NOT_JSON
    if call["name"] not in SIGNATURES:
        return CallError.UNKNOWN_TOOL
    required, known = SIGNATURES[call["name"]]
    given = call["parameters"]
    if not isinstance(given, dict) or not required <= set(given) <= known:
        return CallError.BAD_PARAMETERS
    return call["name"]


def nested(levels: int) -> str:
    """A good call but for its depth: the call and its parameters are the two outermost containers."""
    return '{"name": "Get", "parameters": {"i": ' + "[" * (levels - 2) + "]" * (levels - 2) + "}}"


@pytest.mark.parametrize(
    ("action", "verdict"),
    [
        ('{"name": "Observe", "parameters": {}}', "Observe"),
        ('{"name": "Get", "parameters": {"i": [1, {"@": null}]}}', "Get"),
        ('{"name": "Get", "parameters": {"i": 1, "deep": 2}, "thought": "a comment is no harm"}', "Get"),
        (' \t\r\n{"name": "Observe", "parameters": {}}\n', "Observe"),
        ('{"name": "Observe", "name": "Get", "parameters": {"i": 1, "i": 2}}', "Get"),
        ('{"name": "Get", "parameters": {"i": [NaN, -Infinity, 1e999, -0.0]}}', "Get"),
        ('{"name": "Get", "parameters": {"i": "\\ud800"}}', "Get"),
        ('{"name": "Get", "parameters": {"i": "' + "[{" * 99 + '"}}', "Get"),
        ('{"name": "Get", "parameters": {"i": "\\"' + "[" * 99 + '"}}', "Get"),
        ('{"name": "Get", "parameters": {"i": ' + "1" * 4300 + "}}", "Get"),
        ("", CallError.NOT_JSON),
        ("Get(1)", CallError.NOT_JSON),
        ("[]", CallError.NOT_JSON),
        ("null", CallError.NOT_JSON),
        ("{", CallError.NOT_JSON),
        ('\ufeff{"name": "Observe", "parameters": {}}', CallError.NOT_JSON),
        ('\u00a0{"name": "Observe", "parameters": {}}', CallError.NOT_JSON),
        ('{"name": "Observe", "parameters": {}}\x00', CallError.NOT_JSON),
        ('{"name": "Observe", "parameters": {},}', CallError.NOT_JSON),
        ('{"name": "Obs\nerve", "parameters": {}}', CallError.NOT_JSON),
        ('{"name": "Observe", "parameters": {}} {"name": "Observe", "parameters": {}}', CallError.NOT_JSON),
        (
            '[{"name": "Observe", "parameters": {}}, {"name": "Observe", "parameters": {}}]',
            CallError.NOT_JSON,
        ),
        ('{"name": "Observe"}', CallError.NOT_JSON),
        ('{"name": 3, "parameters": {}}', CallError.NOT_JSON),
        ('{"name": "Nope", "parameters": {}}', CallError.UNKNOWN_TOOL),
        ('{"name": "Observe\\u0000", "parameters": {}}', CallError.UNKNOWN_TOOL),
        ('{"name": "' + "\\ud800" * 9000 + '", "parameters": {}}', CallError.UNKNOWN_TOOL),
        ('{"name": "Observe", "parameters": []}', CallError.BAD_PARAMETERS),
        ('{"name": "Observe", "parameters": {"x": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"deep": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"i": 1, "\\ud800": 1}}', CallError.BAD_PARAMETERS),
        ('{"name": "Get", "parameters": {"i": 1, "i\\u0000": 1}}', CallError.BAD_PARAMETERS),
        (
            json.dumps({"name": "Get", "parameters": {"i": 1} | {f"{n}": 1 for n in range(5000)}}),
            CallError.BAD_PARAMETERS,
        ),
        ('{"name": "Get", "parameters": {"i": ' + "1" * 4301 + "}}", CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": "' + "x" * 70_000 + '"}}', CallError.NOT_JSON),
        ("[" * 60_000, CallError.NOT_JSON),
        ('{"":' * 15_000, CallError.NOT_JSON),
        ('{"' + "[" * 60_000, CallError.NOT_JSON),
        ('{"\\' * 20_000, CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": ' + "[]" * 99 + "}}", CallError.NOT_JSON),
        ('{"name": "Get", "parameters": {"i": "\ud800"}}', CallError.NOT_JSON),
    ],
)
def test_hand_picked(action, verdict):
    assert judged(action) == verdict == reference(action)


def test_the_depth_bound_is_exact():
    assert judged(nested(64)) == "Get"
    assert judged(nested(65)) == CallError.NOT_JSON
    hidden = nested(65).replace('"i"', '"i": 1, "i"')  # the guest's parser would walk it all the same
    assert judged(hidden.replace("}}", ', "i": 1}}')) == CallError.NOT_JSON


def test_the_byte_bound_is_exact():
    """An "é" is two bytes."""
    for filler, count in (("x", 1), ("é", 2)):
        call = '{"name": "Get", "parameters": {"i": "%s"}}'
        fits = call % (filler * ((LIMITS.max_action_bytes - len(call) + 2) // count))
        assert len(fits.encode()) == LIMITS.max_action_bytes
        assert judged(fits) == "Get"
        assert judged(fits + " ") == CallError.NOT_JSON


def test_the_verdict_does_not_depend_on_the_hosts_own_stack():
    """Text that a recursive parser would only give up on, judged with little stack left and with much."""
    texts = [nested(900), '{"a":' * 900, '{"a":' + "[" * 900, nested(64)]

    def at(frames):
        return [PARSER.tool_of(text) for text in texts] if frames == 0 else at(frames - 1)

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(2000)
    try:
        assert at(600) == at(0)
    finally:
        sys.setrecursionlimit(limit)


@pytest.mark.parametrize(
    ("action", "text"),
    [
        ("call Get", 'Error: expected one call, {"name": ..., "parameters": {...}}'),
        (
            '{"name": Get}',
            'Error: expected one call, {"name": ..., "parameters": {...}}, and this is not JSON',
        ),
        (
            '{"name": "Observe", "parameters": {}};',
            'Error: expected one call, {"name": ..., "parameters": {...}}, and this goes on after it',
        ),
        ('{"name": "Nope\\n", "parameters": {}}', "Error: there is no tool Nope\n"),
        ('{"name": "Get", "parameters": {}}', "Error: Get lacks the parameter i"),
        (
            '{"name": "Get", "parameters": {"i": 0, "z": 0, "y": 0, "x": 0, "w": 0}}',
            "Error: Get has no parameter w, x, y, ...",
        ),
        (nested(65), "Error: a call is nested at most 64 deep"),
    ],
)
def test_the_policy_reads_what_is_wrong(action, text):
    assert PARSER.tool_of(action).text == text


@given(st.text() | st.lists(PIECES | st.text(max_size=3)).map("".join))
@example("\ud800" * 70_000)
def test_any_text_is_judged_as_the_reference_judges_it(text):
    assert judged(text) == reference(text)
    assert judged(text, SMALL_PARSER) == reference(text, SMALL)


@settings(max_examples=300)
@given(CALLS | JSON, st.booleans())
def test_any_json_is_judged_as_the_reference_judges_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert judged(text) == reference(text)
    assert judged(text, SMALL_PARSER) == reference(text, SMALL)


@settings(max_examples=300)
@given(CALLS, st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), PIECES), min_size=1, max_size=4))
def test_a_damaged_call_is_judged_as_the_reference_judges_it(value, damages):
    """A call with pieces put in, or over what was there."""
    text = json.dumps(value, ensure_ascii=False)
    for where, length, piece in damages:
        start = int(where * len(text))
        text = text[:start] + piece + text[start + length :]
    assert judged(text) == reference(text)
    assert judged(text, SMALL_PARSER) == reference(text, SMALL)


@given(st.integers(1, 10), st.integers(0, 80), st.booleans())
def test_depth_is_judged_as_the_reference_judges_it(width, levels, as_objects):
    opening, closing = ('{"":', "}") if as_objects else ("[", "]")
    value = ",".join([opening * levels + "0" + closing * levels] * width)
    text = f'{{"name": "Get", "parameters": {{"i": [{value}]}}}}'
    assert judged(text) == reference(text)


@given(st.dictionaries(st.sampled_from(["i", "deep", "other"]), JSON))
def test_parameters_are_held_against_the_signature(parameters):
    verdict = judged(json.dumps({"name": "Get", "parameters": parameters}))
    fits = "i" in parameters and "other" not in parameters
    assert verdict == ("Get" if fits else CallError.BAD_PARAMETERS)
