"""A suite in a process of its own, spoken to in JSON lines (`suite.py` says which).

A process that dies, hangs or writes what is no answer is ended, and its sessions with it: each of them fails
with a text that names the process and shows the end of what it wrote to stderr. The next session that is
opened gets a new process.
"""

import contextlib
import json
import os
import re
import selectors
import subprocess
import threading
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, TypeGuard

from codegym_jax.data import strict_json
from codegym_jax.evals.suites.suite import (
    Message,
    Opening,
    Reaction,
    Score,
    SuiteError,
    SuiteFacts,
    SuiteFailure,
    SuiteRefusal,
)

START_S = 600.0
"""Until the first answer: packages may take minutes to import on a slow disk."""
ANSWER_S = 300.0
"""Until any other answer; a simulated user may be behind it."""
MAX_ANSWER_BYTES = 64 * 2**20
_NAME = re.compile(r"[\w+-][\w.+-]*", re.ASCII)
"""Of a subset, which is a folder's name."""
_TAIL_BYTES = 2000
_LEAVE_S = 5.0


class Worker:
    """A worker process. One request at a time; any thread may make it."""

    def __init__(self, command: Sequence[str], *, name: str, answer_s: float = ANSWER_S) -> None:
        """Starts the process.

        Args:
          command: of the process.
          name: of the suite, for messages.
          answer_s: how long an answer may take.
        """
        self.name = name
        self._answer_s = answer_s
        self._lock = threading.Lock()
        self._received = b""
        self._dead = ""
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for this process, which then ends that one
        )
        assert self._process.stdin and self._process.stdout and self._process.stderr
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        self._tail = _Tail(self._process.stderr.fileno())

    @property
    def alive(self) -> bool:
        return not self._dead

    def ask(self, request: Mapping[str, Any], answer_s: float | None = None) -> dict[str, Any]:
        """One request and its answer.

        Raises:
          SuiteRefusal: an error of the kind `task`.
          SuiteFailure: any other error; the process is dead; or it died, was too late, or did not answer in
            the protocol, and is dead now.
        """
        line = json.dumps(request).encode() + b"\n"
        limit_s = self._answer_s if answer_s is None else answer_s
        with self._lock:
            if self._dead:
                raise SuiteFailure(self._dead)
            try:
                answer = self._read(self._exchange(line, monotonic() + limit_s))
            except SuiteFailure as failure:
                self._end(f"the worker of suite {self.name} {failure}, when asked to {request['op']}")
                raise SuiteFailure(self._dead) from None
            except TimeoutError:
                self._end(
                    f"the worker of suite {self.name} gave no answer to {request['op']} in {limit_s:g} s"
                )
                raise SuiteFailure(self._dead) from None
        if "error" in answer:
            kind = SuiteRefusal if answer.get("kind") == "task" else SuiteFailure
            raise kind(f"suite {self.name}, {request['op']}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Ends the process."""
        with self._lock:
            if not self._dead:
                self._end(f"the worker of suite {self.name} was closed")

    def _exchange(self, line: bytes, deadline_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._stdout, selectors.EVENT_READ)
            selector.register(self._stdin, selectors.EVENT_WRITE)
            while b"\n" not in self._received:
                ready = selector.select(max(0.0, deadline_s - monotonic()))
                if not ready:
                    raise TimeoutError
                for key, _ in ready:
                    if key.fd == self._stdout:
                        self._receive()
                    elif line := self._send(line):
                        continue
                    else:
                        selector.unregister(self._stdin)
        answer, _, self._received = self._received.partition(b"\n")
        if self._received:
            raise SuiteFailure(
                f"answered more than was asked: {self._received[:200].decode(errors='replace')!r}"
            )
        return answer

    def _send(self, line: bytes) -> bytes:
        try:
            return line[os.write(self._stdin, line) :]
        except BrokenPipeError:
            return b""  # it has died: its stdout will say so

    def _receive(self) -> None:
        chunk = os.read(self._stdout, 2**16)
        if not chunk:
            code = self._wait()
            raise SuiteFailure(f"died with exit code {code}")
        self._received += chunk
        if len(self._received) > MAX_ANSWER_BYTES:
            raise SuiteFailure(f"answered with more than {MAX_ANSWER_BYTES} bytes")

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            answer = strict_json.loads(line.decode())
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            shown = line[:200].decode(errors="replace")
            raise SuiteFailure(f"answered what is no JSON object: {shown!r}")
        return answer

    def _end(self, why: str) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._wait()
        tail = self._tail.text()
        if self._tail.ended:
            assert self._process.stderr is not None
            self._process.stderr.close()
        self._dead = f"{why}; the end of its stderr:\n{tail}" if tail else why

    def _wait(self) -> int:
        """The exit code; a process that does not go by itself, now that its stdin is closed, is killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_LEAVE_S if self._process.stdin and self._process.stdin.closed else 1.0)
        self._process.kill()
        return self._process.wait()


class _Tail:
    """Reads a pipe in a thread, and keeps the end of what came."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor, self._kept = descriptor, b""
        self._thread = threading.Thread(target=self._drain, name="suite stderr", daemon=True)
        self._thread.start()

    def _drain(self) -> None:
        while chunk := os.read(self._descriptor, 2**16):
            self._kept = (self._kept + chunk)[-_TAIL_BYTES:]

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def text(self) -> str:
        """When the process has ended; a process that it left behind may still hold the pipe."""
        self._thread.join(_LEAVE_S)
        return self._kept.decode(errors="replace").strip()


def _environment() -> dict[str, str]:
    """That of this process without what would lead another Python to this one's packages."""
    leading = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if name not in leading}
    return {**kept, "PYTHONHASHSEED": "0"}


