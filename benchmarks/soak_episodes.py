"""The episodes of the soak: fixed by (seed, index) alone, played in one way and judged in another.

An attempt is played as a careless trainer would: single calls and batches mixed, detours on forks and from
saved states, calls that run into limits in between. The referee takes only the calls that should have
counted, one by one, on guests of a sandbox of its own. Both must read the same, byte for byte. Where an
oracle led the way, the reward must be 1 and its observations those of the task.
"""

import dataclasses
import functools
import json
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.action import DONE
from codegym_jax.envs.env import Env, StepResult
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec, Task

LIMITS = SandboxConfig(fuel_per_call=100_000_000)
"""Little fuel, so that running out of it takes a tenth of a second."""

EXHAUST = "Exhaust"
"""The tool of the ledger environment that runs into a limit."""
EXHAUSTING = tuple(
    json.dumps({"name": EXHAUST, "parameters": {"what": what}})
    for what in ("fuel", "memory", "stack", "file", "socket")
)
"""Calls that no guest survives, and that no state keeps a trace of."""

TRAPS = frozenset(
    {CallError.OUT_OF_FUEL, CallError.OUT_OF_MEMORY, CallError.STACK_OVERFLOW, CallError.FORBIDDEN}
)

_MAX_CALLS = 60
_HUGE = 70_000  # more than an action may have
_LONG = 50_000  # less


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What all episodes are made from."""

    seed: int
    ledger: EnvSpec
    tasks: tuple[tuple[EnvSpec, Task], ...]


@dataclass(frozen=True, slots=True)
class Detour:
    """Calls that are taken from the state after `position` calls, and then come to nothing."""

    position: int
    actions: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One episode before it is played."""

    spec: EnvSpec
    config_json: str
    actions: tuple[str, ...]
    detours: tuple[Detour, ...] = ()
    is_won: bool = False
    told: dict[int, str] = field(default_factory=dict)
    """Position -> what the task says that this call returns."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What an episode gave; `pid` is of the process that played it."""

    index: int
    results: list[tuple[str, CallError | None]]
    detours: list[list[tuple[str, CallError | None]]]
    reward: float
    pid: int = field(default_factory=os.getpid)
    traps: list[CallError] = field(default_factory=list)


def make_plan(stage: Stage, index: int) -> Plan:
    """Episode `index`: an oracle's, one with noise, a wild one, or one with traps; some with detours."""
    rng = random.Random(f"{stage.seed}/{index}/plan")
    make = rng.choices((_oracle, _noisy_oracle, _wild, _trapping), (3, 3, 4, 1))[0]
    plan = make(stage, rng)
    if rng.random() < 0.3:
        ends = [position for position, action in enumerate(plan.actions) if _tool(action) == DONE]
        last = ends[0] if ends else len(plan.actions)
        detours = [
            Detour(rng.randint(0, last), tuple(_anything(plan.spec, rng) for _ in range(rng.randint(1, 6))))
            for _ in range(rng.randint(1, 3))
        ]
        plan = dataclasses.replace(plan, detours=tuple(sorted(detours, key=lambda detour: detour.position)))
    return plan


def attempt(stage: Stage, index: int) -> Outcome:
    """Plays an episode carelessly: batches, traps, detours."""
    plan = make_plan(stage, index)
    rng = random.Random(f"{stage.seed}/{index}/play")
    traps: list[CallError] = []
    results: list[tuple[str, CallError | None]] = []
    detours = []
    position = 0
    env = Env(_sandbox(), plan.spec, plan.config_json)
    try:
        for detour in (*plan.detours, Detour(len(plan.actions), ())):
            results += _play(env, plan.actions[position : detour.position], rng, traps)
            position = detour.position
            if detour.actions:
                env, seen = _take_detour(env, detour.actions, rng, traps)
                detours.append(seen)
        return Outcome(index=index, results=results, detours=detours, reward=env.reward, traps=traps)
    finally:
        env.close()


def referee(stage: Stage, index: int) -> Outcome:
    """What the episode must give: only the calls that count, one by one, on a sandbox of its own."""
    plan = make_plan(stage, index)
    sandbox = Sandbox(LIMITS)
    results, reward = _single_steps(sandbox, plan, plan.actions)
    detours = []
    for detour in plan.detours:
        before = [action for action in plan.actions[: detour.position] if action not in EXHAUSTING]
        seen, _ = _single_steps(sandbox, plan, (*before, *detour.actions))
        detours.append(seen[len(before) :])
    return Outcome(index=index, results=results, detours=detours, reward=reward)


