"""What shows too much is found; what only looks like it, by chance or by design, is not."""

import json

import pytest
import toy_env
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.envs.audit.evidence import WEIGHTY, evidence, shows, weight
from codegym_jax.envs.audit.leaks import check_leaks
from codegym_jax.envs.audit.plays import Play, play
from codegym_jax.envs.check import TaskBounds
from codegym_jax.envs.codegym_format import parse_source

LISTS = [[51, 72, 6, 4], [13, 4, 90, 31, 8], [8, 80, 2, 77]]
SOLVE = """
    call("Act")
    for index in range(self_length):
        total = call("Add", index=index)
    return call("Done", answer=int(total))
    """.replace("self_length", 'int(call("Act"))')
COUNT = "return str(len(self.numbers))"


def found(sandbox, observe: str, configs, *changes: tuple[str, str], **parts: str) -> list[tuple[str, str]]:
    """(verdict, finding) of the check, when `Act` counts the numbers and `Observe` does what a test wants."""
    source = toy_env.source(**{"act": COUNT, "solve": SOLVE} | parts)
    head, _, rest = source.partition(COUNT)
    source = head + observe + rest
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    spec = parse_source(source, code_id="Toy")
    plays = [play(sandbox, spec, json.dumps(config), TaskBounds()) for config in configs]
    assert all(isinstance(result, Play) for result in plays), plays
    return [(finding.verdict.value, finding.found) for finding in check_leaks(sandbox, spec, plays)]


def numbers(lists=LISTS):
    return [{"numbers": values} for values in lists]


@pytest.mark.parametrize(
    "observe",
    [
        "return str(self.numbers)",
        "return 'the numbers: ' + ' '.join(map(str, self.numbers))",
        "return json.dumps({'n': len(self.numbers), 'numbers': [float(x) for x in self.numbers]})",
    ],
)
def test_observe_that_shows_the_hidden_list_is_told_however_it_is_written(sandbox, observe):
    [(verdict, text)] = found(sandbox, observe, numbers())
    assert verdict == "warn"
    assert text.startswith("Observe() shows numbers, 100% of the hidden config: ")


@pytest.mark.parametrize(
    "observe",
    [
        COUNT,
        "return 'there are numbers from 1 to 100, such as 1 2 3 4 5 6 7 8 9'",
        "return str(sorted(self.numbers)[:2])",
        "return 'Error: ' + str(self.numbers)",
    ],
)
def test_observe_that_tells_less_is_not(sandbox, observe):
    assert found(sandbox, observe, numbers()) == [
        ("pass", "no call shows too much, in 3 configs; Observe shows nothing of the config")
    ]


def test_what_is_asked_may_be_shown(sandbox):
    """The limit is a small part of the config and differs from config to config."""
    reset = "self.limit = options.get('limit', 0)"
    configs = [{**config, "limit": limit} for config, limit in zip(numbers(), [7, 45, 3], strict=True)]
    assert found(sandbox, "return f'up to {self.limit}'", configs, reset=reset) == [
        ("pass", "no call shows too much, in 3 configs; Observe shows limit")
    ]


def test_observe_that_shows_the_answer_is_told(sandbox):
    observe = "return f'{len(self.numbers)} numbers, sum {sum(self.numbers)}'"
    [(verdict, text)] = found(sandbox, observe, numbers())
    assert verdict == "warn"
    assert (
        text == "Observe() shows the reference answer in 3 of 3 configs, such as 133 in '4 numbers, sum 133'"
    )


def test_one_config_with_a_small_answer_is_no_evidence(sandbox):
    observe = "return f'sum {sum(self.numbers)}'"
    assert found(sandbox, observe, numbers([[1, 2]]))[0][0] == "pass"
    assert found(sandbox, observe, numbers([[1200, 34]]))[0][0] == "warn"


def test_another_tool_is_blamed_only_for_what_no_tiny_config_has(sandbox):
    """`Total` gives what it was asked for; that single elements are answers says little."""
    whole = (
        "return str(self.total)\n\n    def Act",
        "return str(self.total or sum(self.numbers))\n\n    def Act",
    )
    small = found(sandbox, COUNT, numbers([[1], [2], [3], [4]]), whole)
    assert small[0][0] == "pass"
    [(verdict, text)] = found(sandbox, COUNT, numbers([[1000, 1], [2000, 1], [3000, 1]]), whole)
    assert (verdict, text.partition(" in ")[0]) == ("warn", "Total() shows the reference answer")


