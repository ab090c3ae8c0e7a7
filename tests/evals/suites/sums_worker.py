"""A suite's worker of the standard library alone: numbers to be added up with a tool.

Its other subsets have tasks at which a worker may fail: `dies`, `hangs`, `babbles` (no JSON), `lies` (a
score above 1), `refuses` (a message that it cannot go on with), `breaks` (an error of its own). Each
misbehaves when it is given a message. With `once=FOLDER` in its arguments, each does so only the first time.
"""

import json
import os
import pathlib
import sys
import time

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
BAD = ("breaks", "babbles", "dies", "hangs", "lies", "refuses", "well")
FLAWED = ("breaks", "refuses", "well")
SUMS = [f"{a}+{b}+{c}" for a, b, c in ((1, 2, 3), (10, 20, 30), (7, 7, 7), (0, 5, 0), (9, 1, 90), (4, 4, 4))]


class Sum:
    """Add the first two numbers, then the third; then say the sum."""

    def __init__(self, task: str, misbehave: str) -> None:
        self.numbers = [int(one) for one in task.split("+")]
        self.misbehave, self.calls, self.said = misbehave, [], None

    def opening(self):
        text = f"What is {' + '.join(map(str, self.numbers))}? Add two numbers at a time."
        return {"messages": [{"role": "user", "content": text}], "tools": [ADD]}

    def gold(self):
        total = sum(self.numbers[: len(self.calls) + 1])
        if len(self.calls) == len(self.numbers) - 1:
            return {"message": {"role": "assistant", "content": str(total)}}
        arguments = json.dumps({"a": total, "b": self.numbers[len(self.calls) + 1]})
        call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": arguments}}
        return {"message": {"role": "assistant", "content": None, "tool_calls": [call]}}

    def reply(self, message):
        calls = message.get("tool_calls") or []
        if not calls:
            self.said = message.get("content")
            return {"messages": [], "finished": True}
        results = []
        for call in calls:
            arguments = json.loads(call["function"]["arguments"])
            self.calls.append(arguments)
            total = str(arguments["a"] + arguments["b"])
            results.append({"role": "tool", "tool_call_id": call["id"], "content": total})
        return {"messages": results, "finished": False}

    def score(self):
        if self.misbehave == "lies":
            return {"score": 7}
        return {"score": float(self.said == str(sum(self.numbers))), "detail": {"calls": len(self.calls)}}


def misbehaving(name: str, folder: pathlib.Path | None) -> str:
    if folder is None:
        return name
    mark = folder / name
    if mark.exists():
        return ""
    mark.touch()
    return name


def answer(request, sessions, folder):
    op = request["op"]
    if op == "hello":
        facts = {"suite": "sums", "package": "python", "version": "1", "single_turn": False}
        return {**facts, "subsets": ["sums", "bad", "flawed"]}
    if op == "tasks":
        return {"tasks": list({"sums": SUMS, "bad": BAD, "flawed": FLAWED}[request["subset"]])}
    number = request["session"]
    if op == "open":
        bad = request["subset"] != "sums"
        sessions[number] = Sum("1+2+3" if bad else request["task"], request["task"] if bad else "")
        return sessions[number].opening()
    session = sessions[number]
    if op == "reply":
        return (act(session, folder) if session.misbehave else None) or session.reply(request["message"])
    if op == "close":
        del sessions[number]
        return {}
    return getattr(session, op)()


def act(session, folder):
    match misbehaving(session.misbehave, folder):
        case "dies":
            print("out of luck", file=sys.stderr)
            sys.stderr.flush()
            os._exit(3)
        case "hangs":
            time.sleep(600)
        case "babbles":
            return "no JSON"
        case "refuses":
            return {"error": "what is that?", "kind": "task"}
        case "breaks":
            return {"error": "lost its table", "kind": "host"}


def main() -> None:
    places = [argument.removeprefix("once=") for argument in sys.argv[1:] if argument.startswith("once=")]
    folder = pathlib.Path(places[0]) if places else None
    sessions: dict[int, Sum] = {}
    for line in sys.stdin:
        found = answer(json.loads(line), sessions, folder)
        print(found if isinstance(found, str) else json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
