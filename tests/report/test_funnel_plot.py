"""A funnel is drawn and printed with every count in it, and nothing in it becomes markup."""

import io
import re
import xml.etree.ElementTree as ElementTree

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from codegym_jax.report.funnel import flows, funnel_svg, funnel_table, reasons


def stage(name: str, entered: int, left: dict[str, int], things: str = "environments", **more) -> dict:
    passed = entered - sum(left.values())
    return {"stage": name, "things": things, "entered": entered, "left": left, "passed": passed, **more}


FUNNEL = [
    stage("problems", 100, {"no_test": 4}, "problems"),
    stage("outline", 96, {"out_of_fuel": 20, "nothing_to_hide": 30}),
    stage("verify", 46, {}),
    stage("verify", 500, {"oracle_fails": 12}, "tasks"),
    stage("task_set", 488, {}, "tasks"),
]

STAGES = st.lists(
    st.builds(
        stage,
        st.text(max_size=12),
        st.integers(100, 10**6) | st.just(100),
        st.dictionaries(st.text(max_size=60), st.integers(0, 10), max_size=10),
        st.sampled_from(["problems", "environments", "tasks", "completions"]),
    ),
    max_size=6,
)


def printed(funnel: list[dict]) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(funnel_table(funnel))
    return console.file.getvalue()


def texts(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(one.itertext()) for one in root.iter("{http://www.w3.org/2000/svg}text")]


def test_stages_that_hand_on_are_one_flow():
    assert [[one["stage"] for one in chain] for chain in flows(FUNNEL)] == [
        ["problems", "outline", "verify"],
        ["verify", "task_set"],
    ]


def test_what_enters_beside_continues_the_flow():
    funnel = [stage("a", 10, {"x": 3}), stage("b", 9, {}, added=2)]
    assert len(flows(funnel)) == 1
    assert any("(+2)" in text for text in texts(funnel_svg(funnel)))
    assert len(flows([stage("a", 10, {"x": 3}), stage("b", 9, {})])) == 2


def test_flows_that_interleave_are_told_apart():
    funnel = [
        stage("environments", 8, {"a": 2}),
        stage("batches", 6, {"b": 1}, "completions"),
        stage("tested", 6, {"c": 1}),
        stage("more batches", 5, {}, "completions"),
    ]
    chains = [[one["stage"] for one in chain] for chain in flows(funnel)]
    assert chains == [["environments", "tested"], ["batches"], ["more batches"]]


def test_reasons_are_told_in_words_the_commonest_first():
    assert reasons(FUNNEL[1]) == [("nothing to hide", 30), ("out of fuel", 20)]


def test_the_table_has_every_count():
    lines = printed(FUNNEL).splitlines()
    assert re.split(r"\s{2,}", lines[2].strip()) == ["problems", "100", "4", "96", "4 no test"]
    assert re.split(r"\s{2,}", lines[3].strip()) == ["outline", "96", "50", "46", "30 nothing to hide"]
    assert lines[4].strip() == "20 out of fuel"
    assert re.split(r"\s{2,}", lines[5].strip()) == ["verify", "46", "46"]


def test_the_picture_has_every_count():
    shown = texts(funnel_svg(FUNNEL))
    for expected in ("100", "96 environments", "46", "50 left", "30 nothing to hide", "500 tasks", "488"):
        assert any(text.startswith(expected) for text in shown), expected
    assert shown.count("all pass") == 2
    assert shown.count("passed") == 2


def test_heights_are_to_scale():
    bars = re.findall(r'class="f-(?:bar|end)"[^>]* height="([\d.]+)"', funnel_svg(FUNNEL[:3]))
    tall = [float(height) for height in bars]
    assert tall[0] == 96
    assert tall == [round(96 * count / 100, 1) for count in (100, 96, 46, 46)]


def test_many_reasons_are_cut_and_all_told_under_the_pointer():
    funnel = [stage("outline", 100, {f"reason_{number}": 10 - number for number in range(10)})]
    svg = funnel_svg(funnel)
    assert "15 for 5 other reasons" in texts(svg)
    assert "1 reason 9" in svg


def test_names_never_become_markup():
    evil = '</text><script>alert("1")</script>&'
    svg = funnel_svg([stage(evil, 3, {evil: 1}, evil)])
    assert "<script" not in svg
    assert any("</text>" in text for text in texts(svg))
    assert "[red]x" in printed([stage("[red]x", 3, {})])


@given(STAGES)
def test_any_funnel_can_be_drawn(funnel):
    for one in funnel:  # XML has no form for control characters, and no reason is named with any
        one["stage"] = "".join(filter(str.isprintable, one["stage"]))
        one["left"] = {"".join(filter(str.isprintable, why)): count for why, count in one["left"].items()}
    funnel = [*funnel, stage("empty", 0, {})]
    ElementTree.fromstring(funnel_svg(funnel))
    assert sum(map(len, flows(funnel))) == len(funnel)
    printed(funnel)
