"""How fast the policy learns from tool episodes: one whole step, beside Tunix's agentic GRPO and TRL's GRPO.

    python -m benchmarks.rl_step [--shape tiny] [--runs N] [--device gpu] [> results.jsonl]
    python -m benchmarks.rl_step --table results.jsonl

A step plays the 8 episodes of `multi_turn` (2 tasks, 4 attempts each, 6 turns), rewards each with a number
that its tokens give, and makes one GRPO update of all of them: advantages within a task, a mean over the
policy's tokens, no reference, clip, AdamW. The next step samples with the new parameters. `step` is seconds;
the sampler takes `rollout` of them, forward, backward and optimizer `update`, everything else `host`. Of
a peer, `rollout` lasts until its last message, and `update` is what follows. `tokens_per_s` counts the
policy's tokens, `learned` those of tasks whose attempts earned different rewards: all others have an
advantage of 0. `distinct` and the lines `compiled` are as in `multi_turn`.
"""

import math
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks.engines.processes import OWN, Variant
from benchmarks.engines.rounds import Benchmark, Goal, Load, run

_PARTS = ("rollout", "update", "host")
_REWARD_TOLERANCE = 1e-6  # some engines keep rewards in float32


def _measured(reply: dict[str, Any], load: Load) -> dict[str, float]:
    work, episodes = load.workload, reply["episodes"]
    learned = work.learned_tokens(episodes, reply["rewards"])
    tokens = sum(map(len, episodes))
    if tokens != work.policy_tokens:
        raise ValueError(f"an engine sampled {tokens} tokens, not {work.policy_tokens}")
    if not _rewarded(reply, load):
        raise ValueError("an engine gave episodes other rewards than the workload does")
    return {
        "step": reply["total"],
        "tokens_per_s": tokens / reply["total"],
        **{part: reply[part] for part in _PARTS if part in reply},
        "distinct": work.distinct(episodes),
        "learned": learned,
    }


def _first(ours: dict[str, Any], theirs: dict[str, Any], load: Load) -> dict[str, Any]:
    """Every engine samples its own episodes, so no number of an update can be compared: rewards must be those
    of the tokens, and parameters move exactly where there was something to learn."""
    work, episodes = load.workload, theirs["episodes"]
    lengths = {len(episode) for episode in episodes}
    right = len(episodes) == work.episodes and lengths == {work.turns * work.message_tokens}
    learned = work.learned_tokens(episodes, theirs["rewards"])
    return {
        "episodes": len(episodes),
        "tokens_each": sorted(lengths),
        "rewarded": _rewarded(theirs, load),
        "learned": learned,
        "moved": theirs["moved"],
        "agrees": right and _rewarded(theirs, load) and theirs["moved"] == (learned > 0),
    }


def _rewarded(reply: dict[str, Any], load: Load) -> bool:
    expected = [load.workload.reward(ids, load.shape.vocabulary) for ids in reply["episodes"]]
    return len(expected) == len(reply["rewards"]) and all(
        math.isclose(left, right, abs_tol=_REWARD_TOLERANCE)
        for left, right in zip(expected, reply["rewards"], strict=True)
    )


BENCHMARK = Benchmark(
    name="rl_step",
    variants=(
        Variant("codegym", OWN, "codegym_agentic"),
        Variant("tunix_agentic", "tunix", "tunix_agentic"),
        Variant("trl", "trl", "trl"),
    ),
    measured=_measured,
    first=_first,
    units={
        "step": "s",
        "tokens_per_s": "tokens/s",
        **dict.fromkeys(_PARTS, "s"),
        "distinct": "episodes of a task",
        "learned": "tokens",
    },
    compared=("step",),
    ceiling=None,
    goals=(Goal(measure="step", variant="tunix_agentic", bound=5.0),),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return run(BENCHMARK, __doc__, arguments)


if __name__ == "__main__":
    sys.exit(main())
