"""How fast the policy writes: greedy decoding of a batch, beside Hugging Face transformers and Tunix.

    python -m benchmarks.decode [--shape tiny] [--runs N] [--device gpu] [> results.jsonl]
    python -m benchmarks.decode --table results.jsonl

8 prompts of 128 tokens, 128 new tokens each. `prefill` is a call for one token, `tokens_per_s` a call for
all of them, prompt included, and `decode_rate` the tokens after the first over the difference of the two.
`decode_bandwidth` is the fewest bytes that a step must read (parameters and cache) times steps a second,
and `of_copy_bandwidth` its share of what a pass over a large array reaches on this device. The greedy ids
of every engine are compared with ours.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.engines.processes import OWN, Variant
from benchmarks.engines.rounds import Benchmark, Goal, Load, run

_LEAST_AGREEMENT = 0.9  # of the tokens: where two logits are nearly equal, rounding decides, and a row parts


def _measured(reply: dict[str, Any], load: Load) -> dict[str, float]:
    work = load.workload
    measured = {"tokens_per_s": work.rows * work.new_tokens / reply["total"], "prefill": reply["prefill"]}
    decode_s = reply["total"] - reply["prefill"]
    if decode_s <= 0:  # noise, where both are tiny
        return measured
    steps_per_s = (work.new_tokens - 1) / decode_s
    return {
        **measured,
        "decode_rate": work.rows * steps_per_s,
        "decode_bandwidth": work.step_bytes(load.shape, load.number_bytes) * steps_per_s / 1e9,
    }


def _first(ours: dict[str, Any], theirs: dict[str, Any], load: Load) -> dict[str, Any]:
    rows = list(zip(ours["ids"], theirs["ids"], strict=True))
    count = load.workload.rows * load.workload.new_tokens
    same = sum(left == right for row in rows for left, right in zip(*row, strict=True)) / count
    different = len({token for row in theirs["ids"] for token in row})
    return {
        "same_tokens": same,
        "same_rows": sum(left == right for left, right in rows),
        "different_tokens": different,
        "agrees": same >= _LEAST_AGREEMENT,
    }


BENCHMARK = Benchmark(
    name="decode",
    variants=(
        Variant("codegym", OWN, "codegym"),
        Variant("hf_dynamic", "torch", "hf"),
        Variant("hf_static", "torch", "hf"),
        Variant("tunix", "tunix", "tunix"),
    ),
    measured=_measured,
    first=_first,
    units={
        "tokens_per_s": "tokens/s",
        "decode_rate": "tokens/s",
        "prefill": "s",
        "decode_bandwidth": "GB/s",
    },
    compared=("tokens_per_s", "decode_rate", "prefill"),
    ceiling=("decode_bandwidth", "copy_bandwidth", "of_copy_bandwidth"),
    goals=(
        Goal(measure="tokens_per_s", variant="hf_dynamic", bound=1.3),
        Goal(measure="tokens_per_s", variant="hf_static", bound=1.3),
        Goal(measure="tokens_per_s", variant="tunix", bound=1.2),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