class WorkerSuite:
    """A suite behind a worker process; a `Suite`."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str,
        settings: Mapping[str, Any] | None = None,
        answer_s: float = ANSWER_S,
    ) -> None:
        """Starts the first process and asks what it is.

        Args:
          command: starts a process.
          name: of the suite.
          settings: handed to the process, which may ignore them: `data`, `user_endpoint`, `user_model`.
          answer_s: how long an answer may take.

        Raises:
          SuiteError: when it does not start.
        """
        self._command, self._name, self._answer_s = command, name, answer_s
        self._settings = dict(settings or {})
        self._lock = threading.Lock()
        self._sessions = 0
        try:
            self._worker, self._facts = self._start()
        except SuiteFailure as failure:
            again = f"`codegym suites install {name}` makes its environment anew"
            raise SuiteError(f"{failure}\n{again}") from None

    @property
    def facts(self) -> SuiteFacts:
        return self._facts

    def tasks(self, subset: str) -> list[str]:
        tasks = self._living().ask({"op": "tasks", "subset": subset}).get("tasks")
        if not _are_texts(tasks) or len(set(tasks)) < len(tasks):
            raise SuiteFailure(f"suite {self._name}, tasks: the key tasks must hold different names")
        return tasks

    def open(self, subset: str, task: str) -> "WorkerSession":
        with self._lock:
            self._sessions += 1
            number = self._sessions
        worker = self._living()
        try:
            answer = worker.ask({"op": "open", "session": number, "subset": subset, "task": task})
        except SuiteRefusal as refusal:  # the policy has said nothing yet
            raise SuiteFailure(str(refusal)) from None
        return WorkerSession(worker, number, answer)

    def close(self) -> None:
        with self._lock:
            self._worker.close()

    def _living(self) -> Worker:
        with self._lock:
            if not self._worker.alive:
                self._worker, _ = self._start()
            return self._worker

    def _start(self) -> tuple[Worker, SuiteFacts]:
        worker = Worker(self._command, name=self._name, answer_s=self._answer_s)
        try:
            hello = {"op": "hello", "settings": self._settings}
            return worker, _facts(worker.ask(hello, max(START_S, self._answer_s)))
        except (SuiteFailure, SuiteRefusal) as failure:
            worker.close()
            raise SuiteFailure(str(failure)) from None


class WorkerSession:
    """One attempt at a task of a suite behind a worker; a `SuiteSession`."""

    def __init__(self, worker: Worker, number: int, answer: Mapping[str, Any]) -> None:
        self._worker, self._number = worker, number
        messages, tools = answer.get("messages"), answer.get("tools", [])
        if not messages or not _are_messages(messages) or not _are_objects(tools):
            raise self._broken("open", "messages, with messages, and tools, with schemas")
        self._opening = Opening(messages=messages, tools=tools)

    @property
    def opening(self) -> Opening:
        return self._opening

    def reply(self, message: Message) -> Reaction:
        answer = self._ask("reply", message=message)
        messages, finished = answer.get("messages", []), answer.get("finished")
        if not _are_messages(messages) or not isinstance(finished, bool):
            raise self._broken("reply", "messages, with messages, and finished, with true or false")
        if not messages and not finished:
            raise self._broken("reply", "a message, unless it is finished")
        return Reaction(messages=messages, finished=finished)

    def gold(self) -> Message:
        message = self._ask("gold").get("message")
        messages = [message]
        if not _are_messages(messages):
            raise self._broken("gold", "message, with a message")
        return messages[0]

    def score(self) -> Score:
        answer = self._ask("score")
        score, detail = answer.get("score"), answer.get("detail") or {}
        if not isinstance(score, int | float) or not 0.0 <= score <= 1.0 or not isinstance(detail, dict):
            raise self._broken("score", "score, with a number from 0 to 1")
        return Score(score=float(score), detail=detail)

    def close(self) -> None:
        with contextlib.suppress(SuiteFailure, SuiteRefusal):
            self._ask("close")

    def _ask(self, op: str, **more: Any) -> dict[str, Any]:
        return self._worker.ask({"op": op, "session": self._number, **more})

    def _broken(self, op: str, wanted: str) -> SuiteFailure:
        return SuiteFailure(f"suite {self._worker.name}, {op}: the answer must have {wanted}")


def _facts(answer: Mapping[str, Any]) -> SuiteFacts:
    told = [answer.get(key) for key in ("suite", "package", "version")]
    subsets, single_turn = answer.get("subsets"), answer.get("single_turn", False)
    if not _are_texts(told) or not _are_texts(subsets) or not subsets or not isinstance(single_turn, bool):
        raise SuiteFailure("hello: the answer must have suite, package, version and subsets")
    if unfit := [name for name in subsets if not _NAME.fullmatch(name)]:
        raise SuiteFailure(f"hello: a subset is named by letters, digits and _.+-, got {unfit[0]!r}")
    suite, package, version = told
    return SuiteFacts(
        suite=suite, package=package, version=version, subsets=tuple(subsets), single_turn=single_turn
    )


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _are_objects(value: Any) -> TypeGuard[list[dict[str, Any]]]:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _are_messages(value: Any) -> TypeGuard[list[Message]]:
    return _are_objects(value) and all(isinstance(one.get("role"), str) for one in value)
