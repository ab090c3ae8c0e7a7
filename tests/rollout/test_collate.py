"""What collation keeps, drops, pads and promises about shapes."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.records import Episode, StopReason
from codegym_jax.rollout.collate import collate, demonstration_batches

SHAPE = {"rows_per_update": 8, "rows_per_batch": 4, "width_multiple": 16}


def episode(attempt, length, *, policy_from=2, stop_reason=StopReason.DONE):
    """Token ids count up from 1000 * attempt, so that every token can be told from every other."""
    is_policy = np.arange(length) >= policy_from
    logp = np.where(is_policy, -0.01 * np.arange(length), 0.0).astype(np.float32)
    return Episode(
        task_id="task",
        attempt=attempt,
        policy_version=0,
        token_ids=1000 * attempt + np.arange(length, dtype=np.int32),
        is_policy=is_policy,
        sampler_logp=logp,
        policy_logp=logp,
        turns=(),
        reward=0.0,
        stop_reason=stop_reason,
    )


def collated(episodes, advantages, *, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return collate(episodes, np.asarray(advantages, np.float32), rng=rng, **(SHAPE | changes))


def attempts(update):
    """The attempts whose rows an update holds."""
    rows = [row for batch in update.batches for row in zip(batch.tokens_BT, batch.is_policy_BT, strict=True)]
    return [int(tokens[mask > 0][0]) // 1000 for tokens, mask in rows if mask.any()]


def test_a_row_by_hand():
    """Five tokens, the policy's from index 2; a padding row, and columns up to a multiple of four."""
    [update] = collated([episode(1, 5)], [0.5], rows_per_batch=2, width_multiple=4)
    [batch] = update.batches
    np.testing.assert_array_equal(batch.tokens_BT, [[1000, 1001, 1002, 1003, 1004, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(batch.is_policy_BT, [[0, 0, 1, 1, 1, 0, 0, 0], [0] * 8])
    np.testing.assert_array_equal(batch.advantage_BT, [[0, 0, 0.5, 0.5, 0.5, 0, 0, 0], [0] * 8])
    logp_BT = [[0, 0, -0.02, -0.03, -0.04, 0, 0, 0], [0] * 8]
    np.testing.assert_allclose(batch.sampler_logp_BT, logp_BT, atol=1e-7)
    assert (update.policy_token_count, update.episode_count) == (3, 1)


def test_the_first_token_is_masked_even_where_the_policy_began():
    [update] = collated([episode(0, 4, policy_from=0)], [1.0])
    assert update.batches[0].is_policy_BT[:, 0].sum() == 0
    assert update.policy_token_count == 3


@pytest.mark.parametrize(
    ("useless", "advantage"),
    [
        (episode(1, 9), 0.0),
        (episode(1, 9, stop_reason=StopReason.HOST_FAILURE), 1.0),
        (episode(1, 9, policy_from=9), 1.0),
    ],
    ids=["zero advantage", "invalid", "no policy token"],
)
def test_episodes_that_teach_nothing_are_dropped(useless, advantage):
    [update] = collated([episode(0, 5), useless], [1.0, advantage])
    assert attempts(update) == [0]
    assert collated([useless], [advantage]) == []


@given(
    lengths=st.lists(st.integers(3, 40), min_size=1, max_size=60),
    rows_per_update=st.integers(1, 16),
    rows_per_batch=st.integers(1, 8),
    seed=st.integers(0, 3),
)
@settings(max_examples=60)
def test_every_episode_is_used_once_in_batches_of_few_shapes(lengths, rows_per_update, rows_per_batch, seed):
    episodes = [episode(attempt, length) for attempt, length in enumerate(lengths)]
    updates = collated(
        episodes,
        np.ones(len(lengths)),
        seed=seed,
        rows_per_update=rows_per_update,
        rows_per_batch=rows_per_batch,
    )
    used = Counter(attempt for update in updates for attempt in attempts(update))
    assert used == Counter(range(len(lengths)))
    sizes = [update.episode_count for update in updates]
    assert max(sizes) - min(sizes) <= 1
    assert len(updates) == 1 or max(sizes) <= 1.5 * rows_per_update + 1
    for update in updates:
        tokens = sum(int(batch.is_policy_BT.sum()) for batch in update.batches)
        assert tokens == update.policy_token_count
        assert {field.shape for batch in update.batches for field in batch} <= {
            (rows_per_batch, width) for width in (16, 32, 48)
        }


def test_the_seed_decides_the_deal_and_nothing_else_does():
    episodes = [episode(attempt, 10 + attempt % 7) for attempt in range(24)]
    deals = [
        [sorted(attempts(update)) for update in collated(episodes, np.ones(24), seed=s)] for s in (0, 0, 1)
    ]
    assert deals[0] == deals[1] != deals[2]
    assert [len(deal) for deal in deals[0]] == [8, 8, 8]


def test_a_remainder_is_shared_out_instead_of_getting_an_update_of_its_own():
    episodes = [episode(attempt, 10) for attempt in range(20)]
    assert [update.episode_count for update in collated(episodes[:9], np.ones(9))] == [9]
    assert [update.episode_count for update in collated(episodes[:3], np.ones(3))] == [3]
    assert [update.episode_count for update in collated(episodes, np.ones(20))] == [10, 10]


def test_rows_of_similar_length_share_a_batch():
    lengths = [40, 5, 38, 6, 7, 39, 8, 37]
    [update] = collated([episode(i, length) for i, length in enumerate(lengths)], np.ones(8))
    assert [batch.tokens_BT.shape[1] for batch in update.batches] == [16, 48]


def test_demonstrations_keep_their_masks():
    pair = (np.array([7, 8, 9], np.int32), np.array([False, False, True]))
    update = demonstration_batches([pair, pair], rows_per_batch=4, width_multiple=4)
    [batch] = update.batches
    np.testing.assert_array_equal(batch.tokens_BT, [[7, 8, 9, 0]] * 2 + [[0] * 4] * 2)
    np.testing.assert_array_equal(batch.is_policy_BT, [[0, 0, 1, 0]] * 2 + [[0] * 4] * 2)
    assert update.policy_token_count == 2
    assert not batch.sampler_logp_BT.any() and not batch.advantage_BT.any()


def test_a_mean_over_episodes_by_hand():
    """Two episodes of 2 and 6 policy tokens: mean length 4, so their advantages are scaled by 4/2 and 4/6.

    Summed over tokens and divided by the 8 tokens, each episode weighs 1/2, as in a mean over episodes.
    """
    (update,) = collated([episode(0, 4), episode(1, 8)], [1.0, -3.0], mean="episode")
    sums = {}
    for batch in update.batches:
        for row in range(batch.tokens_BT.shape[0]):
            own = batch.advantage_BT[row][batch.is_policy_BT[row] > 0]
            if own.size:
                sums[own.size] = (own[0], own.sum() / update.policy_token_count)
    np.testing.assert_allclose(sums[2], (2.0, 1.0 / 2), rtol=1e-6)
    np.testing.assert_allclose(sums[6], (-2.0, -3.0 / 2), rtol=1e-6)


def test_the_means_agree_on_episodes_of_one_length():
    episodes, advantages = [episode(i, 6) for i in range(4)], [1.0, -1.0, 0.5, 2.0]
    by_token, by_episode = (collated(episodes, advantages, mean=mean) for mean in ("token", "episode"))
    for one, other in zip(by_token[0].batches, by_episode[0].batches, strict=True):
        np.testing.assert_array_equal(one.advantage_BT, other.advantage_BT)
