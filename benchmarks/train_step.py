"""How fast the policy learns: one update (forward, backward, clip, AdamW), beside PyTorch and Tunix.

    python -m benchmarks.train_step [--shape tiny] [--runs N] [--device gpu] [> results.jsonl]
    python -m benchmarks.train_step --table results.jsonl

4 rows of 256 tokens, all of them read and all but the first learned; the same rows, optimizer settings and
initial weights for every engine, so the losses of the first updates are compared. `train_rate` is the
fewest operations that the update takes, over its time, and `mfu` its share of what a large matrix product
reaches on this device in the same type. In bfloat16, parameters stay float32 here and in PyTorch
(autocast).
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.engines.processes import OWN, Variant
from benchmarks.engines.rounds import Benchmark, Goal, Load, run

_LARGEST_DIFFERENCE = {4: 1e-3, 2: 5e-2}  # of the first loss, in nats a token, by bytes of a number


def _measured(reply: dict[str, Any], load: Load) -> dict[str, float]:
    work = load.workload
    return {
        "tokens_per_s": work.rows * work.tokens / reply["total"],
        "train_rate": work.flops(load.shape) / reply["total"] / 1e9,
    }


def _first(ours: dict[str, Any], theirs: dict[str, Any], load: Load) -> dict[str, Any]:
    difference = abs(theirs["loss"] - ours["loss"])
    return {
        "loss": theirs["loss"],
        "difference": difference,
        "agrees": difference <= _LARGEST_DIFFERENCE[load.number_bytes],
    }


BENCHMARK = Benchmark(
    name="train_step",
    variants=(
        Variant("codegym", OWN, "codegym"),
        Variant("torch", "torch", "hf"),
        Variant("tunix", "tunix", "tunix"),
    ),
    measured=_measured,
    first=_first,
    units={"tokens_per_s": "tokens/s", "train_rate": "GFLOP/s"},
    compared=("tokens_per_s",),
    ceiling=("train_rate", "matmul_rate", "mfu"),
    goals=(Goal(measure="tokens_per_s", variant="torch", bound=1.0),),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
