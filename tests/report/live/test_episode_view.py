"""One episode for the page: whose each token is, its figures, and where attempts part."""

import math

from live_run import END, PROMPT, episode, start, tokenizer, turn

from codegym_jax.report.live import episode_view
from codegym_jax.rollout.episode_log import to_row

TOKENS = [
    (5, False, 0.0, 0.0),
    (6, True, -0.5, -0.25),
    (7, True, -2.0, -1.0),
    (8, False, 0.0, 0.0),
    (9, True, -3.0, -4.0),
]


def test_tokens_come_in_stretches_of_one_kind():
    """Before the policy's first token it is the prompt, after it an observation."""
    row = to_row(episode(tokens=[*TOKENS[:1], *TOKENS[:1], *TOKENS[1:]]), PROMPT)
    assert episode_view.tokens(row, lambda token_id: f"t{token_id}") == [
        {"kind": "prompt", "tokens": [[5, "t5", 0.0, 0.0], [5, "t5", 0.0, 0.0]]},
        {"kind": "policy", "tokens": [[6, "t6", -0.5, -0.25], [7, "t7", -2.0, -1.0]]},
        {"kind": "observation", "tokens": [[8, "t8", 0.0, 0.0]]},
        {"kind": "policy", "tokens": [[9, "t9", -3.0, -4.0]]},
    ]


def test_the_texts_of_the_tokens_are_those_of_the_runs_tokenizer(tmp_path):
    run = start(tmp_path / "run")
    text_of = episode_view.token_text(run)
    ids = tokenizer().encode("Peek(at=1) é")
    assert "".join(map(text_of, ids)).startswith("Peek(at=1) ")
    assert text_of(tokenizer().special_id(END)) == END
    assert episode_view.token_text(tmp_path)(3) == ""


def test_where_attempts_leave_the_first_one():
    same = [turn("Observe"), turn(at=1), turn("Done", "", answer=7)]
    others = [same, [*same[:1], turn(at=2)], same[:2], [*same, turn()], [turn("Observe", "8"), *same[1:]]]
    rows = [to_row(episode(turns), PROMPT) for turns in [same, *others]]
    assert episode_view.first_difference(rows) == [None, None, 1, 2, 3, 0]


def test_a_call_is_taken_apart_and_anything_else_is_none():
    row = to_row(episode([turn("Done", "", answer=[1, "é"])]), PROMPT)
    assert episode_view.turns(row)[0]["call"] == {"tool": "Done", "parameters": [["answer", '[1, "é"]']]}
    for action in ("", "[", "[1]", "{}", '{"name": 3}', "[" * 100_000):
        row["turns"][0]["action"] = action
        assert episode_view.turns(row)[0]["call"] is None


def test_what_is_not_finite_is_kept_out_of_the_index_mean_only(tmp_path):
    row = to_row(episode(tokens=[(1, True, math.nan, -math.inf)]), PROMPT)
    assert math.isinf(episode_view.tokens(row, str)[0]["tokens"][0][3])
