"""Tunix's agentic GRPO learner with its vanilla engine: its rollouts alone, and its whole training step.

Random weights never end a message, so `generate` is cut at a message's length. That spares it a program for
each remaining budget (its own calls ask for all that is left of the episode) and half of its cache.
"""

import asyncio
import queue
import threading
from collections.abc import Iterator
from time import perf_counter
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx
from tunix.rl import rl_cluster
from tunix.rl.agentic import agentic_grpo_learner
from tunix.rl.agentic.environments import base_environment
from tunix.rl.agentic.parser.chat_template_parser import parser as chat_parser
from tunix.rl.rollout import base_rollout

from benchmarks.engines.tunix import Loaded, Numbers, optimizer
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import CLIP, MultiTurn, RlStep


class _NoTemplate(chat_parser.BaseChatTemplateParser):
    """Messages side by side, with nothing around them."""

    def _init_tokens(self) -> chat_parser.TokenConfig:
        return chat_parser.TokenConfig(message_separator=" ")

    def _init_generation_prompt(self) -> str:
        return ""


class _ToolEnv(base_environment.BaseTaskEnv):
    """A tool that answers what the workload says, whatever it is asked."""

    def __init__(self, task: dict[str, Any], *, work: MultiTurn, vocabulary: int, **names: Any) -> None:
        super().__init__(task=dict(task), max_steps=work.turns, **names)
        self.work, self.vocabulary, self.turn = work, vocabulary, 0
        self.number = int(np.asarray(task["task"]).reshape(-1)[0])

    def _initial_observation(self) -> dict[str, str]:
        ids = self.work.prompt(self.number, self.vocabulary)
        return {"prompts": Numbers().decode(ids[1:])}

    def _step_impl(self, action: Any) -> base_environment.EnvStepResult:
        ids = self.work.result(self.number, self.turn, self.vocabulary)
        self.turn += 1
        return base_environment.EnvStepResult(
            observation={"prompts": Numbers().decode(ids)},
            reward=self._reward(action),
            done=self.turn >= self.work.turns,
            info={},
        )

    def _reward(self, action: Any) -> float:
        if not isinstance(self.work, RlStep):
            return 0.0
        return self.work.reward(Numbers().encode(getattr(action, "action", action)), self.vocabulary)


class _Playing(Loaded):
    """A learner whose episodes are the workload's."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, MultiTurn)
        self.tools = tools = job.workload
        self.prefilled: list[int] = []
        self.response_tokens = tools.length - tools.prompt_tokens + 1
        self.cluster = self._cluster()
        generate = self.cluster.generate

        def one_message(*arguments: Any, **settings: Any) -> Any:
            out = generate(*arguments, **{**settings, "max_generation_steps": tools.message_tokens})
            self.prefilled.append(out.left_padded_prompt_tokens.size)
            return out

        self.cluster.generate = one_message
        self.learner = agentic_grpo_learner.GRPOLearner(
            rl_cluster=self.cluster,
            algo_config=agentic_grpo_learner.GRPOConfig(
                num_generations=tools.attempts,
                beta=0.0,
                epsilon=CLIP,
                loss_agg_mode="token-mean",
                max_response_length=self.response_tokens,
                max_concurrency=tools.episodes,
            ),
            chat_parser=_NoTemplate(self.cluster.tokenizer),
            env_class=_ToolEnv,
            env_kwargs={"work": tools, "vocabulary": self.vocabulary},
        )

    def training(self) -> rl_cluster.RLTrainingConfig:
        """The settings of its trainer; here, of one that never trains."""
        return rl_cluster.RLTrainingConfig(
            actor_optimizer=optax.sgd(0.0), eval_every_n_steps=1_000_000, max_steps=1_000_000
        )

    def _cluster(self) -> Any:
        tools = self.tools
        longest_prompt = 1 << (tools.length - tools.message_tokens - 1).bit_length()
        settings = base_rollout.RolloutConfig(
            max_prompt_length=tools.prompt_tokens,  # longer ones are padded to the next power of two
            max_tokens_to_generate=self.response_tokens,
            return_logprobs=True,
            kv_cache_size=longest_prompt + tools.message_tokens,
            temperature=1.0,
            top_p=1.0,
            eos_tokens=[self.vocabulary],
        )
        roles = (rl_cluster.Role.ACTOR, rl_cluster.Role.REFERENCE, rl_cluster.Role.ROLLOUT)
        return rl_cluster.RLCluster(
            actor=self.model,
            tokenizer=Numbers(),
            cluster_config=rl_cluster.ClusterConfig(
                role_to_mesh=dict.fromkeys(roles, self.mesh),
                rollout_engine="vanilla",
                training_config=self.training(),
                rollout_config=settings,
            ),
        )

    @staticmethod
    def own(trajectory: dict[str, Any]) -> list[int]:
        """The policy's tokens of an episode."""
        ids, masks = trajectory["conversation_tokens"], trajectory["conversation_masks"]
        return [int(token) for token, own in zip(ids, masks, strict=True) if own]


