"""The optimizer: AdamW behind a global-norm clip, with a warm-up. Takes plain numbers, gives an optax
transformation."""

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


def make_adamw(
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
    """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) on gradients of bounded global norm.

    Args:
      learning_rate: the peak of `learning_rate_schedule`, which the next three arguments shape.
      warmup_steps: as there.
      total_steps: as there.
      decay: as there.
      weight_decay: per unit of learning rate; matrices and embeddings decay, gains and biases do not
        (`decays`).
      b1: decay of the first moment.
      b2: decay of the second moment.
      max_grad_norm: a larger gradient is scaled down to this Euclidean norm over all parameters.
    """
    schedule = learning_rate_schedule(
        learning_rate, warmup_steps=warmup_steps, total_steps=total_steps, decay=decay
    )
    return _promoting(
        optax.chain(
            optax.clip_by_global_norm(max_grad_norm),
            optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=decays),
        )
    )


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
