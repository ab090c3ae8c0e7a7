"""A policy of dice: episodes without a model or tools, as much a function of their keys as real ones are."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.records import EnvSpec, Episode, StopReason, Task
from codegym_jax.rollout.agent import EpisodeRequest

SPEC = EnvSpec(code_id="C", class_name="E", source="", tools=())


def make_tasks(count: int) -> list[Task]:
    """Task i needs i + 1 calls."""
    return [
        Task(env_id=SPEC.env_id, config_json=f"{index:02}", oracle_actions=("{}",) * (index + 1))
        for index in range(count)
    ]


def roll(params: Any, request: EpisodeRequest, policy_version: int) -> Episode:
    """Odd configs are solved by half of the attempts, even ones never; tokens depend on everything."""
    task_id, attempt = request.task.task_id, request.attempt
    luck = stable_hash(str(params), task_id, attempt)
    solved = int(request.task.config_json) % 2 == 1 and luck % 2 == 0
    ids = np.array([luck % 1000, luck // 1000 % 1000], np.int32)
    logp = -ids.astype(np.float32) / 7
    return Episode(
        task_id=task_id,
        attempt=attempt,
        policy_version=policy_version,
        token_ids=ids,
        is_policy=np.array([False, True]),
        sampler_logp=logp,
        policy_logp=logp,
        turns=(),
        reward=float(solved),
        stop_reason=StopReason.DONE,
    )


def play(params: Any, requests: Sequence[EpisodeRequest], policy_version: int) -> list[Episode]:
    """As an agent plays."""
    return [roll(params, request, policy_version) for request in requests]


def noting(calls: list[tuple[Any, int, int]], inner: Callable[..., list[Episode]] = play):
    """Plays, and notes the parameters, the number of requests and the version of each call."""

    def noted(params: Any, requests: Sequence[EpisodeRequest], policy_version: int) -> list[Episode]:
        calls.append((params, len(requests), policy_version))
        return inner(params, requests, policy_version)

    return noted
