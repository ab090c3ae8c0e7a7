"""What a suite is: tasks, each played as a session of messages in OpenAI's form, and scored by the suite.

The same in a worker process, as JSON lines, one answer to each request, in order:

    {"op": "hello", "settings": {...}}               -> {"suite", "package", "version", "subsets",
                                                         "single_turn"}
    {"op": "tasks", "subset": ...}                   -> {"tasks": [...]}, in an order that stays
    {"op": "open", "session": 1, "subset", "task"}   -> {"messages": [...], "tools": [...]}
    {"op": "reply", "session": 1, "message": {...}}  -> {"messages": [...], "finished": false}
    {"op": "gold", "session": 1}                     -> {"message": {...}}
    {"op": "score", "session": 1}                    -> {"score": 0.5, "detail": {...}}
    {"op": "close", "session": 1}                    -> {}
    anything that failed                             -> {"error": "text", "kind": "task" or "host"}

The kind of an error says whose it is: `task` when the suite cannot go on with what the policy wrote, which is
data, and `host` when the suite failed, which makes the attempt invalid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from codegym_jax.config import UserError

Message = dict[str, Any]
"""A message in OpenAI's form: `role`, `content`, and of an assistant `tool_calls`."""


class SuiteError(UserError):
    """A suite that cannot be played as asked: it is not installed, or lacks its data, or a user."""


class SuiteFailure(RuntimeError):
    """The suite failed, not the policy: the attempt is invalid."""


class SuiteRefusal(Exception):
    """The suite cannot go on with what the policy wrote: the attempt ends, and says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteFacts:
    """What a suite says of itself."""

    suite: str
    package: str
    version: str
    subsets: tuple[str, ...]
    single_turn: bool
    """Whether a task is one question and one answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a policy is shown first."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()
    """JSON schemas of functions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What follows a message of the policy."""

    messages: Sequence[Message]
    finished: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What the suite's own checker says of a session."""

    score: float
    """In [0, 1]."""
    detail: Mapping[str, Any] = field(default_factory=dict)


@runtime_checkable
class SuiteSession(Protocol):
    """One attempt at one task. Every method raises `SuiteFailure` when the suite failed."""

    @property
    def opening(self) -> Opening: ...

    def reply(self, message: Message) -> Reaction:
        """Hands over a message of the policy; raises `SuiteRefusal` as well."""
        ...

    def gold(self) -> Message:
        """The right message at this point, when all before it were the right ones."""
        ...

    def score(self) -> Score:
        """At any time; of a session that did not finish, whatever the suite gives for that."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Suite(Protocol):
    """Tasks in subsets. Its methods, and those of its sessions, may be called from any thread."""

    @property
    def facts(self) -> SuiteFacts: ...

    def tasks(self, subset: str) -> list[str]:
        """The names of the tasks of a subset; raises `SuiteFailure`."""
        ...

    def open(self, subset: str, task: str) -> SuiteSession:
        """Begins an attempt; raises `SuiteFailure`."""
        ...

    def close(self) -> None: ...


def function_call(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    """A call as an entry of `tool_calls`."""
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
