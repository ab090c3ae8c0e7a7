"""Reinforcement learning: sample a group of episodes per task, compare them, update. One visible loop."""

from collections import Counter
from collections.abc import Sequence
from time import monotonic
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np

from codegym_jax.algorithms.presets import ALGORITHMS, Algorithm
from codegym_jax.config import AlgorithmConfig, ConfigError
from codegym_jax.data.pipeline import TaskDraw, task_iterator
from codegym_jax.data.splits import TRAIN
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.metrics import MetricsWriter
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.workbench import WIDTH_MULTIPLE, Workbench
from codegym_jax.records import Episode, Task
from codegym_jax.rollout.agent import EpisodeRequest
from codegym_jax.rollout.collate import Mean, collate
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.optimizer import make_adamw
from codegym_jax.trainer.step import make_policy_gradient_step

STAGE = "train"


class TooManyHostFailures(RuntimeError):
    """The share of invalid attempts in a step passed `train.max_invalid_fraction`."""


def run_train(bench: Workbench, start: Any) -> Any:
    """Improves the policy by RL on the training tasks, from the last checkpoint if there is one.

    Args:
      bench: the run.
      start: the warm-started parameters; donated to the first update.

    Returns:
      The trained parameters.
    """
    config, rollout = bench.config.train, bench.config.rollout
    settings = bench.config.algorithm
    algorithm, mean = find_algorithm(settings.name), find_mean(settings.mean or "token")
    optimizer = make_adamw(
        config.learning_rate,
        warmup_steps=config.warmup_steps,
        weight_decay=config.weight_decay,
        b1=config.adam_b1,
        b2=config.adam_b2,
        max_grad_norm=config.max_grad_norm,
    )
    update = make_policy_gradient_step(bench.log_prob_fn, _loss(algorithm, settings), optimizer)
    advantages = jax.jit(algorithm.advantages)
    tasks = bench.tasks(TRAIN)
    stream = task_iterator(tasks, seed=bench.config.seed, tasks_per_step=rollout.tasks_per_step)
    state = bench.init_state(start, optimizer)
    checkpoints = Checkpointer(bench.folder / "checkpoints" / STAGE)
    restored = checkpoints.restore(state)
    cursor, first = None, 0
    if restored is not None:
        state, extra = restored
        stream.set_state(extra["stream"])
        cursor, first = extra["metrics_cursor"], extra["train_step"]
    if first >= config.steps:
        return state.params

    P, G = rollout.tasks_per_step, rollout.attempts_per_task
    say(f"{STAGE}: {len(tasks)} tasks, {P} x {G} episodes a step, steps {first + 1} to {config.steps}")
    with (
        MetricsWriter(bench.folder / "metrics.jsonl", cursor=cursor) as metrics,
        bar(STAGE, config.steps, first) as progress,
    ):

        def save(step: int) -> None:
            position = {"stream": stream.get_state(), "metrics_cursor": metrics.cursor, "train_step": step}
            checkpoints.save(step, state, position | bench.fingerprint)

        if restored is None:
            save(0)
        for step in range(first + 1, config.steps + 1):
            start_s = monotonic()
            episodes = bench.play(
                state.params,
                attempts(bench, tasks, next(stream), G),
                temperature=rollout.temperature,
                policy_version=int(state.step),
            )
            bench.save_episodes(f"{STAGE}/step_{step:06d}", episodes)
            rollout_s = monotonic() - start_s
            rewards_PG, valid_PG = groups(episodes, G)
            _refuse_broken_host(step, float(1.0 - valid_PG.mean()), config.max_invalid_fraction)
            updates = collate(
                episodes,
                np.asarray(advantages(jnp.asarray(rewards_PG), jnp.asarray(valid_PG))).ravel(),
                rows_per_update=config.episodes_per_update,
                rows_per_batch=config.rows_per_batch,
                width_multiple=WIDTH_MULTIPLE,
                rng=np.random.default_rng(stable_hash(bench.config.seed, "collate", step)),
                mean=mean,
            )
            measured = []
            for batch in updates:
                state, of_update = update(state, bench.place(batch.batches), float(batch.policy_token_count))
                measured.append(of_update)
            values = summarize(episodes) | average(jax.device_get(measured))
            values |= {
                "used_episodes": sum(batch.episode_count for batch in updates),
                "rollout_s": rollout_s,
                "update_s": monotonic() - start_s - rollout_s,
            }
            metrics.write(STAGE, step, values)
            progress.advance()
            say(_line(step, config.steps, values))
            if step % config.checkpoint_every == 0 or step == config.steps:
                save(step)
    return state.params


