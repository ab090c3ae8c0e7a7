"""One update: gradients over the packed batches of an update, added up, then one optimizer step.

The trainer is blind to the algorithm. It is given a function from parameters and tokens to what the policy
says about them, and an objective on that; advantages and weights arrive in the batch. An objective is a plain
sum over tokens, so an update is the same however its lessons share rows, batches and devices.

An update is one compiled program for each number of stacked batches: a loop over those that count, whose
number is data. The state is donated, and the new one lies where the old one lay.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, PyTree

from codegym_jax.records import PackedBatch, Update
from codegym_jax.trainer.state import TrainState, on_host

Metrics = dict[str, jax.Array]
"""Scalars on the device. Those of an objective add up over the batches of an update; of those named `*_max`
the largest counts."""


class Scores(Protocol):
    """What a policy says about the tokens of a batch; a NamedTuple, hence a pytree.

    Each entry belongs to `tokens_BT[b, t]` itself, given what precedes it.
    """

    @property
    def logp_BT(self) -> Float[Array, "B T"]:
        """Log-probability, in nats."""
        ...

    @property
    def entropy_BT(self) -> Float[Array, "B T"]:
        """Of the distribution that the token was judged by, in nats."""
        ...

    @property
    def value_BT(self) -> Float[Array, "B T"] | None:
        """The critic's, before the token is chosen; None without a critic."""
        ...


ScoreFn = Callable[[optax.Params, Any, Any, Any], Any]
"""`(params, frozen, tokens_BT, segment_BT) -> Scores`.

`params` learn; `frozen` is whatever else the policy needs and no update changes, such as the matrices under
low-rank adapters; `()` for nothing.
"""

Objective = Callable[[Any, PackedBatch, Array], tuple[Array, Metrics]]
"""`(scores, batch, token_count) -> (loss, metrics)`, both of this batch's share alone; `token_count` is of
the whole update, for metrics that are means over tokens."""


class Findings(NamedTuple):
    """What the gradient of one batch is like."""

    metrics: dict[str, float]
    """The objective's, of this batch alone."""
    leaves: int
    """Arrays of the gradient."""
    nonfinite: list[str]
    """Names of those that hold NaN or infinity."""


class NotFinite(ArithmeticError):
    """An update was not made, since its gradient held NaN or infinity.

    Attributes:
      update: the one, as it was packed.
      number: of it among those of its step, from 1.
      count: updates of the step.
    """

    def __init__(self, update: Update, number: int, count: int) -> None:
        super().__init__(f"update {number} of {count}: the gradient is not finite")
        self.update, self.number, self.count = update, number, count


def require_made(metrics: Sequence[Metrics], updates: Sequence[Update]) -> None:
    """Requires that the newest of a step's updates was made; waits for it.

    Args:
      metrics: of the updates so far, whose newest loses its `nonfinite` here.
      updates: all of the step, as they were packed.

    Raises:
      NotFinite: when it was not.
    """
    if metrics and float(metrics[-1].pop("nonfinite")):
        raise NotFinite(updates[len(metrics) - 1], len(metrics), len(updates))


