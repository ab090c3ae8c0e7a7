"""The differential law: a task gives one transcript, whichever path runs it and however it is played.

The paths are the fused module, the unfused component and this very Python. Fused and unfused must agree in
every byte. In process another CPython runs, so there, and only there:

- `REWORDED` lists the texts that CPython's versions and C libraries word differently; all else is compared;
- calls that hit a limit in a guest are left out, for in process no limit would end them, and are counted.

Strings hash otherwise there, too; what hangs on the order of a set is in no task set (`filters.determinism`).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

from odd_calls import odd_calls

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.reference import ComponentRuntime, InProcessRuntime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec, Task

LIMITS_HIT = {
    CallError.OUT_OF_FUEL,
    CallError.OUT_OF_MEMORY,
    CallError.STACK_OVERFLOW,
    CallError.FORBIDDEN,
}
REWORDED = (
    # Newer versions say more ...
    (r"cannot use '[\w.]+' as a (?:dict key|set element) \((unhashable type: '[\w.]+')\)", r"\1"),
    (r"\b\w+\(\) argument \d+ (must be \w+, not \w+)", r"\1"),
    (r"(argument of type '\w+' is not) a container or iterable", r"\1 iterable"),
    # ... or less ...
    (r"\b(?:integer|float) (?:(?:floor )?division|modulo|division or modulo) by zero", "division by zero"),
    (r"\bfloat modulo\b", "division by zero"),
    (r"\b(min|max)\(\) (?:arg is an empty sequence|iterable argument is empty)", r"\1() of nothing"),
    # ... and have hashable slices, so a dictionary refuses one for another reason.
    (r"KeyError: slice\(.*\)|TypeError: unhashable type: 'slice'", "a slice is no key"),
    # The datetime module written in Python, which the guest has, words these unlike the one written in C.
    (r"strptime\(\) argument 0 must be str, not <class '(\w+)'>", r"must be str, not \1"),
    (r"(must be str, not) None\b", r"\1 NoneType"),
    (r"Argument must be an ASCII str|Invalid isoformat string: '.*'", "no isoformat string"),
    (r"Argument must be a str|fromisoformat: argument must be str", "no isoformat string"),
    # The C library's number and words for the error ERANGE.
    (r"\(34, 'Numerical result out of range'\)|\(68, 'Result not representable'\)", "(ERANGE)"),
)
"""Texts of exceptions, as patterns, and what stands for all their wordings."""


@dataclass(frozen=True, slots=True)
class Paths:
    """A sandbox for each path."""

    fast: Sandbox
    component: Sandbox
    in_process: Sandbox

    @classmethod
    def open(cls, limits: SandboxConfig) -> "Paths":
        """The three paths, under the same limits."""
        component = Sandbox(limits, runtime=ComponentRuntime(limits))
        return cls(Sandbox(limits), component, Sandbox(limits, runtime=InProcessRuntime()))


@dataclass(frozen=True, slots=True)
class Transcript:
    """All that an episode showed, to the policy and to the host."""

    actions: list[str]
    observations: list[str]
    errors: list[CallError | None]
    finished: bool
    reward: float
    verdict: str
    answer_json: str
    """The reference answer in the last state, or why there is none."""

    def without_wording(self) -> "Transcript":
        """With one wording for each text of `REWORDED`."""
        observations = [_without_wording(text) for text in self.observations]
        return replace(self, observations=observations, verdict=_without_wording(self.verdict))


@dataclass(frozen=True, slots=True)
class Difference:
    """Where two transcripts part."""

    task_id: str
    way: str
    """The path, and how the task was played on it."""
    what: str
    """A field of `Transcript`."""
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.task_id[:99]}: {self.way}: {self.what}: {self.found[:300]} for {self.expected[:300]}"


@dataclass(slots=True)
class Comparison:
    """What came of one task."""

    plays: int = 0
    """Transcripts compared with the first."""
    steps: int = 0
    """Actions in them."""
    left_out: int = 0
    """Actions that hit a limit and were not taken in process."""
    differences: list[Difference] = field(default_factory=list)


def compare(paths: Paths, spec: EnvSpec, task: Task) -> Comparison:
    """Plays a task in all ways on all paths.

    Raises:
      EnvError: when the environment does not load, or its oracle does not run.
    """
    comparison = Comparison()
    solved = _solve(paths.fast, spec, task)
    if task.oracle_actions:
        _check(comparison, task, solved, "as the task says", _stored(task))
    for name, actions in (
        ("oracle", solved.actions),
        ("odd calls", odd_calls(spec.tools, solved.actions, task.task_id)),
    ):
        first = _play(paths.fast, spec, task, actions, batched=False)
        _check(comparison, task, first, f"fast, {name} batched", _play(paths.fast, spec, task, actions))
        for found, how in zip(
            _fork(paths.fast, spec, task, actions), ("forked", "after a fork"), strict=True
        ):
            _check(comparison, task, first, f"fast, {name} {how}", found)
        for found, how in _both_ways(paths.component, spec, task, actions):
            _check(comparison, task, first, f"component, {name} {how}", found)
        if name == "oracle":
            _check(comparison, task, first, "fast, solve", solved)
            _check(comparison, task, first, "component, solve", _solve(paths.component, spec, task))
        safe = [
            action for action, error in zip(actions, first.errors, strict=True) if error not in LIMITS_HIT
        ]
        if len(safe) < len(actions):
            comparison.left_out += len(actions) - len(safe)
            first = _play(paths.fast, spec, task, safe)
        first = first.without_wording()
        for found, how in _both_ways(paths.in_process, spec, task, safe):
            _check(comparison, task, first, f"in process, {name} {how}", found.without_wording())
        if name == "oracle":
            found = _solve(paths.in_process, spec, task).without_wording()
            _check(comparison, task, first, "in process, solve", found)
    return comparison


def _both_ways(
    sandbox: Sandbox, spec: EnvSpec, task: Task, actions: Sequence[str]
) -> Iterator[tuple[Transcript, str]]:
    for batched, how in ((False, "one by one"), (True, "batched")):
        yield _play(sandbox, spec, task, actions, batched=batched), how


def _play(
    sandbox: Sandbox, spec: EnvSpec, task: Task, actions: Sequence[str], *, batched: bool = True
) -> Transcript:
    env = Env(sandbox, spec, task.config_json)
    try:
        results = env.step_many(actions) if batched else [env.step(action) for action in actions]
        return _transcript(env, [result.error for result in results])
    finally:
        env.close()


def _fork(
    sandbox: Sandbox, spec: EnvSpec, task: Task, actions: Sequence[str]
) -> tuple[Transcript, Transcript]:
    """Forks an episode halfway and ends it twice: first in the fork, then in the one that was forked."""
    env = Env(sandbox, spec, task.config_json)
    half = len(actions) // 2
    try:
        before = [result.error for result in env.step_many(actions[:half])]
        other = env.fork()
        try:
            forked = _transcript(other, before + [one.error for one in other.step_many(actions[half:])])
        finally:
            other.close()
        return forked, _transcript(env, before + [one.error for one in env.step_many(actions[half:])])
    finally:
        env.close()


def _solve(sandbox: Sandbox, spec: EnvSpec, task: Task) -> Transcript:
    """Plays the oracle within the guest, and shows it as if its calls had been made from outside."""
    env = Env(sandbox, spec, task.config_json)
    try:
        _, told = env.run_oracle()
        env.observations = [*told[:-1], ""]  # the verdict stays with the host
        return _transcript(env, _errors(told))
    finally:
        env.close()


def _stored(task: Task) -> Transcript:
    """What was recorded of the oracle when the task was verified."""
    told = task.oracle_observations
    return Transcript(
        [*task.oracle_actions], [*told[:-1], ""], _errors(told), True, 1.0, told[-1], task.answer_json
    )


def _errors(told: Sequence[str]) -> list[CallError | None]:
    return [CallError.TOOL_RAISED if text.startswith("Error:") else None for text in told]


def _transcript(env: Env, errors: list[CallError | None]) -> Transcript:
    try:
        answer_json = env.reference_answer_json()
    except EnvError as error:
        answer_json = f"none: {error}"
    return Transcript(
        env.actions, env.observations, errors, env.finished, env.reward, env.verdict, answer_json
    )


def _check(comparison: Comparison, task: Task, expected: Transcript, way: str, found: Transcript) -> None:
    comparison.plays += 1
    comparison.steps += len(found.actions)
    for name in (one.name for one in fields(Transcript)):
        difference = _first_difference(getattr(expected, name), getattr(found, name), found.actions)
        if difference:
            comparison.differences.append(Difference(task.task_id, way, name, *difference))


def _first_difference(expected: object, found: object, actions: list[str]) -> tuple[str, str] | None:
    if expected == found:
        return None
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        index = next(
            index for index, pair in enumerate(zip(expected, found, strict=True)) if pair[0] != pair[1]
        )
        return repr(expected[index]), f"{found[index]!r} after {actions[index]}"
    return repr(expected), repr(found)


def _without_wording(text: str) -> str:
    for pattern, wording in REWORDED:
        text = re.sub(pattern, wording, text)
    return text


_paths: Paths | None = None


def open_paths(limits: SandboxConfig) -> None:
    """Prepares a worker."""
    global _paths
    _paths = Paths.open(limits)


def compare_one(item: tuple[EnvSpec, Task]) -> Comparison:
    """What a worker does: `compare`."""
    assert _paths is not None
    return compare(_paths, *item)
