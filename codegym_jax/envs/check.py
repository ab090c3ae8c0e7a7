"""Verification: which environments and tasks may be trusted, and why the others may not.

A task is good when its oracle, which only calls tools, earns the full reward, when the same calls give the
same observations on a second guest, when a wrong answer earns nothing, and when its size is within bounds.
Every refusal is a `Rejection` with a counted reason.
"""

import ast
import json
import pathlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.codegym_format import FormatError, load_environment, parse_source, read_rows
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.envs.printable import printable
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task

MIN_TOOLS = 4
WRONG_ANSWER = "\x00no environment's answer\x00"
_ORACLE_MAY_READ = frozenset({"step", "step_count", "finished", "reward", "func_mapping"})
_DEFAULT_CONFIG = "{}"
_MAX_LINE_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskBounds:
    """What a task may measure."""

    min_calls: int = 3
    """Of the oracle, `Done` included."""
    max_calls: int = 512
    max_answer_chars: int = 100
    """Of the reference answer as JSON."""


def verify_environment(spec: EnvSpec) -> list[Rejection]:
    """What is wrong with an environment before anything of it runs; empty when nothing is."""
    found = []
    names = [tool.name for tool in spec.tools]
    if len(names) < MIN_TOOLS:
        found.append(("too_few_tools", f"{len(names)} tools, at least {MIN_TOOLS} are needed"))
    for name in (OBSERVE, DONE):
        if name not in names:
            found.append(("lacks_tool", f"func_mapping has no {name}"))
    for tool in spec.tools:
        wanted = ["Args", "Returns"] if tool.parameters else ["Returns"]
        lacking = [section for section in wanted if section not in tool.doc]
        if lacking:
            found.append(("undocumented_tool", f"the docstring of {tool.name} lacks {', '.join(lacking)}"))
    reads = _state_read_by_oracle(spec)
    if reads:
        found.append(("oracle_reads_state", f"solve uses self.{', self.'.join(sorted(reads))}"))
    return [Rejection(reason=reason, detail=detail, subject=spec.env_id) for reason, detail in found]


def verify_task(
    sandbox: Sandbox,
    spec: EnvSpec,
    config_json: str,
    *,
    min_calls: int,
    max_calls: int,
    max_answer_chars: int,
) -> Task | Rejection:
    """Plays a task's oracle and replays it.

    Args:
      min_calls: fewest calls of the oracle, `Done` included.
      max_calls: most calls of the oracle.
      max_answer_chars: most characters of the reference answer as JSON.

    Returns:
      The task with its oracle's calls and observations and its answer, or why it was refused. Reasons:
      `does_not_compile`, `does_not_load`, `oracle_raised`, `answer_raised`, `too_many_oracle_calls`,
      `too_few_oracle_calls`, `oracle_fails`, `answer_too_long`, `observation_too_long`, `not_deterministic`,
      `any_answer_wins`, or a `CallError` of a limit.

    Raises:
      HostFailure: when the host failed.
    """
    task = Task(env_id=spec.env_id, config_json=config_json)

    def refused(reason: str, detail: str) -> Rejection:
        return Rejection(reason=reason, detail=detail, subject=task.task_id)

    try:
        env = Env(sandbox, spec, config_json)
        try:
            actions, observations = env.run_oracle(max_calls)
            answer_json = env.reference_answer_json()
        finally:
            env.close()
        if env.reward != 1.0:
            return refused("oracle_fails", f"reward {env.reward}, last observation {env.verdict[:200]!r}")
        if len(actions) < min_calls:
            return refused("too_few_oracle_calls", f"{len(actions)} calls, at least {min_calls} are needed")
        if len(answer_json) > max_answer_chars:
            return refused("answer_too_long", f"{len(answer_json)} characters, at most {max_answer_chars}")
        longest = max(map(len, observations), default=0)
        if longest > sandbox.limits.max_observation_chars:
            return refused("observation_too_long", f"an observation of {longest} characters is cut")
        difference = _difference(sandbox, spec, config_json, actions, observations)
        if difference:
            return refused("not_deterministic", difference)
        if _answer_wins(sandbox, spec, config_json, WRONG_ANSWER):
            return refused("any_answer_wins", "an answer that cannot be right earns the reward")
    except EnvError as error:
        return refused(error.reason, error.detail)
    return replace(
        task,
        oracle_actions=tuple(actions),
        oracle_observations=tuple(observations),
        answer_json=answer_json,
    )


