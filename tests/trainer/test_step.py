"""Laws of an update, on a bigram policy: the next token depends on the present one alone."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from codegym_jax.algorithms.log_probs import make_log_prob_fn
from codegym_jax.algorithms.losses import clipped_ratio_loss
from codegym_jax.records import TrainBatch
from codegym_jax.trainer.optimizer import make_adamw
from codegym_jax.trainer.state import TrainState, init_state, params_hash
from codegym_jax.trainer.step import make_policy_gradient_step, make_sft_step

V, D = 8, 16
LOG_PROB_FN = make_log_prob_fn(
    lambda params, tokens_BT: params["embedding"][tokens_BT], lambda params: params["head"], chunk_tokens=4
)
LOSS_FN = partial(clipped_ratio_loss, clip_low=0.2, clip_high=0.2)
OPTIMIZER = make_adamw(0.05, warmup_steps=0, weight_decay=0.0, b1=0.9, b2=0.95, max_grad_norm=1.0)
STEPS = {
    "sft": make_sft_step(LOG_PROB_FN, OPTIMIZER),
    "policy_gradient": make_policy_gradient_step(LOG_PROB_FN, LOSS_FN, OPTIMIZER),
}


def fresh_state():
    keys = jax.random.split(jax.random.key(0))
    params = {"embedding": jax.random.normal(keys[0], (V, D)), "head": jax.random.normal(keys[1], (D, V)) / 4}
    return init_state(params, OPTIMIZER)


def random_batch(seed=0, rows=8, width=6):
    rng = np.random.default_rng(seed)
    mask_BT = rng.random((rows, width)) < 0.7
    mask_BT[:, 0] = False
    return TrainBatch(
        tokens_BT=rng.integers(0, V, (rows, width), dtype=np.int32),
        is_policy_BT=mask_BT.astype(np.float32),
        sampler_logp_BT=np.where(mask_BT, -rng.random((rows, width)) - 1.5, 0).astype(np.float32),
        advantage_BT=np.where(mask_BT, rng.standard_normal((rows, width)), 0).astype(np.float32),
    )


def rows_of(batch, rows):
    return TrainBatch(*(field[rows] for field in batch))


def padded(batch, rows, columns):
    return TrainBatch(*(np.pad(field, ((0, rows), (0, columns))) for field in batch))


def token_count(*batches):
    return float(sum(batch.is_policy_BT.sum() for batch in batches))


def assert_close(actual, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-6), actual, expected)


@pytest.mark.parametrize("name", STEPS)
def test_splitting_and_padding_an_update_changes_nothing(name):
    """The batches of an update may be cut and filled up at will: parameters and metrics agree."""
    step, batch = STEPS[name], random_batch()
    whole = step(fresh_state(), [batch], token_count(batch))
    parts = [padded(rows_of(batch, slice(0, 3)), 2, 4), padded(rows_of(batch, slice(3, 8)), 0, 1)]
    split = step(fresh_state(), parts, token_count(*parts))
    assert_close((split[0].params, split[1]), (whole[0].params, whole[1]))


@pytest.mark.parametrize("name", STEPS)
def test_the_same_update_gives_the_same_bytes(name):
    batches = [random_batch(0), random_batch(1)]
    hashes = {params_hash(STEPS[name](fresh_state(), batches, 50.0)[0].params) for _ in range(3)}
    assert len(hashes) == 1


@pytest.mark.parametrize("name", STEPS)
def test_an_update_counts_itself_and_consumes_the_state(name):
    before = fresh_state()
    after, _ = STEPS[name](before, [random_batch()], 10.0)
    assert int(after.step) == 1
    assert before.params["head"].is_deleted() and not after.params["head"].is_deleted()


def test_supervised_loss_and_gradient_norm_of_a_uniform_policy():
    """With a zero head every token costs log V, and d loss / d logit = 1/V - [it is the token].

    For one token after a hidden state h, the head's gradient is the outer product of h with that. Its norm is
    |h| sqrt((1 - 1/V)^2 + (V - 1) / V^2) = |h| sqrt(1 - 1/V).
    """
    state = fresh_state()
    state = init_state(state.params | {"head": jnp.zeros((D, V))}, OPTIMIZER)
    hidden_norm = float(jnp.linalg.norm(state.params["embedding"][3]))
    batch = TrainBatch(
        np.array([[3, 5]], np.int32), np.array([[0, 1]], np.float32), *np.zeros((2, 1, 2), np.float32)
    )
    _, metrics = STEPS["sft"](state, [batch], 1.0)
    np.testing.assert_allclose(metrics["loss"], np.log(V), rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], hidden_norm * (1 - 1 / V) ** 0.5, rtol=1e-5)


def test_supervised_learning_finds_the_sequence():
    """Token t is followed by (3 t + 1) mod 8; only even positions are imitated, so only they are learned."""
    rng, state = np.random.default_rng(0), fresh_state()
    for _ in range(60):
        first_B = rng.integers(0, V, 16, dtype=np.int32)
        tokens_BT = np.stack([first_B, (3 * first_B + 1) % V, rng.integers(0, V, 16, dtype=np.int32)], axis=1)
        mask_BT = np.tile(np.array([0, 1, 0], np.float32), (16, 1))
        batch = TrainBatch(tokens_BT, mask_BT, *np.zeros((2, 16, 3), np.float32))
        state, metrics = STEPS["sft"](state, [batch], token_count(batch))
    assert float(metrics["loss"]) < 0.1


def test_reward_rises_on_a_task_of_one_token():
    """The policy is paid for token 5 after token 0: sampled, judged and updated, it comes to say it."""
    rng, state = np.random.default_rng(0), fresh_state()
    mask_BT = np.tile(np.array([0, 1], np.float32), (64, 1))
    shares = []
    for _ in range(30):
        logits_V = np.asarray(state.params["embedding"][0] @ state.params["head"], np.float64)
        probability_V = np.exp(logits_V) / np.exp(logits_V).sum()
        action_B = rng.choice(V, 64, p=probability_V)
        reward_B = (action_B == 5).astype(np.float32)
        tokens_BT = np.stack([np.zeros_like(action_B), action_B], axis=1).astype(np.int32)
        batch = TrainBatch(
            tokens_BT,
            mask_BT,
            (mask_BT * np.log(probability_V)[action_B][:, None]).astype(np.float32),
            mask_BT * (reward_B - reward_B.mean())[:, None],
        )
        state, _ = STEPS["policy_gradient"](state, [batch], 64.0)
        shares.append(reward_B.mean())
    assert shares[0] < 0.3 and shares[-1] > 0.9


def test_metrics_say_how_far_the_sampler_was():
    """Entropy log V for a uniform policy; a sampler that was uniform too shows ratio 1 and no divergence."""
    state = init_state({"embedding": jnp.ones((V, D)), "head": jnp.zeros((D, V))}, OPTIMIZER)
    batch = random_batch()
    batch = batch._replace(sampler_logp_BT=batch.is_policy_BT * np.float32(-np.log(V)))
    _, metrics = STEPS["policy_gradient"](state, [batch, batch], token_count(batch, batch))
    np.testing.assert_allclose(metrics["entropy"], np.log(V), rtol=1e-5)
    np.testing.assert_allclose(metrics["ratio_max"], 1.0, rtol=1e-5)
    np.testing.assert_allclose([metrics["mismatch_kl"], metrics["clip_fraction"]], 0.0, atol=1e-6)


@pytest.mark.parametrize("denominator", [0.0, -1.0, float("nan")])
def test_an_update_over_nothing_is_refused(denominator):
    with pytest.raises(ValueError, match="denominator of an update must be positive"):
        STEPS["sft"](fresh_state(), [random_batch()], denominator)
    with pytest.raises(ValueError, match="at least one batch"):
        STEPS["sft"](fresh_state(), [], 1.0)


def test_sharded_equals_unsharded():
    """Rows over two devices, parameters over four; the new state stays where the old one was."""
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)

    def sharding(leaf):
        return NamedSharding(mesh, PartitionSpec("fsdp") if leaf.ndim == 2 else PartitionSpec())

    state = fresh_state()
    state_sharding = TrainState(*(jax.tree.map(sharding, part) for part in state))
    step = make_policy_gradient_step(LOG_PROB_FN, LOSS_FN, OPTIMIZER, state_sharding=state_sharding)
    batches = [random_batch(0), random_batch(1)]
    placed = [jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data"))) for batch in batches]
    sharded = step(jax.device_put(state, state_sharding), placed, token_count(*batches))
    plain = STEPS["policy_gradient"](fresh_state(), batches, token_count(*batches))
    assert_close((sharded[0].params, sharded[1]), (plain[0].params, plain[1]))
    assert sharded[0].params["head"].sharding.spec == PartitionSpec("fsdp")
