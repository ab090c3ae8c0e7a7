"""From a problem to a verified environment with tasks, one problem at a time, all corpus code in the guest.

The functions here run in worker processes: `open_sandbox` first, then `make` and `extend` on one item each.
"""

import json
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from codegym_jax.config import MIN_TASKS, SandboxConfig, SynthesisConfig
from codegym_jax.envs.check import verify_environment, verify_task
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.environment_source import FormatError, parse_source
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.synthesis import bundle, funnel
from codegym_jax.synthesis.filters.determinism import Determinism
from codegym_jax.synthesis.filters.shortcuts import fewest_calls, shortcut
from codegym_jax.synthesis.funnel import Refusal
from codegym_jax.synthesis.outline import features
from codegym_jax.synthesis.problems import Problem

SYNTHESIS_LIMITS = SandboxConfig(fuel_per_call=30_000_000_000, memory_bytes=128 * 2**20)
"""Of one run of the outliner; a problem that needs more is given up, wherever it runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A verified environment with its tasks, and what was refused on the way."""

    problem: Problem
    spec: EnvSpec
    tasks: tuple[Task, ...]
    features: dict[str, Any] = field(default_factory=dict)
    rejections: tuple[Rejection, ...] = ()
    asked: dict[str, Any] = field(default_factory=dict)
    """What the task asks for, as the outliner chose it."""


class Workshop:
    """The sandboxes and the outliner's program, set up once in a process."""

    def __init__(self, sandbox: SandboxConfig, synthesis: SynthesisConfig, seed: int, cache_dir: Path | None):
        self.synthesis = synthesis
        self.seed = seed
        self.sandbox = Sandbox(sandbox, cache_dir)
        self._determinism = Determinism(sandbox, cache_dir)
        self._outliner = Sandbox(SYNTHESIS_LIMITS, cache_dir)
        self._program = bundle.program(self._outliner.compile)

    def make(self, problem: Problem) -> Made | Rejection:
        """The environment that a problem gives, verified on its tasks."""
        made = self._run("synthesize", problem, {"tasks": self.synthesis.tasks_per_environment})
        if isinstance(made, Rejection):
            return made
        try:
            spec = parse_source(
                made["source"],
                code_id=problem.code_id,
                class_name=made["class_name"],
                statement=made["statement"],
                license=problem.license,
                origin=problem.origin,
            )
        except FormatError as error:
            return Rejection(reason="outline_does_not_parse", detail=str(error), subject=problem.code_id)
        faults = verify_environment(spec)
        if faults:
            return funnel.at(funnel.VERIFY, faults[0])
        tasks, rejections = self._verified(spec, made["configs"])
        if len(tasks) < MIN_TASKS:
            reason = rejections[0].reason if rejections else "few_tasks"
            detail = f"{len(tasks)} tasks left"
            return Refusal(reason=reason, detail=detail, subject=problem.code_id, stage=funnel.VERIFY)
        return self._filtered(spec, tasks, made["tool_kinds"]) or Made(
            problem=problem,
            spec=spec,
            tasks=tasks,
            features=measure(spec, tasks, made["tool_kinds"]),
            rejections=rejections,
            asked=made["asked"],
        )

    def extend(self, made: Made) -> Made | Rejection:
        """The same environment with `tasks_per_learnable_environment` tiny tasks in place of its own.

        A rejection means that it has fewer than half as many, or that a tiny policy could not learn them.
        """
        wanted = self.synthesis.tasks_per_learnable_environment
        more = self._run(
            "more_configs",
            made.problem,
            {
                "count": wanted,
                "class_name": made.spec.class_name,
                "environment": made.spec.source,
                "asked": made.asked,
            },
        )
        if isinstance(more, Rejection):
            return more
        tasks, rejections = self._verified(made.spec, more["configs"])
        if len(tasks) < wanted / 2:
            detail = f"{len(tasks)} of {wanted}"
            return Rejection(reason="few_tiny_tasks", detail=detail, subject=made.spec.env_id)
        kinds = made.features["tool_kinds"]
        filtered = self._filtered(made.spec, tasks, kinds)
        if filtered:
            return filtered
        measured = measure(made.spec, tasks, kinds)
        if not features.is_learnable(measured):
            return Rejection(reason="unlearnable_tiny_tasks", subject=made.spec.env_id)
        return replace(made, tasks=tasks, features=measured, rejections=(*made.rejections, *rejections))

    def _filtered(self, spec: EnvSpec, tasks: tuple[Task, ...], kinds: dict[str, str]) -> Refusal | None:
        """What keeps a verified environment out of every task set, or None."""
        unstable = self._determinism.unstable(spec, tasks)
        if unstable:
            return funnel.at(funnel.DETERMINISM, unstable)
        short = shortcut(self.sandbox, spec, tasks, kinds)
        return funnel.at(funnel.SHORTCUT, short) if short else None

    def _run(self, function: str, problem: Problem, more: dict[str, Any]) -> dict[str, Any] | Rejection:
        """One run of the outliner in a fresh guest."""
        arguments = {
            "code_id": problem.code_id,
            "source": problem.source,
            "entry": problem.entry,
            "statement": problem.statement,
            "license": problem.license,
            "test": problem.test,
            "generator": problem.generator,
            "inputs": problem.inputs,
            "seed": zlib.crc32(f"{self.seed}:{problem.code_id}".encode()),
            "min_calls": self.synthesis.min_oracle_calls,
            "max_calls": self.synthesis.max_oracle_calls,
            "max_answer_chars": self.synthesis.max_answer_chars,
            **more,
        }
        guest = self._outliner.guest()
        try:
            result = json.loads(guest.run(self._program, function, json.dumps(arguments)))
        except GuestTrap as trap:
            return Rejection(reason=trap.error.value, detail=trap.detail, subject=problem.code_id)
        except GuestError as error:
            kind = str(error).partition(":")[0]
            return Rejection(
                reason=f"solution_raises_{kind}", detail=str(error)[:200], subject=problem.code_id
            )
        finally:
            guest.close()
        if "reason" in result:
            reason = result["reason"].replace(" ", "_").replace(":", "")
            return Rejection(reason=reason, subject=problem.code_id)
        return result

    def _verified(self, spec: EnvSpec, configs: list[Any]) -> tuple[tuple[Task, ...], tuple[Rejection, ...]]:
        tasks, rejections = [], []
        for config in configs:
            result = verify_task(
                self.sandbox,
                spec,
                canonical_json(config),
                min_calls=self.synthesis.min_oracle_calls,
                max_calls=self.synthesis.max_oracle_calls,
                max_answer_chars=self.synthesis.max_answer_chars,
            )
            (tasks if isinstance(result, Task) else rejections).append(result)
        return tuple(tasks), tuple(rejections)


