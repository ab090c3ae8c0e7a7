"""The index against its laws: kept up it equals made anew; filters equal a plain look at every episode."""

import dataclasses
import itertools
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from live_run import PROMPT, episode, save, save_evaluation, spread, turn

from codegym_jax.config import UserError
from codegym_jax.records import CallError
from codegym_jax.report.live import episode_query as query
from codegym_jax.report.live import episode_view
from codegym_jax.report.live.episode_index import EpisodeIndex
from codegym_jax.rollout.episode_log import read_episodes, to_row, write_episodes

TEXTS = ["", "seven", "SEVEN!", 'a "quote"', "naïve ß", "\ud800 lone", "nul \0 here", "x" * 40]


def line(text):
    return (json.dumps(to_row(episode([turn("Peek", text)]), PROMPT)) + "\n").encode()


def contents(index):
    """All that the index tells, in the order of its own."""
    with index.connect() as connection:
        episodes = [dict(row) for row in connection.execute("SELECT * FROM episodes ORDER BY place")]
        bodies = [
            connection.execute("SELECT body FROM texts WHERE rowid = ?", (row.pop("id"),)).fetchone()[0]
            for row in episodes
        ]
        counts = connection.execute("SELECT name, end, lines, damaged FROM files ORDER BY name").fetchall()
    for row in episodes:
        row.pop("file_id")
    return episodes, bodies, [tuple(row) for row in counts]


changes = st.lists(
    st.tuples(
        st.sampled_from(["append", "cut", "damage", "rewrite", "delete", "look"]),
        st.sampled_from(["train/step_000001", "train/step_000002", "eval_before/test_env_greedy"]),
        st.sampled_from(TEXTS),
    ),
    max_size=14,
)


@settings(max_examples=40)
@given(changes)
def test_an_index_that_is_kept_up_equals_one_made_anew(changes):
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        kept = EpisodeIndex(run, Path(folder, "kept"))
        for change, name, text in changes:
            apply(change, run / "episodes" / f"{name}.jsonl", text, kept)
        kept.update()
        fresh = EpisodeIndex(run, Path(folder, "fresh"))
        fresh.update()
        assert contents(kept) == contents(fresh)


def apply(change, path, text, index):
    path.parent.mkdir(parents=True, exist_ok=True)
    if change == "look":
        index.update()
    elif change == "delete":
        path.unlink(missing_ok=True)
    elif change == "rewrite":
        write_episodes(path, [episode([turn("Peek", text)])] * 2, lambda _: PROMPT)
    else:
        added = {"append": line(text), "cut": line(text)[:50], "damage": b'{"task_id": 3}\n'}[change]
        with path.open("ab") as file:
            file.write(added)


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    """A run of 240 episodes: 200 in training, the others in an evaluation."""
    run = tmp_path_factory.mktemp("runs") / "run"
    episodes = spread(240)
    for step in range(5):
        save(run, step + 1, episodes[40 * step : 40 * (step + 1)])
    save_evaluation(run, "eval_after/test_config_greedy", episodes[200:])
    index = EpisodeIndex(run, tmp_path_factory.mktemp("cache"))
    assert index.update() and not index.update()
    return run, index


def plain(run, asked):
    """Ids of the episodes that pass, by a look at every one of them."""
    passed = set()
    for path in (run / "episodes").rglob("*.jsonl"):
        stage, name = path.parent.name, path.stem
        training = stage == "train"
        step, split, mode = (int(name[5:]), "train", "sampled") if training else (0, "test_config", "greedy")
        for number, one in enumerate(read_episodes(path)):
            kinds = {turn.error.value for turn in one.turns if turn.error}
            said = "\n".join(text for turn in one.turns for text in (turn.message, turn.observation) if text)
            checks = [
                asked.stage in ("", stage),
                asked.split in ("", split),
                asked.mode in ("", mode),
                asked.stop in ("", one.stop_reason.value),
                asked.env in ("", one.env_id),
                asked.task in ("", one.task_id),
                asked.error in ("", *kinds, "any" if kinds else "none"),
                asked.from_step is None or step >= asked.from_step,
                asked.to_step is None or step <= asked.to_step,
                asked.from_reward is None or one.reward >= asked.from_reward,
                asked.to_reward is None or one.reward <= asked.to_reward,
                asked.text.casefold() in said.casefold(),
            ]
            if all(checks):
                passed.add(f"{stage}/{name}:{number}")
    return passed


NEWEST_FIRST = query.Order()


def all_pages(index, asked, order=NEWEST_FIRST):
    found, number = [], 1
    with index.connect() as connection:
        while rows := query.page(connection, asked, order, number):
            found += rows
            number += 1
    return found


