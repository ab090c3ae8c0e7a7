"""This project's engine: decoding and the supervised update; `codegym_agentic` plays episodes with it."""

from functools import cached_property
from time import perf_counter
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding

from benchmarks.engines import workload
from benchmarks.engines.jax_side import Compiled, versions
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import Decode, TrainStep
from codegym_jax.algorithms.log_probs import Scores, token_scores
from codegym_jax.models import sharding
from codegym_jax.models.compute import Compute
from codegym_jax.models.transformer import Transformer
from codegym_jax.models.weights import open_weights
from codegym_jax.records import Update
from codegym_jax.rollout.generate import Sampler
from codegym_jax.rollout.packing import Lesson, pack
from codegym_jax.rollout.token_sampler import episode_key
from codegym_jax.trainer.optimizer import make_optimizer
from codegym_jax.trainer.state import TrainState, init_state
from codegym_jax.trainer.update import make_sft_update


class Loaded:
    """The model, its parameters, and what every benchmark asks of them."""

    def __init__(self, job: Job) -> None:
        self.job, self.compiled = job, Compiled()
        weights = open_weights(job.checkpoint)
        self.vocabulary = weights.vocabulary_size
        param_dtype = "float32" if job.benchmark in ("train_step", "rl_step") else job.dtype
        compute = Compute(param_dtype=param_dtype, compute_dtype=job.dtype)
        self.model = Transformer(weights.config, self.vocabulary, compute)
        self.mesh = sharding.make_mesh()
        self.params: Any = weights.load(self.model, self.mesh)

    def versions(self) -> dict[str, str]:
        """As `worker.Engine` says."""
        return versions(("jax", "flax"))

    def sampler(
        self,
        *,
        slots: int,
        length: int,
        message_tokens: int,
        extend_width: int,
        prefill_rows: int,
        prefill_width: int,
        share_prefixes: bool,
    ) -> Sampler:
        """A sampler whose messages end by their budget alone: no token has the id of its stop."""
        return Sampler(
            self.model,
            self.mesh,
            slots=slots,
            max_tokens=length,
            max_message_tokens=message_tokens,
            stop_sequences=((self.vocabulary,),),
            extend_width=extend_width,
            prefill_rows=prefill_rows,
            prefill_width=prefill_width,
            idle_fraction=1.0,
            share_prefixes=share_prefixes,
        )

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """What every engine learns with."""
        return make_optimizer(
            "adamw",
            workload.LEARNING_RATE,
            warmup_steps=0,
            weight_decay=workload.WEIGHT_DECAY,
            b1=workload.ADAM_B1,
            b2=workload.ADAM_B2,
            max_grad_norm=workload.MAX_GRAD_NORM,
        )

    def first_state(self) -> TrainState:
        """The state before the first update, which takes the parameters."""
        everywhere = sharding.place(self.mesh)
        return jax.tree.map(
            lambda leaf: (
                leaf if isinstance(leaf.sharding, NamedSharding) else jax.device_put(leaf, everywhere)
            ),
            init_state(self.params, self.optimizer),
        )

    def scores(self, params: Any, frozen: Any, tokens_BT: Any, segment_BT: Any) -> Scores:
        """What the policy says about packed rows."""
        del frozen
        hidden_BTD = self.apply(params, tokens_BT, segment_BT, method="hidden")
        return token_scores(hidden_BTD, self.apply(params, method="head"), tokens_BT, chunk_tokens=32)

    def placed(self, update: Update) -> Update:
        """The update with its rows on the device."""
        rows = sharding.place(self.mesh, None, "rows")
        return update._replace(batches=jax.device_put(update.batches, rows))

    def apply(self, params: Any, *arguments: Any, method: str) -> Any:
        """A method of the model."""
        return self.model.apply({"params": params}, *arguments, method=method)


class _Decode(Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, Decode)
        self.work = job.workload
        self.prompts = self.work.prompts(self.vocabulary).tolist()
        self.slots = self.sampler(
            slots=self.work.rows,
            length=self.work.prompt_tokens + self.work.new_tokens,
            message_tokens=self.work.new_tokens,
            extend_width=8,
            prefill_rows=self.work.rows,
            prefill_width=self.work.prompt_tokens,
            share_prefixes=False,  # the same prompts come again and again
        )

    def round(self, number: int) -> dict[str, Any]:
        start_s = perf_counter()
        self._generate(1)
        prefill_s = perf_counter() - start_s
        ids = self._generate(self.work.new_tokens)
        return {
            "prefill": prefill_s,
            "total": perf_counter() - start_s - prefill_s,
            "compiled": self.compiled.count,
            "ids": ids,
        }

    def _generate(self, tokens: int) -> list[list[int]]:
        rows = range(self.work.rows)
        self.slots.start({row: episode_key(0, "decode", row) for row in rows})
        self.slots.append(self.params, dict(enumerate(self.prompts)))
        return self.slots.decode(self.params, np.full(len(rows), tokens, np.int32), 0.0).tokens_BT.tolist()


class _TrainStep(Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, TrainStep)
        self.work = job.workload
        self.state = self.first_state()
        del self.params  # the first update takes them
        self.step = make_sft_update(self.scores, self.optimizer)

    def round(self, number: int) -> dict[str, Any]:
        rows = self.work.batch(self.vocabulary, number)
        nothing, all_of_it = np.zeros(self.work.tokens, np.float32), np.ones(self.work.tokens, bool)
        (update,) = pack(
            [Lesson(token_ids, all_of_it, None, nothing) for token_ids in rows],
            episodes_per_update=len(rows),
            rows_per_batch=len(rows),
            row_tokens=self.work.tokens,
            mean="token",
            rng=np.random.default_rng(0),
        )
        start_s = perf_counter()
        self.state, metrics = self.step(self.state, (), self.placed(update))
        jax.block_until_ready(self.state)
        return {
            "total": perf_counter() - start_s,
            "compiled": self.compiled.count,
            "loss": float(metrics["loss"]),
        }


if __name__ == "__main__":
    serve({"decode": _Decode, "train_step": _TrainStep})
