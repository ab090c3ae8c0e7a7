"""What packing keeps, weighs, promises about shapes, and refuses."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegym_jax.rollout.packing import Lesson, first_fit_decreasing, pack, pack_in_order, unpack

SETTINGS = {"episodes_per_update": 8, "rows_per_batch": 2, "row_tokens": 16, "mean": "token"}


def lesson(number, length, *, policy_from=2, advantage=1.0):
    """Token ids count up from 100 * number, so that every token can be told from every other."""
    is_policy = np.arange(length) >= policy_from
    return Lesson(
        token_ids=100 * number + np.arange(length, dtype=np.int32),
        is_policy=is_policy,
        sampler_logp=np.where(is_policy, -0.01 * np.arange(length), 7.0).astype(np.float32),
        advantage=np.where(is_policy, advantage + 0.1 * np.arange(length), 7.0).astype(np.float32),
    )


def packed(lessons, *, seed=0, **changes):
    return pack(lessons, rng=np.random.default_rng(seed), **(SETTINGS | changes))


def segments(update):
    """Every lesson found in an update: (row, its part of each array) in the order of the rows."""
    rows = [leaf.reshape(-1, leaf.shape[-1]) for leaf in update.batches if leaf is not None]
    names = [name for name, leaf in update.batches._asdict().items() if leaf is not None]
    for row in range(rows[0].shape[0]):
        fields = dict(zip(names, (leaf[row] for leaf in rows), strict=True))
        for segment in range(1, fields["segment_BT"].max(initial=0) + 1):
            inside = fields["segment_BT"] == segment
            yield row, {name: values[inside] for name, values in fields.items()}


def test_a_row_by_hand():
    """Lessons of 5 and 3 tokens share a row of 9; the policy's begin at index 2, four of them in all."""
    [update] = packed([lesson(1, 3, advantage=1.0), lesson(2, 5, advantage=-1.0)], row_tokens=9)
    batch, padding = update.batches, [[0] * 9]
    expected = {
        "tokens_BT": [200, 201, 202, 203, 204, 100, 101, 102, 0],
        "segment_BT": [1, 1, 1, 1, 1, 2, 2, 2, 0],
        "is_policy_BT": [0, 0, 1, 1, 1, 0, 0, 1, 0],
        "weight_BT": [0, 0, 0.25, 0.25, 0.25, 0, 0, 0.25, 0],
        "sampler_logp_BT": [0, 0, -0.02, -0.03, -0.04, 0, 0, -0.02, 0],
        "advantage_BT": [0, 0, -0.8, -0.7, -0.6, 0, 0, 1.2, 0],
    }
    for name, row in expected.items():
        np.testing.assert_allclose(getattr(batch, name), [[row, *padding]], atol=1e-6, err_msg=name)
    assert (update.batch_count, update.token_count, update.episode_count) == (1, 4, 2)
    assert batch.old_logp_BT is batch.reference_logp_BT is batch.old_value_BT is batch.return_BT is None


@pytest.mark.parametrize(
    ("mean", "weights"),
    [("token", (1 / 8, 1 / 8)), ("episode", (1 / 4, 1 / 12)), ("fixed", (1 / 20, 1 / 20))],
)
def test_weights_by_hand(mean, weights):
    """Two lessons of 2 and 6 policy tokens: 8 tokens, 2 episodes; a fixed length of 10 makes 20 tokens."""
    [update] = packed([lesson(0, 4), lesson(1, 8)], mean=mean, fixed_tokens=10)
    found = {part["tokens_BT"].size: part["weight_BT"][2:] for _, part in segments(update)}
    np.testing.assert_allclose(found[4], weights[0], rtol=1e-6)
    np.testing.assert_allclose(found[8], weights[1], rtol=1e-6)


def test_the_means_agree_on_lessons_of_one_length():
    of_each_mean = [
        packed([lesson(i, 8) for i in range(4)], mean=mean, fixed_tokens=6)[0].batches.weight_BT
        for mean in ("token", "episode", "fixed")
    ]
    np.testing.assert_array_equal(of_each_mean[0], of_each_mean[1])
    np.testing.assert_array_equal(of_each_mean[0], of_each_mean[2])