class _MultiTurn(_Playing):
    """The learner's own rollouts, as its evaluation runs them: no update, no reference."""

    def round(self, number: int) -> dict[str, Any]:
        self.prefilled.clear()
        start_s = perf_counter()
        groups = asyncio.run_coroutine_threadsafe(self._play(number), self.learner.loop).result()
        spent_s = perf_counter() - start_s
        return {
            "total": spent_s,
            "compiled": self.compiled.count,
            "prefilled": sum(self.prefilled),
            "episodes": [self.own(item.traj) for item in _in_order(groups)],
        }

    async def _play(self, number: int) -> list[Any]:
        tasks = [{"task": np.array([task])} for task in self.tools.tasks_of_round(number)]
        produced = self.learner._orchestrator_producer(
            self.learner._build_orchestrator(), tasks, num_generations=self.tools.attempts
        )
        return [group async for group in produced]


class _RlStep(_Playing):
    """The learner's `train`, in a thread of its own: it runs one step for each batch of tasks that it gets.

    It asks for the next batch when a step is done. What else it does by default it does here too, such as
    scoring each group again for its metrics. A group is learned from while the next is still being sampled,
    where a pass takes less than all of them, so `rollout` is the time to the last message, and `update` what
    follows.
    """

    def __init__(self, job: Job) -> None:
        assert isinstance(job.workload, RlStep)
        self.work = job.workload
        super().__init__(job)
        self.groups: list[Any] = []
        self.sampled_s = 0.0
        self.tasks: queue.Queue[list[int]] = queue.Queue()
        self.done: queue.Queue[BaseException | None] = queue.Queue()
        self._observe()
        threading.Thread(target=self._train, daemon=True).start()
        self.done.get()

    def training(self) -> rl_cluster.RLTrainingConfig:
        """As there."""
        return rl_cluster.RLTrainingConfig(
            actor_optimizer=optimizer(),
            eval_every_n_steps=1_000_000,
            max_steps=1_000_000,
            mini_batch_size=self.work.tasks,
            train_micro_batch_size=self.work.tasks_per_batch,
        )

    def round(self, number: int) -> dict[str, Any]:
        gains = self._gains()
        self.prefilled.clear()
        self.groups.clear()
        start_s = perf_counter()
        self.tasks.put(self.work.tasks_of_round(number))
        failure = self.done.get()
        if failure is not None:
            raise failure
        end_s = perf_counter()
        items = _in_order(self.groups)
        return {
            "total": end_s - start_s,
            "rollout": self.sampled_s - start_s,
            "update": end_s - self.sampled_s,
            "compiled": self.compiled.count,
            "prefilled": sum(self.prefilled),
            "episodes": [self.own(item.traj) for item in items],
            "rewards": [float(item.traj["trajectory_reward"]) for item in items],
            "moved": bool((self._gains() != gains).any()),
        }

    def _observe(self) -> None:
        """Notes each group that the learner makes an example of, and when the last message came."""
        process, generate = self.learner._process_results, self.cluster.generate

        def processed(trajectories: list[Any], *arguments: Any, **settings: Any) -> Any:
            self.groups.append(trajectories)
            return process(trajectories, *arguments, **settings)

        def generated(*arguments: Any, **settings: Any) -> Any:
            out = generate(*arguments, **settings)
            self.sampled_s = perf_counter()
            return out

        self.learner._process_results = processed
        self.cluster.generate = generated

    def _train(self) -> None:
        try:
            self.learner.train(self._batches())
            raise RuntimeError("the learner ended by itself")
        except BaseException as failure:  # the thread's boundary: the round that waits raises it
            self.done.put(failure)

    def _batches(self) -> Iterator[dict[str, np.ndarray]]:
        while True:
            jax.block_until_ready(nnx.state(self.model))
            self.done.put(None)
            tasks = self.tasks.get()
            yield {"prompts": np.array(["" for _ in tasks]), "task": np.array(tasks)}

    def _gains(self) -> np.ndarray:
        """Parameters that only a gradient moves: no decay does."""
        return np.asarray(self.model.final_norm.w.value)


def _in_order(groups: list[Any]) -> list[Any]:
    """Attempts of a task side by side."""
    return sorted(
        (item for group in groups for item in group), key=lambda item: (item.group_id, item.pair_index)
    )


if __name__ == "__main__":
    serve({"multi_turn": _MultiTurn, "rl_step": _RlStep})