def difference(plan: Plan, played: Outcome, right: Outcome) -> str | None:
    """The first thing that is wrong with an attempt, in words; None when nothing is."""
    lines = [("call", played.results, right.results)]
    lines += [
        (f"detour {number}, call", *both)
        for number, both in enumerate(zip(played.detours, right.detours, strict=True))
    ]
    for name, ours, theirs in lines:
        if len(ours) != len(theirs):
            return f"{plan.spec.env_id}: {name}s: {len(ours)} instead of {len(theirs)}"
        for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            if one != other:
                return f"{plan.spec.env_id}: {name} {number} gave {one!r:.300} instead of {other!r:.300}"
    counted = [position for position, action in enumerate(plan.actions) if action not in EXHAUSTING]
    for position, (observation, _) in zip(counted, played.results, strict=True):
        if observation != plan.told.get(position, observation):
            told = plan.told[position]
            return f"{plan.spec.env_id}: call {position} gave {observation!r:.300}, in the task {told!r:.300}"
    reward = 1.0 if plan.is_won else right.reward
    if played.reward != reward or right.reward != reward:
        ours, theirs = played.reward, right.reward
        return f"{plan.spec.env_id}: reward {ours}, for the referee {theirs}, instead of {reward}"
    return None


def _oracle(stage: Stage, rng: random.Random) -> Plan:
    spec, task = rng.choice(stage.tasks)
    told = dict(enumerate(task.oracle_observations[:-1]))  # the verdict is not for the policy
    return Plan(spec=spec, config_json=task.config_json, actions=task.oracle_actions, is_won=True, told=told)


def _noisy_oracle(stage: Stage, rng: random.Random) -> Plan:
    """Calls that never reach the guest, between those of an oracle, which wins all the same."""
    plan = _oracle(stage, rng)
    actions: list[str] = []
    told: dict[int, str] = {}
    for position, action in enumerate(plan.actions):
        while rng.random() < 0.3:
            actions.append(_junk(plan.spec, rng))
        if position in plan.told:
            told[len(actions)] = plan.told[position]
        actions.append(action)
    actions += [_anything(plan.spec, rng) for _ in range(rng.randint(0, 2))]  # refused, the episode is over
    return dataclasses.replace(plan, actions=tuple(actions), told=told)


def _wild(stage: Stage, rng: random.Random) -> Plan:
    """Anything at all, then perhaps an answer, then anything again."""
    spec, task = rng.choice(stage.tasks)
    known = [action for action in task.oracle_actions if _tool(action) != DONE]
    pick: tuple[Callable[[], str], ...] = (
        lambda: rng.choice(known) if known else _junk(spec, rng),
        lambda: _anything(spec, rng),
    )
    actions = [rng.choice(pick)() for _ in range(rng.randint(5, _MAX_CALLS))]
    if rng.random() < 0.7:
        actions.append(rng.choice((task.oracle_actions[-1], _call(spec, DONE, rng))))
        actions += [_anything(spec, rng) for _ in range(rng.randint(0, 3))]
    return Plan(spec=spec, config_json=task.config_json, actions=tuple(actions))


def _trapping(stage: Stage, rng: random.Random) -> Plan:
    """Sums up a ledger that is ruined, time and again, by calls that run into limits."""
    total = rng.randint(-9, 9)
    config_json = json.dumps({"numbers": [total]}, separators=(",", ":"))
    actions = []
    for _ in range(rng.randint(3, 25)):
        number = rng.randint(-99, 99)
        total += number
        actions += [_json("Push", number=number), _json(rng.choice(("Observe", "Draw", "Audit")))]
    for _ in range(rng.randint(1, 3)):
        actions.insert(rng.randint(0, len(actions)), rng.choice(EXHAUSTING))
    actions.append(_json(DONE, answer=total))
    return Plan(spec=stage.ledger, config_json=config_json, actions=tuple(actions), is_won=True)


def _play(
    env: Env, actions: Sequence[str], rng: random.Random, traps: list[CallError]
) -> Iterator[tuple[str, CallError | None]]:
    """Takes actions, some singly and some in batches; yields what counted, and notes the traps."""
    position = 0
    while position < len(actions):
        batch = actions[position : position + rng.choice((1, 1, 2, 5, 40))]
        results = [env.step(batch[0])] if len(batch) == 1 else env.step_many(batch)
        yield from _counted(batch, results, traps)
        position += len(batch)


