"""Tunix: its sampler, and the update of its trainer; `tunix_agentic` plays episodes with it.

Where it takes text, it gets token ids as decimal numbers, so that it sees the same ids as the other engines.
"""

import logging
import pathlib
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh
from tunix.generate import sampler as sampler_lib
from tunix.models.llama3 import model as llama
from tunix.models.llama3 import params as llama_params
from tunix.sft import peft_trainer
from tunix.sft import utils as sft_utils

from benchmarks.engines import workload
from benchmarks.engines.checkpoint import read_shape
from benchmarks.engines.jax_side import Compiled, versions
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import BOS, Decode, TrainStep


class Numbers:
    """A tokenizer whose text is the ids themselves, in decimal, with spaces between."""

    bos_token = eos_token = ""

    def encode(self, text: str, **_: object) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Any, **_: object) -> str:
        return " ".join(str(int(token)) for token in ids)

    def bos_id(self) -> int:
        return BOS

    def eos_id(self) -> int:
        return 2

    def pad_id(self) -> int:
        return 0


class Loaded:
    def __init__(self, job: Job, dtype: Any = None) -> None:
        logging.disable(logging.WARNING)
        self.job, self.compiled = job, Compiled()
        shape = read_shape(pathlib.Path(job.checkpoint))
        self.vocabulary = shape.vocabulary
        self.config = llama.ModelConfig(
            num_layers=shape.layers,
            vocab_size=shape.vocabulary,
            embed_dim=shape.width,
            hidden_dim=shape.ffn_width,
            num_heads=shape.query_heads,
            head_dim=shape.head_width,
            num_kv_heads=shape.kv_heads,
            rope_theta=int(shape.rope_theta),
            norm_eps=shape.norm_eps,
            weight_tying=True,
        )
        self.mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("fsdp", "tp"))
        self.model = llama_params.create_model_from_safe_tensors(
            job.checkpoint, self.config, self.mesh, dtype=dtype or jnp.dtype(job.dtype)
        )

    def versions(self) -> dict[str, str]:
        """As `worker.Engine` says."""
        return versions(("google-tunix", "jax", "flax"))


def optimizer() -> optax.GradientTransformation:
    """AdamW behind a clip, as every engine has it."""
    return optax.chain(
        optax.clip_by_global_norm(workload.MAX_GRAD_NORM),
        optax.adamw(
            workload.LEARNING_RATE,
            b1=workload.ADAM_B1,
            b2=workload.ADAM_B2,
            weight_decay=workload.WEIGHT_DECAY,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
        ),
    )


class _Decode(Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, Decode)
        self.work = job.workload
        numbers = Numbers()
        # It puts the first token there itself.
        self.texts = [numbers.decode(ids[1:]) for ids in self.work.prompts(self.vocabulary)]
        self.sampler = sampler_lib.Sampler(
            self.model,
            numbers,
            sampler_lib.CacheConfig(
                cache_size=self.work.prompt_tokens + self.work.new_tokens,
                num_layers=self.config.num_layers,
                num_kv_heads=self.config.num_kv_heads,
                head_dim=self.config.head_dim,
            ),
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
        out = self.sampler(
            self.texts,
            max_generation_steps=tokens,
            max_prompt_length=self.work.prompt_tokens,
            eos_tokens=[self.vocabulary],  # no token has this id: messages end by their budget alone
        )
        return [np.asarray(ids).tolist() for ids in out.tokens]


class _TrainStep(Loaded):
    """Its models compute in the type of their parameters."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, TrainStep)
        self.work = job.workload
        self.trainer = peft_trainer.PeftTrainer(
            self.model, optimizer(), peft_trainer.TrainingConfig(eval_every_n_steps=1_000_000)
        ).with_gen_model_input_fn(self._inputs)
        self.step, _ = self.trainer.jit_train_and_eval_step(cache_nnx_graph=True)

    def round(self, number: int) -> dict[str, Any]:
        tokens = self.work.batch(self.vocabulary, number)
        batch = peft_trainer.TrainingInput(input_tokens=tokens, input_mask=np.ones(tokens.shape, bool))
        start_s = perf_counter()
        loss, _, _ = self.step(batch)
        jax.block_until_ready((loss, nnx.state(self.model)))
        return {"total": perf_counter() - start_s, "compiled": self.compiled.count, "loss": float(loss)}

    @staticmethod
    def _inputs(batch: Any) -> dict[str, Any]:
        return {
            "input_tokens": batch.input_tokens,
            "input_mask": batch.input_mask,
            "positions": sft_utils.build_positions_from_mask(batch.input_mask),
            "attention_mask": sft_utils.make_causal_attn_mask(batch.input_mask),
        }


if __name__ == "__main__":
    serve({"decode": _Decode, "train_step": _TrainStep})
