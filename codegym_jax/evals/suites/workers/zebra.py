"""Zebra puzzles of reasoning-gym: who lives where, from clues; one question, one name for an answer.

Takes requests as JSON lines on stdin and answers them on stdout (`evals/suites/suite.py` has the protocol).
Runs in an environment of its own and imports nothing of `codegym_jax`: puzzles and checker are those of the
package `reasoning-gym`. Of the package only the puzzles are imported: importing all of it would ask for its
other tasks' packages, and take long.

The answer is the last that stands behind `Answer:`, or else the last line.
"""

import importlib.metadata
import importlib.util
import json
import os
import pathlib
import re
import sys
import types
from collections.abc import Mapping
from typing import Any

SUITE, PACKAGE, SUBSET = "zebra", "reasoning-gym", "zebra_puzzles"
SEED, SIZE = 0, 200
"""Of the data set; its other settings are the package's own. The paper takes 200 puzzles, too."""
ASK = "\n\nEnd your reply with the line `Answer: NAME`."
_ANSWER = re.compile(r"answer\s*:\s*(.+)", re.IGNORECASE)


def final_answer(text: str) -> str:
    """The name that a reply ends with, without marks around it."""
    found = _ANSWER.findall(text) or [line for line in text.splitlines() if line.strip()]
    return re.sub(r"^\W+|\W+$", "", found[-1]) if found else ""


def load_puzzles() -> Any:
    """The package's data set of puzzles, without what the package itself imports."""
    spec = importlib.util.find_spec("reasoning_gym")
    assert spec is not None and spec.origin is not None
    root = pathlib.Path(spec.origin).parent
    for name, folder in (("reasoning_gym", root), ("reasoning_gym.logic", root / "logic")):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package
    from reasoning_gym.logic.zebra_puzzles import ZebraConfig, ZebraDataset

    return ZebraDataset(ZebraConfig(seed=SEED, size=SIZE))


class Worker:
    """Sessions by number."""

    def __init__(self) -> None:
        self._puzzles = load_puzzles()
        self._entries: dict[int, dict[str, Any]] = {}
        self._replies: dict[int, str] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            facts = {"suite": SUITE, "package": PACKAGE, "version": importlib.metadata.version(PACKAGE)}
            return {**facts, "subsets": [SUBSET], "single_turn": True}
        if op == "tasks":
            return {"tasks": [f"{index:03d}" for index in range(SIZE)]}
        number = request["session"]
        if op == "open":
            entry = self._puzzles[int(request["task"])]
            self._entries[number] = entry
            return {"messages": [{"role": "user", "content": entry["question"] + ASK}], "tools": []}
        if op == "reply":
            self._replies[number] = final_answer(request["message"].get("content") or "")
            return {"messages": [], "finished": True}
        if op == "gold":
            return {"message": {"role": "assistant", "content": f"Answer: {self._entries[number]['answer']}"}}
        if op == "score":
            answered = self._replies.get(number, "")
            score = self._puzzles.score_answer(answered, self._entries[number])
            return {"score": score, "detail": {"answered": answered}}
        if op == "close":
            self._entries.pop(number)
            self._replies.pop(number, None)
            return {}
        raise ValueError(f"no such op: {op!r}")


def main() -> None:
    """Answers requests until stdin ends."""
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
