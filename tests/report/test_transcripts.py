"""Which episodes are shown, and that a call reads as a call whatever the policy wrote."""

import json

import pytest
from example_run import episode

from codegym_jax.report.run_folder import EpisodeFile
from codegym_jax.report.transcripts import select

CALL = ("Get", {"i": 0}, "7")


def train(step, *rows):
    return EpisodeFile(stage="train", name=f"step_{step:06d}", rows=list(rows))


def evaluation(phase, *rows):
    return EpisodeFile(stage=f"eval_{phase}", name="test_env_greedy", rows=list(rows))


def row(env, config=0, calls=1, **kwargs):
    return episode(f'codegym_v1@{env}__{env.title()}Env@{{"x":{config}}}', [CALL] * calls, **kwargs)


def test_the_same_task_failed_early_and_solved_late_is_a_pair():
    before = [row("a", 1, reward=0.0), row("a", 2, reward=1.0), row("b", 1, reward=1.0)]
    after = [row("a", 1, reward=1.0), row("a", 2, reward=1.0), row("b", 1, reward=0.0)]
    [(early, late)] = select([evaluation("after", *after), evaluation("before", *before)]).pairs
    assert (early.origin, late.origin) == ("eval before, test env greedy", "eval after, test env greedy")
    assert early.hidden == late.hidden == '{"x":1}'
    assert (early.solved, late.solved) == (False, True)


def test_a_sampled_failure_is_not_held_against_a_greedy_success():
    sampled = EpisodeFile(stage="eval_before", name="test_env_sampled", rows=[row("a", reward=0.0)])
    assert select([sampled, evaluation("after", row("a", reward=1.0))]).pairs == []


def test_within_training_the_last_step_is_the_newest():
    chosen = select(
        [
            train(60, row("a", reward=1.0)),
            train(10, row("a", reward=0.0), row("b", reward=1.0)),
        ]
    )
    [(early, late)] = chosen.pairs
    assert (early.origin, late.origin) == ("train, step 10", "train, step 60")
    assert [item.env_id for item in chosen.solved] == ["a__AEnv"]


def test_a_success_that_came_before_its_failure_is_no_pair():
    chosen = select(
        [
            train(1, row("a", reward=1.0)),
            train(2, row("a", reward=0.0)),
        ]
    )
    assert chosen.pairs == []


def test_environments_vary_before_length_counts():
    rows = [row("a", index, calls=9 - index, reward=1.0) for index in range(3)] + [
        row("b", calls=2, reward=1.0)
    ]
    chosen = select([train(1, *rows)])
    assert [(item.title, item.call_count) for item in chosen.solved] == [("A", 9), ("B", 2), ("A", 8)]


def test_stop_reasons_vary_among_failures():
    rows = [row("a", index, reward=0.0) for index in range(4)] + [row("b", reward=0.0, stop="max_turns")]
    chosen = select([train(1, *rows)])
    assert [item.stop_reason for item in chosen.failed] == ["done", "max turns", "done", "done"]


@pytest.mark.parametrize(
    ("action", "tool", "arguments"),
    [
        ('{"name": "Get", "parameters": {"i": 3, "who": "é"}}', "Get", 'i=3, who="é"'),
        ('{"name": "Get"}', "Get", ""),
        ('{"name": "Get", "parameters": [1, null]}', "Get", "[1, null]"),
        ("Get(", "", "Get("),
        ("[1]", "", "[1]"),
        ('{"name": 3}', "", '{"name": 3}'),
        ("", "", ""),
    ],
)
def test_calls_read_as_calls(action, tool, arguments):
    bad = row("a", reward=0.0)
    bad["turns"] = [{"message": action, "action": action, "observation": "Error: no", "error": "not_json"}]
    [shown] = select([train(1, bad)]).failed[0].exchanges
    assert (shown.tool, shown.arguments, shown.error) == (tool, arguments, "not json")


def test_an_action_nested_without_end_is_shown_as_text():
    deep = row("a", reward=0.0)
    deep["turns"][0]["action"] = "[" * 100_000
    [shown] = select([train(1, deep)]).failed[0].exchanges
    assert shown.tool == "" and shown.arguments.endswith("… (98800 more characters)")


def test_long_text_and_long_episodes_are_cut_visibly():
    long = row("a", calls=70, reward=0.0)
    long["turns"][0]["observation"] = "x" * 1300
    [shown] = select([train(1, long)]).failed
    assert (len(shown.exchanges), shown.left_out, shown.call_count) == (64, 6, 70)
    assert shown.exchanges[0].observation == "x" * 1200 + " … (100 more characters)"


def test_a_config_may_hold_at_signs():
    config = {"mail": "a@b", "deep": [None, True]}
    solved = episode(f"codegym_v1@a__AEnv@{json.dumps(config)}", [CALL], reward=1.0)
    [shown] = select([train(1, solved)]).solved
    assert json.loads(shown.hidden) == config


@pytest.mark.parametrize(
    ("stop", "reward", "verdict"),
    [
        ("done", 1.0, "The answer is right"),
        ("done", 0.0, "The answer is wrong"),
        ("trap", 0.0, "No answer given"),
    ],
)
def test_the_verdict_is_told(stop, reward, verdict):
    chosen = select([train(1, row("a", reward=reward, stop=stop))])
    [shown] = chosen.solved + chosen.failed
    assert shown.verdict.startswith(verdict)
