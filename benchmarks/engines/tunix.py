"""Tunix: its sampler, the rollouts of its agentic GRPO learner, and the update of its trainer.

Where it takes text, it gets token ids as decimal numbers, so that it sees the same ids as the other engines.
"""

import asyncio
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
from tunix.rl import rl_cluster
from tunix.rl.agentic import agentic_grpo_learner
from tunix.rl.agentic.environments import base_environment
from tunix.rl.agentic.parser.chat_template_parser import parser as chat_parser
from tunix.rl.rollout import base_rollout
from tunix.sft import peft_trainer
from tunix.sft import utils as sft_utils

from benchmarks.engines import workload
from benchmarks.engines.checkpoint import read_shape
from benchmarks.engines.jax_side import Compiled, versions
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import BOS, Decode, MultiTurn, TrainStep


class _Numbers:
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


class _NoTemplate(chat_parser.BaseChatTemplateParser):
    """Messages side by side, with nothing around them."""

    def _init_tokens(self) -> chat_parser.TokenConfig:
        return chat_parser.TokenConfig(message_separator=" ")

    def _init_generation_prompt(self) -> str:
        return ""


class _Loaded:
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


class _Decode(_Loaded):
    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, Decode)
        self.work = job.workload
        numbers = _Numbers()
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


class _ToolEnv(base_environment.BaseTaskEnv):
    """A tool that answers what the workload says, whatever it is asked."""

    def __init__(self, task: dict[str, Any], *, work: MultiTurn, vocabulary: int, **names: Any) -> None:
        super().__init__(task=dict(task), max_steps=work.turns, **names)
        self.work, self.vocabulary, self.turn = work, vocabulary, 0
        self.number = int(np.asarray(task["task"]).reshape(-1)[0])

    def _initial_observation(self) -> dict[str, str]:
        ids = self.work.prompt(self.number, self.vocabulary)
        return {"prompts": _Numbers().decode(ids[1:])}

    def _step_impl(self, action: Any) -> base_environment.EnvStepResult:
        ids = self.work.result(self.number, self.turn, self.vocabulary)
        self.turn += 1
        return base_environment.EnvStepResult(
            observation={"prompts": _Numbers().decode(ids)},
            reward=0.0,
            done=self.turn >= self.work.turns,
            info={},
        )


class _MultiTurn(_Loaded):
    """The learner's own rollouts, as its evaluation runs them: no update, no reference.

    Random weights never end a message, so `generate` is cut at a message's length. That spares it a program
    for each remaining budget (its own calls ask for all that is left of the episode) and half of its cache.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, MultiTurn)
        self.work = work = job.workload
        longest_prompt = 1 << (work.length - work.message_tokens - 1).bit_length()
        budget = work.length - work.prompt_tokens + 1
        settings = base_rollout.RolloutConfig(
            max_prompt_length=work.prompt_tokens,  # longer ones are padded to the next power of two
            max_tokens_to_generate=budget,
            return_logprobs=True,
            kv_cache_size=longest_prompt + work.message_tokens,
            temperature=1.0,
            top_p=1.0,
            eos_tokens=[self.vocabulary],
        )
        roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
        cluster = rl_cluster.RLCluster(
            actor=self.model,
            tokenizer=_Numbers(),
            cluster_config=rl_cluster.ClusterConfig(
                role_to_mesh=dict.fromkeys(roles, self.mesh),
                rollout_engine="vanilla",
                training_config=rl_cluster.RLTrainingConfig(
                    actor_optimizer=optax.sgd(0.0), eval_every_n_steps=1_000_000, max_steps=1_000_000
                ),
                rollout_config=settings,
            ),
        )
        generate = cluster.generate
        self.prefilled: list[int] = []

        def one_message(*arguments: Any, **settings: Any) -> Any:
            out = generate(*arguments, **{**settings, "max_generation_steps": work.message_tokens})
            self.prefilled.append(out.left_padded_prompt_tokens.size)
            return out

        cluster.generate = one_message
        self.learner = agentic_grpo_learner.GRPOLearner(
            rl_cluster=cluster,
            algo_config=agentic_grpo_learner.GRPOConfig(
                num_generations=work.attempts,
                beta=0.0,
                max_response_length=budget,
                max_concurrency=work.episodes,
            ),
            chat_parser=_NoTemplate(cluster.tokenizer),
            env_class=_ToolEnv,
            env_kwargs={"work": work, "vocabulary": self.vocabulary},
        )

    def round(self, number: int) -> dict[str, Any]:
        self.prefilled.clear()
        start_s = perf_counter()
        groups = asyncio.run_coroutine_threadsafe(self._play(number), self.learner.loop).result()
        spent_s = perf_counter() - start_s
        items = sorted(
            (item for group in groups for item in group), key=lambda item: (item.group_id, item.pair_index)
        )
        return {
            "total": spent_s,
            "compiled": self.compiled.count,
            "prefilled": sum(self.prefilled),
            "episodes": [self._own(item.traj) for item in items],
        }

    async def _play(self, number: int) -> list[Any]:
        tasks = [{"task": np.array([task])} for task in self.work.tasks_of_round(number)]
        produced = self.learner._orchestrator_producer(
            self.learner._build_orchestrator(), tasks, num_generations=self.work.attempts
        )
        return [group async for group in produced]

    @staticmethod
    def _own(trajectory: dict[str, Any]) -> list[int]:
        """The policy's tokens of an episode."""
        ids, masks = trajectory["conversation_tokens"], trajectory["conversation_masks"]
        return [int(token) for token, own in zip(ids, masks, strict=True) if own]


class _TrainStep(_Loaded):
    """Its models compute in the type of their parameters."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, TrainStep)
        self.work = job.workload
        optimizer = optax.chain(
            optax.clip_by_global_norm(workload.MAX_GRAD_NORM),
            optax.adamw(
                workload.LEARNING_RATE,
                b1=workload.ADAM_B1,
                b2=workload.ADAM_B2,
                weight_decay=workload.WEIGHT_DECAY,
                mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim >= 2, params),
            ),
        )
        self.trainer = peft_trainer.PeftTrainer(
            self.model, optimizer, peft_trainer.TrainingConfig(eval_every_n_steps=1_000_000)
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
    serve({"decode": _Decode, "multi_turn": _MultiTurn, "train_step": _TrainStep})
