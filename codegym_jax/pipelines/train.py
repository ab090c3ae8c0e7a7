"""Reinforcement learning: sample a group of episodes per task, compare them, update. One visible loop."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.splits import TRAIN
from codegym_jax.metrics import AlarmBell, read_metrics
from codegym_jax.models.peak import peak_of
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.episode_source import EpisodeSource, SampledEpisodes, own_copy
from codegym_jax.pipelines.learner import Learned, Learner
from codegym_jax.pipelines.recorded import RecordedEpisodes, find_record, record_steps
from codegym_jax.pipelines.rollouts import StepEpisodes, StepPlayer, StepRules
from codegym_jax.pipelines.step_metrics import (
    Speedometer,
    average,
    summarize,
    summarize_groups,
    worst_tools_line,
)
from codegym_jax.pipelines.stopwatch import Stopwatch
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Episode
from codegym_jax.rollout.episode_log import read_episodes, step_name, step_path
from codegym_jax.rollout.groups import group_rewards
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.optimizer import learning_rate_schedule
from codegym_jax.trainer.state import params_hash

STAGE = "train"


class TooManyHostFailures(RuntimeError):
    """The share of invalid attempts in a step passed `train.max_invalid_fraction`."""


def run_train(bench: Workbench, start: Any, *, record: pathlib.Path | None = None) -> Any:
    """Improves the policy by RL on the training tasks, from the last checkpoint if there is one.

    Args:
      bench: the run.
      start: the warm-started parameters; donated to the first update.
      record: a run or folder whose recorded episodes are learned from; None: episodes are sampled.

    Returns:
      The trained parameters, of the model.
    """
    config = bench.config.train
    learner = Learner(bench, start)
    checkpoints = Checkpointer(bench.folder / "checkpoints" / STAGE)
    restored = checkpoints.restore(learner.state)
    position: dict[str, Any] = {"train_step": 0, "metrics_cursor": None}
    if restored is not None:
        learner.state, position = restored
    first = position["train_step"]
    if first >= config.steps:
        return learner.policy()

    diary = Diary(bench, first)  # measures the peak: before the first step's time begins
    with (
        contextlib.closing(open_source(bench, record)) as source,
        bench.metrics(STAGE, position["metrics_cursor"]) as metrics,
        Stopwatch("rollout", "score", "update", "checkpoint") as watch,
        bar(STAGE, config.steps, first) as progress,
    ):
        if restored is not None:
            source.set_state(position["source"])
        say(_opening_line(bench, first))

        def save(step: int) -> None:
            here = {"source": source.get_state(), "metrics_cursor": metrics.cursor, "train_step": step}
            checkpoints.save(step, learner.state, here | bench.fingerprint)

        if restored is None:
            save(0)
        for step in range(first + 1, config.steps + 1):
            version = int(learner.state.step)
            with watch.time("rollout"):
                given = source.next(step, learner.policy(), version)
            _refuse_broken_host(step, given.played, config.max_invalid_fraction)
            with watch.time("score"):
                judged = learner.judge(given.episodes)
            with watch.time("update"):
                learned = learner.learn(step, given.episodes, judged)
                values = diary.values(given, learned, version)
            values |= diary.speed(given, learned, watch.lap(), rated=learner.scorings)
            diary.tell(step, given, metrics.write(STAGE, step, values))
            progress.advance()
            if step % config.checkpoint_every == 0 or step == config.steps:
                with watch.time("checkpoint"):
                    save(step)
    return learner.policy()


def save_rollouts(bench: Workbench, params: Any, folder: pathlib.Path) -> None:
    """Plays the episodes of all steps with one policy and learns nothing; resumes.

    Args:
      bench: the run.
      params: of the model.
      folder: of the record, for `run_train` of this run or another.
    """
    steps = bench.config.train.steps
    source = SampledEpisodes(
        _player(bench),
        prepare=bench.sampling_params,
        save=lambda step, played: bench.write_episodes(step_path(folder, step), played),
        load=lambda step: list(read_episodes(step_path(folder, step))),
        overlap=False,
        last_step=steps,
    )
    belongs_to = {
        "policy": params_hash(params),
        "rules": dataclasses.asdict(_rules(bench)),
        **bench.fingerprint,
    }
    with contextlib.closing(source), bar("rollouts", steps) as progress:
        recorded = record_steps(
            source,
            params,
            steps=steps,
            folder=folder,
            belongs_to=belongs_to,
            writes=bench.processes.is_first,
        )
        for step, given in recorded:
            rewards = [episode.reward for episode in given.played if episode.valid]
            mean = sum(rewards) / max(len(rewards), 1)
            say(f"rollouts {step:4d}/{steps}  reward {mean:.3f}  {given.sampling_s:.1f}s")
            progress.advance()


def open_source(bench: Workbench, record: pathlib.Path | None) -> EpisodeSource:
    """Where the steps' episodes come from: sampled, or read from a record.

    Raises:
      ConfigError: when the record lacks a step.
    """
    steps = bench.config.train.steps

    def save(step: int, played: Sequence[Episode]) -> None:
        bench.save_episodes(f"{STAGE}/{step_name(step)}", played)

    if record is not None:
        return RecordedEpisodes(find_record(record), _rules(bench), save=save, last_step=steps)
    ahead = bench.config.train.max_off_policy_steps > 0
    return SampledEpisodes(
        _player(bench),
        prepare=(lambda params: own_copy(bench.sampling_params(params))) if ahead else bench.sampling_params,
        save=save,
        load=lambda step: list(read_episodes(step_path(bench.folder / "episodes" / STAGE, step))),
        overlap=ahead,
        last_step=steps,
    )


class Diary:
    """What a step was like: as metrics, as lines for people, and as alarms.

    Args:
      bench: the run.
      first: the step that it goes on from; rows of later ones are those of a killed process.
    """

    def __init__(self, bench: Workbench, first: int) -> None:
        config = bench.config
        rows = read_metrics(bench.folder / "metrics.jsonl")
        self._config = config
        self._bell = AlarmBell([row for row in rows if row["stage"] != STAGE or row["step"] <= first])
        self._agent = bench.agent
        self._learning_rate = learning_rate_schedule(
            config.train.learning_rate, warmup_steps=config.train.warmup_steps
        )
        self._speedometer = Speedometer(
            shape=bench.model.config,
            vocabulary=bench.model.vocabulary_size,
            peak=peak_of(jax.devices(), config.policy.compute_dtype),
        )

    def values(self, given: StepEpisodes, learned: Learned, version: int) -> dict[str, float]:
        """The metrics that do not depend on the clock. Waits for the updates."""
        measured = jax.device_get(learned.metrics)
        return {
            **summarize(given.played, policy_version=version),
            **summarize_groups(*group_rewards(given.played, self._config.rollout.attempts_per_task)),
            **average(measured),
            **learned.shares,
            "refilled_attempts": float(given.refilled),
            "used_episodes": float(len(learned.lengths)),
            "learning_rate": float(jnp.asarray(self._learning_rate(version + len(measured) - 1))),
        }

    def speed(
        self, given: StepEpisodes, learned: Learned, lap: dict[str, float], *, rated: int
    ) -> dict[str, float]:
        """The metrics of the clock."""
        speed = self._speedometer.measure(
            given.played,
            learned.lengths,
            sampling_s=given.sampling_s,
            score_s=lap["score_s"],
            update_s=lap["update_s"],
            step_s=lap["step_s"],
            scorings=rated,
        )
        return lap | speed | {"sampling_s": given.sampling_s, "tools_s": given.tools_s}

    def tell(self, step: int, given: StepEpisodes, row: dict[str, Any]) -> None:
        """Prints a line, and what is alarming."""
        say(_line(step, self._config.train.steps, row))
        for alarm in self._bell.add(row):
            say(f"  ! {alarm.text}")
            if alarm.name == "failing_calls":
                say(f"    {worst_tools_line(given.played)}")


def _rules(bench: Workbench) -> StepRules:
    rollout, curriculum = bench.config.rollout, bench.config.curriculum
    return StepRules(
        tasks_per_step=rollout.tasks_per_step,
        attempts_per_task=rollout.attempts_per_task,
        dynamic_sampling=curriculum.dynamic_sampling,
        max_draws=curriculum.max_draws,
    )


def _player(bench: Workbench) -> StepPlayer:
    rollout, settings = bench.config.rollout, bench.config.curriculum
    curriculum = Curriculum(
        bench.tasks(TRAIN),
        seed=bench.config.seed,
        tasks_per_step=rollout.tasks_per_step,
        attempts_per_task=rollout.attempts_per_task,
        order=settings.order,
        easy_first_steps=settings.easy_first_steps,
        prefer_learnable=settings.prefer_learnable,
    )

    def play(params: Any, requests: Sequence[Any], version: int) -> list[Episode]:
        return bench.play_prepared(params, requests, temperature=rollout.temperature, policy_version=version)

    return StepPlayer(curriculum, bench.spec_of, play, _rules(bench), device_lap=bench.timed_sampler.lap)


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


def _line(step: int, steps: int, row: dict[str, Any]) -> str:
    return (
        f"{STAGE} {step:4d}/{steps}  reward {row['reward']:.3f}  calls {row['calls_per_episode']:.1f}"
        f"  entropy {row.get('entropy') or 0.0:.3f}  used {row['used_episodes']}"
        f"  {row['rollout_s']:.1f}s + {row['score_s'] + row['update_s']:.1f}s"
    )
