"""How fast tool episodes are sampled, beside Hugging Face transformers and Tunix's agentic learner.

    python -m benchmarks.multi_turn [--shape tiny] [--runs N] [--device gpu] [> results.jsonl]
    python -m benchmarks.multi_turn --table results.jsonl

8 episodes (2 tasks, 4 attempts each) of 6 turns: a prompt of 128 tokens, then 40 tokens of the policy and
30 of a tool in every turn, at temperature 1. Tools answer at once, and nothing but the budget ends a
message, so every engine samples the same number of tokens; `tokens_per_s` counts the policy's. `distinct`
is the fewest different episodes among the attempts of a task: attempts that are all the same give no
advantage to learn from. `prefilled` counts the positions that are computed for prompts and tool results,
padding included. The lines `compiled` count XLA programs until an engine was warm, and in the rounds after.
"""

import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.engines.processes import OWN, Variant
from benchmarks.engines.rounds import Benchmark, Goal, Load, run


def _measured(reply: dict[str, Any], load: Load) -> dict[str, float]:
    work = load.workload
    tokens = sum(map(len, reply["episodes"]))
    if tokens != work.policy_tokens:
        raise ValueError(f"an engine sampled {tokens} tokens, not {work.policy_tokens}")
    return {
        "tokens_per_s": work.policy_tokens / reply["total"],
        "distinct": work.distinct(reply["episodes"]),
        "prefilled": reply["prefilled"],
    }


def _first(ours: dict[str, Any], theirs: dict[str, Any], load: Load) -> dict[str, Any]:
    lengths = {len(episode) for episode in theirs["episodes"]}
    expected = load.workload.turns * load.workload.message_tokens
    return {
        "episodes": len(theirs["episodes"]),
        "tokens_each": sorted(lengths),
        "agrees": len(theirs["episodes"]) == load.workload.episodes and lengths == {expected},
    }


BENCHMARK = Benchmark(
    name="multi_turn",
    variants=(
        Variant("codegym", OWN, "codegym_agentic"),
        Variant("hf_reuse", "torch", "hf"),
        Variant("hf_no_reuse", "torch", "hf"),
        Variant("tunix_agentic", "tunix", "tunix_agentic"),
    ),
    measured=_measured,
    first=_first,
    units={"tokens_per_s": "tokens/s", "distinct": "episodes of a task", "prefilled": "tokens"},
    compared=("tokens_per_s",),
    ceiling=None,
    goals=(
        Goal(measure="tokens_per_s", variant="hf_reuse", bound=2.0),
        Goal(measure="tokens_per_s", variant="tunix_agentic", bound=10.0),
    ),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
