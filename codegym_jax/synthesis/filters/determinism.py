"""Does a task hang on anything that another interpreter may do otherwise: hash seeds, addresses, set order?

An environment's tasks are played again in three other ways, all in guests. On the second guest build, strings
hash otherwise and objects lie elsewhere. A pair of strings keeps its order in a set on two builds half of the
time, though, so that alone overlooks many; hence the environment also runs rewritten (`shuffled_sets`), with
every set that it makes in another order, twice.
"""

import ast
import base64
import importlib.resources
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.environment_source import parse_tree
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.runtime import Runtime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.synthesis.filters.shuffled_sets import ORDERS

FUEL_FACTOR = 4
"""What a rewritten environment may burn, in plain ones: its sets are written in Python."""

_MAX_EXCERPT_CHARS = 80
_TELLING_NAMES = frozenset(
    {"set", "frozenset", "hash", "id", "eval", "exec", "globals", "locals", "vars", "__dict__", "__hash__"}
    | {"builtins", "__builtins__", "__import__", "literal_eval"}
)
_SETLESS = frozenset(
    {"__future__", "abc", "array", "bisect", "calendar", "cmath", "collections", "copy", "dataclasses"}
    | {"datetime", "decimal", "enum", "fractions", "functools", "gymnasium", "heapq", "itertools", "json"}
    | {"math", "operator", "random", "re", "statistics", "string", "sys", "textwrap", "time", "typing"}
)


class Determinism:
    """The guests that an environment must show the same in; one of these per process is enough."""

    def __init__(self, limits: SandboxConfig, cache_dir: Path | None = None):
        """Loads both guest builds.

        Args:
          limits: under which the tasks were verified.
          cache_dir: where compiled guests are kept; the user's cache folder unless given.

        Raises:
          ArtefactError: when an artefact is missing or damaged.
        """
        self._second = Sandbox(limits, runtime=ModuleRuntime(limits, cache_dir, find_artefact("second")))
        loose = replace(limits, fuel_per_call=FUEL_FACTOR * limits.fuel_per_call)
        runtime = ModuleRuntime(loose, cache_dir, find_artefact())
        self._shuffled = [_ShuffledSandbox(loose, runtime, order) for order in ORDERS]

    def unstable(self, spec: EnvSpec, tasks: Sequence[Task]) -> Rejection | None:
        """Why an environment's verified tasks cannot be relied upon, or None.

        Reasons: `differs_on_second_build`; `depends_on_set_order`; `set_order_unchecked`, where the rewritten
        environment does not run, so that nothing is known of it.

        Raises:
          HostFailure: when the host failed.
        """
        shuffled = self._shuffled if may_have_order(spec.source) else []
        for sandbox in (*shuffled, self._second):
            for task in tasks:
                rejection = _departure(sandbox, spec, task)
                if rejection:
                    return rejection
        return None


def may_have_order(source: str) -> bool:
    """Whether an environment's source may make a set, or ask for a hash or an address; errs on this side.

    Sets come from displays, from the names of their types, from operators on the views of a dictionary, from
    evaluated text, and from modules that are not known never to return one.
    """
    for node in ast.walk(parse_tree(source)):
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in _TELLING_NAMES:
                return True
            case ast.Import(names=modules) if any(_root(one.name) not in _SETLESS for one in modules):
                return True
            case ast.ImportFrom(module=module) if _root(module or "") not in _SETLESS:
                return True
            case ast.BinOp(left=one, right=other) if _is_view(one) or _is_view(other):
                return True
            case ast.Assign(value=value) | ast.AugAssign(value=value) if _is_view(value):
                return True
    return False


def _root(module: str) -> str:
    return module.partition(".")[0]


def _is_view(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items")):
            return True
    return False


class _ShuffledSandbox(Sandbox):
    """A sandbox whose guests run environments as `shuffled_sets.rewrite` rewrites them."""

    def __init__(self, limits: SandboxConfig, runtime: Runtime, order: str):
        super().__init__(limits, runtime=runtime)
        self.order = order
        folder = importlib.resources.files("codegym_jax.synthesis.filters")
        self._rewriter = (folder / "shuffled_sets.py").read_text(encoding="utf-8")
        self._latest = ("", b"")

    def compile(self, source: str) -> bytes:
        """The code of the rewritten source; that of the latest is kept, since tasks come by environment.

        Raises:
          GuestError: when it does not compile.
          GuestTrap: when rewriting it ran into a limit.
        """
        if source == self._rewriter:
            return super().compile(source)
        if source != self._latest[0]:
            about = {"source": source, "shim": self._rewriter, "order": self.order}
            guest = self.guest()
            try:
                code = base64.b64decode(guest.run(self._rewriter, "rewrite", json.dumps(about)))
            finally:
                guest.close()
            self._latest = (source, code)
        return self._latest[1]


def _departure(sandbox: Sandbox, spec: EnvSpec, task: Task) -> Rejection | None:
    """Where a task's oracle, played in another sandbox, departs from its record."""
    shuffled = isinstance(sandbox, _ShuffledSandbox)
    try:
        env = Env(sandbox, spec, task.config_json)
        try:
            actions, told = env.run_oracle(2 * len(task.oracle_actions))
            answer_json = env.reference_answer_json()
        finally:
            env.close()
    except EnvError as error:
        reason = "set_order_unchecked" if shuffled else "differs_on_second_build"
        return Rejection(reason=reason, detail=str(error), subject=task.task_id)
    pairs = [
        *zip(task.oracle_actions, actions, strict=False),
        *zip(task.oracle_observations, told, strict=False),
        (task.answer_json, answer_json),
        (str(len(task.oracle_actions)), str(len(actions))),
    ]
    for before, now in pairs:
        if before != now:
            reason = "depends_on_set_order" if shuffled else "differs_on_second_build"
            detail = f"{_excerpt(now)} in place of {_excerpt(before)}"
            return Rejection(reason=reason, detail=detail, subject=task.task_id)
    return None


def _excerpt(text: str) -> str:
    return repr(text if len(text) <= _MAX_EXCERPT_CHARS else f"{text[:_MAX_EXCERPT_CHARS]}...")
