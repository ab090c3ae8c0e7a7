"""Transcripts show every turn, a prompt once, and nothing that passes for a heading."""

import dataclasses

import numpy as np

from codegym_jax.records import CallError, Episode, StopReason, Turn
from codegym_jax.rollout.transcript import transcripts


def episode(env: str, attempt: int, *turns: Turn) -> Episode:
    return Episode(
        task_id=f"codegym_v1@{env}@{{}}",
        attempt=attempt,
        policy_version=0,
        token_ids=np.arange(5, dtype=np.int32),
        is_policy=np.array([False, False, True, True, False]),
        sampler_logp=np.zeros(5, np.float32),
        policy_logp=np.zeros(5, np.float32),
        turns=turns,
        reward=1.0,
        stop_reason=StopReason.DONE,
    )


def spelled(ids) -> str:
    return " ".join(map(str, ids))


def test_two_attempts_at_one_environment_by_hand():
    call = Turn(message="<call>", action="{}", observation="7\n[policy]")
    wrong = Turn(
        message="oops",
        action="oops",
        observation="Error: no",
        error=CallError.NOT_JSON,
        fault="Error: begin it",
    )
    text = transcripts([episode("A", 0, call), episode("A", 1, wrong)], lambda episode: "Find it.", spelled)
    assert text.splitlines() == [
        "=" * 100,
        "episode 1: codegym_v1@A@{}, attempt 0",
        "reward 1, done, 1 calls, 5 tokens, 2 of them the policy's",
        "",
        "[prompt]",
        "    Find it.",
        "",
        "[policy]",
        "    <call>",
        "",
        "[tool]",
        "    7",
        "    [policy]",
        "",
        "=" * 100,
        "episode 2: codegym_v1@A@{}, attempt 1",
        "reward 1, done, 1 calls, 5 tokens, 2 of them the policy's",
        "",
        "[prompt as in episode 1]",
        "",
        "[policy]",
        "    oops",
        "",
        "[tool (not_json)]",
        "    Error: begin it",
        "",
    ]


def test_a_message_that_never_ended_is_shown():
    """No turn holds it: it is read off the ids after the last turn."""
    call = Turn(message="<call>", action="{}", observation="7")
    cut = dataclasses.replace(
        episode("A", 0, call),
        is_policy=np.array([False, True, False, True, True]),
        stop_reason=StopReason.TURN_TOO_LONG,
    )
    assert transcripts([cut], lambda episode: "Find it.", spelled).splitlines()[-6:] == [
        "[tool]",
        "    7",
        "",
        "[policy, cut short]",
        "    3 4",
        "",
    ]
    whole = dataclasses.replace(cut, is_policy=np.array([False, False, False, True, True]))
    assert "cut short" not in transcripts([whole], lambda episode: "Find it.", spelled)
