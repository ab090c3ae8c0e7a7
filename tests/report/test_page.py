"""The page is whole, stands alone, shows hostile text as text, and says what the numbers say."""

import json
import re
from html.parser import HTMLParser

import pytest
from example_run import build, episode

from codegym_jax.metrics import MetricsWriter
from codegym_jax.report.page import write_report

SECTIONS = ["success", "learning", "time", "environments", "synthesis", "transcripts", "setup"]
TAGS = """html head meta title style body header main nav section article figure figcaption
    svg line path rect circle text h1 h2 h3 h4 p a b i small span div ul ol li dl dt dd
    table thead tbody tr th td code pre details summary"""


class Page(HTMLParser):
    """Parses a page; fails on tags that do not close, and collects what a browser would act on."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids, self.text = [], set(), [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    return build(tmp_path_factory.mktemp("runs") / "smoke")


def read(folder):
    return write_report(folder).read_text(encoding="utf-8")


def assert_stands_alone(text):
    """Nothing is loaded, nothing is run, only expected tags are used."""
    page = Page(text)
    assert page.tags - set(TAGS.split()) == set()
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in ("src", "srcset", "action", "data", "xlink:href", "formaction"), (tag, name)
        assert name != "href" or value.startswith("#"), (tag, value)
        assert name != "style" or not re.search(r"url|expression|@import", value), (tag, value)
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert not re.search(r"url\(|@import|https?:", style)
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in page.attributes
    return page


def test_a_complete_run_fills_every_section(complete):
    page = assert_stands_alone(read(complete))
    assert page.ids == SECTIONS
    assert "In progress" not in page.text
    for words in (
        "212 verified environments",
        "960 episodes reverified, all identical",
        "Sampled at temperature 1",
        "control, more SFT",
        "SFT loss",
        "How episodes end",
        "HumanEval_52__BelowThresholdEnv",
        "unsupported syntax",
        "The same task, before and after",
        "There are 6 numbers.",
        "max_turn_tokens",
        "9f" * 32,
    ):
        assert words in page.text, words


def test_the_same_run_gives_the_same_bytes_and_names_no_place(complete):
    first = read(complete)
    assert read(complete) == first
    assert str(complete.parent) not in first
    assert not [*complete.glob("*.tmp"), *complete.glob(".*.partial")]


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ((), "No step has been measured yet."),
        (("sft",), "stage sft at step 300 of 300."),
        (("sft", "train"), "60 of 60."),
    ],
)
def test_a_run_in_progress_has_a_page(tmp_path, stages, said):
    page = assert_stands_alone(read(build(tmp_path / "run", stages=stages)))
    assert page.ids == SECTIONS
    assert "In progress." in page.text and said in page.text
    assert "212 environments with 6,480 tasks passed verification" in page.text
    assert ("Not evaluated yet." in page.text) == ("train" not in stages)
    assert "after RL" not in page.text


def test_an_empty_folder_has_a_page(tmp_path):
    (tmp_path / "new").mkdir()
    assert "Nothing measured yet." in assert_stands_alone(read(tmp_path / "new")).text


def test_hostile_text_stays_text(tmp_path):
    hostile = (
        "</pre></style></title><script>alert(1)</script><img src=https://example.org onerror=alert(2)>{{7*7}}"
    )
    folder = build(tmp_path / "<b onclick=x>run", stages=("sft", "train", "result"))
    row = episode(
        f"codegym_v1@{hostile}__XEnv@{hostile}", [(hostile, {hostile: hostile}, hostile)], reward=0.0
    )
    row |= {"stop_reason": hostile, "prompt": hostile}
    row["turns"] *= 2
    row["turns"][1] = {"message": hostile, "action": hostile, "observation": f"{hostile}\n", "error": hostile}
    (folder / "episodes" / "eval_after" / "test_env_sampled.jsonl").write_text(json.dumps(row) + "\n")
    (folder / "config.json").write_text(json.dumps({hostile: hostile}))
    result = json.loads((folder / "result.json").read_text())
    result["rejections"] = {hostile: 3}
    result["wall_s"][hostile] = 1.0
    (folder / "result.json").write_text(json.dumps(result))
    evaluation = json.loads((folder / "evaluations" / "after.json").read_text())
    evaluation["sampled"]["test_env"]["by_env"][hostile] = [1, 2]
    (folder / "evaluations" / "after.json").write_text(json.dumps(evaluation))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"stage": "train", "step": 61, f"stop/{hostile}": 0.5}) + "\n")
    page = assert_stands_alone(read(folder))
    assert page.ids == SECTIONS
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert page.text.count("onerror=alert(2)>{{7*7}}") >= 8


def entry(successes, n, low, high):
    return {"success": successes / n, "ci95": [low, high], "n": n}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (
            entry(100, 400, 0.21, 0.29),
            entry(200, 400, 0.45, 0.55),
            "rose from 25.0% to 50.0%: +25.0 points; the 95% intervals do not overlap.",
        ),
        (
            entry(200, 400, 0.45, 0.55),
            entry(180, 400, 0.40, 0.50),
            "fell from 50.0% to 45.0%: −5.0 points; the 95% intervals overlap.",
        ),
        (
            entry(200, 400, 0.45, 0.55),
            entry(200, 400, 0.45, 0.55),
            "stayed at 50.0%.",
        ),
    ],
)
def test_the_headline_says_what_the_figures_say(tmp_path, before, after, said):
    (tmp_path / "result.json").write_text(
        json.dumps({"heldout_config_before": before, "heldout_config_after": after, "reverified": 3})
    )
    text = assert_stands_alone(read(tmp_path)).text
    assert said in text
    assert "Unseen environments" not in text
    assert "3 episodes reverified, NOT identical" in text


def test_dots_and_whiskers_stand_where_the_figures_say(tmp_path):
    rate = entry(100, 400, 0.21, 0.29)
    (tmp_path / "result.json").write_text(json.dumps({"heldout_config_before": rate}))
    text = read(tmp_path)
    assert 'class="whisker" style="left:21.0%;width:8.0%"' in text
    assert 'class="dot" style="left:25.0%"' in text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("result.json", "{", r"result\.json: not JSON"),
        ("config.json", "[1]", r"config\.json: must be a JSON object, got list"),
        ("metrics.jsonl", "x\n{}\n", r"metrics\.jsonl:1"),
        ("episodes/train/step_000001.jsonl", '{"task_id": "a"}\n', r"step_000001\.jsonl:1: not an episode"),
    ],
)
def test_a_damaged_file_is_named_and_the_old_page_stays(tmp_path, name, content, message):
    before = read(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"run folder not found: .*absent"):
        write_report(tmp_path / "absent")


def luminance(color):
    """Relative luminance of `#rrggbb` (WCAG 2.1)."""
    channels = [int(color[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    red, green, blue = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first, second):
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_contrast_by_hand():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)


def test_text_is_readable_in_light_and_dark(complete):
    """WCAG 2.1 AA: 4.5 for text, 3 for marks."""
    themes = re.findall(r":root \{(.*?)\n\s*\}", read(complete), re.DOTALL)
    assert len(themes) == 2
    for theme in themes:
        color = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", theme))
        for text in ("ink", "quiet", "good", "bad", "after", "c1"):
            assert contrast(color[text], color["paper"]) >= 4.5, text
            assert contrast(color[text], color["card"]) >= 4.5, text
        assert contrast(color["good"], color["good-wash"]) >= 4.5
        assert contrast(color["bad"], color["bad-wash"]) >= 4.5
        for mark in ("before", "control", *(f"c{index}" for index in range(1, 9))):
            assert contrast(color[mark], color["paper"]) >= 3, mark


def test_alarms_stand_above_the_curves(tmp_path, complete):
    assert "alarms" not in classes(read(complete))
    folder = build(tmp_path / "run", stages=("sft", "train"))
    with MetricsWriter(folder / "metrics.jsonl") as metrics:
        metrics.write("train", 61, {"mismatch_kl": 1.0})  # the mean of the last 5 steps is a fifth of it
    text = read(folder)
    page = assert_stands_alone(text)
    assert "alarms" in classes(text)
    assert "Sampler mismatch train, step 61" in page.text
    assert "The KL from sampler to learner is 0.2 nats a token. The learner scores" in page.text


def test_charts_show_what_was_measured_and_was_not_always_zero(complete):
    text = read(complete)
    for title in ("Pass@k", "Groups with a signal", "Sampled tokens per second"):
        assert f"<b>{title}</b>" in text, title
    for title in ("Staleness", "KL, learner to start", "Value loss"):
        assert f"<b>{title}</b>" not in text, title


def classes(text):
    return {name for tag, key, value in Page(text).attributes if key == "class" for name in value.split()}