class UpdateProgram:
    """`(state, frozen, update) -> (state, metrics)`: one update. The state passed in is gone afterwards.

    Metrics are the objective's, added up, and

    * `grad_norm`: Euclidean norm of the gradient over all parameters, before it is clipped;
    * `update_norm`: that of the step which the parameters took;
    * `nonfinite`: 1 where the gradient held NaN or infinity, else 0. Parameters and optimizer then stay as
      they were, and only `TrainState.step` counts. `require_made` reads it.

    All stay on the device until they are asked for.
    """

    def __init__(
        self,
        batch_loss: Callable[[optax.Params, Any, PackedBatch, Array], tuple[Array, Metrics]],
        optimizer: optax.GradientTransformation,
    ) -> None:
        """Compiles nothing yet; see `make_sft_update` and `make_policy_update`."""
        self._batch_loss = batch_loss
        self._optimizer = optimizer
        self._programs: dict[Any, Any] = {}

    def __call__(self, state: TrainState, frozen: Any, update: Update) -> tuple[TrainState, Metrics]:
        """Makes the update.

        Raises:
          ValueError: when the update holds nothing to learn from, or counts more batches than it has.
        """
        _require_countable(update)
        return self._program(state)(state, frozen, *_arguments(update))

    def lower(self, state: TrainState, frozen: Any, update: Update) -> jax.stages.Lowered:
        """The program for arguments of these shapes, not compiled; arrays may be `jax.ShapeDtypeStruct`."""
        return self._program(state).lower(state, frozen, *_arguments(update))

    def examine(self, state: TrainState, frozen: Any, update: Update) -> list[Findings]:
        """What the gradient of each batch that counts is like, by itself. Changes nothing."""
        _require_countable(update)

        def look(params: optax.Params, frozen: Any, batch: PackedBatch, token_count: Array) -> Any:
            grads, metrics = jax.grad(self._batch_loss, has_aux=True)(params, frozen, batch, token_count)
            return metrics, jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), grads)

        program, batches, token_count = jax.jit(look), update.batches, np.float32(update.token_count)
        found = []
        for index in range(update.batch_count):
            batch = jax.tree.map(lambda leaf, index=index: leaf[index], batches)
            metrics, finite = jax.device_get(program(state.params, frozen, batch, token_count))
            leaves = jax.tree_util.tree_leaves_with_path(finite)
            found.append(
                Findings(
                    metrics={name: float(value) for name, value in metrics.items()},
                    leaves=len(leaves),
                    nonfinite=[jax.tree_util.keystr(path) for path, is_finite in leaves if not is_finite],
                )
            )
        return found

    def _program(self, state: TrainState) -> Any:
        """The function that leaves the new state where this one is."""
        leaves, structure = jax.tree.flatten(state)
        places = tuple(leaf.sharding if isinstance(leaf.sharding, NamedSharding) else None for leaf in leaves)
        key = (structure, places)
        if key not in self._programs:
            layout = jax.tree.unflatten(structure, places)

            def program(state: TrainState, *data: Any) -> tuple[TrainState, Metrics]:
                return _update(self._batch_loss, self._optimizer, layout.params, state, *data)

            self._programs[key] = jax.jit(program, donate_argnums=0, out_shardings=(layout, None))
        return self._programs[key]


def make_sft_update(score_fn: ScoreFn, optimizer: optax.GradientTransformation) -> UpdateProgram:
    """Maximum likelihood of the policy's tokens: loss = -sum(weight * logp), in nats a token.

    Its one metric of its own is `loss`.
    """

    def batch_loss(
        params: optax.Params, frozen: Any, batch: PackedBatch, token_count: Array
    ) -> tuple[Array, Metrics]:
        del token_count
        scores: Scores = score_fn(params, frozen, batch.tokens_BT, batch.segment_BT)
        logp_BT = jnp.where(batch.is_policy_BT > 0.0, scores.logp_BT, 0.0)
        loss = -(logp_BT * batch.weight_BT).sum()
        return loss, {"loss": loss}

    return UpdateProgram(batch_loss, optimizer)


def make_policy_update(
    score_fn: ScoreFn, objective: Objective, optimizer: optax.GradientTransformation
) -> UpdateProgram:
    """Reinforcement learning from the batch's advantages, whatever the objective makes of them."""

    def batch_loss(
        params: optax.Params, frozen: Any, batch: PackedBatch, token_count: Array
    ) -> tuple[Array, Metrics]:
        scores = score_fn(params, frozen, batch.tokens_BT, batch.segment_BT)
        return objective(scores, batch, token_count)

    return UpdateProgram(batch_loss, optimizer)


def make_scorer(score_fn: ScoreFn) -> Callable[[optax.Params, Any, Update], Any]:
    """`(params, frozen, update) -> Scores` of all its batches, leaves "N B T"; nothing is donated.

    For what an update compares itself with: the learner's own log-probabilities and values before the first
    update of a step, and those of a reference policy. Batches that do not count hold 0.
    """

    def score(params: optax.Params, frozen: Any, batches: PackedBatch, batch_count: Array) -> Any:
        def of_batch(index: Array | int) -> Any:
            batch = _take(batches, index)
            return score_fn(params, frozen, batch.tokens_BT, batch.segment_BT)

        def write(index: Array, scores: Any) -> Any:
            return jax.tree.map(
                lambda all_NBT, one_BT: jax.lax.dynamic_update_index_in_dim(all_NBT, one_BT, index, 0),
                scores,
                of_batch(index),
            )

        one = jax.eval_shape(of_batch, 0)
        stacked = batches.tokens_BT.shape[0]
        empty = jax.tree.map(lambda leaf: jnp.zeros((stacked, *leaf.shape), leaf.dtype), one)
        return jax.lax.fori_loop(0, batch_count, write, empty)

    program = jax.jit(score)

    def scorer(params: optax.Params, frozen: Any, update: Update) -> Any:
        return program(params, frozen, update.batches, np.int32(update.batch_count))

    return scorer