def test_a_word_of_the_environments_own_vocabulary_is_no_leak(sandbox):
    parts = {
        "answer": "return 'large' if sum(self.numbers) > 50 else 'small'",
        "solve": 'call("Act")\ncall("Add", index=0)\nreturn call("Done", answer=self.get_ref_answer())',
    }
    observe = "return 'is it large or small?'"
    for configs in (numbers([[60]]), numbers([[60], [70], [80]]), numbers([[60], [7], [80], [1], [2]])):
        assert found(sandbox, observe, configs, **parts)[0][0] == "pass"


def test_what_is_left_of_the_default_config_is_told(sandbox):
    default = ('"numbers", [1, 2, 3]', '"numbers", [17, 23, 31, 47]')
    stale = ("return True, getattr", "self.old = [17, 23, 31, 47]\n            return True, getattr")
    told = found(sandbox, "return str(self.old)", numbers(), default, stale)
    assert told == [
        (
            "warn",
            "Observe shows [17, 23, 31, 47], the class's default for numbers, though the config sets another",
        )
    ]


def test_docstrings_that_show_a_tasks_hidden_data_are_told(sandbox):
    doc = ("Tell how many numbers there are.", "Tell how many numbers there are in [51, 72, 6, 4].")
    [(verdict, text)] = found(sandbox, COUNT, numbers(LISTS[:1]), doc)
    assert (verdict, text) == ("warn", "the tools' docstrings show numbers of the hidden config")
    assert found(sandbox, COUNT, numbers(), doc)[0][0] == "pass"  # an example that is one of many tasks


SCALARS = st.one_of(st.integers(-(10**6), 10**6), st.booleans(), st.none(), st.text("abcxyz é", min_size=1))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", min_size=1), inner)
)


@given(
    VALUES.filter(lambda value: isinstance(value, (list, dict)) and weight(value) > 0),
    st.text("ab 12,[]", max_size=9),
)
def test_a_value_is_shown_by_its_json_and_by_its_python_text(value, around):
    """The text around must not touch it: `[1]2` still shows 1, but 1 next to 2 is 12."""
    assert shows(f"{around} {json.dumps(value, ensure_ascii=False)} {around}", value) or not tokens_of(value)
    assert shows(f"{around} {value} {around}", value) or not tokens_of(value)


def tokens_of(value) -> bool:
    return any(character.isalnum() for character in json.dumps(value, ensure_ascii=False))


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("n=12", 12, True),
        ("n=112", 12, False),
        ("n=1.2", 12, False),
        ("-12", 12, False),
        ("12.0", 12, True),
        ("the word cat", "cat", True),
        ("concatenate", "cat", False),
        ("a(b)[c]", "(b)[", False),
        ("x (b)[ y", "(b)[", True),
        ("3, 9, 1", [3, 9, 1], True),
        ("9 3 1", [3, 9, 1], False),
        ("True None", [True, None], True),
        ("anything", [], False),
        ("anything", "", False),
        ("9" * 5000, [int("9" * 4000)], False),
    ],
)
def test_shows(text, value, expected):
    assert shows(text, value) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, 1),
        (-1200, 4),
        (True, 0),
        (None, 0),
        ("abcd", 4),
        ([1, [2, 3]], 3),
        ({"a": 1, "b": [2]}, 2),
        ([], 0),
    ],
)
def test_weight(value, expected):
    assert weight(value) == expected


@pytest.mark.parametrize(
    ("values", "texts", "light", "expected"),
    [
        ([1234], ["1234"], False, True),
        ([1234, 5678], ["1234", "none"], False, False),  # not in most of them
        ([1, 2, 3], ["1", "2", "3"], False, False),
        ([1, 2, 3], ["1", "2", "3"], True, True),
        ([1, 2], ["1", "2"], True, False),  # too few
        ([1, 2, 3], ["1 2 3", "1 2 3", "1 2 3"], True, False),  # each shows the others' too
        ([True, False, True], ["true", "false", "true"], True, False),  # one in eight by chance
        ([True, False] * 3, ["true", "false"] * 3, True, True),
        ([True] * 9, ["true"] * 9, True, False),
        ([[1], [2], [3]], ["1", "2", "3"], True, False),  # a list of one is a number by chance
        ([], [], True, False),
    ],
)
def test_evidence_is_more_than_chance(values, texts, light, expected):
    assert (evidence(values, texts, light=light) is not None) is expected
    assert WEIGHTY == 4
