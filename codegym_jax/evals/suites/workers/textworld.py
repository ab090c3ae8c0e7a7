"""TextWorldExpress: text games of rooms and things in a house, played by commands.

Takes requests as JSON lines on stdin and answers them on stdout (`evals/suites/suite.py` has the protocol).
Runs in an environment of its own and imports nothing of `codegym_jax`: games, scores and gold paths are those
of the package `textworld-express`. They run in Java, one process for all sessions, which ends with this one,
however this one ends: it reads a pipe that only this one holds.

A subset is a game of the package, with the package's own settings; its tasks are the first 100 seeds of the
package's test fold. The game `sorting` is no subset: two of its games of one seed, open at once, share their
things. Each call of the one tool, `act`, is one command, and its result is all that the package tells: the
observation, the surroundings and the inventory where they are not what was last shown, and the valid
commands. What the game does not understand is answered by the game. The package's success or failure ends an
attempt, and so do its limit of 100 commands and a message without calls. The score is the package's, from 0
to 1 for what was done of the task; 0 where a failure takes it below.

Gold paths are made by agents of the package that explore a game: they reach its end, not by the shortest way,
and in the games `coin` and `twc` not twice by the same one.

Source: Jansen and Cote 2022, "TextWorldExpress", https://arxiv.org/abs/2208.01174, and the package's source.
"""

import importlib.metadata
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SUITE, PACKAGE = "textworld", "textworld-express"
SUBSETS = ("cookingworld", "coin", "twc", "mapreader", "arithmetic", "simonsays", "peckingorder")
FOLD, TASKS = "test", 100
MAX_COMMANDS = 100
"""Of one attempt: the package's `envStepLimit`."""
TOOL = "act"
RULES = (
    f"Play this text game by the function `{TOOL}`, one command a call. Each result ends with the commands"
    " that are valid next. The game ends when the task is done or has failed, after"
    f" {MAX_COMMANDS} commands, or with a message that calls no function."
)
OVER = "The game is over."
NO_COMMAND = f"Unknown action: call `{TOOL}` with the argument `command`, a text."


def tool_schema() -> dict[str, Any]:
    """The one tool, in OpenAI's form."""
    command = {"type": "string", "description": "A command of the game, as it lists them: `open fridge`."}
    parameters = {"type": "object", "properties": {"command": command}, "required": ["command"]}
    about = "Does one thing in the world of the game, and tells what comes of it and what can be done next."
    return {
        "type": "function",
        "function": {"name": TOOL, "description": about, "parameters": parameters},
    }


def read_command(call: Mapping[str, Any]) -> str | None:
    """The command of a call; None when it is no call of the tool with a text."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"])
    except (ValueError, RecursionError):
        return None
    command = arguments.get("command") if isinstance(arguments, dict) else None
    if function["name"] != TOOL or not isinstance(command, str):
        return None
    return command.encode(errors="replace").decode()  # half a character could not be sent to Java


def calling(command: str) -> dict[str, Any]:
    """A message of the policy that gives a command."""
    function = {"name": TOOL, "arguments": json.dumps({"command": command})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }


class Display:
    """What a player is shown of the states of a game, without what has been shown and still holds."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def text(self, state: Mapping[str, Any]) -> str:
        """Of the next state: `observation`, `look`, `inventory` and `validActions`, as the package says."""
        observation = state["observation"].strip()
        parts = [observation]
        for key in ("look", "inventory"):
            told = state[key].strip()
            if told not in (observation, self._shown.get(key)):
                parts.append(told)
            self._shown[key] = told
        parts.append(f"Valid commands: {'; '.join(state['validActions'])}")
        return "\n\n".join(part for part in parts if part)


