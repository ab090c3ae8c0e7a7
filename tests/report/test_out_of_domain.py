"""The page's section on suites made elsewhere, from the table that the command writes."""

import json

from example_run import build

from codegym_jax.evals.suites.play import Attempt
from codegym_jax.evals.suites.table import build_table, summary
from codegym_jax.report.page import write_report


def attempt(task, score, stop):
    return Attempt(
        task=task, run=0, score=score, stop=stop, turns=1, calls=0, tokens=0, error="", detail={}, tools=[],
        messages=[],
    )  # fmt: skip


def line(name, scores, subset="multi_turn_base", stop="finished"):
    """One attempt a task."""
    attempts = [attempt(str(number), score, stop) for number, score in enumerate(scores)]
    return {**summary(attempts), "suite": "bfcl", "subset": subset, "line": name}


def section(folder, *lines):
    """Of the page of a run that has played them."""
    (folder / "suites").mkdir(exist_ok=True)
    (folder / "suites" / "table.json").write_text(json.dumps(build_table(lines)))
    text = write_report(folder).read_text(encoding="utf-8")
    return text.partition('<section id="suites">')[2].partition("</section>")[0]


def test_scores_stand_beside_oracle_and_no_op_and_the_base(tmp_path):
    folder = build(tmp_path / "run", stages=())
    assert 'id="suites"' not in write_report(folder).read_text(encoding="utf-8")
    shown = section(
        folder,
        line("oracle", [1.0] * 4),
        line("no_op", [0.0] * 4),
        line("start", [0.0, 0.0, 0.0, 1.0]),
        line("train", [0.0, 1.0, 1.0, 1.0]),
    )
    for words in ("Oracle", "No-op", "Base", "After RL", "After RL − base", "multi_turn_base"):
        assert f">{words}<" in shown, words
    for figure in ("100.0", "0.0", "25.0", "75.0", "+50.0"):
        assert f"<td>{figure} <small>[" in shown, figure
    assert "not to be trusted" not in shown


def test_an_oracle_that_fails_puts_its_suite_in_doubt(tmp_path):
    shown = section(build(tmp_path / "run", stages=()), line("oracle", [1.0, 0.0]), line("start", [0.0, 0.0]))
    assert "not right everywhere on bfcl multi_turn_base" in shown


def test_what_did_not_fit_is_told_and_names_are_escaped(tmp_path):
    cut = line("start", [0.0, 0.0], subset="<b>", stop="prompt_too_long")
    shown = section(build(tmp_path / "run", stages=()), cut)
    assert "(2 of 2 did not fit)" in shown
    assert "&lt;b&gt;" in shown
