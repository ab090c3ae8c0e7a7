"""JSON that is read is exactly JSON, and what is written comes back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.data import strict_json
from tests.strategies import JSON_VALUES


@given(JSON_VALUES, st.booleans())
def test_written_values_come_back(value, spaces):
    text = strict_json.dumps(value, spaces=spaces)
    assert strict_json.loads(text) == value
    assert strict_json.load_prefix(text + "]x", 0) == (value, len(text))


def test_a_pair_of_surrogates_comes_back_as_the_character_that_it_spells():
    assert strict_json.loads(strict_json.dumps(["\ud800\udc00", "\udc00\ud800"], spaces=False)) == [
        "\U00010000",
        "\udc00\ud800",
    ]


def test_spaces_are_as_asked():
    assert strict_json.dumps({"é": [1, 2]}, spaces=True) == '{"é": [1, 2]}'
    assert strict_json.dumps({"é": [1, 2]}, spaces=False) == '{"é":[1,2]}'


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "NaN",
            "Infinity",
            "-Infinity",
            "[NaN]",
            "1e999",
            "-1e999",
            "01",
            "1.",
            ".5",
            "+1",
            "'a'",
            "True",
        ),
        *("True", "[1,]", "[1] [2]", '{"a":1,"a":2}', '[{"a":1,"a":1}]', '"\n"', '"\\x"'),
        *("[" * 100_000, "1" * 5000),
    ],
    ids=lambda text: text[:12] or "empty",
)
def test_everything_else_is_refused(text):
    with pytest.raises(ValueError):
        strict_json.loads(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")]])
def test_what_json_cannot_hold_is_not_written(value):
    with pytest.raises(ValueError):
        strict_json.dumps(value, spaces=False)