filters = st.builds(
    query.Filter,
    stage=st.sampled_from(["", "train", "eval_after", "eval_before"]),
    split=st.sampled_from(["", "train", "test_config"]),
    mode=st.sampled_from(["", "greedy", "sampled"]),
    stop=st.sampled_from(["", "done", "trap", "max_turns"]),
    env=st.sampled_from(["", "Own_1__PeekEnv", "Own_2__CountNumsEnv", "None"]),
    error=st.sampled_from(["", "any", "none", *CallError]).map(str),
    from_step=st.none() | st.integers(0, 6),
    to_step=st.none() | st.integers(0, 6),
    from_reward=st.none() | st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    to_reward=st.none() | st.sampled_from([0.0, 0.5, 0.7, 1.0]),
    text=st.sampled_from(["", "7", "at", "PEEK(AT=2)", "start 1", 'e"', "%", "_", "nowhere"]),
)
orders = st.builds(
    query.Order,
    by=st.sampled_from(["place", "reward", "turns", "errors", "tokens", "logp"]),
    descending=st.booleans(),
)


@settings(max_examples=40)
@given(asked=filters, order=orders)
def test_pages_hold_each_episode_that_passes_once(indexed, asked, order):
    run, index = indexed
    found = all_pages(index, asked, order)
    ids = [row["id"] for row in found]
    assert len(ids) == len(set(ids)) and set(ids) == plain(run, asked)
    values = [row["stage"] if order.by == "place" else row[order.by] for row in found]
    if order.by != "place":
        assert values == sorted(values, reverse=order.descending)
    with index.connect() as connection:
        assert query.count(connection, asked)["episodes"] == len(ids)
        for before, after in list(itertools.pairwise(ids))[:5]:
            assert query.neighbors(connection, asked, order, before)["next"] == after
            assert query.neighbors(connection, asked, order, after)["previous"] == before
        if ids:
            ends = (
                query.neighbors(connection, asked, order, ids[0]),
                query.neighbors(connection, asked, order, ids[-1]),
            )
            assert (ends[0]["previous"], ends[1]["next"]) == (None, None)


@settings(max_examples=15)
@given(asked=filters)
def test_each_facet_says_how_many_would_be_left(indexed, asked):
    _, index = indexed
    with index.connect() as connection:
        for name, choices in query.facets(connection, asked).items():
            for value, number in choices:
                chosen = dataclasses.replace(asked, **{name: value})
                assert query.count(connection, chosen)["episodes"] == number


@pytest.mark.parametrize("needle", ["\ud800", "ß", "SS", "nul \0 h", '"', "naïve", "XXX", "‮", "a"])
def test_any_text_is_found_as_casefold_finds_it(tmp_path, needle):
    run = tmp_path / "run"
    texts = [*TEXTS, "a\u202eb"]
    save(run, 1, [episode([turn("T", text)]) for text in texts])
    index = EpisodeIndex(run, tmp_path / "cache")
    index.update()
    found = {int(row["id"].rpartition(":")[2]) for row in all_pages(index, query.Filter(text=needle))}
    # What SQLite cannot hold is compared as U+FFFD.
    same = str.maketrans("\ud800\0", "\ufffd\ufffd")
    folded = [f"t()\n{text}".casefold().translate(same) for text in texts]
    assert found == {at for at, text in enumerate(folded) if needle.casefold().translate(same) in text}


def test_a_found_line_is_the_stored_episode(indexed):
    run, index = indexed
    stored = list(read_episodes(run / "episodes" / "train" / "step_000003.jsonl"))
    with index.connect() as connection:
        row = episode_view.read_line(run, query.locate(connection, "train/step_000003:7"))
    assert row == to_row(stored[7], PROMPT)


def test_the_attempts_of_a_group_and_those_elsewhere(tmp_path):
    run = tmp_path / "run"
    group = [episode(attempt=at, config='{"n": 1}') for at in range(4)]
    save(run, 1, [*group, episode(config='{"n": 2}')])
    save_evaluation(run, "eval_before/test_config_sampled", [episode(config='{"n": 1}')])
    index = EpisodeIndex(run, tmp_path / "cache")
    index.update()
    with index.connect() as connection:
        found = query.attempts(connection, "train/step_000001:2")
    assert [row["attempt"] for row in found["group"]] == [0, 1, 2, 3]
    assert [row["id"] for row in found["elsewhere"]] == ["eval_before/test_config_sampled:0"]


def test_a_file_that_is_no_index_is_made_anew(tmp_path):
    run = tmp_path / "run"
    save(run, 1, spread(3))
    path = EpisodeIndex(run, tmp_path / "cache").path
    path.write_bytes(b"no database at all" * 100)
    index = EpisodeIndex(run, tmp_path / "cache")
    index.update()
    assert len(all_pages(index, query.Filter())) == 3


def test_wrong_parameters_are_named(indexed):
    with pytest.raises(UserError, match="from_step must be a number, got 'x'"):
        query.read_filter({"from_step": "x"})
    with pytest.raises(UserError, match=r"sort must be one of place, .* got 'id; DROP'"):
        query.read_order({"sort": "id; DROP"})
