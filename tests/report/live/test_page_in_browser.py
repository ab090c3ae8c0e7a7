"""The page of `codegym view` in a real browser: what a user does, and what hostile text must not do."""

import json
import re

import pytest
from live_run import add_rows, episode, save, save_evaluation, spread, start, turn
from playwright.sync_api import expect

from codegym_jax.records import CallError, StopReason
from codegym_jax.rollout.episode_log import to_row

PAGE = 50
HOSTILE = (
    "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    "\x1b[31mred\x1b[0m \u202eright to left\u202c zero\u200bwidth </pre></main> {{7*7}}"
)


@pytest.fixture
def run(tmp_path):
    """5 steps of 32 episodes, and an evaluation of 16."""
    folder = start(tmp_path / "run", steps=5)
    episodes = spread(176)
    for step in range(5):
        save(folder, step + 1, episodes[32 * step : 32 * (step + 1)])
    save_evaluation(folder, "eval_before/test_env_greedy", episodes[160:])
    return folder


def count(page, number):
    """Waits until the table says that so many episodes pass."""
    expect(page.locator("#summary b")).to_have_text(f"{number:,} episode{'' if number == 1 else 's'}")


def shows(page, part):
    """Waits until a page whose address has this part is on, and listens to keys."""
    encoded = re.escape(part.replace("/", "%2F").replace(":", "%3A"))
    expect(page.locator("#main")).to_have_attribute("data-shows", re.compile(encoded))


def passing(check):
    return sum(map(bool, map(check, spread(176))))


def test_filters_by_each_field(page, serve, run):
    page.goto(f"{serve(run)}/episodes")
    count(page, 176)
    choices = {
        "stage": ("train", 160),
        "split": ("test_env", 16),
        "mode": ("greedy", 16),
        "stop": ("trap", passing(lambda one: one.stop_reason is StopReason.TRAP)),
        "env": ("Own_2__CountNumsEnv", passing(lambda one: one.env_id == "Own_2__CountNumsEnv")),
        "error": (
            "not_json",
            passing(lambda one: any(turn.error is CallError.NOT_JSON for turn in one.turns)),
        ),
    }
    for name, (value, number) in choices.items():
        page.select_option(f"#{name}", value)
        count(page, number)
        assert f"{name}={value}" in page.url
        page.select_option(f"#{name}", "")
        count(page, 176)
    for name, value, number in (
        ("from_step", "4", 64),
        ("to_step", "2", 64 + 16),
        ("from_reward", "0.5", passing(lambda one: one.reward >= 0.5)),
        ("to_reward", "0.4", passing(lambda one: one.reward <= 0.4)),
    ):
        page.fill(f"#{name}", value)
        count(page, number)
        page.fill(f"#{name}", "")
        count(page, 176)


def test_search_and_an_address_that_holds_everything(page, serve, run, browser):
    page.goto(f"{serve(run)}/episodes")
    count(page, 176)
    page.keyboard.press("/")
    page.keyboard.type("PEEK(AT=3)")
    expected = passing(lambda one: any("Peek(at=3)" in turn.message for turn in one.turns))
    count(page, expected)
    page.select_option("#stage", "train")
    page.get_by_role("link", name="Reward").click()
    expect(page.locator("thead a.falling")).to_have_text("Reward")
    before = page.locator("tbody").inner_text()
    page.reload()
    expect(page.locator("thead a.falling")).to_have_text("Reward")
    expect(page.locator("#text")).to_have_value("PEEK(AT=3)")
    assert page.locator("tbody").inner_text() == before
    other = browser.new_context().new_page()
    other.goto(page.url)  # somebody else, by the link alone
    expect(other.locator("thead a.falling")).to_have_text("Reward")
    assert other.locator("tbody").inner_text() == before
    other.context.close()
    page.get_by_role("link", name="Clear").click()
    count(page, 176)
    page.go_back()
    expect(page.locator("#text")).to_have_value("PEEK(AT=3)")


def test_keys_go_through_the_list_and_the_episodes(page, serve, run):
    page.goto(f"{serve(run)}/episodes?error=any&sort=place")
    count(page, 70)
    ids = [row.get_attribute("data-id") for row in page.locator("tbody tr").all()]
    for key in "jjk":
        page.keyboard.press(key)
    expect(page.locator("tr.here")).to_have_attribute("data-id", ids[0])
    page.keyboard.press("j")
    for key, at in (("Enter", 1), ("j", 2), ("k", 1)):
        page.keyboard.press(key)
        shows(page, f"id={ids[at]}")
    page.keyboard.press("t")
    shows(page, "view=tokens")
    page.keyboard.press("u")
    expect(page.locator("tbody tr")).to_have_count(len(ids))
    assert "error=any" in page.url


def test_attempts_side_by_side(page, serve, tmp_path):
    folder = start(tmp_path / "run")
    group = [
        [turn("Observe", "start"), turn("Peek", "7", at=1), turn("Done", "", answer=7)],
        [turn("Observe", "start"), turn("Peek", "7", at=1), turn("Done", "", answer=8)],
        [turn("Observe", "start"), turn("Peek", "Error: at", CallError.BAD_PARAMETERS, at="one")],
    ]
    save(folder, 1, [episode(turns, attempt=at, reward=float(at == 0)) for at, turns in enumerate(group)])
    page.goto(f"{serve(folder)}/compare?id=train/step_000001:0")
    expect(page.locator("thead th[data-id]")).to_have_count(3)
    expect(page.get_by_text("The same up to turn 1")).to_be_visible()
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(3)
    marked = [[cell.get_attribute("class") or "" for cell in row.locator("td").all()] for row in rows.all()]
    assert marked[0] == ["", "", ""]
    assert marked[1] == ["", "", "differs"]
    assert marked[2][:2] == ["", "differs"] and "ended" in marked[2][2]
    assert rows.nth(2).locator("mark").all_inner_texts() == ["8"]
    page.get_by_role("link", name="hold against this").last.click()
    expect(page.locator("thead th[data-id]").first).to_have_attribute("data-id", "train/step_000001:2")


def test_picked_episodes_are_compared(page, serve, run):
    page.goto(f"{serve(run)}/episodes?stage=train&sort=place")
    for at in (0, 9):
        page.locator("tbody input").nth(at).check()
    page.get_by_role("link", name="Compare 2 picked").click()
    heads = page.locator("thead th[data-id]")
    expect(heads).to_have_count(2)
    assert [head.get_attribute("data-id") for head in heads.all()] == [
        "train/step_000001:0",
        "train/step_000001:9",
    ]


def test_tokens_with_their_log_probabilities_and_masks(page, serve, tmp_path):
    folder = start(tmp_path / "run")
    from live_run import END, tokenizer

    words = tokenizer()
    prompt, call, answer = words.encode("Find"), words.encode("Peek(at=1)"), words.encode("7")
    own = [(token, True, -0.5 * at, -0.25 * at) for at, token in enumerate([*call, words.special_id(END)])]
    other = [(token, False, 0.0, 0.0) for token in answer]
    tokens = [(token, False, 0.0, 0.0) for token in prompt] + own + other
    made = episode([turn("Peek", "7", at=1)], tokens=tokens)
    save(folder, 1, [made])
    page.goto(f"{serve(folder)}/episode?id=train/step_000001:0&view=tokens")
    expect(page.locator(".stretch h3")).to_have_count(3)
    kinds = [node.get_attribute("class").split()[1] for node in page.locator(".stretch").all()]
    assert kinds == ["prompt", "policy", "observation"]
    told = page.locator(".token").evaluate_all("nodes => nodes.map(node => ({...node.dataset}))")
    row = to_row(made, "")
    assert [int(one["id"]) for one in told] == row["token_ids"]
    assert [one["kind"] == "policy" for one in told] == [bool(one) for one in row["is_policy"]]
    assert "".join(one["text"] for one in told) == f"FindPeek(at=1){END}7"
    mine = [one for one in told if one["kind"] == "policy"]
    assert [float(one["policy"]) for one in mine] == [value for _, _, _, value in own]
    assert [float(one["sampler"]) for one in mine] == [value for _, _, value, _ in own]
    assert all("policy" not in one for one in told if one["kind"] != "policy")
    last = page.locator(".policy .token").last
    heat = last.evaluate("node => parseFloat(node.style.getPropertyValue('--heat'))")
    assert heat == pytest.approx(100 * -own[-1][3] / 6.907755, abs=0.1)  # of log 1000
    last.hover()
    expect(page.locator("#tip")).to_contain_text(f"{own[-1][3]:.4f}")
    page.select_option("#color", "difference")
    expect(page.locator(".by-difference")).to_be_visible()
    assert "color=difference" in page.url
    heat = (
        page.locator(".policy .token")
        .nth(1)
        .evaluate("node => parseFloat(node.style.getPropertyValue('--heat'))")
    )
    assert heat == pytest.approx(25.0)


def test_a_live_run_shows_what_is_written(page, serve, run):
    address = serve(run)
    page.goto(f"{address}/?metrics=train/reward")
    chart = page.locator("figure[data-chart=reward]")
    expect(chart).to_have_attribute("data-points", "5")
    page.evaluate("document.body.dataset.same = 'page'")
    add_rows(run, [6, 7])
    expect(chart).to_have_attribute("data-points", "7")
    page.get_by_role("link", name="Episodes", exact=True).click()
    count(page, 176)
    path = save(run, 6, spread(8))
    count(page, 184)
    line = json.dumps(to_row(spread(1)[0], "")) + "\n"
    with path.open("a") as file:  # a line that is being written is none yet
        file.write(line + line[:40])
    count(page, 185)
    with path.open("a") as file:
        file.write(line[40:])
    count(page, 186)
    assert page.evaluate("document.body.dataset.same") == "page"  # never loaded anew


def test_a_resumed_run_takes_rows_back(page, serve, run):
    page.goto(f"{serve(run)}/?metrics=train/reward")
    chart = page.locator("figure[data-chart=reward]")
    expect(chart).to_have_attribute("data-points", "5")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    expect(chart).to_have_attribute("data-points", "2")


def test_runs_over_one_another_and_chosen_metrics(page, serve, run, tmp_path):
    other = start(tmp_path / "other", steps=3)
    page.goto(f"{serve(run, other)}/?metrics=train/reward")
    chart = page.locator("figure[data-chart=reward]")
    expect(chart.locator("path.line")).to_have_count(2)
    expect(chart).to_have_attribute("data-points", "8")
    page.fill("#find-metric", "entro")
    page.get_by_role("checkbox", name="entropy").check()
    expect(page.locator("figure")).to_have_count(2)
    assert "entropy" in page.url
    page.get_by_role("checkbox", name="other").uncheck()
    expect(chart.locator("path.line")).to_have_count(1)
    page.locator("#smooth").fill("0")
    expect(chart.locator("path.raw")).to_have_count(0)
    page.reload()
    expect(page.locator("figure")).to_have_count(2)
    expect(chart.locator("path.raw")).to_have_count(0)


def test_hostile_text_is_shown_as_text(page, serve, tmp_path):
    folder = start(tmp_path / "run")
    mean = [turn(f"Tool{HOSTILE}", HOSTILE, **{"x": HOSTILE}), turn("Done", "\ud83d half", answer=1)]
    save(folder, 1, [episode(mean, env=f"Own_1__{HOSTILE}", config=HOSTILE, attempt=at) for at in range(2)])
    address = serve(folder)
    for path in (
        "/episodes",
        "/episode?id=train/step_000001:0",
        "/episode?id=train/step_000001:0&view=tokens",
        "/compare?id=train/step_000001:0",
    ):
        page.goto(address + path)
        page.locator("main > *").first.wait_for()
        expect(page.locator("main")).to_contain_text("<script>document.title = 'taken'</script>")
        assert page.locator("main script, main img").count() == 0
        text = page.locator("main").evaluate("node => node.textContent")
        assert not set("\x1b\u202e\u200b") & set(text)
        if path != "/episodes":
            assert "U+001B" in text and "U+202E" in text and "U+200B" in text
        assert "taken" not in page.title() or "script" in page.title()


def test_five_thousand_episodes_page_and_filter(page, serve, tmp_path):
    folder = start(tmp_path / "run", steps=10)
    episodes = spread(5000)
    for step in range(10):
        save(folder, step + 1, episodes[500 * step : 500 * (step + 1)])
    page.goto(f"{serve(folder)}/episodes")
    count(page, 5000)
    page.select_option("#error", "tool_raised")
    expected = {
        f"train/step_{at // 500 + 1:06d}:{at % 500}"
        for at, one in enumerate(episodes)
        if any(turn.error is CallError.TOOL_RAISED for turn in one.turns)
    }
    count(page, len(expected))
    page.goto(f"{page.url}&page={len(expected) // PAGE}")
    count(page, len(expected))
    seen = [row.get_attribute("data-id") for row in page.locator("tbody tr").all()]
    while page.get_by_role("link", name="next ›").count():
        page.keyboard.press("n")
        expect(page.locator(f"tr[data-id='{seen[-1]}']")).to_have_count(0)
        seen += [row.get_attribute("data-id") for row in page.locator("tbody tr").all()]
    assert len(seen) == len(set(seen)) == len(expected) - PAGE * (len(expected) // PAGE - 1)
    assert set(seen) <= expected


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_told_apart_and_readable(page, serve, run, scheme):
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{serve(run)}/episodes")
    paper, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    light, dark = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in (paper, ink))
    assert (light > dark) == (scheme == "light") and abs(light - dark) > 500