class Games:
    """The package's games, in a Java process."""

    def __init__(self) -> None:
        from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway
        from textworld_express.constants import BASEPATH, JAR_PATH

        port, token, process = launch_gateway(
            classpath=JAR_PATH, die_on_exit=True, cwd=BASEPATH, return_proc=True, enable_auth=True
        )
        self._gateway = JavaGateway(
            gateway_parameters=GatewayParameters(port=port, auth_token=token), java_process=process
        )

    def begin(self, game: str, seed: int, *, gold: bool = False) -> tuple[Any, dict[str, Any]]:
        """A game and its first state.

        Raises:
          ValueError: when the package cannot make it.
        """
        one = self._game(game)
        return one, json.loads(one.generateNewGameJSON(seed, FOLD, gold))

    def seeds(self, game: str) -> list[int]:
        """Of the test fold."""
        return list(self._game(game).getSeedsTest())

    def gold_path(self, game: str, seed: int) -> list[str]:
        """Commands that end a game in success."""
        return list(self.begin(game, seed, gold=True)[0].getGoldActionSequence())

    def _game(self, game: str) -> Any:
        if game not in SUBSETS:
            raise ValueError(f"no subset {game!r}; there are {', '.join(SUBSETS)}")
        one = self._gateway.jvm.textworldexpress.runtime.PythonInterface()
        if failure := one.load(game, ""):
            raise ValueError(failure)
        return one


class Session:
    """One attempt at a task."""

    def __init__(self, games: Games, subset: str, task: str) -> None:
        self._games, self._name, self._seed = games, subset, int(task)
        self._game, self._state = games.begin(subset, self._seed)
        self._display = Display()
        self._commands = 0
        self._given_up = False
        self._gold: list[str] = []

    def opening(self) -> dict[str, Any]:
        task = self._game.getTaskDescription().strip()
        text = f"{RULES}\n\nTask: {task}\n\n{self._display.text(self._state)}"
        return {"messages": [{"role": "user", "content": text}], "tools": [tool_schema()]}

    def reply(self, message: Mapping[str, Any]) -> dict[str, Any]:
        calls: Sequence[Mapping[str, Any]] = message.get("tool_calls") or ()
        self._given_up = self._given_up or not calls
        results = [
            {"role": "tool", "tool_call_id": call.get("id", ""), "content": self._act(read_command(call))}
            for call in calls
        ]
        return {"messages": results, "finished": self._over()}

    def gold(self) -> dict[str, Any]:
        self._gold = self._gold or self._games.gold_path(self._name, self._seed)
        return {"message": calling(self._gold[self._commands])}

    def score(self) -> dict[str, Any]:
        detail = {
            "success": self._state["tasksuccess"],
            "failure": self._state["taskfailure"],
            "commands": self._commands,
        }
        return {"score": min(1.0, max(0.0, self._state["score"])), "detail": detail}

    def _over(self) -> bool:
        ended = self._state["tasksuccess"] or self._state["taskfailure"] or self._state["score"] >= 1.0
        return self._given_up or ended or self._commands >= MAX_COMMANDS

    def _act(self, command: str | None) -> str:
        if self._over():
            return OVER
        self._commands += 1
        if command is None:
            return NO_COMMAND
        self._state = json.loads(self._game.stepJSON(command))
        return self._display.text(self._state)


class Worker:
    """Sessions by number."""

    def __init__(self) -> None:
        self._games = Games()
        self._sessions: dict[int, Session] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            facts = {"suite": SUITE, "package": PACKAGE, "version": importlib.metadata.version(PACKAGE)}
            return {**facts, "subsets": list(SUBSETS), "single_turn": False}
        if op == "tasks":
            return {"tasks": [str(seed) for seed in self._games.seeds(request["subset"])[:TASKS]]}
        number = request["session"]
        if op == "open":
            self._sessions[number] = Session(self._games, request["subset"], request["task"])
            return self._sessions[number].opening()
        if op == "reply":
            return self._sessions[number].reply(request["message"])
        if op == "gold":
            return self._sessions[number].gold()
        if op == "score":
            return self._sessions[number].score()
        if op == "close":
            del self._sessions[number]
            return {}
        raise ValueError(f"no such op: {op!r}")


def main() -> None:
    """Answers requests until stdin ends, or Java does."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the package prints is no answer
    sys.stdout = sys.stderr
    worker = Worker()
    from py4j.protocol import Py4JNetworkError

    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Py4JNetworkError:
            raise  # no game could be played any more; a new process can
        except Exception as error:  # the boundary of the process: it is told, and counted there
            answer = {"error": f"{type(error).__name__}: {error}", "kind": "host"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
