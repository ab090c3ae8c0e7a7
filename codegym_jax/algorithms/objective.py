"""The objective of one update: a surrogate, its weights and what is added to it, as a loss and metrics.

A batch brings a weight for every token that already holds the mean (over tokens, episodes or a fixed
length), so the loss is a plain sum and adds up over the batches of an update, however the episodes are
packed. Metrics add up the same way; of those named `*_max` the largest counts.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from codegym_jax.algorithms.critic import clipped_square_error
from codegym_jax.algorithms.importance import Weighting
from codegym_jax.algorithms.kl import Estimator, k3
from codegym_jax.algorithms.log_probs import Scores
from codegym_jax.algorithms.masked import max_over_tokens, sum_over_tokens
from codegym_jax.algorithms.ratios import token_log_ratio
from codegym_jax.algorithms.surrogates import Clip, Surrogate
from codegym_jax.records import PackedBatch

Metrics = dict[str, Array]


@dataclass(frozen=True, kw_only=True, slots=True)
class Objective:
    """What an update lowers. With w the weight of a token in the mean and i its importance weight (or 1):

        loss = - sum(w i surrogate) + kl_coefficient sum(w KL) - entropy_coefficient sum(w entropy)
               + value_coefficient sum(w value_error)

    Which log-probabilities the ratio takes: the learner scores its unmodified distribution. What the
    tokens were drawn from may have been tempered or truncated, and `sampler_logp` is of that: only a ratio
    to the distribution really drawn from gives the gradient of the unmodified policy's reward. So where
    the batch has no `old_logp` the ratio is taken to `sampler_logp`, not to the sampler's record of the
    unmodified policy. Away from temperature 1 that ratio starts away from 1, and the clip then cuts off
    what is merely tempered; there, and where sampler and learner differ in rounding or age, give the batch
    `old_logp` and a weighting: the ratio starts at 1, and the weight exp(old_logp - sampler_logp) corrects
    the rest.
    """

    surrogate: Surrogate
    """Any function of `surrogates`."""
    clip: Clip
    kl: Estimator | None = None
    """Of the KL from the policy to the reference, in the loss; None: the reference is measured at most."""
    kl_coefficient: float = 0.0
    entropy_coefficient: float = 0.0
    """Of the bonus. It only works on scores whose entropy carries a gradient."""
    weighting: Weighting | None = None
    """Any function of `importance`; None: every token counts 1."""
    importance_cap: float = 2.0
    value_coefficient: float = 0.0
    """Of the critic's error; 0: there is no critic."""
    value_clip: float = 0.0
    """How far a value may move in one step and still earn, in reward units; 0: any distance."""

    def __call__(self, scores: Scores, batch: PackedBatch, token_count: Array | int) -> tuple[Array, Metrics]:
        """The loss on one batch of an update.

        Args:
          scores: of the policy that learns, on the batch's tokens.
          batch: with the optional fields that the settings ask for.
          token_count: policy tokens in the whole update; metrics are means over them.

        Returns:
          The loss, and metrics: `loss`; `entropy`; `ratio_max`; `clip_fraction_low` and `_high`, the share
          of tokens at which that bound decided, and `clip_fraction`, their sum; `mismatch_kl`, from sampler
          to learner (k3); where there is a reference `kl_reference`, from learner to reference (k3); with a
          weighting `importance_weight`, its mean, and `importance_dropped`, the share of weights of 0; with
          a critic `value_loss` and `value_clip_fraction`.

        Raises:
          ValueError: while tracing, when an optional field is needed and absent.
        """
        arrays: Any = jax.tree.map(jnp.asarray, batch)
        mean = _Mean(arrays.is_policy_BT, jnp.asarray(token_count, jnp.float32))
        loss, metrics = self._policy_loss(scores, arrays, mean)
        for more_loss, more_metrics in (
            self._kl_loss(scores, arrays, mean),
            self._entropy_loss(scores, arrays, mean),
            self._value_loss(scores, arrays, mean),
        ):
            loss, metrics = loss + more_loss, metrics | more_metrics
        return loss, jax.lax.stop_gradient({"loss": loss} | metrics)

    def _policy_loss(self, scores: Scores, batch: Any, mean: "_Mean") -> tuple[Array, Metrics]:
        old_logp_BT = batch.sampler_logp_BT if batch.old_logp_BT is None else batch.old_logp_BT
        earned = self.surrogate(
            scores.logp_BT, old_logp_BT, batch.advantage_BT, batch.is_policy_BT, batch.segment_BT, self.clip
        )
        weight_BT, metrics = self._importance(batch, mean)
        low, high = mean(earned.clipped_low_BT), mean(earned.clipped_high_BT)
        to_learner_BT = token_log_ratio(batch.sampler_logp_BT, scores.logp_BT, batch.is_policy_BT)
        metrics |= {
            "ratio_max": max_over_tokens(earned.ratio_BT, batch.is_policy_BT),
            "clip_fraction": low + high,
            "clip_fraction_low": low,
            "clip_fraction_high": high,
            "mismatch_kl": mean(k3(to_learner_BT)),
        }
        return -sum_over_tokens(weight_BT * earned.objective_BT, batch.weight_BT), metrics

    def _importance(self, batch: Any, mean: "_Mean") -> tuple[Array, Metrics]:
        if self.weighting is None:
            return jnp.ones_like(batch.weight_BT), {}
        old_logp_BT = _needed(batch.old_logp_BT, "old_logp_BT", "an importance weighting")
        log_ratio_BT = token_log_ratio(old_logp_BT, batch.sampler_logp_BT, batch.is_policy_BT)
        weight_BT = self.weighting(log_ratio_BT, self.importance_cap)
        return weight_BT, {
            "importance_weight": mean(weight_BT),
            "importance_dropped": mean(weight_BT == 0.0),
        }

    def _kl_loss(self, scores: Scores, batch: Any, mean: "_Mean") -> tuple[Array, Metrics]:
        if self.kl is None and batch.reference_logp_BT is None:
            return jnp.float32(0), {}
        reference_logp_BT = _needed(batch.reference_logp_BT, "reference_logp_BT", "a KL divergence")
        log_ratio_BT = token_log_ratio(scores.logp_BT, reference_logp_BT, batch.is_policy_BT)
        metrics = {"kl_reference": mean(k3(log_ratio_BT))}
        if self.kl is None:
            return jnp.float32(0), metrics
        return self.kl_coefficient * sum_over_tokens(self.kl(log_ratio_BT), batch.weight_BT), metrics

    def _entropy_loss(self, scores: Scores, batch: Any, mean: "_Mean") -> tuple[Array, Metrics]:
        metrics = {"entropy": mean(scores.entropy_BT)}
        if not self.entropy_coefficient:
            return jnp.float32(0), metrics
        return -self.entropy_coefficient * sum_over_tokens(scores.entropy_BT, batch.weight_BT), metrics

    def _value_loss(self, scores: Scores, batch: Any, mean: "_Mean") -> tuple[Array, Metrics]:
        if not self.value_coefficient:
            return jnp.float32(0), {}
        error_BT, clipped_BT = clipped_square_error(
            _needed(scores.value_BT, "scores.value_BT", "a critic"),
            _needed(batch.old_value_BT, "old_value_BT", "a critic"),
            _needed(batch.return_BT, "return_BT", "a critic"),
            batch.is_policy_BT,
            clip=self.value_clip,
        )
        metrics = {"value_loss": mean(error_BT), "value_clip_fraction": mean(clipped_BT)}
        return self.value_coefficient * sum_over_tokens(error_BT, batch.weight_BT), metrics


@dataclass(frozen=True, slots=True)
class _Mean:
    """A batch's part of the mean over all policy tokens of the update."""

    is_policy_BT: Array
    token_count: Array

    def __call__(self, values_BT: Array) -> Array:
        return sum_over_tokens(values_BT.astype(jnp.float32), self.is_policy_BT) / self.token_count


def _needed(array: Array | None, name: str, purpose: str) -> Array:
    if array is None:
        raise ValueError(f"{purpose} needs {name}, which is None")
    return array