def _take_detour(
    env: Env, actions: Sequence[str], rng: random.Random, traps: list[CallError]
) -> tuple[Env, list[tuple[str, CallError | None]]]:
    """Plays actions that come to nothing; the episode goes on in the environment that is returned."""
    if rng.random() < 0.5:
        state = env.clone_state()
        seen = list(_play(env, actions, rng, traps))
        env.restore_state(state)
        return env, seen
    fork = env.fork()
    first, second = (env, fork) if rng.random() < 0.5 else (fork, env)  # a fork is as good as its origin
    try:
        return second, list(_play(first, actions, rng, traps))
    finally:
        first.close()


def _single_steps(
    sandbox: Sandbox, plan: Plan, actions: Sequence[str]
) -> tuple[list[tuple[str, CallError | None]], float]:
    kept = [action for action in actions if action not in EXHAUSTING]
    env = Env(sandbox, plan.spec, plan.config_json)
    try:
        return list(_counted(kept, [env.step(action) for action in kept], [])), env.reward
    finally:
        env.close()


def _counted(
    actions: Sequence[str], results: Sequence[StepResult], traps: list[CallError]
) -> Iterator[tuple[str, CallError | None]]:
    for action, result in zip(actions, results, strict=True):
        if result.error in TRAPS:
            traps.append(result.error)
        if action not in EXHAUSTING or result.error not in TRAPS | {CallError.REFUSED}:
            yield result.observation, result.error


def _anything(spec: EnvSpec, rng: random.Random) -> str:
    tools = [tool.name for tool in spec.tools if tool.name != DONE]
    return _junk(spec, rng) if rng.random() < 0.4 else _call(spec, rng.choice(tools), rng)


def _junk(spec: EnvSpec, rng: random.Random) -> str:
    """An action that the host refuses by itself."""
    good = _call(spec, rng.choice(spec.tools).name, rng)
    name = json.dumps(rng.choice(spec.tools).name)
    return rng.choice(
        (
            lambda: "",
            lambda: "Let me think about it.",
            lambda: good[: rng.randrange(len(good))],
            lambda: good + good,
            lambda: f"[{good}]",
            lambda: f'{{"name": {name}}}',
            lambda: f'{{"name": {name}, "parameters": []}}',
            lambda: f'{{"name": {name}, "parameters": {{"no such parameter": 1}}}}',
            lambda: '{"name": "NoSuchTool", "parameters": {}}',
            lambda: '{"name": ["Observe"], "parameters": {}}',
            lambda: '{"name": "__class__", "parameters": {}}',
            lambda: f'{{"name": {name}, "parameters": {"[" * 500}{"]" * 500}}}',
            lambda: "[" * 60_000,
            lambda: "x" * _HUGE,
            lambda: f'"{"é" * _HUGE}"',
            lambda: "\ud800\udfff",
            lambda: '{"name": "\ud83d", "parameters": {}}',
            lambda: "\0" * 100,
            lambda: "9" * 5000,
        )
    )()


def _call(spec: EnvSpec, name: str, rng: random.Random) -> str:
    """A well-formed call: its parameters make sense only by chance, or exhaust the guest for sure."""
    if name == EXHAUST:
        return rng.choice(EXHAUSTING)
    tool = next(tool for tool in spec.tools if tool.name == name)
    return _json(name, **{parameter.name: _value(rng) for parameter in tool.parameters})


def _value(rng: random.Random) -> object:
    return rng.choice(
        (
            lambda: rng.randint(-3, 12),
            lambda: rng.randint(-3, 12),
            lambda: 10**30,
            lambda: rng.random(),
            lambda: None,
            lambda: True,
            lambda: rng.choice("abcxyz") * rng.randint(0, 4),
            lambda: "\ud800 \0 é \U0001f642",
            lambda: "x" * _LONG,
            lambda: [rng.randint(-3, 12) for _ in range(rng.randint(0, 5))],
            lambda: list(range(2000)),
            lambda: {"a": [None, {"b": 1}]},
        )
    )()


def _json(name: str, **parameters: object) -> str:
    return json.dumps({"name": name, "parameters": parameters})


def _tool(action: str) -> str | None:
    """The tool that a well-formed action names."""
    if not action.startswith('{"name": "'):
        return None
    return action[len('{"name": "') :].partition('"')[0]


@functools.cache
def _sandbox() -> Sandbox:
    """One per worker process."""
    return Sandbox(LIMITS)
