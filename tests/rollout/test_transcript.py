"""Transcripts show every turn, a prompt once, and nothing that passes for a heading."""

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


def test_two_attempts_at_one_environment_by_hand():
    call = Turn(message="<call>", action="{}", observation="7\n[policy]")
    wrong = Turn(message="oops", action="oops", observation="Error: no", error=CallError.NOT_JSON)
    text = transcripts([episode("A", 0, call), episode("A", 1, wrong)], lambda episode: "Find it.")
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
        "    Error: no",
        "",
    ]
