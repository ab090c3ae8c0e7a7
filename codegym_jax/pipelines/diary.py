"""What a training step was like: as metrics, as lines for people, and as alarms."""

from typing import Any

import jax
import jax.numpy as jnp

from codegym_jax.metrics import AlarmBell, read_metrics
from codegym_jax.models.peak import peak_of
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.learner import Learned
from codegym_jax.pipelines.rollouts import StepEpisodes
from codegym_jax.pipelines.step_metrics import (
    Speedometer,
    average,
    summarize,
    summarize_groups,
    worst_tools_line,
)
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.rollout.groups import group_rewards
from codegym_jax.trainer.optimizer import learning_rate_schedule

STAGE = "train"


class Diary:
    """Keeps account of the steps, one after the other.

    Args:
      bench: the run.
      first: the step that it goes on from; rows of later ones are those of a killed process.
    """

    def __init__(self, bench: Workbench, first: int) -> None:
        config = bench.config
        rows = read_metrics(bench.folder / "metrics.jsonl")
        self._config = config
        self._bell = AlarmBell([row for row in rows if row["stage"] != STAGE or row["step"] <= first])
        self._learning_rate = learning_rate_schedule(
            config.train.learning_rate, warmup_steps=config.train.warmup_steps
        )
        peak = peak_of(jax.devices(), config.policy.compute_dtype)
        self._speedometer = Speedometer(
            shape=bench.model.config, vocabulary=bench.model.vocabulary_size, peak=peak
        )
        say(f"{STAGE}: utilization (mfu) is a share of {peak.flops:.3g} FLOP/s, {peak.source}")

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


def _line(step: int, steps: int, row: dict[str, Any]) -> str:
    return (
        f"{STAGE} {step:4d}/{steps}  reward {row['reward']:.3f}  calls {row['calls_per_episode']:.1f}"
        f"  entropy {row.get('entropy') or 0.0:.3f}  used {row['used_episodes']}"
        f"  {row['rollout_s']:.1f}s + {row['score_s'] + row['update_s']:.1f}s"
    )
