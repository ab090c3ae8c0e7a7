"""The warm start: supervised learning on demonstrations, the policy's tokens only. One visible loop."""

from time import monotonic
from typing import Any

import jax
import jax.numpy as jnp

from codegym_jax.data.pipeline import demonstration_iterator
from codegym_jax.metrics import MetricsWriter
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.demonstrations import demonstrations
from codegym_jax.pipelines.workbench import WIDTH_MULTIPLE, Workbench
from codegym_jax.rollout.collate import demonstration_batches
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.optimizer import learning_rate_schedule, make_adamw
from codegym_jax.trainer.step import make_sft_step

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
    """
    config = bench.config.sft
    steps = config.steps if steps is None else steps
    schedule: Any = {"warmup_steps": config.warmup_steps, "total_steps": steps, "decay": "cosine"}
    learning_rate = learning_rate_schedule(config.learning_rate, **schedule)
    optimizer = make_adamw(
        config.learning_rate, **schedule, weight_decay=0.01, b1=0.9, b2=0.98, max_grad_norm=1.0
    )
    update = make_sft_step(bench.log_prob_fn, optimizer)
    state = bench.init_state(bench.init_params() if start is None else start, optimizer)
    rows = demonstrations(bench)
    stream = demonstration_iterator(rows, seed=bench.config.seed, rows=config.rows)
    checkpoints = Checkpointer(bench.folder / "checkpoints" / stage)
    restored = checkpoints.restore(state)
    cursor = None
    if restored is not None:
        state, extra = restored
        stream.set_state(extra["stream"])
        cursor = extra["metrics_cursor"]
    first = int(state.step)
    if first >= steps:
        return state.params

    say(f"{stage}: {len(rows)} demonstrations, updates {first + 1} to {steps}")
    with (
        MetricsWriter(bench.folder / "metrics.jsonl", cursor=cursor) as metrics,
        bar(stage, steps, first) as progress,
    ):

        def save(step: int) -> None:
            extra = {"stream": stream.get_state(), "metrics_cursor": metrics.cursor, **bench.fingerprint}
            checkpoints.save(step, state, extra)

        if restored is None:
            save(0)
        for step in range(first + 1, steps + 1):
            start_s = monotonic()
            drawn = next(stream)
            batch = demonstration_batches(
                [(row.token_ids, row.is_policy) for row in drawn],
                rows_per_batch=config.rows,
                width_multiple=WIDTH_MULTIPLE,
            )
            state, measured = update(state, bench.place(batch.batches), float(batch.policy_token_count))
            values = jax.device_get(measured) | {
                "tokens": batch.policy_token_count,
                "tokens_per_second": sum(len(row.token_ids) for row in drawn) / (monotonic() - start_s),
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
                save(step)
    return state.params
