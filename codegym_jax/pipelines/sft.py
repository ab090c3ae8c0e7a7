"""The warm start: supervised learning on demonstrations, the policy's tokens only. One visible loop."""

import contextlib
from time import monotonic
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from codegym_jax.config import SftConfig
from codegym_jax.data.chat import Demonstration
from codegym_jax.data.pipeline import demonstration_iterator
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.demonstrations import demonstrations
from codegym_jax.pipelines.nonfinite import kept_for_replay
from codegym_jax.pipelines.profiling import profiled
from codegym_jax.pipelines.saves import Saves
from codegym_jax.pipelines.trainable import Trainable
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Update
from codegym_jax.rollout.packing import Lesson, pack_in_order
from codegym_jax.trainer.optimizer import learning_rate_schedule, make_optimizer
from codegym_jax.trainer.update import Findings, examine, make_scorer, make_sft_update, require_made

STAGE, CONTROL = "sft", "control"
_CHECKPOINT_EVERY = 100
_LINE_EVERY = 20


def run_sft(
    bench: Workbench, *, stage: str = STAGE, start: Any | None = None, steps: int | None = None
) -> Any:
    """Trains on demonstrations, from the stage's last checkpoint if there is one.

    Args:
      bench: the run.
      stage: `STAGE`, or `CONTROL` for the control experiment (more of the same).
      start: parameters to begin with; None initializes them.
      steps: updates; None takes the config's.

    Returns:
      The trained parameters.

    Raises:
      Stopped: when the run is to stop; the last update is saved.
      CannotGoOn: when a gradient is not finite (`pipelines.nonfinite`).
    """
    config, train = bench.config.sft, bench.config.train
    steps = config.steps if steps is None else steps
    learning_rate = learning_rate_schedule(config.learning_rate, **_schedule(config, steps))
    pupil = Pupil(bench, bench.init_params() if start is None else start, steps)
    rows = demonstrations(bench)
    row_tokens = max(train.row_tokens or bench.config.rollout.max_tokens, max(map(_length, rows)))
    stream = demonstration_iterator(rows, seed=bench.config.seed, rows=config.rows)
    checkpoints = bench.checkpoints(stage)
    restored = checkpoints.restore(pupil.state)
    cursor = None
    if restored is not None:
        pupil.state, extra = restored
        stream.set_state(extra["stream"])
        cursor = extra["metrics_cursor"]
    first = int(pupil.state.step)
    if first >= steps:
        return pupil.policy()

    say(f"{stage}: {len(rows)} demonstrations, updates {first + 1} to {steps}")
    with (
        bench.metrics(stage, cursor) as metrics,
        bar(stage, steps, first) as progress,
        contextlib.closing(
            profiled(stage, range(first + 1, steps + 1), bench.profile, bench.folder)
        ) as counted,
    ):

        def snapshot(_: int) -> tuple[Any, dict[str, Any]]:
            return pupil.state, {
                "stream": stream.get_state(),
                "metrics_cursor": metrics.cursor,
                **bench.fingerprint,
            }

        saves = Saves(stage, steps, checkpoints, snapshot, step=first)
        if restored is None:
            saves.save(0)
        for step in counted:
            with saves.stops_after(step - 1):
                bench.processes.stop_if_told()
            start_s = monotonic()
            drawn = next(stream)
            lessons = [_lesson(row) for row in drawn]
            batch, _ = pack_in_order(lessons, rows_per_batch=train.rows_per_batch, row_tokens=row_tokens)
            with (
                jax.profiler.TraceAnnotation("update"),
                kept_for_replay(bench, stage, step, saves, lambda: pupil.state),
            ):
                measured = jax.device_get(pupil.learn(batch))
            values = measured | {
                "tokens": batch.token_count,
                "padding_share": 1.0 - sum(map(_length, drawn)) / batch.positions,
                "tokens_per_second": sum(map(_length, drawn)) / (monotonic() - start_s),
                "learning_rate": float(jnp.asarray(learning_rate(step - 1))),
            }
            metrics.write(stage, step, values)
            progress.advance()
            if step % _LINE_EVERY == 0 or step == steps:
                say(
                    f"{stage} {step:4d}/{steps}  loss {values['loss']:.4f}"
                    f"  {values['tokens_per_second']:.0f} tokens/s"
                )
            if step % _CHECKPOINT_EVERY == 0 or step == steps:
                with jax.profiler.TraceAnnotation("checkpoint"):
                    saves.save(step)
        saves.finish()
    return pupil.policy()


class Pupil:
    """What learns from demonstrations: parameters, and the program that updates them.

    Args:
      bench: the run.
      start: the model's parameters to begin with; donated to the first update, unless adapters learn.
      steps: of the schedule.
    """

    def __init__(self, bench: Workbench, start: Any, steps: int) -> None:
        self._bench = bench
        self._trainable = Trainable(model=bench.model, lora=bench.config.lora, critic=False)
        split = self._trainable.split(start, bench.mesh, bench.config.seed)
        self._frozen = split.frozen
        optimizer = supervising_optimizer(bench.config.sft, steps)
        score_fn = self._trainable.score_fn(chunk_tokens=bench.config.train.chunk_tokens)
        self._update, self._score = make_sft_update(score_fn, optimizer), make_scorer(score_fn)
        self.state: Any = bench.init_state(split.params, optimizer)

    def policy(self) -> Any:
        """The model's parameters now; they may share buffers with those that an update donates."""
        return self._trainable.policy(self.state.params, self._frozen)

    def learn(self, update: Update) -> dict[str, Any]:
        """Makes an update and returns its metrics, on the device still.

        Raises:
          NotFinite: when its gradient is not finite.
        """
        self.state, metrics = self._update(self.state, self._frozen, self._bench.place(update))
        require_made([metrics], [update])
        return metrics

    def examine(self, update: Update) -> tuple[list[Findings], Any]:
        """As `Learner.examine`."""
        placed = self._bench.place(update)
        return examine(self._update, self._score, self.state, self._frozen, placed)


def supervising_optimizer(config: SftConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of supervised learning for so many updates."""
    return make_optimizer(
        "adamw",
        config.learning_rate,
        **_schedule(config, steps),
        weight_decay=0.01,
        b1=0.9,
        b2=0.98,
        max_grad_norm=1.0,
    )


def _schedule(config: SftConfig, steps: int) -> dict[str, Any]:
    return {"warmup_steps": min(config.warmup_steps, steps - 1), "total_steps": steps, "decay": "cosine"}


def _lesson(row: Demonstration) -> Lesson:
    """A demonstration to imitate: nothing was sampled, and nothing is better than anything else."""
    return Lesson(row.token_ids, row.is_policy, None, np.zeros(len(row.token_ids), np.float32))


def _length(row: Demonstration) -> int:
    return len(row.token_ids)