def find_algorithm(name: str) -> Algorithm:
    """The algorithm called `name`.

    Raises:
      ConfigError: when there is none.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"algorithm.name must be one of {', '.join(ALGORITHMS)}, got {name!r}")
    return ALGORITHMS[name]


def find_mean(name: str) -> Mean:
    """The aggregation called `name`.

    Raises:
      ConfigError: when there is none.
    """
    known = get_args(Mean)
    if name not in known:
        raise ConfigError(f"algorithm.mean must be one of {', '.join(known)}, got {name!r}")
    return cast(Mean, name)


def attempts(
    bench: Workbench, tasks: Sequence[Task], draws: Sequence[TaskDraw], count: int
) -> list[EpisodeRequest]:
    """`count` attempts at each drawn task; a task's later visits continue its numbering."""
    return [
        EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=draw.visit * count + g)
        for draw in draws
        for task in (tasks[draw.task_index],)
        for g in range(count)
    ]


def groups(episodes: Sequence[Episode], attempt_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards and validity as [P, G], from episodes in the order of their requests."""
    rewards_PG = np.array([episode.reward for episode in episodes], np.float32).reshape(-1, attempt_count)
    valid_PG = np.array([episode.valid for episode in episodes], bool).reshape(-1, attempt_count)
    return rewards_PG, valid_PG


def summarize(episodes: Sequence[Episode]) -> dict[str, float]:
    """What a step's episodes were like, as metrics; rewards over the valid ones."""
    rewards = [episode.reward for episode in episodes if episode.valid]
    calls = sum(len(episode.turns) for episode in episodes)
    errors = Counter(turn.error.value for episode in episodes for turn in episode.turns if turn.error)
    stops = Counter(episode.stop_reason.value for episode in episodes)
    return {
        "reward": sum(rewards) / max(len(rewards), 1),
        "valid_fraction": len(rewards) / len(episodes),
        "calls_per_episode": calls / len(episodes),
        "tokens_per_episode": sum(len(episode.token_ids) for episode in episodes) / len(episodes),
        "policy_tokens": int(sum(episode.is_policy.sum() for episode in episodes)),
        **{f"stop/{reason}": count / len(episodes) for reason, count in sorted(stops.items())},
        **{f"call_error/{kind}": count / max(calls, 1) for kind, count in sorted(errors.items())},
    }


def average(updates: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Metrics of a step's updates: their mean, or the largest of those named `*_max`."""
    if not updates:
        return {}
    return {
        name: float((np.max if name.endswith("_max") else np.mean)([values[name] for values in updates]))
        for name in updates[0]
    }


def _loss(algorithm: Algorithm, config: AlgorithmConfig):
    def loss(*arrays: jax.Array, denominator: jax.Array):
        return algorithm.loss(
            *arrays, denominator=denominator, clip_low=config.clip_low, clip_high=config.clip_high
        )

    return loss


def _refuse_broken_host(step: int, invalid: float, limit: float) -> None:
    if invalid > limit:
        raise TooManyHostFailures(
            f"step {step}: the host failed in {invalid:.0%} of the episodes,"
            f" more than train.max_invalid_fraction={limit:.0%}"
        )


def _line(step: int, steps: int, values: dict[str, float]) -> str:
    return (
        f"{STAGE} {step:4d}/{steps}  reward {values['reward']:.3f}  calls {values['calls_per_episode']:.1f}"
        f"  entropy {values.get('entropy', 0.0):.3f}  used {values['used_episodes']}"
        f"  {values['rollout_s']:.1f}s + {values['update_s']:.1f}s"
    )
