"""Which parameters learn, and how the policy that they make scores tokens.

What learns is one tree: the model's parameters, or low-rank adapters of its matrices; and beside them, under
`CRITIC`, the critic's one vector where the algorithm has a critic. What does not learn is the `frozen` tree.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from codegym_jax.algorithms.log_probs import Scores, token_scores
from codegym_jax.config import LoraConfig
from codegym_jax.models import lora, sharding
from codegym_jax.models.transformer import Transformer

CRITIC = "critic"
"""Key of the critic's weights among the parameters that learn; the model has none of that name."""


class Split(NamedTuple):
    """A policy's parameters, by whether they learn."""

    params: dict[str, Any]
    frozen: Any
    """`()`, or what is under the adapters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainable:
    """What of a policy learns."""

    model: Transformer
    lora: LoraConfig
    critic: bool

    def split(self, start: dict[str, Any], mesh: Mesh, seed: int) -> Split:
        """Divides the parameters that learning starts from, each part in its place on the mesh.

        Adapters start as no change, and a critic that expects a return of 0; so the policy is `start` still.

        Args:
          start: the model's parameters. The result shares buffers with them.
          mesh: of the learner.
          seed: of the adapters.
        """
        params, frozen = dict(start), ()
        if self.lora.rank:
            params, frozen = self._adapters(start, mesh, seed), start
        if self.critic:
            # Made where it lies: an array of one process, put on the devices of several, cannot be saved.
            zeros = functools.partial(jnp.zeros, self.model.config.width, jnp.float32)
            params[CRITIC] = jax.jit(zeros, out_shardings=sharding.place(mesh))()
        return Split(params, frozen)

    def policy(self, params: dict[str, Any], frozen: Any) -> dict[str, Any]:
        """The model's parameters: what is sampled, scored and saved for others. Works under `jit`."""
        learned = {name: leaf for name, leaf in params.items() if name != CRITIC}
        return lora.merge(frozen, learned, alpha=self.lora.alpha) if self.lora.rank else learned

    def score_fn(self, *, chunk_tokens: int, entropy_gradient: bool = False) -> Callable[..., Scores]:
        """`(params, frozen, tokens_BT, segment_BT) -> Scores`, as `trainer.update` takes it.

        Args:
          chunk_tokens: as `log_probs.token_scores`, like the next one.
          entropy_gradient: see there.
        """
        model: Any = self.model

        def score(params: dict[str, Any], frozen: Any, tokens_BT: Any, segment_BT: Any) -> Scores:
            variables = {"params": self.policy(params, frozen)}
            return token_scores(
                model.apply(variables, tokens_BT, segment_BT, method="hidden"),
                model.apply(variables, method="head"),
                tokens_BT,
                chunk_tokens=chunk_tokens,
                value_D=params.get(CRITIC),
                entropy_gradient=entropy_gradient,
            )

        return score

    def _adapters(self, start: dict[str, Any], mesh: Mesh, seed: int) -> dict[str, Any]:
        settings = self.lora
        shapes = jax.eval_shape(lambda: start)

        def init(key: jax.Array) -> dict[str, Any]:
            return lora.init(shapes, rank=settings.rank, targets=settings.targets, key=key)

        places = lora.shardings(
            sharding.parameter_shardings(self.model, mesh, jnp.zeros((1, 2), jnp.int32)),
            targets=settings.targets,
        )
        return dict(jax.jit(init, out_shardings=places)(jax.random.key(seed)))
