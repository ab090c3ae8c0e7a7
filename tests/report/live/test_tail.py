"""Reading on in growing files: whole lines once each, and never across files."""

import json

import pytest
from live_run import add_rows, start

from codegym_jax.report.live.metrics_feed import MetricsFeed
from codegym_jax.report.live.tail import Mark, read_on


def texts(look):
    return [line.text for line in look.lines]


def test_a_line_is_read_once_and_only_when_it_is_whole(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthr")
    first = read_on(path, Mark())
    assert texts(first) == [b"one", b"two"] and [line.start for line in first.lines] == [0, 4]
    assert read_on(path, first.mark) is None
    with path.open("ab") as file:
        file.write(b"ee\n\nfour")
    second = read_on(path, first.mark)
    assert not second.anew and second.lines == [(8, b"three"), (14, b"")]


@pytest.mark.parametrize("content", [b"other\nlines\n", b"one\n", b""])
def test_another_file_of_the_same_name_is_read_from_its_beginning(tmp_path, content):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\nthree\n")
    mark = read_on(path, Mark()).mark
    other = tmp_path / "other"
    other.write_bytes(content)
    other.replace(path)
    look = read_on(path, mark)
    assert look.anew and texts(look) == content.split(b"\n")[:-1]


def test_a_file_cut_and_written_again_past_its_old_end_is_noticed(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo\n")
    mark = read_on(path, Mark()).mark
    with path.open("r+b") as file:  # in place, as a resumed run does with its metrics
        file.seek(4)
        file.write(b"TWO\nthree\n")
    look = read_on(path, mark)
    assert look.anew and texts(look) == [b"one", b"TWO", b"three"]


def test_a_reader_of_metrics_gets_what_it_lacks_and_all_after_a_resume(tmp_path):
    run = start(tmp_path / "run", steps=3)
    feed = MetricsFeed(run / "metrics.jsonl")
    first = feed.since("", 0)
    assert [row["step"] for row in first.rows] == [1, 2, 3]
    add_rows(run, [4])
    more = feed.since(first.generation, 3)
    assert (more.generation, more.first, [row["step"] for row in more.rows]) == (first.generation, 3, [4])
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    anew = feed.since(more.generation, 4)
    assert anew.generation != more.generation
    assert (anew.first, [row["step"] for row in anew.rows]) == (0, [1, 2])


def test_metrics_that_are_not_there_yet_have_no_rows(tmp_path):
    feed = MetricsFeed(tmp_path / "metrics.jsonl")
    assert feed.all() == []
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps({"stage": "sft", "step": 1, "wall_s": 0.5}) + "\nrubbish\n"
    )
    assert [row["step"] for row in feed.all()] == [1]