def examine(
    program: UpdateProgram,
    scorer: Callable[[optax.Params, Any, Update], Any],
    state: TrainState,
    frozen: Any,
    update: Update,
) -> tuple[list[Findings], Any]:
    """What is wrong with an update that was not made, where the state is the one that it failed on.

    Returns:
      What its batches' gradients are like, and what the policy says of all tokens: `Scores`, on the host,
      leaves "N B T".
    """
    scores = jax.tree.map(on_host, scorer(state.params, frozen, update))
    return program.examine(state, frozen, update), scores


def _update(
    batch_loss: Callable[[optax.Params, Any, PackedBatch, Array], tuple[Array, Metrics]],
    optimizer: optax.GradientTransformation,
    layout: PyTree[NamedSharding | None],
    state: TrainState,
    frozen: Any,
    batches: PackedBatch,
    batch_count: Array,
    token_count: Array,
) -> tuple[TrainState, Metrics]:
    def gradient(index: Array | int) -> tuple[optax.Params, Metrics]:
        batch = _take(batches, index)
        grads, metrics = jax.grad(batch_loss, has_aux=True)(state.params, frozen, batch, token_count)
        return _laid_out(grads, layout), metrics

    grads, metrics = _total(gradient, batches.tokens_BT.shape[0], batch_count)
    state, of_step = _apply(optimizer, state, _laid_out(grads, layout))
    return state, {**metrics, **of_step}


def _total(
    gradient: Callable[[Array | int], tuple[optax.Params, Metrics]], stacked: int, batch_count: Array
) -> tuple[optax.Params, Metrics]:
    """Gradients and metrics of the first `batch_count` of so many stacked batches, added up in float32.

    A single batch needs no loop, nor a second tree of gradients to add to.
    """
    if stacked == 1:
        return gradient(0)
    grads, metrics = jax.eval_shape(gradient, 0)
    nothing = (
        jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), grads),
        {
            name: jnp.full(leaf.shape, -jnp.inf if _is_max(name) else 0.0, leaf.dtype)
            for name, leaf in metrics.items()
        },
    )
    summed, metrics = jax.lax.fori_loop(
        0, batch_count, lambda index, sofar: _add(sofar, gradient(index)), nothing
    )
    return jax.tree.map(lambda total, leaf: total.astype(leaf.dtype), summed, grads), metrics


def _add(
    total: tuple[optax.Params, Metrics], one: tuple[optax.Params, Metrics]
) -> tuple[optax.Params, Metrics]:
    grads = jax.tree.map(lambda sofar, grad: sofar + grad.astype(sofar.dtype), total[0], one[0])
    metrics = {
        name: jnp.maximum(sofar, one[1][name]) if _is_max(name) else sofar + one[1][name]
        for name, sofar in total[1].items()
    }
    return grads, metrics


def _apply(
    optimizer: optax.GradientTransformation, state: TrainState, grads: optax.Params
) -> tuple[TrainState, Metrics]:
    """One optimizer step, or none where the gradient is not finite."""
    grad_norm = _norm(grads)
    finite = jnp.isfinite(grad_norm)

    def kept(new: PyTree, old: PyTree) -> PyTree:
        return jax.tree.map(lambda after, before: jnp.where(finite, after, before), new, old)

    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = kept(optax.apply_updates(state.params, updates), state.params)
    metrics = {
        "grad_norm": grad_norm,
        "update_norm": jnp.where(finite, _norm(updates), 0.0),
        "nonfinite": 1.0 - finite.astype(jnp.float32),
    }
    return TrainState(state.step + 1, params, kept(opt_state, state.opt_state)), metrics


def _norm(tree: PyTree) -> Array:
    """Over all leaves, in float32 whatever their type."""
    return jnp.sqrt(sum(jnp.square(leaf.astype(jnp.float32)).sum() for leaf in jax.tree.leaves(tree)))


def _take(batches: PackedBatch, index: Array | int) -> PackedBatch:
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), batches)


def _laid_out(grads: optax.Params, layout: PyTree[NamedSharding | None]) -> optax.Params:
    """Gradients where their parameters are, so that each device adds up its own share."""
    return jax.tree.map(
        lambda grad, place: grad if place is None else jax.lax.with_sharding_constraint(grad, place),
        grads,
        layout,
    )


def _arguments(update: Update) -> tuple[PackedBatch, np.int32, np.float32]:
    """What the program takes: counts as arrays, so that no number of them is compiled in."""
    return update.batches, np.int32(update.batch_count), np.float32(update.token_count)


def _require_countable(update: Update) -> None:
    stacked = update.batches.tokens_BT.shape[0]
    if not 1 <= update.batch_count <= stacked:
        raise ValueError(f"an update of {stacked} stacked batches cannot count {update.batch_count} of them")
    if update.token_count < 1:
        raise ValueError(f"an update needs a token of the policy, got {update.token_count}")


def _is_max(name: str) -> bool:
    return name.endswith("_max")
