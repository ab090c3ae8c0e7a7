"""BFCL, multi-turn: file systems, brokers, tickets and cars behind APIs, and users who follow a script.

Takes requests as JSON lines on stdin and answers them on stdout (`evals/suites/suite.py` has the protocol).
Runs in an environment of its own and imports nothing of `codegym_jax`: data, APIs and checker are those of
the package `bfcl-eval`.

A message with calls is a step: the package executes them in order, and their results follow. A message
without any, or with arguments that are no JSON object, ends the user's turn. The 21st step of one turn ends
the attempt, which has then failed. All of that is as in the package's own inference for models that call
functions; where a task holds functions back until a later turn, they come in that turn's user message, in the
wording of its inference for models that are prompted, so that what was said before stays as it was.

The package executes calls by `eval`. So that nothing but methods of a task's own APIs is ever evaluated, any
other call is answered here, with the error that it would have led to, and stands as a call of an unknown
function in what the checker sees.

Source: Patil et al. 2025, "The Berkeley Function Calling Leaderboard", and the package's source.
"""

import ast
import functools
import importlib
import importlib.metadata
import json
import keyword
import os
import pathlib
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SUITE, PACKAGE = "bfcl", "bfcl-eval"
SUBSETS = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}
"""The types of the package's documents that JSON schemas name otherwise."""
LARGEST = {"exponent": 1000, "precision": 1000}
"""Arguments by which one call could take hours, and the largest that is executed."""
UNKNOWN_CALL = "unknown_function()"
"""What the checker is shown of a call that was not executed; the package answers it with an error."""


class CallError(Exception):
    """A call that is not executed; its text is the result."""


def tool_names(methods: Iterable[str]) -> dict[str, str]:
    """A name that OpenAI's form allows for each method: tool -> method."""
    tools: dict[str, str] = {}
    for method in methods:
        name = tool = re.sub(r"[^a-zA-Z0-9_-]", "_", method)
        number = 1
        while tool in tools:
            number += 1
            tool = f"{name}_{number}"
        tools[tool] = method
    return tools


