"""What counts as success, and what does not count at all."""

import json

import numpy as np
import pytest

from codegym_jax.evals.in_domain import from_counts, success_rate, to_json, told
from codegym_jax.evals.pass_at_k import wilson_interval
from codegym_jax.records import Episode, StopReason


def episode(env_id: str, reward: float, stop_reason: StopReason = StopReason.DONE) -> Episode:
    return Episode(
        task_id=f'codegym_v1@{env_id}@{{"text":"a@b"}}',
        attempt=0,
        policy_version=0,
        token_ids=np.zeros(3, np.int32),
        is_policy=np.zeros(3, bool),
        sampler_logp=np.zeros(3, np.float32),
        policy_logp=np.zeros(3, np.float32),
        turns=(),
        reward=reward,
        stop_reason=stop_reason,
    )


def test_counts_by_environment_and_pools():
    """a: 2 of 3, b: 0 of 1; in all 2 of 4."""
    rate = success_rate(
        [
            episode("a__AEnv", 1.0),
            episode("b__BEnv", 0.0),
            episode("a__AEnv", 0.0, StopReason.MAX_TURNS),
            episode("a__AEnv", 1.0),
        ]
    )
    assert rate.by_env == {"a__AEnv": (2, 3), "b__BEnv": (0, 1)}
    assert (rate.success, rate.n, rate.ci95) == (0.5, 4, wilson_interval(2, 4))


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_an_attempt_that_the_host_spoiled_changes_nothing(reward):
    good = [episode("a__AEnv", 1.0), episode("a__AEnv", 0.0)]
    spoiled = episode("a__AEnv", reward, StopReason.HOST_FAILURE)
    assert success_rate([*good, spoiled]) == success_rate(good)


def test_no_attempts_claim_nothing():
    rate = success_rate([])
    assert (rate.success, rate.ci95, rate.n) == (0.0, (0.0, 1.0), 0)


def test_the_json_form_holds_every_count():
    rate = from_counts({"b__BEnv": (1, 2), "a__AEnv": (0, 1)})
    entry = json.loads(json.dumps(to_json(rate)))
    assert entry["by_env"] == {"a__AEnv": [0, 1], "b__BEnv": [1, 2]}
    assert entry["n"] == 3


def test_what_people_are_told_and_that_an_empty_split_has_no_rate():
    """3 of 4: Wilson's interval is 0.301 to 0.954."""
    assert told(to_json(from_counts({"a__AEnv": (3, 4)}))) == "0.750 [0.301, 0.954] n=4"
    assert told(to_json(success_rate([]))) == "no rate: no task was played"
