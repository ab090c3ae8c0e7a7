"""The page of a study, from rows written by hand."""

import json
import pathlib
import shutil
import xml.etree.ElementTree as ElementTree

import pytest

from codegym_jax.config import RunConfig
from codegym_jax.config.study import Arm, PoolConfig, Question, StudyConfig, load_study
from codegym_jax.pipelines.study.blocks import Table, Text, to_html, to_markdown
from codegym_jax.pipelines.study.page import write_page

ROOT = pathlib.Path(__file__).parents[3]
HEAD = {
    "pool": {
        "environments": 1516,
        "qualified": 603,
        "trainable": 539,
        "heldout": 64,
        "learnable": 24,
        "guess": {"answer": "0", "test_config": 0.125, "test_env": 0.0625},
        "tasks": {"train": 2156, "test_config": 1078, "test_env": 384},
    },
    "budget": 1000,
}
STUDY = StudyConfig(
    title="Three <arms>",
    base=RunConfig(),
    pool=PoolConfig(),
    budget=1000,
    distill_steps=1,
    arms={
        "rl": Arm(method="rl", environments=32, about="all tasks"),
        "sft": Arm(method="sft", environments=32, about="the oracle's <episodes>"),
        "rl-8": Arm(method="rl", environments=8, about="eight"),
    },
    questions=(
        Question(title="RL or SFT", arms=("rl", "sft")),
        Question(title="How many", arms=("rl-8", "rl"), by_environments=True),
    ),
)


def row(arm: str, seed: int, environments: int, success: float) -> dict:
    rate = {"success": success, "ci95": [0.0, 1.0], "n": 100}
    return {
        "arm": arm,
        "seed": seed,
        "method": "rl",
        "environments": environments,
        "train_tasks": 128,
        "spent": {"sampled": 400, "learned": 200, "total": 1000},
        "success": {
            mode: dict.fromkeys(("trained", "first", "unseen"), rate) for mode in ("sampled", "greedy")
        },
        "suites": {},
    }


def written(folder, rows) -> tuple[str, str]:
    (folder / "results.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [HEAD, *rows]))
    paths = write_page(STUDY, folder)
    assert [path.name for path in paths] == ["study.md", "study.html", "question_1.svg", "question_2.svg"]
    for path in paths[2:]:
        assert ElementTree.fromstring(path.read_text()).tag == "{http://www.w3.org/2000/svg}svg"
    return paths[0].read_text(), paths[1].read_text()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Three seeds of all arms but `sft`, which has two."""
    rows = [row("warm-32", seed, 32, 0.1) for seed in range(3)]
    rows += [row("rl", seed, 32, rate) for seed, rate in enumerate((0.2, 0.3, 0.4))]
    rows += [row("sft", seed, 32, rate) for seed, rate in enumerate((0.1, 0.2))]
    rows += [row("rl-8", seed, 8, 0.05) for seed in range(3)]
    return written(tmp_path_factory.mktemp("page"), rows)


def test_every_point_tells_its_mean_its_interval_and_its_seeds(page):
    """0.3 +- 24.8 points of three seeds; 0.15 +- 63.5, cut at 0, of two; pairs are exactly 10 apart."""
    markdown, _ = page
    assert "| `rl` | all tasks | 30.0 [5.2, 54.8] (3 seeds) | [25.1, 35.4] n=300 |" in markdown
    assert "| 15.0 [0.0, 78.5] (2 seeds) |" in markdown
    assert "| +5.0 [−58.5, +68.5] | −10.0 [−10.0, −10.0] |" in markdown
    assert "| warm start, 32 | where the arms begin | 10.0 [10.0, 10.0] (3 seeds) |" in markdown


def test_what_it_does_not_show_follows_from_its_settings(page):
    markdown, _ = page
    limits = markdown.partition("## What this does not show")[2]
    assert "With 2 seeds an interval over seeds is wide" in limits
    assert "603 of 1,516" in limits and "only 24" in limits
    assert "the policy's style, `compact`" in limits
    assert "always answering `0` solves 6.2% of the tasks" in limits
    assert "distill" not in limits and "Not run yet" not in limits
    assert "so near the floor" not in limits


def test_where_all_are_near_the_floor_the_page_says_so(tmp_path):
    rows = [row("rl", seed, 32, rate) for seed, rate in enumerate((0.0, 0.03))]
    markdown, _ = written(tmp_path, [*rows, row("sft", 0, 32, 0.02), row("rl-8", 0, 8, 0.0)])
    assert "On unseen environments no policy here solves more than 2.0%: so near the floor" in markdown


def test_markup_in_texts_is_shown_as_it_is(page):
    _, html = page
    assert "Three &lt;arms&gt;" in html and "the oracle&#39;s &lt;episodes&gt;" in html
    assert "<arms>" not in html and html.count("<svg ") == 2
    assert "<code>rl-8</code>" in html
    blocks = [Text("a `b<` c"), Table(["x"], [["a|b"]])]
    assert "<code>b&lt;</code>" in to_html("t", blocks) and "a\\|b" in to_markdown(blocks)


def test_one_seed_and_arms_that_are_not_run_are_told(tmp_path):
    markdown, _ = written(tmp_path, [row("rl", 0, 32, 0.25), row("rl-8", 0, 8, 0.2)])
    assert "25.0 (1 seed)" in markdown
    assert "One seed says nothing" in markdown
    assert "Not run yet: `sft`." in markdown


def test_the_page_among_the_documents_is_what_its_results_make(tmp_path):
    there = ROOT / "docs" / "study"
    shutil.copy(there / "results.jsonl", tmp_path)
    made = write_page(load_study(ROOT / "configs" / "study" / "miniature.py"), tmp_path)
    kept = [path for path in made if path.suffix != ".html"]
    assert len(kept) == 4
    assert {path.name: (there / path.name).read_text() for path in kept} == {
        path.name: path.read_text() for path in kept
    }
