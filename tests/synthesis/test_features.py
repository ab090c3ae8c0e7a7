"""Features of hand-written episodes, and the laws of choosing by them."""

import random
from typing import Any

import pytest

from codegym_jax.synthesis import learnable
from codegym_jax.synthesis.outline import features
from codegym_jax.synthesis.outline.features import is_learnable, is_tiny, measure, measure_all, of_source

EPISODE = [
    ("Observe", {}, {"hidden": ["items"]}),
    ("GetItemsLength", {}, 2),
    ("GetItemsItem", {"index": 0}, 5),
    ("UpdateTotal", {"total": 0, "item": 5}, 5),
    ("GetItemsItem", {"index": 1}, 40),
    ("UpdateTotal", {"total": 5, "item": 40}, 45),
    ("Done", {"answer": 45}, None),
]


def test_copied_counted_and_constant_parameters_are_not_computed():
    """Indices 0 and 1 are a constant and its successor; the other four parameters were read before."""
    measured = measure_all([EPISODE])
    assert measured["computed_share"] == 0.0
    assert measured["answer_kind"] == "boolean"  # one task alone has one answer
    assert measured["oracle_calls"] == [7]
    assert measured["longest_scalar"] == 2
    assert (measured["tools"], measured["answers"], measured["longest_list"]) == (5, 1, 0)


def test_a_value_never_seen_is_computed():
    """17 of six scalars: a share of 1/6."""
    steps = list(EPISODE)
    steps[5] = ("UpdateTotal", {"total": 17, "item": 40}, 57)
    steps[6] = ("Done", {"answer": 57}, None)
    assert measure_all([steps])["computed_share"] == round(1 / 6, 4)


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([45, 45, 45], "boolean"),
        ([45, 5, 40], "copied"),
        ([45, 5, 46], "computed"),
        ([45, [5, 45], 2], "copied"),
    ],
)
def test_the_kind_of_the_answers(answers: list[Any], kind: str):
    episodes = [[*EPISODE[:-1], ("Done", {"answer": answer}, None)] for answer in answers]
    assert measure_all(episodes)["answer_kind"] == kind


def test_names_of_hidden_inputs_are_not_long_scalars():
    first = ("Observe", {}, {"hidden": ["a_very_long_name"]})
    assert is_tiny([first, *EPISODE[1:]])
    assert not is_tiny([("Observe", {}, {"limit": 12_345, "hidden": []}), *EPISODE[1:]])


def test_long_episodes_scalars_and_lists_are_not_tiny():
    assert is_tiny(EPISODE)
    assert not is_tiny([*EPISODE[:-1]] * 4 + [EPISODE[-1]])
    assert not is_tiny([*EPISODE[:-1], ("Done", {"answer": 123.5625}, None)])
    assert not is_tiny([*EPISODE[:-1], ("Done", {"answer": list(range(9))}, None)])
    assert is_tiny([*EPISODE[:-1], ("Done", {"answer": False}, None)])


def test_native_operations_of_a_solver():
    """One comparison, one slice; ranges, lengths, one less and tool calls are free, an append is memory."""
    source = """
class E:
    def solve(self):
        def call(name, **parameters):
            return json.loads(self.step(name)[1]) + 0
        def main(n):
            found = []
            for index in range(n):
                item = call('GetItem', index=index)
                if item > 3:
                    found.append(item)
            return found[1:][len(found) - 1]
        answer = main(call('GetLength'))
        return self.step(json.dumps({"name": "Done"}))[1]
"""
    assert of_source(source) == {"native_operations": 2, "native_changes": 1}


def candidate(**changes: Any) -> dict[str, Any]:
    tiny = {
        "tasks": 20, "oracle_calls": [5] * 4 + [9] * 16, "computed_share": 0.0, "answer_kind": "copied",
        "tools": 5,
        "answers": 8, "top_answer_share": 0.3, "sequences": 6, "longest_scalar": 2, "longest_list": 0,
        "workflow": ["a b c", "b c d"],
    }  # fmt: skip
    native = changes.pop("native_operations", 0)
    return {"native_operations": native, "tiny": tiny | changes}


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": 3}, {"native_operations": 5}, {"computed_share": 0.03}, {"answer_kind": "computed"},
        {"tools": 9}, {"answers": 1}, {"oracle_calls": [9] * 20}, {"top_answer_share": 0.9}, {"sequences": 2},
    ],
    ids=str,
)  # fmt: skip
def test_each_criterion_alone_disqualifies(change: dict[str, Any]):
    assert is_learnable(candidate())
    assert not is_learnable(candidate(**change))


def some_candidates() -> dict[str, dict[str, Any]]:
    return {
        f"env_{number}": candidate(
            native_operations=number % 5,
            answer_kind="boolean" if number % 2 else "copied",
            workflow=[f"{number} x y", f"{number} y z", "^ a b"],
        )
        for number in range(30)
    }


def test_the_choice_does_not_depend_on_the_order():
    found = some_candidates()
    shuffled = list(found.items())
    random.Random(0).shuffle(shuffled)
    assert learnable.rank(found, 10) == learnable.rank(dict(shuffled), 10)


def test_the_easiest_come_first_and_fewer_are_a_beginning_of_more_of_one_kind():
    found = {name: one for name, one in some_candidates().items() if one["tiny"]["answer_kind"] == "copied"}
    chosen = learnable.rank(found, 12)
    difficulties = [learnable.difficulty(found[name]) for name in chosen]
    assert difficulties == sorted(difficulties)
    assert learnable.rank(found, 5) == chosen[:5]
    assert learnable.rank(found, 1) == chosen[:1] and learnable.rank(found, 0) == []


def test_booleans_are_few():
    found = some_candidates()
    chosen = learnable.rank(found, 12)
    booleans = sum(found[name]["tiny"]["answer_kind"] == "boolean" for name in chosen)
    assert booleans <= 12 * learnable.MAX_BOOLEAN_SHARE


def test_of_near_duplicates_one_is_chosen():
    found = {"env_a": candidate(), "env_b": candidate(), "env_c": candidate(workflow=["x y z", "y z w"])}
    assert learnable.rank(found, 3) == ["env_a", "env_c"]
    assert learnable.similarity(found["env_a"], found["env_b"]) == 1.0
    assert learnable.similarity(found["env_a"], found["env_c"]) == 0.0


def test_the_unlearnable_are_never_chosen():
    found = {"env_a": candidate(computed_share=0.5), "env_b": candidate()}
    assert learnable.rank(found, 2) == ["env_b"]


def test_tiny_features_are_those_of_the_tiny_tasks():
    long = [*EPISODE[:-1]] * 4 + [EPISODE[-1]]
    measured = measure([EPISODE, long])
    assert measured["tasks"] == 2
    assert measured["tiny"] == measure_all([EPISODE])
    assert features.median_calls(measured["tiny"]) == 7
