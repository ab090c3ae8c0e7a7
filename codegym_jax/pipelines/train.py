"""Reinforcement learning: sample a group of episodes per task, compare them, update. One visible loop."""

import contextlib
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from codegym_jax.config import CannotGoOn
from codegym_jax.data.splits import TRAIN
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.diary import STAGE, Diary
from codegym_jax.pipelines.learner import Learner
from codegym_jax.pipelines.nonfinite import kept_for_replay
from codegym_jax.pipelines.profiling import profiled
from codegym_jax.pipelines.saves import Saves
from codegym_jax.pipelines.stopwatch import Stopwatch
from codegym_jax.pipelines.training_episodes import open_source
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Episode


class TooManyHostFailures(CannotGoOn):
    """The share of invalid attempts in a step passed `train.max_invalid_fraction`."""


def run_train(
    bench: Workbench,
    start: Any,
    *,
    record: pathlib.Path | None = None,
    enough: Callable[[int], bool] = lambda step: False,
) -> Any:
    """Improves the policy by RL on the training tasks, from the last checkpoint if there is one.

    Args:
      bench: the run.
      start: the warm-started parameters; donated to the first update.
      record: a run or folder whose recorded episodes are learned from; None: episodes are sampled.
      enough: whether to end with this step, though `train.steps` are more; asked of every whole step, and by
        what the run's metrics say of it and those before.

    Returns:
      The trained parameters, of the model.

    Raises:
      Stopped: when the run is to stop. An update that is under way is finished, episodes are abandoned, and
        the last whole step is saved.
      CannotGoOn: when a gradient is not finite (`pipelines.nonfinite`), or the host failed too often.
    """
    config = bench.config.train
    learner = Learner(bench, start)
    checkpoints = bench.checkpoints(STAGE, keep=config.keep_checkpoints, keep_every=config.keep_every)
    restored = checkpoints.restore(learner.state)
    position: dict[str, Any] = {"train_step": 0, "metrics_cursor": None}
    if restored is not None:
        learner.state, position = restored
    first = position["train_step"]
    if first >= config.steps or (first and enough(first)):
        return learner.policy()

    diary = Diary(bench, first)  # measures the peak: before the first step's time begins
    with (
        contextlib.closing(open_source(bench, record)) as source,
        bench.metrics(STAGE, position["metrics_cursor"]) as metrics,
        Stopwatch("rollout", "score", "update", "checkpoint") as watch,
        bar(STAGE, config.steps, first) as progress,
        contextlib.closing(
            profiled(STAGE, range(first + 1, config.steps + 1), bench.profile, bench.folder)
        ) as steps,
    ):
        if restored is not None:
            source.set_state(position["source"])
        say(_opening_line(bench, first))

        def snapshot(step: int) -> tuple[Any, dict[str, Any]]:
            here = {"source": source.get_state(), "metrics_cursor": metrics.cursor, "train_step": step}
            return learner.state, here | bench.fingerprint

        saves = Saves(STAGE, config.steps, checkpoints, snapshot, step=first)
        if restored is None:
            saves.save(0)
        for step in steps:
            version = int(learner.state.step)
            with saves.stops_after(step - 1), watch.time("rollout"):
                source.settle()
                bench.processes.stop_if_told()
                given = source.next(step, learner.policy(), version)
            _refuse_broken_host(step, given.played, config.max_invalid_fraction)
            with watch.time("score"):
                judged = learner.judge(given.episodes)
            with watch.time("update"), kept_for_replay(bench, STAGE, step, saves, lambda: learner.state):
                learned = learner.learn(step, given.episodes, judged)
                values = diary.values(given, learned, version)
            values |= diary.speed(given, learned, watch.lap(), rated=learner.scorings)
            diary.tell(step, given, metrics.write(STAGE, step, values))
            progress.advance()
            is_last = step == config.steps or enough(step)
            if step % config.checkpoint_every == 0 or is_last:
                with watch.time("checkpoint"):
                    saves.save(step)
            if is_last:
                break
        saves.finish()
    return learner.policy()


def _refuse_broken_host(step: int, played: Sequence[Episode], limit: float) -> None:
    invalid = sum(not episode.valid for episode in played) / len(played)
    if invalid > limit:
        raise TooManyHostFailures(
            f"step {step}: the host failed in {invalid:.0%} of the episodes,"
            f" more than train.max_invalid_fraction={limit:.0%}"
        )


def _opening_line(bench: Workbench, first: int) -> str:
    config, rollout = bench.config, bench.config.rollout
    return (
        f"{STAGE}: {config.algorithm.name} on {len(bench.tasks(TRAIN))} tasks, {rollout.tasks_per_step} x"
        f" {rollout.attempts_per_task} episodes a step, steps {first + 1} to {config.train.steps}"
    )
