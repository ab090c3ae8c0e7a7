"""Which groups of attempts tell anything, by hand."""

import numpy as np

from codegym_jax.records import Episode, StopReason
from codegym_jax.rollout.groups import group_rewards, has_signal

DONE, FAILED = StopReason.DONE, StopReason.HOST_FAILURE


def episode(reward: float, stop_reason: StopReason = DONE) -> Episode:
    return Episode(
        task_id="codegym_v1@C__E@{}",
        attempt=0,
        policy_version=0,
        token_ids=np.array([1, 2], np.int32),
        is_policy=np.array([False, True]),
        sampler_logp=np.zeros(2, np.float32),
        policy_logp=np.zeros(2, np.float32),
        turns=(),
        reward=reward,
        stop_reason=stop_reason,
    )


def test_valid_attempts_that_differ_are_a_signal():
    groups = {
        "solved and not": ([episode(0.0), episode(1.0), episode(0.0)], True),
        "never solved": ([episode(0.0)] * 3, False),
        "always solved": ([episode(1.0)] * 3, False),
        "the failed one does not count": ([episode(1.0), episode(0.0, FAILED), episode(1.0)], False),
        "the others do": ([episode(1.0), episode(0.0, FAILED), episode(0.0)], True),
        "one is no group": ([episode(0.0, FAILED), episode(1.0), episode(0.0, FAILED)], False),
        "none is none": ([episode(0.0, FAILED)] * 3, False),
    }
    rewards_PG, valid_PG = group_rewards([e for group, _ in groups.values() for e in group], 3)
    assert dict(zip(groups, has_signal(rewards_PG, valid_PG).tolist(), strict=True)) == {
        name: told for name, (_, told) in groups.items()
    }
    assert rewards_PG[0].tolist() == [0.0, 1.0, 0.0]
    assert valid_PG[3].tolist() == [True, False, True]


def test_no_groups_are_none():
    rewards_PG, valid_PG = group_rewards([], 4)
    assert rewards_PG.shape == (0, 4)
    assert has_signal(rewards_PG, valid_PG).shape == (0,)
