"""Episodes come back from disk to the bit, whatever they hold."""

import dataclasses

import numpy as np
import pytest

from codegym_jax.records import Episode, StopReason, Turn
from codegym_jax.rollout.episode_log import digest, logged_steps, read_episodes, step_path, write_episodes

NUMBERS = np.array([0.0, -0.0, -1e-45, -3.4e38, -np.inf, np.nan, -1 / 3], np.float32)
EPISODE = Episode(
    task_id='codegym_v1@C__E@{"x":"ü@"}',
    attempt=3,
    policy_version=5,
    token_ids=np.arange(7, dtype=np.int32),
    is_policy=np.array([False, True, True, False, True, True, True]),
    sampler_logp=NUMBERS,
    policy_logp=NUMBERS[::-1].copy(),
    turns=(Turn(message="a", action="b", observation="c"),),
    reward=1.0,
    stop_reason=StopReason.DONE,
)


def saying(text: str) -> Episode:
    return dataclasses.replace(EPISODE, turns=(Turn(message=text, action=text, observation=text),))


@pytest.mark.parametrize("text", ["plain", "\u2028 \x00 ü 😀", "\ud800 alone", "\ud83d\ude00"])
def test_every_bit_and_every_text_comes_back(tmp_path, text):
    """A tool may return lone surrogates. A pair of them comes back as the character that it spells, as in all
    JSON, and counts as the same."""
    path = step_path(tmp_path, 1)
    write_episodes(path, [EPISODE, saying(text)], lambda episode: "prompt")
    plain, odd = read_episodes(path)
    assert plain.sampler_logp.tobytes() == EPISODE.sampler_logp.tobytes()
    assert plain.policy_logp.tobytes() == EPISODE.policy_logp.tobytes()
    assert odd.turns[0].observation.encode("utf-16", "surrogatepass") == text.encode(
        "utf-16", "surrogatepass"
    )
    assert digest([plain, odd]) == digest([EPISODE, saying(text)])
    path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 4},
        {"policy_version": 6},
        {"reward": 0.0},
        {"token_ids": np.arange(1, 8, dtype=np.int32)},
        {"sampler_logp": np.nextafter(NUMBERS, np.float32(-1))},
        {"turns": ()},
        {"stop_reason": StopReason.MAX_TURNS},
    ],
)
def test_a_digest_tells_any_change(changes):
    assert digest([dataclasses.replace(EPISODE, **changes)]) != digest([EPISODE])
    assert digest([EPISODE, saying("x")]) != digest([saying("x"), EPISODE])


def test_steps_are_found_in_order(tmp_path):
    assert logged_steps(tmp_path / "missing") == []
    for name in ("step_000010.jsonl", "step_000009.jsonl", "step_1000000.jsonl", "step_x.jsonl", "other"):
        (tmp_path / name).touch()
    assert logged_steps(tmp_path) == [9, 10, 1000000]
    assert step_path(tmp_path, 1000000).exists()