def measure(spec: EnvSpec, tasks: tuple[Task, ...], kinds: dict[str, str]) -> dict[str, Any]:
    """The features of an environment, read off its source and its verified tasks.

    Args:
      kinds: tool name -> `access`, `operation`, `helper`, `state` or `frame`.
    """
    episodes = []
    for task in tasks:
        steps = []
        for action, observation in zip(task.oracle_actions, task.oracle_observations, strict=True):
            call = json.loads(action)
            result = None if call["name"] == "Done" else json.loads(observation)
            steps.append((call["name"], call["parameters"], result))
        episodes.append(steps)
    measured = features.of_source(spec.source) | features.measure(episodes)
    observed = json.loads(tasks[0].oracle_observations[0])
    return measured | {
        "tool_kinds": kinds,
        "hidden_inputs": next(reversed(observed.values())),
        "quality": {"good": features.is_good(measured, kinds, episodes)},
        "fewest_calls": fewest_calls(tasks),
    }


_workshop: Workshop | None = None


def open_sandbox(
    sandbox: SandboxConfig, synthesis: SynthesisConfig, seed: int, cache_dir: Path | None = None
) -> None:
    """Sets up this process for `make` and `extend`."""
    global _workshop
    _workshop = Workshop(sandbox, synthesis, seed, cache_dir)


def make(problem: Problem) -> Made | Rejection:
    """`Workshop.make` in this process."""
    assert _workshop is not None
    return _workshop.make(problem)


def extend(made: Made) -> Made | Rejection:
    """`Workshop.extend` in this process."""
    assert _workshop is not None
    return _workshop.extend(made)
