"""The card of a task set: hand-worked counts, valid front matter, nothing hostile gets out of its place."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

from codegym_jax.data.splits import TEST_ENV, TRAIN
from codegym_jax.data.task_set import TaskSet, write_task_set
from codegym_jax.records import EnvSpec, Task, ToolSpec
from codegym_jax.report.card import card, write_card
from codegym_jax.report.task_set_facts import diversity, facts_of, workflows

FUNNEL = [
    {"stage": "outline", "things": "environments", "entered": 5, "left": {"out_of_fuel": 2}, "passed": 3}
]


def make_spec(name: str, tools: int, **fields) -> EnvSpec:
    names = ["Observe", *(f"Tool{number}" for number in range(tools - 2)), "Done"]
    return EnvSpec(
        code_id=name,
        class_name="XEnv",
        source="",
        tools=tuple(ToolSpec(name=name, doc="Does it.\n\nReturns:\n    str: it") for name in names),
        **({"license": "MIT", "origin": "humaneval", "statement": "What is it?"} | fields),
    )


def make_task(spec: EnvSpec, number: int, names: list[str], answer: object = 1) -> Task:
    actions = [json.dumps({"name": name, "parameters": {}}) for name in (*names, "Done")]
    return Task(
        env_id=spec.env_id,
        config_json=f'{{"n":{number}}}',
        oracle_actions=tuple(actions),
        oracle_observations=tuple("seen" for _ in actions),
        answer_json=json.dumps(answer),
    )


A, B, C = (
    make_spec("a", 4),
    make_spec("b", 4),
    make_spec("c", 20, license="CC-BY-NC-4.0", origin="mine.jsonl"),
)
TASKS = [
    make_task(A, 1, ["Observe", "Tool0"]),  # 3 calls
    make_task(A, 2, ["Tool0"] * 9, "text"),  # 10
    make_task(B, 1, ["Observe", "Tool1"], [1]),  # as A's first, under another name
    make_task(B, 2, ["Tool1"] * 9, True),
    make_task(C, 1, ["Tool0", "Tool1"] * 20, None),  # 41
    make_task(C, 2, ["Tool0"] * 299, 1.5),  # 300
]


def write(folder: Path, specs=(A, B, C), tasks=TASKS, features=None, **manifest) -> TaskSet:
    split_of = {task.task_id: TEST_ENV if task.env_id == B.env_id else TRAIN for task in tasks}
    write_task_set(folder, specs, tasks, features or {}, split_of, {"funnel": FUNNEL} | manifest, card=card)
    return TaskSet.open(folder)


@pytest.fixture(scope="module")
def task_set(tmp_path_factory) -> TaskSet:
    return write(tmp_path_factory.mktemp("card") / "set")


def test_what_is_counted(task_set):
    facts = facts_of(task_set)
    assert (facts.environments, facts.tasks) == (3, 6)
    assert [(one.name, one.environments, one.tasks) for one in facts.bands] == [
        ("easy", 2, 2),
        ("medium", 2, 2),
        ("hard", 1, 1),
    ]
    assert {one.label: one.count for one in facts.calls if one.count} == {
        "3–4": 2,
        "10–14": 2,
        "41–64": 1,
        "257+": 1,
    }
    assert (facts.tools[0].label, facts.tools[0].count) == ("4", 2)
    assert (facts.tools[-1].label, facts.tools[-1].count) == ("16+", 1)
    assert facts.mean_tools == pytest.approx(28 / 3)
    assert facts.median_calls == 10.0
    assert facts.mean_long_calls == pytest.approx((10 + 10 + 41) / 3)
    assert {one.name: one.tasks for one in facts.answers} == {
        "integer": 1, "string": 1, "list": 1, "boolean": 1, "null": 1, "number": 1,
    }  # fmt: skip
    assert [(one.name, one.tasks) for one in facts.licenses] == [("MIT", 4), ("CC-BY-NC-4.0", 2)]
    assert [(one.name, one.environments) for one in facts.splits] == [(TRAIN, 2), (TEST_ENV, 1)]


def test_no_bin_crosses_a_band(task_set):
    by_band = {band: 0 for band in ("easy", "medium", "hard", "")}
    for one in facts_of(task_set).calls:
        by_band[one.band] += one.count
    assert by_band == {"easy": 2, "medium": 2, "hard": 1, "": 1}


def test_what_nobody_noted_is_unknown_and_what_somebody_did_is_counted(task_set, tmp_path):
    facts = facts_of(task_set)
    assert (facts.good, facts.hidden, facts.families, facts.tool_kinds) == (None, None, None, ())
    noted = {
        A.env_id: {
            "quality": {"good": True},
            "hidden_inputs": ["x"],
            "family": "f",
            "tool_kinds": {"Tool0": "operation", "Observe": "frame"},
        },
        B.env_id: {"quality": {"good": False}, "hidden_inputs": [], "family": "f"},
    }
    facts = facts_of(write(tmp_path / "set", features=noted))
    assert (facts.good, facts.hidden, facts.families) == (1, 1, 2)
    assert dict(facts.tool_kinds) == {"operation": 1, "frame": 1}


def test_environments_that_differ_in_names_only_have_the_same_workflow():
    found = workflows(TASKS)
    assert found[A.env_id] == found[B.env_id] == {
        "^ Observe/0 0/0", "Observe/0 0/0 Done/0", "^ 0/0 0/0", "0/0 0/0 0/0", "0/0 0/0 Done/0",
    }  # fmt: skip
    measured = diversity(found)
    assert measured.distinct == 2
    assert measured.duplicates == 2
    assert measured.median == 1.0
    shared = len(found[A.env_id] & found[C.env_id]) / len(found[A.env_id] | found[C.env_id])
    assert diversity({"a": found[A.env_id], "c": found[C.env_id]}).median == pytest.approx(shared, abs=1e-4)


def test_families_that_cross_the_held_out_split_are_told(task_set, tmp_path):
    assert facts_of(task_set).crossing == 0
    note = "Environments of test_env are in no other split."
    assert note in card(task_set)["README.md"]
    apart = write(tmp_path / "apart", features={A.env_id: {"family": "f"}, C.env_id: {"family": "f"}})
    assert note[:-1] + ", nor are near duplicates of them." in card(apart)["README.md"]
    crossing = write(tmp_path / "crossing", features={A.env_id: {"family": "f"}, B.env_id: {"family": "f"}})
    assert "1 families of near duplicates have tasks both in test_env and" in card(crossing)["README.md"]


def test_an_oracle_may_try_what_is_no_call(tmp_path):
    odd = dataclasses.replace(
        TASKS[0], oracle_actions=("not JSON", '{"name": 3}', "[]"), oracle_observations=("Error: x",) * 3
    )
    assert workflows([odd])[A.env_id] == {"^ 0/0 1/0", "0/0 1/0 2/0"}
    assert "not JSON" in card(write(tmp_path / "set", specs=[A], tasks=[odd]))["card.html"]


def test_what_synthesis_measured_of_diversity_is_told(tmp_path):
    measured = {"steps": {"3": {"distinct": 1234}}, "similarity": {"nearest": {"0.5": 0.25, "0.7": 0.1}}}
    files = card(write(tmp_path / "set", diversity=measured))
    for name in ("README.md", "card.html"):
        assert "1,234 distinct steps; 25% of the environments have another one more than 50%" in files[name]


def test_a_lone_environment_is_like_no_other():
    assert diversity(workflows(TASKS[:1])).median == 0.0
    assert diversity({}).distinct == 0


def test_the_front_matter_is_a_hub_s(task_set):
    text = (task_set.folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == ["mit", "cc-by-nc-4.0"]
    assert front["size_categories"] == ["n<1K"]
    assert front["dataset_info"]["splits"] == [
        {"name": "train", "num_examples": 4},
        {"name": "test_env", "num_examples": 2},
    ]
    assert "reinforcement-learning" in front["tags"]
    assert front["pretty_name"] == "Tool-use tasks from humaneval and mine.jsonl"


def test_a_license_without_a_name_on_hubs_is_other(tmp_path):
    odd = dataclasses.replace(A, license="My own: \n - x")
    text = card(write(tmp_path / "set", specs=[odd], tasks=TASKS[:2]))["README.md"]
    assert yaml.safe_load(text.split("---\n")[1])["license"] == ["other"]


def test_the_readme_s_tables_have_their_counts(task_set):
    lines = (task_set.folder / "README.md").read_text().splitlines()
    for expected in (
        "| `train` | 2 | 4 | configs to train on |",
        "| MIT | 2 | 4 |",
        "| mine.jsonl | 1 | 2 |",
        "| hard | 41–256 | 1 | 1 |",
        "| outline (environments) | 5 | 2 | 3 | out of fuel 2 |",
        "| outline | out of fuel | 2 |",
    ):
        assert expected in lines
    width = {len(re.split(r"(?<!\\)\|", line)) for line in lines if line.startswith("| outline (")}
    assert width == {7}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.seen.add(tag)
        if tag not in ("meta", "rect", "path", "line", "circle"):
            self.open.append(tag)
        assert not any(name.startswith("on") or name in ("src", "href") for name, _ in attrs)

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_needs_no_network_and_runs_no_script(task_set):
    tags = _Tags()
    tags.feed((task_set.folder / "card.html").read_text())
    assert tags.open == []
    assert "svg" in tags.seen
    assert not tags.seen & {"script", "link", "img", "iframe"}


def test_what_environments_say_never_becomes_markup(tmp_path):
    evil = "</pre><script>x()</script>|`"
    spec = dataclasses.replace(A, statement=evil, license=evil, origin=evil)
    task = dataclasses.replace(TASKS[0], oracle_observations=(evil, "\ud800" + evil, "done"))
    files = card(write(tmp_path / "set", specs=[spec], tasks=[task]))
    assert "<script" not in files["card.html"]
    assert "<script" not in files["README.md"].replace("\\<script", "")
    row = next(line for line in files["README.md"].splitlines() if line.startswith("| \\</pre"))
    assert len(re.split(r"(?<!\\)\|", row)) == 5


def test_the_same_task_set_gives_the_same_card_wherever_it_lies(task_set, tmp_path):
    again = write(tmp_path / "elsewhere")
    for name, text in card(task_set).items():
        assert (again.folder / name).read_text(encoding="utf-8", errors="strict") == text


def test_a_card_is_written_again_beside_or_elsewhere(task_set, tmp_path):
    paths = write_card(task_set.folder, tmp_path / "docs")
    assert [path.name for path in paths] == ["README.md", "card.html", "funnel.svg"]
    for path in paths:
        assert path.read_bytes() == (task_set.folder / path.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "docs").iterdir()) == sorted(p.name for p in paths)
    ElementTree.fromstring(paths[2].read_text())
    write_card(task_set.folder)
    TaskSet.open(task_set.folder)


def test_a_set_without_tasks_or_funnel_has_a_card(tmp_path):
    files = card(write(tmp_path / "set", tasks=[], funnel=[]))
    assert list(files) == ["README.md", "card.html"]
    assert "Funnel" not in files["README.md"]
