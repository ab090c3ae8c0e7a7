"""What an environment costs: fuel, memory and lengths, each against its limit."""

from collections.abc import Sequence
from statistics import median

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.audit.finding import Finding, count, passed, warned
from codegym_jax.envs.audit.plays import Play
from codegym_jax.envs.check import TaskBounds
from codegym_jax.envs.env import SOLVE_FUEL_FACTOR

TIGHT = 0.5
"""Above this share of what a guest may burn or hold, a somewhat larger config may hit the limit."""
LONG = 0.9
"""The same for calls and texts, which vary less."""
_MIB = 2**20
_SMALLER = "make the largest configs smaller, or the tools do less work"


def check_cost(limits: SandboxConfig, bounds: TaskBounds, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `cost`: the most over all configs tried."""
    fuel = [burned for play in plays for burned in play.fuel]
    oracle = max(sum(play.fuel) for play in plays)
    memory = max(play.memory_bytes for play in plays)
    calls = max(len(play.calls) for play in plays)
    observation = max(len(result.observation) for play in plays for result in play.results)
    answer = max(len(play.task.answer_json) for play in plays)
    of_call = f"fuel of a call {_millions(max(fuel))} (median {_millions(median(fuel))})"
    of_oracle = f"fuel of the oracle's calls {_millions(oracle)}"
    in_pieces = "return it in pieces: what the agent reads is cut there"
    return [
        _judged(of_call, max(fuel) / limits.fuel_per_call, _SMALLER),
        _judged(of_oracle, oracle / (SOLVE_FUEL_FACTOR * limits.fuel_per_call), _SMALLER),
        _judged(f"guest memory {memory / _MIB:.1f} MiB", memory / limits.memory_bytes, "hold less at once"),
        _judged(f"oracle of {count(calls, 'call')}", calls / bounds.max_calls, _SMALLER, LONG),
        _judged(
            f"observation of {count(observation, 'character')}",
            observation / limits.max_observation_chars,
            in_pieces,
        ),
        _judged(
            f"answer of {count(answer, 'character')}", answer / bounds.max_answer_chars, "ask for less", LONG
        ),
    ]


def _judged(told: str, share: float, hint: str, tight: float = TIGHT) -> Finding:
    told = f"{told}: {share:.1%} of the limit"
    return warned("cost", told, hint) if share > tight else passed("cost", told)


def _millions(fuel: int | float) -> str:
    return f"{fuel / 1e6:,.2f} M"
