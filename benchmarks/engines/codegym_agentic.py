"""This project's engine on tool episodes: the sampler that plays them, the update that learns from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.engines.codegym import Loaded
from benchmarks.engines.spent import Spent
from benchmarks.engines.worker import Job, serve
from benchmarks.engines.workload import CLIP, MultiTurn, RlStep
from codegym_jax.algorithms.advantages import group_relative
from codegym_jax.algorithms.objective import Objective
from codegym_jax.algorithms.surrogates import Clip, clipped_ratio
from codegym_jax.models import sharding
from codegym_jax.records import Update
from codegym_jax.rollout.packing import Lesson, pack
from codegym_jax.rollout.token_sampler import episode_key
from codegym_jax.trainer.update import make_policy_update


@dataclass(slots=True)
class _Played:
    """One episode's tokens, whose they are, and the log-probabilities of the policy's."""

    task: int
    ids: list[int] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    logp: list[float] = field(default_factory=list)

    def told(self, ids: list[int]) -> list[int]:
        """Takes in a prompt or a result, and hands it on."""
        self.ids += ids
        self.own += [False] * len(ids)
        self.logp += [0.0] * len(ids)
        return ids

    def wrote(self, ids: list[int], logp: list[float]) -> None:
        """Takes in a message of the policy."""
        self.ids += ids
        self.own += [True] * len(ids)
        self.logp += logp

    @property
    def message_ids(self) -> list[int]:
        """The policy's tokens."""
        return [token for token, own in zip(self.ids, self.own, strict=True) if own]

    def lesson(self, advantage: float) -> Lesson:
        """The episode as a loss sees it."""
        return Lesson(
            token_ids=np.asarray(self.ids, np.int32),
            is_policy=np.asarray(self.own, bool),
            sampler_logp=np.asarray(self.logp, np.float32),
            advantage=np.full(len(self.ids), advantage, np.float32),
        )


class _Playing(Loaded):
    """Plays a round's episodes, all at once: as many slots as episodes."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, MultiTurn)
        self.tools = job.workload
        self.slots = self.sampler(
            slots=self.tools.episodes,
            length=self.tools.length + 1,
            message_tokens=self.tools.message_tokens,
            extend_width=self.tools.result_tokens,
            prefill_rows=self.tools.tasks,  # attempts share their prompt
            prefill_width=self.tools.prompt_tokens,
            share_prefixes=True,
        )

    def play(self, params: Any, number: int, spent: Spent) -> list[_Played]:
        """The episodes of a round; calls of the sampler count as "rollout"."""
        tools, played = self.tools, [_Played(task) for task in self.tools.task_of_episodes(number)]
        slots = range(len(played))
        budget_B = np.full(len(slots), tools.message_tokens, np.int32)
        keys = {
            slot: episode_key(0, str(episode.task), slot % tools.attempts)
            for slot, episode in enumerate(played)
        }
        prompts = {
            slot: played[slot].told(tools.prompt(played[slot].task, self.vocabulary)) for slot in slots
        }
        with spent.on("rollout"):
            self.slots.start(keys)
            self.slots.append(params, prompts)
        for turn in range(tools.turns):
            with spent.on("rollout"):
                sampled = self.slots.decode(params, budget_B, 1.0)
            for slot, episode in enumerate(played):
                count = sampled.count_B[slot]
                episode.wrote(
                    sampled.tokens_BT[slot, :count].tolist(), sampled.sampler_logp_BT[slot, :count].tolist()
                )
            if turn + 1 < tools.turns:
                results = {
                    slot: episode.told(tools.result(episode.task, turn, self.vocabulary))
                    for slot, episode in enumerate(played)
                }
                with spent.on("rollout"):
                    self.slots.append(params, results)
        return played

    def counts(self, prefilled_before: int) -> dict[str, int]:
        """Programs compiled so far, and what has been prefilled since."""
        return {
            "compiled": self.compiled.count,
            "programs": self.slots.compiled_programs,
            "prefilled": self.slots.prefilled_tokens - prefilled_before,
        }


class _MultiTurn(_Playing):
    def round(self, number: int) -> dict[str, Any]:
        prefilled, start_s = self.slots.prefilled_tokens, perf_counter()
        played = self.play(self.params, number, Spent())
        return {
            "total": perf_counter() - start_s,
            **self.counts(prefilled),
            "episodes": [episode.message_ids for episode in played],
        }


class _RlStep(_Playing):
    """GRPO without a reference: one update from a round's episodes, played by the parameters before it."""

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        assert isinstance(job.workload, RlStep)
        self.work = job.workload
        self.state = self.first_state()
        del self.params  # the first update takes them
        self.advantages = jax.jit(partial(group_relative, normalize=True))
        objective = Objective(surrogate=clipped_ratio, clip=Clip(CLIP, CLIP))
        self.update = make_policy_update(self.scores, objective, self.optimizer)

    def round(self, number: int) -> dict[str, Any]:
        gains = self._gains()
        prefilled, start_s, spent = self.slots.prefilled_tokens, perf_counter(), Spent()
        played = self.play(self._sampling_params(), number, spent)
        rewards = [self.work.reward(episode.message_ids, self.vocabulary) for episode in played]
        for update in self._updates(played, rewards):
            with spent.on("update"):
                self.state, _ = self.update(self.state, (), self.placed(update))
                jax.block_until_ready(self.state)
        total_s = perf_counter() - start_s
        return {
            "total": total_s,
            **spent.seconds,
            "host": total_s - sum(spent.seconds.values()),
            **self.counts(prefilled),
            "episodes": [episode.message_ids for episode in played],
            "rewards": rewards,
            "moved": bool((self._gains() != gains).any()),
        }

    def _updates(self, played: Sequence[_Played], rewards: Sequence[float]) -> list[Update]:
        rewards_PG = jnp.asarray(rewards, jnp.float32).reshape(self.work.tasks, self.work.attempts)
        advantages_PG = self.advantages(rewards_PG, jnp.ones(rewards_PG.shape, bool))
        return pack(
            [
                episode.lesson(advantage)
                for episode, advantage in zip(played, np.asarray(advantages_PG).ravel(), strict=True)
            ],
            episodes_per_update=self.work.episodes,
            rows_per_batch=self.work.tasks_per_batch * self.work.attempts,
            row_tokens=self.work.length,
            mean="token",
            rng=np.random.default_rng(0),
        )

    def _sampling_params(self) -> Any:
        """The parameters in the type that the model computes in."""
        return (
            sharding.narrowed(self.state.params, self.job.dtype)
            if self.job.dtype != "float32"
            else self.state.params
        )

    def _gains(self) -> np.ndarray:
        """Parameters that only a gradient moves: no decay does."""
        return np.asarray(self.state.params["norm"]["scale"])


if __name__ == "__main__":
    serve({"multi_turn": _MultiTurn, "rl_step": _RlStep})
