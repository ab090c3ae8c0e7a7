"""One update: gradients over the batches of an update, added up, then one optimizer step.

The trainer is blind to the algorithm. It is given a function from parameters and tokens to log-probabilities
and a loss on them; advantages arrive in the batch. It divides nothing by a count of its own: the caller gives
the denominator, so an update is the same however its rows are split into batches or padded.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from codegym_jax.records import TrainBatch
from codegym_jax.trainer.state import TrainState

Metrics = dict[str, jax.Array]
"""Scalars on the device. They add up over the batches of an update; of those named `*_max` the largest
counts."""

LogProbFn = Callable[[optax.Params, Any], tuple[Array, Array]]
"""`(params, tokens_BT) -> (logp_BT, entropy_BT)`; both belong to `tokens_BT[b, t]` itself, not to the next
token."""

LossFn = Callable[..., tuple[Array, Metrics]]
"""`(policy_logp_BT, sampler_logp_BT, advantage_BT, mask_BT, denominator=...) -> (loss, metrics)`."""

Step = Callable[[TrainState, Sequence[TrainBatch], float], tuple[TrainState, Metrics]]
"""`(state, batches, denominator) -> (state, metrics)`: one update. The state passed in is gone afterwards.

All arrays stay on the device: fetch the metrics of an update after the next one is dispatched. One program is
compiled for each shape of batch, and two for the rest.
"""


def make_sft_step(
    log_prob_fn: LogProbFn,
    optimizer: optax.GradientTransformation,
    *,
    state_sharding: TrainState | None = None,
) -> Step:
    """Maximum likelihood of the policy's tokens: loss = -sum(mask * logp) / denominator, in nats a token.

    Args:
      log_prob_fn: the policy.
      optimizer: turns gradients into updates.
      state_sharding: a `TrainState` of shardings that the new state is to have; None leaves it to the
        compiler.

    Returns:
      A step whose metrics are `loss` and `grad_norm`.
    """

    def loss_fn(params: optax.Params, batch: TrainBatch, denominator: Array) -> tuple[Array, Metrics]:
        logp_BT, _ = log_prob_fn(params, batch.tokens_BT)
        loss = -_masked_sum(logp_BT, batch) / denominator
        return loss, {"loss": loss}

    return _make_step(loss_fn, optimizer, state_sharding)


def make_policy_gradient_step(
    log_prob_fn: LogProbFn,
    loss_fn: LossFn,
    optimizer: optax.GradientTransformation,
    *,
    state_sharding: TrainState | None = None,
) -> Step:
    """Reinforcement learning from the batch's advantages.

    Args:
      log_prob_fn: the policy.
      loss_fn: a surrogate whose gradient is the policy gradient, such as a preset's loss with its bounds
        filled in.
      optimizer: turns gradients into updates.
      state_sharding: a `TrainState` of shardings that the new state is to have; None leaves it to the
        compiler.

    Returns:
      A step whose metrics are `loss`, `entropy` (nats a token), `grad_norm`, and those of `loss_fn`.
    """

    def batch_loss(params: optax.Params, batch: TrainBatch, denominator: Array) -> tuple[Array, Metrics]:
        logp_BT, entropy_BT = log_prob_fn(params, batch.tokens_BT)
        loss, metrics = loss_fn(
            logp_BT, batch.sampler_logp_BT, batch.advantage_BT, batch.is_policy_BT, denominator=denominator
        )
        return loss, {"loss": loss, "entropy": _masked_sum(entropy_BT, batch) / denominator, **metrics}

    return _make_step(batch_loss, optimizer, state_sharding)


def _make_step(
    loss_fn: Callable[[optax.Params, TrainBatch, Array], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
    state_sharding: TrainState | None,
) -> Step:
    params_sharding = None if state_sharding is None else state_sharding.params
    gradient = jax.jit(
        lambda params, batch, denominator: jax.grad(loss_fn, has_aux=True)(params, batch, denominator),
        **_outputs(params_sharding, None),
    )
    add = jax.jit(_add, donate_argnums=0, **_outputs(params_sharding, None))
    apply = jax.jit(
        lambda state, grads: _apply(optimizer, state, grads),
        donate_argnums=0,
        **_outputs(state_sharding, None),
    )

    def step(
        state: TrainState, batches: Sequence[TrainBatch], denominator: float
    ) -> tuple[TrainState, Metrics]:
        if not batches:
            raise ValueError("an update needs at least one batch")
        if not denominator > 0:
            raise ValueError(f"the denominator of an update must be positive, got {denominator}")
        scale = jnp.float32(denominator)
        total = gradient(state.params, batches[0], scale)
        for batch in batches[1:]:
            total = add(total, gradient(state.params, batch, scale))
        grads, metrics = total
        state, grad_norm = apply(state, grads)
        return state, {**metrics, "grad_norm": grad_norm}

    return step


def _outputs(*shardings: Any) -> dict[str, Any]:
    """The argument of `jax.jit` that fixes where outputs live; nothing where the first sharding is not
    given."""
    return {} if shardings[0] is None else {"out_shardings": shardings}


def _add(
    left: tuple[optax.Params, Metrics], right: tuple[optax.Params, Metrics]
) -> tuple[optax.Params, Metrics]:
    grads = jax.tree.map(jnp.add, left[0], right[0])
    combined = {
        name: (jnp.maximum if name.endswith("_max") else jnp.add)(value, right[1][name])
        for name, value in left[1].items()
    }
    return grads, combined


def _apply(
    optimizer: optax.GradientTransformation, state: TrainState, grads: optax.Params
) -> tuple[TrainState, jax.Array]:
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(state.step + 1, params, opt_state), optax.tree.norm(grads)


def _masked_sum(values_BT: Array, batch: TrainBatch) -> Array:
    return (values_BT * batch.is_policy_BT).sum()
