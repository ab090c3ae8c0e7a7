"""One play of an environment's oracle per config: the material that most checks look at."""

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.check import TaskBounds, verify_task
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.env import Env, StepResult
from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task

DEFAULT_CONFIG = "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """A verified task, and its oracle's calls made again one by one on a guest of their own."""

    task: Task
    defaults: dict[str, Any]
    """The class's own default config, as far as it can be read."""
    hidden: dict[str, Any]
    """The config, with those defaults for the keys that it lacks."""
    answer: Any
    calls: tuple[tuple[str, dict[str, Any]], ...]
    """(tool, parameters) of each of the oracle's calls."""
    results: tuple[StepResult, ...]
    verdict: str
    fuel: tuple[int, ...]
    """Burned by each call."""
    memory_bytes: int
    """Of the guest, after the last call."""


def play(sandbox: Sandbox, spec: EnvSpec, config_json: str, bounds: TaskBounds) -> Play | Rejection:
    """Verifies a task and plays it; a default config may be trivial, so it has no lower bound of calls.

    Raises:
      HostFailure: when the host failed.
    """
    task = verify_task(
        sandbox,
        spec,
        config_json,
        min_calls=1 if config_json == DEFAULT_CONFIG else bounds.min_calls,
        max_calls=bounds.max_calls,
        max_answer_chars=bounds.max_answer_chars,
    )
    if isinstance(task, Rejection):
        return task
    env = Env(sandbox, spec, config_json)
    try:
        results, fuel, spent = [], [], env.fuel_used
        for action in task.oracle_actions:
            results.append(env.step(action))
            fuel.append(env.fuel_used - spent)
            spent = env.fuel_used
        memory_bytes = env.memory_bytes
    finally:
        env.close()
    defaults = default_values(spec)
    return Play(
        task=task,
        defaults=defaults,
        hidden=defaults | json.loads(config_json),
        answer=json.loads(task.answer_json),
        calls=tuple(map(_call, task.oracle_actions)),
        results=tuple(results),
        verdict=env.verdict,
        fuel=tuple(fuel),
        memory_bytes=memory_bytes,
    )


def default_values(spec: EnvSpec) -> dict[str, Any]:
    """The literals of `options.get(name, literal)` in `reset`, by name; others cannot be read."""
    found: dict[str, Any] = {}
    for node in ast.walk(parse_tree(spec.source)):
        if isinstance(node, ast.FunctionDef) and node.name == "reset":
            for name, default in _defaults(node):
                try:
                    found.setdefault(name, json.loads(canonical_json(ast.literal_eval(default))))
                except (TypeError, ValueError):
                    continue
    return found


def _defaults(reset: ast.FunctionDef) -> list[tuple[str, ast.expr]]:
    arguments = {argument.arg for argument in [*reset.args.posonlyargs, *reset.args.args][1:]}
    found = []
    for node in ast.walk(reset):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=options), attr="get"),
                args=[ast.Constant(value=str(name)), default],
            ) if options in arguments:
                found.append((name, default))
    return found


def _call(action: str) -> tuple[str, dict[str, Any]]:
    """An action taken apart; ("", {}) where it is no call, which an oracle may try too."""
    try:
        match json.loads(action):
            case {"name": str(name), "parameters": dict(parameters)}:
                return name, parameters
    except ValueError:
        pass
    return "", {}


def action_of(tool: str, parameters: dict[str, Any]) -> str:
    """A call as the text that a policy sends."""
    return json.dumps({"name": tool, "parameters": parameters})


def call_text(tool: str, parameters: dict[str, Any]) -> str:
    """A call as people read it."""
    return f"{tool}({', '.join(f'{name}={_short(value)}' for name, value in parameters.items())})"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 24 else f"{text[:12]}...({len(text)} characters)"


def first_call(plays: Sequence[Play], tool: str) -> dict[str, Any] | None:
    """The parameters of the oracle's first call of a tool; None when it never calls it."""
    calls = (call for a_play in plays for call in a_play.calls)
    return next((parameters for name, parameters in calls if name == tool), None)
