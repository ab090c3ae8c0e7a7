"""The episodes of a run's training steps: which tasks, how many attempts, sampled or from a record."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.splits import TRAIN
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.diary import STAGE
from codegym_jax.pipelines.episode_source import EpisodeSource, SampledEpisodes, own_copy
from codegym_jax.pipelines.recorded import RecordedEpisodes, find_record, record_steps
from codegym_jax.pipelines.rollouts import StepPlayer, StepRules
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Episode
from codegym_jax.rollout.episode_log import read_episodes, step_name, step_path
from codegym_jax.trainer.state import params_hash


def open_source(bench: Workbench, record: pathlib.Path | None) -> EpisodeSource:
    """Where the steps' episodes come from: sampled, or read from a record.

    Raises:
      ConfigError: when the record lacks a step.
    """
    steps = bench.config.train.steps

    def save(step: int, played: Sequence[Episode]) -> None:
        bench.save_episodes(f"{STAGE}/{step_name(step)}", played)

    def load(step: int) -> list[Episode]:
        return list(read_episodes(bench.fetch(step_path(bench.folder / "episodes" / STAGE, step))))

    if record is not None:
        return RecordedEpisodes(find_record(record), _rules(bench), save=save, last_step=steps)
    ahead = bench.config.train.max_off_policy_steps > 0
    return SampledEpisodes(
        _player(bench, ahead=ahead),
        prepare=(lambda params: own_copy(bench.sampling_params(params))) if ahead else bench.sampling_params,
        save=save,
        load=load,
        overlap=ahead,
        last_step=steps,
    )


def save_rollouts(bench: Workbench, params: Any, folder: pathlib.Path) -> None:
    """Plays the episodes of all steps with one policy and learns nothing; resumes.

    Args:
      bench: the run.
      params: of the model.
      folder: of the record, for `run_train` of this run or another.
    """
    steps = bench.config.train.steps
    source = SampledEpisodes(
        _player(bench, ahead=False),
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


def _rules(bench: Workbench) -> StepRules:
    rollout, curriculum = bench.config.rollout, bench.config.curriculum
    return StepRules(
        tasks_per_step=rollout.tasks_per_step,
        attempts_per_task=rollout.attempts_per_task,
        dynamic_sampling=curriculum.dynamic_sampling,
        max_draws=curriculum.max_draws,
    )


def _player(bench: Workbench, *, ahead: bool) -> StepPlayer:
    """Plays steps; one that is sampled ahead is not abandoned as soon as the run is to stop."""
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
        return bench.play_prepared(
            params,
            requests,
            temperature=rollout.temperature,
            policy_version=version,
            interrupted=preemption.overdue if ahead else preemption.requested,
        )

    return StepPlayer(curriculum, bench.spec_of, play, _rules(bench), device_lap=bench.timed_sampler.lap)