def test_the_first_token_never_counts():
    [update] = packed([lesson(0, 4, policy_from=0), lesson(1, 4, policy_from=0)])
    firsts = [part for _, part in segments(update)]
    for name in ("is_policy_BT", "weight_BT", "sampler_logp_BT", "advantage_BT"):
        assert [part[name][0] for part in firsts] == [0, 0], name
    assert update.token_count == 6


@given(
    lengths=st.lists(st.integers(3, 16), min_size=1, max_size=50),
    episodes_per_update=st.integers(1, 16),
    rows_per_batch=st.integers(1, 4),
    mean=st.sampled_from(["token", "episode", "fixed"]),
    seed=st.integers(0, 3),
)
@settings(max_examples=60)
def test_every_token_once_in_rows_of_one_width(lengths, episodes_per_update, rows_per_batch, mean, seed):
    lessons = [lesson(number, length) for number, length in enumerate(lengths)]
    updates = packed(
        lessons,
        seed=seed,
        episodes_per_update=episodes_per_update,
        rows_per_batch=rows_per_batch,
        mean=mean,
        fixed_tokens=16,
    )
    seen = Counter()
    for update in updates:
        for _, part in segments(update):
            source = lessons[part["tokens_BT"][0] // 100]
            np.testing.assert_array_equal(part["tokens_BT"], source.token_ids)
            np.testing.assert_array_equal(part["is_policy_BT"], source.is_policy)
            np.testing.assert_array_equal(part["advantage_BT"], source.advantage * source.is_policy)
            np.testing.assert_array_equal(part["sampler_logp_BT"], source.sampler_logp * source.is_policy)
            seen[int(part["tokens_BT"][0]) // 100] += 1
        batches = update.batches
        stacked = batches.tokens_BT.shape[0]
        assert batches.tokens_BT.shape == (stacked, rows_per_batch, 16)
        assert stacked & (stacked - 1) == 0 and update.batch_count <= stacked < 2 * update.batch_count
        assert not batches.segment_BT[update.batch_count :].any()
        assert batches.segment_BT[: update.batch_count].any(axis=(1, 2)).all()
        assert update.token_count == batches.is_policy_BT.sum()
        for leaf in (batches.tokens_BT, batches.weight_BT, batches.advantage_BT, batches.sampler_logp_BT):
            assert not leaf[batches.segment_BT == 0].any(), "padding is 0 and never counts"
        np.testing.assert_array_equal(batches.weight_BT > 0, batches.is_policy_BT > 0)
        sums_to = 1.0 if mean != "fixed" else update.token_count / (16 * update.episode_count)
        np.testing.assert_allclose(batches.weight_BT.sum(dtype=np.float64), sums_to, rtol=1e-5)
    assert seen == Counter(range(len(lengths)))
    sizes = [update.episode_count for update in updates]
    assert max(sizes) - min(sizes) <= 1
    assert len(updates) == 1 or max(sizes) <= 1.5 * episodes_per_update + 1


@given(lengths=st.lists(st.integers(1, 20), max_size=60))
def test_first_fit_decreasing_wastes_less_than_half(lengths):
    """No two of its rows would fit into one; so it needs less than twice the fewest, give or take one."""
    rows = first_fit_decreasing(lengths, 20)
    assert sorted(index for row in rows for index in row) == list(range(len(lengths)))
    filled = sorted(sum(lengths[index] for index in row) for row in rows)
    assert all(total <= 20 for total in filled)
    assert len(filled) < 2 or filled[0] + filled[1] > 20


def test_first_fit_decreasing_by_hand():
    """7 and 3 fill a row; 6 takes the 2 that still fits, not the 4; ties keep their order."""
    assert first_fit_decreasing([3, 6, 7, 2, 4, 2], 10) == [[2, 0], [1, 4], [3, 5]]


def test_the_seed_decides_the_deal_and_nothing_else_does():
    lessons = [lesson(number, 10 + number % 6) for number in range(24)]
    deals = [
        [sorted(part["tokens_BT"][0] for _, part in segments(update)) for update in packed(lessons, seed=s)]
        for s in (0, 0, 1)
    ]
    assert deals[0] == deals[1] != deals[2]
    assert [len(deal) for deal in deals[0]] == [8, 8, 8]


def test_a_remainder_is_shared_out_instead_of_getting_an_update_of_its_own():
    lessons = [lesson(number, 10) for number in range(20)]
    assert [update.episode_count for update in packed(lessons[:9])] == [9]
    assert [update.episode_count for update in packed(lessons)] == [10, 10]
    assert packed([]) == []


@given(lengths=st.lists(st.integers(3, 16), min_size=1, max_size=20), rows_per_batch=st.integers(1, 4))
@settings(max_examples=30)
def test_what_is_said_of_packed_lessons_comes_back_to_each(lengths, rows_per_batch):
    """In the order that they were given in, whatever row they lie in."""
    lessons = [lesson(number, length) for number, length in enumerate(lengths)]
    update, places = pack_in_order(lessons, rows_per_batch=rows_per_batch, row_tokens=16)
    for one, ids in zip(lessons, unpack(update.batches.tokens_BT, places), strict=True):
        np.testing.assert_array_equal(ids, one.token_ids)
    assert update.episode_count == len(lessons)


def test_what_an_algorithm_asks_for_lies_beside_its_token():
    """Old and reference log-probabilities, values and returns; 0 off the policy's tokens."""
    own = np.arange(4, dtype=np.float32)
    one = lesson(0, 4)._replace(
        old_logp=own + 0.1, reference_logp=own + 0.2, old_value=own + 0.3, returns=own + 0.4
    )
    [update] = packed([one, one], row_tokens=9)
    for name, extra in (("old_logp", 0.1), ("reference_logp", 0.2), ("old_value", 0.3), ("return", 0.4)):
        half = [0, 0, 2 + extra, 3 + extra]
        field = getattr(update.batches, f"{name}_BT")
        np.testing.assert_allclose(field, [[[*half, *half, 0], [0] * 9]], rtol=1e-6, err_msg=name)


def test_demonstrations_have_no_sampler():
    [update] = packed([lesson(0, 5)._replace(sampler_logp=None)])
    assert not update.batches.sampler_logp_BT.any() and update.token_count == 3


def test_what_cannot_be_packed_is_named():
    with pytest.raises(ValueError, match="lesson 1 has 17 tokens, and a packed row holds 16"):
        packed([lesson(0, 16), lesson(1, 17)])
    with pytest.raises(ValueError, match="lesson 0 has no token of the policy"):
        packed([lesson(0, 5, policy_from=5)])
    with pytest.raises(ValueError, match="fixed_tokens of at least 1, got 0"):
        packed([lesson(0, 5)], mean="fixed")
    with pytest.raises(ValueError, match="no lessons to pack"):
        pack_in_order([], rows_per_batch=2, row_tokens=16)


@given(st.lists(st.integers(3, 16), min_size=1, max_size=20), st.integers(1, 4))
def test_what_was_packed_in_order_is_found_again(lengths, rows_per_batch):
    lessons = [lesson(number, length) for number, length in enumerate(lengths)]
    update, places = pack_in_order(lessons, rows_per_batch=rows_per_batch, row_tokens=16)
    found = unpack(np.asarray(update.batches.tokens_BT), places)
    assert [ids.tolist() for ids in found] == [one.token_ids.tolist() for one in lessons]
    assert update.episode_count == len(lessons)
    assert update.positions == update.batch_count * rows_per_batch * 16


def test_optional_fields_are_there_when_lessons_have_them():
    """Off the policy's tokens they are 0, like all others."""
    values = np.arange(4, dtype=np.float32)
    one = lesson(0, 4)._replace(old_logp=values, returns=-values)
    update, _ = pack_in_order([one], rows_per_batch=1, row_tokens=5)
    batch = update.batches
    assert batch.old_logp_BT[0, 0].tolist() == [0, 0, 2, 3, 0]
    assert batch.return_BT[0, 0].tolist() == [0, 0, -2, -3, 0]
    assert batch.reference_logp_BT is batch.old_value_BT is None


def test_nothing_to_pack_in_order_is_refused():
    with pytest.raises(ValueError, match="there are no lessons"):
        pack_in_order([], rows_per_batch=1, row_tokens=5)
