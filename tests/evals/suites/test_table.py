"""The table of scores, from attempts."""

from codegym_jax.evals.suites.play import Attempt
from codegym_jax.evals.suites.table import build_table, markdown, summary


def attempt(task, run, score, stop="finished"):
    return Attempt(
        task=task, run=run, score=score, stop=stop, turns=2, calls=1, tokens=9, error="", detail={}, tools=[],
        messages=[],
    )  # fmt: skip


def line(name, *attempts, suite="sums", subset="sums"):
    return {**summary(attempts), "suite": suite, "subset": subset, "line": name}


BASE = line("start", attempt("a", 0, 0.0), attempt("a", 1, 1.0), attempt("b", 0, 0.0), attempt("b", 1, 0.0))
TRAINED = line(
    "train", attempt("a", 0, 1.0), attempt("a", 1, 1.0), attempt("b", 0, 0.0), attempt("b", 1, 1.0)
)


def test_a_summary_counts_tasks_runs_and_what_the_host_spoiled():
    spoiled = attempt("b", 1, 0.0, stop="host_failure")
    found = line("start", attempt("a", 0, 0.0), attempt("a", 1, 1.0), attempt("b", 0, 0.0), spoiled)
    assert (found["mean"], found["tasks"], found["runs"], found["attempts"]) == (0.25, 2, 2, 3)
    assert (found["invalid"], found["stops"]) == (1, {"finished": 3, "host_failure": 1})
    assert found["run_means"] == [0.0, 1.0]
    assert found["by_task"] == {"a": 0.5, "b": 0.0}


def test_rows_stand_in_their_order_and_policies_beside_the_base():
    oracle, no_op = line("oracle", attempt("a", 0, 1.0)), line("no_op", attempt("a", 0, 0.0))
    table = build_table([TRAINED, no_op, BASE, oracle])
    assert [row["label"] for row in table["rows"]] == ["oracle", "no-op", "base", "after RL"]
    [difference] = table["differences"]
    assert difference["label"] == "after RL − base"
    assert (difference["cells"][0]["mean"], difference["cells"][0]["tasks"]) == (0.5, 2)
    assert table == build_table([oracle, BASE, TRAINED, no_op])


def test_only_a_line_that_played_everything_has_a_mean():
    other = line("start", attempt("x", 0, 1.0), suite="zebra", subset="houses")
    table = build_table([BASE, TRAINED, other])
    assert [row["average"] for row in table["rows"]] == [0.625, None]
    assert table["columns"] == [{"suite": "sums", "subset": "sums"}, {"suite": "zebra", "subset": "houses"}]


def test_the_table_as_markdown():
    """Means 0.5 and 0, so s^2 = 0.125: Wilson's interval of 0.25 * 0.75 / (0.125 / 2) = 3 attempts."""
    lines = markdown(build_table([BASE, TRAINED])).splitlines()
    assert lines[0] == "|  | sums | mean |"
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2] == "| base | 25.0 [3.7, 74.4] n=2×2 | 25.0 |"
    assert lines[4].startswith("| after RL − base | +50.0 [+50.0, +50.0] |")


def test_no_attempts_make_no_score():
    table = build_table([line("start", attempt("a", 0, 0.0, stop="host_failure"))])
    assert "n=0, 1 invalid" in markdown(table)