def json_schema(document: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter's type as a JSON schema, from the words that the package's documents use."""
    schema = dict(document)
    kind = schema.get("type", "string")
    schema["type"] = TYPES.get(kind, kind)
    if "properties" in schema:
        schema["properties"] = {name: json_schema(one) for name, one in schema["properties"].items()}
    if "items" in schema:
        schema["items"] = json_schema(schema["items"])
    return schema


def openai_tool(name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The package's document of a function in OpenAI's form, which has no place for the type of results."""
    function = {
        "name": name,
        "description": document["description"],
        "parameters": json_schema(document["parameters"]),
    }
    return {"type": "function", "function": function}


def call_text(method: str, arguments: Mapping[str, Any], methods: Iterable[str]) -> str:
    """A call as the package takes it, a Python expression.

    Raises:
      CallError: when it is none of the `methods`, or the expression would be more than its call.
    """
    if method not in methods:
        raise CallError(f"Error during execution: name {method!r} is not defined")
    for name, value in arguments.items():
        if not name.isidentifier() or keyword.iskeyword(name):
            raise CallError(f"Error during execution: {method}() got an unexpected argument {name!r}")
        if isinstance(value, int | float) and value > LARGEST.get(name, value):
            raise CallError(f"Error during execution: {name} must be at most {LARGEST[name]}")
    return f"{method}({','.join(f'{name}={value!r}' for name, value in arguments.items())})"


def gold_call(text: str, parameters: Mapping[str, Sequence[str]]) -> tuple[str, dict[str, Any]]:
    """The method and the arguments of a call of the package's ground truth.

    Args:
      text: a Python call whose arguments are literals.
      parameters: method -> the names of its parameters, in order.
    """
    call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        raise ValueError(f"the ground truth must be a call of a function, got {text!r}")
    method = call.func.id
    arguments = {
        name: ast.literal_eval(value)
        for name, value in zip(parameters[method], call.args, strict=False)  # the rest are optional
    }
    return method, arguments | {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}


def read_calls(message: Mapping[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    """The id, tool and arguments of each call; none when the arguments of one are no JSON object."""
    calls = []
    for call in message.get("tool_calls") or ():
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, RecursionError):
            return []
        if not isinstance(arguments, dict):
            return []
        calls.append((call.get("id", ""), function["name"], arguments))
    return calls


def assistant(calls: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """A message of the policy that calls tools."""
    numbered = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for number, (name, arguments) in enumerate(calls)
    ]
    return {"role": "assistant", "content": None, "tool_calls": numbered}


class Data:
    """The package's tasks, ground truth and documents of functions."""

    def __init__(self) -> None:
        import bfcl_eval

        self._folder = pathlib.Path(bfcl_eval.__file__).parent / "data"
        self.tasks = functools.cache(self._tasks)
        self.documents = functools.cache(self._documents)
        self.methods = functools.cache(self._methods)

    def _tasks(self, subset: str) -> dict[str, dict[str, Any]]:
        """Task -> its entry, with the calls of its `ground_truth`."""
        if subset not in SUBSETS:
            raise ValueError(f"no subset {subset!r}; there are {', '.join(SUBSETS)}")
        entries = self._lines(f"BFCL_v4_{subset}.json")
        answers = self._lines(f"possible_answer/BFCL_v4_{subset}.json")
        return {
            entry["id"]: {**entry, "ground_truth": answer["ground_truth"]}
            for entry, answer in zip(entries, answers, strict=True)
        }

    def _documents(self, api: str) -> list[dict[str, Any]]:
        """Of the functions of an API."""
        from bfcl_eval.constants.executable_backend_config import MULTI_TURN_FUNC_DOC_FILE_MAPPING

        return self._lines(f"multi_turn_func_doc/{MULTI_TURN_FUNC_DOC_FILE_MAPPING[api]}")

    def _methods(self, api: str) -> frozenset[str]:
        """That the package would execute, which are more than it documents."""
        from bfcl_eval.constants.executable_backend_config import CLASS_FILE_PATH_MAPPING

        backend = getattr(importlib.import_module(CLASS_FILE_PATH_MAPPING[api]), api)
        public = (name for name in dir(backend) if not name.startswith("_"))
        return frozenset(name for name in public if callable(getattr(backend, name)))

    def _lines(self, path: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._folder / path).read_text(encoding="utf-8").splitlines()]


class Session:
    """One attempt at a task."""

    def __init__(self, data: Data, number: int, subset: str, task: str) -> None:
        from bfcl_eval.constants.default_prompts import MAXIMUM_STEP_LIMIT

        self._entry = data.tasks(subset)[task]
        self._name = f"session{number}"
        self._max_steps = MAXIMUM_STEP_LIMIT
        self._apis: list[str] = self._entry["involved_classes"]
        documents = {one["name"]: one for api in self._apis for one in data.documents(api)}
        self._executed = frozenset[str]().union(*(data.methods(api) for api in self._apis))
        self._parameters = {name: list(one["parameters"]["properties"]) for name, one in documents.items()}
        self._methods = tool_names(documents)
        self._tools = {method: openai_tool(tool, documents[method]) for tool, method in self._methods.items()}
        self._held: dict[str, list[str]] = self._entry.get("missed_function", {})
        self._turn = 0
        self._steps: list[list[str]] = []
        self._step_count = 0
        self._done: list[list[list[str]]] = []
        self._overrun = False

    def opening(self) -> dict[str, Any]:
        held = {method for methods in self._held.values() for method in methods}
        tools = [tool for method, tool in self._tools.items() if method not in held]
        return {"messages": self._user(), "tools": tools}

    def reply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        calls = read_calls(message)
        if not calls:
            return self._next_turn()
        results = self._execute(calls)
        self._step_count += 1
        self._overrun = self._step_count > self._max_steps
        return {"messages": results, "finished": self._overrun}

    def gold(self) -> dict[str, Any]:
        texts = self._entry["ground_truth"][self._turn]
        if self._step_count or not texts:
            return {"message": {"role": "assistant", "content": "Done."}}
        tools = {method: tool for tool, method in self._methods.items()}
        calls = (gold_call(text, self._parameters) for text in texts)
        return {"message": assistant((tools[method], arguments) for method, arguments in calls)}

    def score(self) -> dict[str, Any]:
        from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_checker import multi_turn_checker

        if len(self._done) < len(self._entry["question"]):
            return {"score": 0.0, "detail": {"error_type": "multi_turn:force_terminated"}}
        name, category = f"{self._name}_score", self._entry["id"].rsplit("_", 1)[0]
        try:
            verdict = multi_turn_checker(self._done, self._entry["ground_truth"], self._entry, category, name)
        finally:
            _forget(name)
        why = {key: str(verdict[key]) for key in ("error_type", "error_message") if key in verdict}
        return {"score": float(verdict["valid"]), "detail": why}

    def close(self) -> dict[str, Any]:
        _forget(self._name)
        return {}

    def _user(self) -> list[dict[str, Any]]:
        """What the user says in this turn."""
        from bfcl_eval.constants.default_prompts import (
            DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_PROMPTING as MORE_FUNCTIONS,
        )

        methods = self._held.get(str(self._turn))
        if methods is None:
            return self._entry["question"][self._turn]
        functions = "\n".join(json.dumps(self._tools[method]) for method in methods)
        return [{"role": "user", "content": MORE_FUNCTIONS.format(functions=functions)}]

    def _next_turn(self) -> dict[str, Any]:
        self._done.append(self._steps)
        self._steps, self._step_count = [], 0
        self._turn += 1
        if self._turn == len(self._entry["question"]):
            return {"messages": [], "finished": True}
        return {"messages": self._user(), "finished": False}

    def _execute(self, calls: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
        from bfcl_eval.eval_checker.multi_turn_eval.multi_turn_utils import execute_multi_turn_func_call

        step, messages = [], []
        for call_id, tool, arguments in calls:
            try:
                text = call_text(self._methods.get(tool, tool), arguments, self._executed)
                results, _ = execute_multi_turn_func_call(
                    [text],
                    self._entry["initial_config"],
                    self._apis,
                    f"{self._name}_play",
                    self._entry["id"],
                    long_context="long_context" in self._entry["id"],
                )
                result = results[0]
            except CallError as error:
                text, result = UNKNOWN_CALL, str(error)
            step.append(text)
            messages.append({"role": "tool", "tool_call_id": call_id, "name": tool, "content": result})
        self._steps.append(step)
        return messages


def _forget(name: str) -> None:
    """Drops the instances that the package keeps for ever, of the model of this name."""
    from bfcl_eval.eval_checker.multi_turn_eval import multi_turn_utils

    for key in [key for key in vars(multi_turn_utils) if key.startswith(f"{name}_")]:
        delattr(multi_turn_utils, key)


class Worker:
    """Sessions by number."""

    def __init__(self) -> None:
        self._data = Data()
        self._sessions: dict[int, Session] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            facts = {"suite": SUITE, "package": PACKAGE, "version": importlib.metadata.version(PACKAGE)}
            return {**facts, "subsets": list(SUBSETS), "single_turn": False}
        if op == "tasks":
            return {"tasks": list(self._data.tasks(request["subset"]))}
        number = request["session"]
        if op == "open":
            session = Session(self._data, number, request["subset"], request["task"])
            self._sessions[number] = session
            return session.opening()
        if op == "reply":
            return self._sessions[number].reply(request["message"])
        if op == "gold":
            return self._sessions[number].gold()
        if op == "score":
            return self._sessions[number].score()
        if op == "close":
            return self._sessions.pop(number).close()
        raise ValueError(f"no such op: {op!r}")


def main() -> None:
    """Answers requests until stdin ends."""
    os.environ["TZ"] = "UTC"  # the package writes local times into results
    time.tzset()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the package prints is no answer
    sys.stdout = sys.stderr
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # the boundary of the process: it is told, and counted there
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "host"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
