"""Optimizers by name, each behind a global-norm clip, with a warm-up. Take plain numbers, give an optax
transformation."""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import optax

Decay = Literal["constant", "cosine"]


def learning_rate_schedule(
    peak: float, *, warmup_steps: int, total_steps: int | None = None, decay: Decay = "constant"
) -> optax.Schedule:
    """Rises linearly to `peak`, then stays there or falls along half a cosine.

        rate(n) = peak (n + 1) / warmup_steps                                             n < warmup_steps
        rate(n) = peak                                                                    then, "constant"
        rate(n) = peak (1 + cos(pi (n - warmup_steps) / (total_steps - warmup_steps))) / 2     then, "cosine"

    Args:
      peak: the highest learning rate.
      warmup_steps: updates until the peak; the first update already moves, by a share of 1 / warmup_steps. 0:
        none.
      total_steps: updates in all, after which a cosine stays at 0. Needed for "cosine" alone.
      decay: what follows the warm-up.

    Raises:
      ValueError: when "cosine" is asked for without more `total_steps` than `warmup_steps`.
    """
    if decay == "cosine" and (total_steps is None or total_steps <= warmup_steps):
        raise ValueError(
            f"a cosine decay needs total_steps above warmup_steps ({warmup_steps}), got {total_steps}"
        )

    def schedule(count: jax.typing.ArrayLike) -> jax.Array:
        step = jnp.asarray(count, jnp.float32)
        rate = jnp.minimum(1.0, (step + 1.0) / max(warmup_steps, 1))
        if decay == "cosine" and total_steps is not None:
            progress = jnp.clip((step - warmup_steps) / (total_steps - warmup_steps), 0.0, 1.0)
            rate = rate * (1.0 + jnp.cos(jnp.pi * progress)) / 2.0
        return peak * rate

    return schedule


def make_optimizer(
    name: str,
    learning_rate: float,
    *,
    warmup_steps: int,
    total_steps: int | None = None,
    decay: Decay = "constant",
    weight_decay: float,
    b1: float,
    b2: float,
    max_grad_norm: float,
) -> optax.GradientTransformation:
    """An optimizer on gradients of bounded global norm:

        w <- w - rate(n) (direction(g) + weight_decay w)

    The names differ in the direction alone, and all directions are made to be of about the size of Adam's, so
    that one learning rate means about the same to each but "lion", which wants a third to a tenth of it.

    * "adamw": Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101.
    * "lion": the sign of b1 m + (1 - b1) g; half of Adam's memory. Chen et al. 2023,
      https://arxiv.org/abs/2302.06675, algorithm 2.
    * "muon": for matrices between layers the momentum made nearly orthogonal, times 0.2 sqrt(max(in, out)),
      which gives its entries the root mean square of Adam's (Liu et al. 2025,
      https://arxiv.org/abs/2502.16982, equation 4); Adam for the rest, embeddings and the head among it.
      Jordan et al. 2024, https://kellerjordan.github.io/posts/muon. Uses `b1` and `b2` for Adam's part alone.
    * "adafactor": the gradient over the root of a second moment that is kept as a row and a column where both
      have 128 entries, its root mean square bounded by 1, without a first moment: the least memory. Shazeer &
      Stern 2018, https://arxiv.org/abs/1804.04235, algorithm 4, with an absolute learning rate in place of
      one relative to the parameter. Uses neither `b1` nor `b2`.

    Args:
      name: a key of `DIRECTIONS`.
      learning_rate: the peak of `learning_rate_schedule`, which the next three arguments shape.
      warmup_steps: as there.
      total_steps: as there.
      decay: as there.
      weight_decay: per unit of learning rate; matrices and embeddings decay, gains and biases do not
        (`decays`).
      b1: decay of the first moment; of Lion, how much of it the direction is.
      b2: decay of the second moment; of Lion, of its only one.
      max_grad_norm: a larger gradient is scaled down to this Euclidean norm over all parameters.

    Raises:
      ValueError: when there is no such name, and as `learning_rate_schedule`.
    """
    if name not in DIRECTIONS:
        raise ValueError(f"optimizer must be one of {', '.join(DIRECTIONS)}, got {name!r}")
    schedule = learning_rate_schedule(
        learning_rate, warmup_steps=warmup_steps, total_steps=total_steps, decay=decay
    )
    return _promoting(
        optax.chain(
            optax.clip_by_global_norm(max_grad_norm),
            optax.chain(
                DIRECTIONS[name](b1, b2),
                optax.add_decayed_weights(weight_decay, decays),
                optax.scale_by_learning_rate(schedule),
            ),
        )
    )


def _adafactor(b1: float, b2: float) -> optax.GradientTransformation:
    del b1, b2
    return optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))


def _muon(b1: float, b2: float) -> optax.GradientTransformation:
    # The last two axes are the matrix; an axis of layers in front, where they are stacked, is not mixed.
    orthogonal = optax.contrib.scale_by_muon(
        weight_dimension_numbers=lambda tree: jax.tree.map(
            lambda _: optax.contrib.MuonDimensionNumbers(-2, -1), tree
        )
    )
    as_large_as_adam = optax.stateless_with_tree_map(
        lambda update, _: update * (0.2 * max(jnp.shape(update)[-2:]) ** 0.5)
    )
    return optax.partition(
        {True: optax.chain(orthogonal, as_large_as_adam), False: optax.scale_by_adam(b1=b1, b2=b2)},
        param_labels=_between_layers,
    )


DIRECTIONS: dict[str, Callable[[float, float], optax.GradientTransformation]] = {
    "adamw": lambda b1, b2: optax.scale_by_adam(b1=b1, b2=b2),
    "lion": lambda b1, b2: optax.scale_by_lion(b1=b1, b2=b2),
    "muon": _muon,
    "adafactor": _adafactor,
}
"""`(b1, b2) ->` the transformation of a gradient into what is subtracted; see `make_optimizer`."""


def _promoting(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """Lets optax raise a float to an integer power, which the strict promotion of our tests forbids."""

    def update(
        updates: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def decays(params: optax.Params) -> optax.Params:
    """True for the parameters that weight decay pulls to 0: matrices, embeddings among them.

    Norm gains (`scale`) and biases are left alone, as the field does; they are known by name as well as by
    rank, because stacking the layers for `scan` gives a vector a second axis.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim >= 2 and not jax.tree_util.keystr(path).endswith(("scale']", "bias']")),
        params,
    )


def _between_layers(params: optax.Params) -> optax.Params:
    """True for the matrices that map hidden states to hidden states: all that decays but embeddings and the
    head, whose rows and columns are tokens."""
    return jax.tree_util.tree_map_with_path(
        lambda path, matrix: matrix and jax.tree_util.keystr(path, simple=True) not in _OF_TOKENS,
        decays(params),
    )


_OF_TOKENS = ("embedding", "previous", "head")
"""Names of the parameters with an axis of tokens, as in `models.transformer`."""