def replay(
    sandbox: Sandbox, spec: EnvSpec, config_json: str, actions: Sequence[str]
) -> tuple[list[str], float]:
    """Takes actions again on a fresh guest; returns what the policy read after each, and the reward.

    Raises:
      EnvError: when the environment does not load.
      HostFailure: when the host failed.
    """
    env = Env(sandbox, spec, config_json)
    try:
        for action in actions:
            env.step(action)
        return env.observations, env.reward
    finally:
        env.close()


BAD_INPUT = frozenset({"bad_environment", "bad_rows_file", "bad_row", "unknown_environment"})
"""Reasons that blame the input's form, not what the environment does."""


@dataclass(slots=True)
class VerifyReport:
    """What `codegym verify` found; `to_dict` is its JSON."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    """Per task: subject, ok, and either calls and answer, or reason and detail."""
    rejections: list[Rejection] = field(default_factory=list)
    """Files, rows, environments and tasks that were refused."""

    @property
    def ok(self) -> bool:
        """Whether something was verified and nothing was refused."""
        return bool(self.tasks) and not self.rejections

    @property
    def has_bad_input(self) -> bool:
        """Whether something could not even be read: a file, a row, or the environment that a row names."""
        return any(rejection.reason in BAD_INPUT for rejection in self.rejections)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        counts = Counter(rejection.reason for rejection in self.rejections)
        return {
            "ok": self.ok,
            "verified": sum(task["ok"] for task in self.tasks),
            "rejected": len(self.rejections),
            "reasons": dict(sorted(counts.items())),
            "tasks": self.tasks,
            "rejections": [asdict(rejection) for rejection in self.rejections],
        }


def verify_paths(
    paths: Sequence[str | pathlib.Path],
    rows: str | pathlib.Path | None,
    sandbox: Sandbox,
    *,
    bounds: TaskBounds | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> VerifyReport:
    """Verifies environment files and task rows of the published format; one bad input never stops the rest.

    Args:
      paths: environment files, `<code_id>__<Class>.py`.
      rows: a file like `training_instance.jsonl`. A row's environment is the one it carries, or else the
        file among `paths` with its name. Environments without a row are tried with their default config.
      progress: gets one line per environment, row and task.
    """
    checker = _Checker(sandbox, bounds or TaskBounds(), progress)
    specs = checker.environments(paths)
    tried: set[str] = set()
    if rows is not None:
        tried = checker.rows(rows, specs)
    for env_id, spec in specs.items():
        if spec is not None and env_id not in tried:
            checker.task(spec, _DEFAULT_CONFIG, f"{env_id} (default config)", default=True)
    return checker.report


class _Checker:
    def __init__(self, sandbox: Sandbox, bounds: TaskBounds, progress: Callable[[str], None]):
        self._sandbox = sandbox
        self._bounds = bounds
        self._progress = progress
        self._carried: dict[tuple[str, str], EnvSpec | None] = {}
        self.report = VerifyReport()

    def environments(self, paths: Iterable[str | pathlib.Path]) -> dict[str, EnvSpec | None]:
        """Environment id -> its spec, or None where it was refused."""
        specs: dict[str, EnvSpec | None] = {}
        for path in paths:
            try:
                spec = load_environment(path)
            except FormatError as error:
                self._refuse(Rejection(reason="bad_environment", detail=str(error), subject=str(path)))
                specs.setdefault(pathlib.Path(path).stem, None)
            else:
                specs[spec.env_id] = self._accept(spec)
        return specs

    def rows(self, path: str | pathlib.Path, specs: dict[str, EnvSpec | None]) -> set[str]:
        """Verifies every row; returns the ids of the environments that had one."""
        tried = set()
        try:
            for row in read_rows(path):
                if isinstance(row, Rejection):
                    self._refuse(row)
                    continue
                number, task, source = row
                tried.add(task.env_id)
                spec = self._spec_of_row(f"{path}:{number}", task, source, specs)
                if spec is not None:
                    self.task(spec, task.config_json, f"{path}:{number}")
        except FormatError as error:
            self._refuse(Rejection(reason="bad_rows_file", detail=str(error), subject=str(path)))
        return tried

    def task(self, spec: EnvSpec, config_json: str, subject: str, *, default: bool = False) -> None:
        """Verifies one task; a default config may be trivial, so it has no lower bound of calls."""
        bounds = asdict(self._bounds) | ({"min_calls": 1} if default else {})
        try:
            result = verify_task(self._sandbox, spec, config_json, **bounds)
        except HostFailure as failure:
            result = Rejection(reason="host_failure", detail=str(failure))
        if isinstance(result, Rejection):
            self._refuse(replace(result, subject=subject))
            outcome = {"ok": False, "reason": result.reason, "detail": result.detail}
        else:
            answer = json.loads(result.answer_json)
            outcome = {"ok": True, "calls": len(result.oracle_actions), "answer": answer}
            self._progress(f"ok {subject}: {spec.env_id}, {outcome['calls']} calls")
        self.report.tasks.append(
            {"subject": subject, "env_id": spec.env_id, "config": config_json, **outcome}
        )

    def _accept(self, spec: EnvSpec) -> EnvSpec | None:
        found = verify_environment(spec)
        for rejection in found:
            self._refuse(rejection)
        return None if found else spec

    def _spec_of_row(
        self, subject: str, task: Task, source: str | None, specs: dict[str, EnvSpec | None]
    ) -> EnvSpec | None:
        if source is not None:
            key = (task.env_id, source)
            if key not in self._carried:
                self._carried[key] = self._carried_spec(subject, *key)
            spec = self._carried[key]
        elif task.env_id in specs:
            spec = specs[task.env_id]
        else:
            expected = f"give {task.env_id}.py among the paths, or its source in the key extra_info.gym_env"
            detail = f"unknown environment {task.env_id}: {expected}"
            self._refuse(Rejection(reason="unknown_environment", detail=detail, subject=subject))
            return None
        if spec is None:
            detail = f"its environment {task.env_id} was refused"
            self._refuse(Rejection(reason="environment_refused", detail=detail, subject=subject))
        return spec

    def _carried_spec(self, subject: str, env_id: str, source: str) -> EnvSpec | None:
        code_id, _, class_name = env_id.rpartition("__")
        try:
            spec = parse_source(source, code_id=code_id, class_name=class_name, path=f"{subject} gym_env")
        except FormatError as error:
            self._refuse(Rejection(reason="bad_environment", detail=str(error), subject=subject))
            return None
        return self._accept(spec)

    def _refuse(self, rejection: Rejection) -> None:
        self.report.rejections.append(rejection)
        detail = printable(" ".join(rejection.detail.split()))  # an environment's own message, in one line
        self._progress(f"REJECTED {rejection.subject}: {rejection.reason}: {detail[:_MAX_LINE_CHARS]}")


def _difference(
    sandbox: Sandbox, spec: EnvSpec, config_json: str, actions: list[str], observations: list[str]
) -> str:
    """Where a second guest departs from an oracle's record; "" when nowhere. The verdict counts too."""
    env = Env(sandbox, spec, config_json)
    try:
        for number, (action, expected) in enumerate(zip(actions, observations, strict=True), start=1):
            observation = env.step(action).observation
            if env.finished and number == len(actions):
                observation = env.verdict
            if observation != expected:
                return f"call {number} gave {observation[:100]!r} after {expected[:100]!r}"
        return "" if env.reward == 1.0 else f"the reward was {env.reward} after 1.0"
    finally:
        env.close()


def _answer_wins(sandbox: Sandbox, spec: EnvSpec, config_json: str, answer: str) -> bool:
    done = next(tool for tool in spec.tools if tool.name == DONE)
    parameters = {parameter.name: answer for parameter in done.parameters}
    action = json.dumps({"name": DONE, "parameters": parameters})
    return replay(sandbox, spec, config_json, [action])[1] > 0.0


def _state_read_by_oracle(spec: EnvSpec) -> set[str]:
    """Attributes of `self` that `solve` uses, other than what an agent has too."""
    functions = (node for node in ast.walk(parse_tree(spec.source)) if isinstance(node, ast.FunctionDef))
    return {
        node.attr
        for function in functions
        if function.name == "solve"
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
    } - _ORACLE_MAY_READ
