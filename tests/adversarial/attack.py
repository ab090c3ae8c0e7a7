"""What an attack is, how it is written down, and what playing it gives.

An attack names what it tries, the parts of the victim that it replaces, the actions, and its outcome to the
letter. The builders below keep the tables in `attacks_*.py` short; `test_attacks.py` plays every row.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import victim

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.env import Env, StepResult
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError

QUICK = SandboxConfig(fuel_per_call=50_000_000)
"""A fortieth of the default fuel, so that what never ends is over sooner."""
DEFAULT = SandboxConfig()

TOO_LONG = CallError.OUT_OF_FUEL
TOO_BIG = CallError.OUT_OF_MEMORY
TOO_DEEP = CallError.STACK_OVERFLOW
OUTSIDE = CallError.FORBIDDEN
ENDED = CallError.REFUSED
_TEXT = {
    TOO_LONG: "Error: the call took too long",
    TOO_BIG: "Error: the call ran out of memory",
    TOO_DEEP: "Error: the call recursed too deeply",
    OUTSIDE: "Error: the call reached for something outside the environment",
    ENDED: "Error: the episode has ended",
}
TRAPS = frozenset({TOO_LONG, TOO_BIG, TOO_DEEP, OUTSIDE})

Seen = str | re.Pattern[str] | CallError | frozenset[CallError] | tuple[CallError, str]
"""What came back from an action: an observation (a tool's error, if it says "Error:"), a pattern of one where
the build of the guest shows in it, an error whose text is fixed, any of some such errors, or an error and its
text."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One row of the suite."""

    name: str
    why: str
    """What it tries, and what keeps it from working."""
    parts: dict[str, str] = field(default_factory=dict)
    """Of the victim, replaced."""
    actions: Sequence[str] = ()
    sees: Sequence[Seen] = ()
    """What the policy gets for each action."""
    ended: bool = False
    """Whether the episode is over at the end."""
    earned: float = 0.0
    """The reward that the host reports."""
    refused: str = ""
    """The reason why the environment does not load; then there are no actions."""
    rejected: str = ""
    """The reason why verification refuses the task; "" where the attack is no matter of verification."""
    travels: bool = True
    """False where the layout of the guest's memory shows, or its runtime is tampered with: calls that travel
    together then see something else than calls that travel alone."""
    limits: SandboxConfig = QUICK


def tool(
    name: str,
    why: str,
    act: str,
    sees: Seen,
    *,
    travels: bool = True,
    limits: SandboxConfig = QUICK,
    **parts: str,
) -> Attack:
    """An attack by a tool of the environment, between two healthy calls that show the state."""
    return Attack(
        name=name,
        why=why,
        parts={"act": act, **parts},
        actions=(victim.ADD, victim.ACT, victim.TOTAL),
        sees=("5", sees, "5"),
        travels=travels,
        limits=limits,
    )


def episode(
    name: str,
    why: str,
    steps: Sequence[tuple[str, Seen]],
    *,
    ended: bool = False,
    earned: float = 0.0,
    travels: bool = True,
    limits: SandboxConfig = QUICK,
    **parts: str,
) -> Attack:
    """An attack by a whole stream of actions, each beside what it gets."""
    actions, sees = zip(*steps, strict=True)
    return Attack(
        name=name,
        why=why,
        parts=parts,
        actions=actions,
        sees=sees,
        ended=ended,
        earned=earned,
        travels=travels,
        limits=limits,
    )


def loading(name: str, why: str, reason: str, **parts: str) -> Attack:
    """An attack while the environment is loaded, which then never becomes an episode."""
    return Attack(name=name, why=why, parts=parts, refused=reason)


def verification(name: str, why: str, reason: str, **parts: str) -> Attack:
    """An attack by the oracle or the reference answer: verification refuses the task, for one reason."""
    return Attack(name=name, why=why, parts=parts, rejected=reason)


@dataclass(frozen=True)
class Outcome:
    """All that the host keeps of an episode."""

    results: list[StepResult]
    ended: bool
    earned: float
    verdict: str
    fuel: int
    """Burned by the guest that was there at the end."""


def play(sandbox: Sandbox, attack: Attack, leave_out: frozenset[int] = frozenset()) -> Outcome:
    """Plays an attack's actions, but for those at some positions, on a fresh guest."""
    env = Env(sandbox, victim.spec(**attack.parts), victim.CONFIG)
    try:
        results = [env.step(action) for i, action in enumerate(attack.actions) if i not in leave_out]
        return Outcome(results, env.finished, env.reward, env.verdict, env.fuel_used)
    finally:
        env.close()


def differences(attack: Attack, results: Sequence[StepResult]) -> list[str]:
    """Where the results are not what the attack `sees`."""
    wrong = [] if len(results) == len(attack.sees) else [f"{len(results)} results, not {len(attack.sees)}"]
    last = max((i for i, seen in enumerate(attack.sees) if seen is not ENDED), default=0)
    for i, (result, seen) in enumerate(zip(results, attack.sees, strict=False)):
        match seen:
            case CallError():
                error, text = seen, _TEXT[seen]
            case frozenset():
                error = result.error if result.error in seen else min(seen)
                text = _TEXT[error]
            case (error, text):
                pass
            case _:
                pattern, got = isinstance(seen, re.Pattern), result.observation
                text = seen if not pattern else got if seen.fullmatch(got) else seen.pattern
                error = CallError.TOOL_RAISED if text.startswith("Error:") else None
        wanted = StepResult(text, attack.ended and i >= last, error)
        if result != wanted:
            wrong.append(f"action {i} gave {result}, not {wanted}")
    return wrong
