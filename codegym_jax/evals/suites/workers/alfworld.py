"""ALFWorld: household tasks in text, from game files that the caller gives.

Takes requests as JSON lines on stdin and answers them on stdout (`evals/suites/suite.py` has the protocol).
Runs in an environment of its own and imports nothing of `codegym_jax`: games are played by the packages
`alfworld` and `textworld`, and right paths are those of the package's planner.

The setting `data` names ALFWorld's data, the folder `json_2.1.1` or the one that holds it. Its splits
`valid_seen` and `valid_unseen` are the subsets, as far as they are there; their tasks are the games that the
package's own environment would take: of its six kinds of tasks, and found solvable. Who gives game files
trusts them: a game's grammar has code in it, which the package runs.

Each call of the one tool, `act`, is one command; its result is what the game says and the commands that are
valid next. A task that is done ends an attempt with the score 1. A message without calls and the 50th command
end it, too, with what it is worth then: 0.

Source: Shridhar et al. 2021, "ALFWorld", https://arxiv.org/abs/2010.03768, and the package's source. The 50
commands are those of its published configuration (`max_nb_steps_per_episode`).
"""

import functools
import importlib.metadata
import json
import os
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SUITE, PACKAGE = "alfworld", "alfworld"
SUBSETS = ("valid_seen", "valid_unseen")
RELEASE, GAME, TRAJECTORY = "json_2.1.1", "game.tw-pddl", "traj_data.json"
NOT_PLAYED = ("movable", "Sliced")
"""In the path of a game that the package passes over."""
MAX_COMMANDS = 50
TOOL = "act"
RULES = (
    f"You are in a house, and act by the function `{TOOL}`, one command a call. Each result ends with the"
    " commands that are valid next. It ends when the task is done, after"
    f" {MAX_COMMANDS} commands, or with a message that calls no function."
)
OVER = "It is over."
NO_COMMAND = f"Nothing happens: call `{TOOL}` with the argument `command`, a text."


def tool_schema() -> dict[str, Any]:
    """The one tool, in OpenAI's form."""
    command = {"type": "string", "description": "A command, as they are listed: `go to desk 1`."}
    parameters = {"type": "object", "properties": {"command": command}, "required": ["command"]}
    about = "Does one thing in the house, and tells what comes of it and what can be done next."
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
    return command if function["name"] == TOOL and isinstance(command, str) else None


def calling(command: str) -> dict[str, Any]:
    """A message of the policy that gives a command."""
    function = {"name": TOOL, "arguments": json.dumps({"command": command})}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_0", "type": "function", "function": function}],
    }


def shown(state: Mapping[str, Any]) -> str:
    """What a player is told of a state: `feedback` and `admissible_commands`, as the package says."""
    return f"{state['feedback'].strip()}\n\nValid commands: {'; '.join(state['admissible_commands'])}"


def find_games(folder: pathlib.Path, kinds: Sequence[str]) -> list[str]:
    """The folders of a split that hold a game to play, below it, in order.

    Args:
      folder: of the split.
      kinds: of tasks that are played.
    """
    return [
        game.parent.relative_to(folder).as_posix()
        for game in sorted(folder.glob(f"**/{GAME}"))
        if not any(word in str(game.relative_to(folder)) for word in NOT_PLAYED)
        and (game.parent / TRAJECTORY).is_file()
        and json.loads((game.parent / TRAJECTORY).read_text(encoding="utf-8"))["task_type"] in kinds
        and json.loads(game.read_text(encoding="utf-8")).get("solvable")
    ]


class Games:
    """The games of a folder, and the package's environments that play them: no more than are open at once.

    An environment has a copy of the planner's library, which it never gives back.
    """

    def __init__(self, data: str) -> None:
        """Looks for splits.

        Raises:
          ValueError: when the folder has none.
        """
        given = pathlib.Path(data)
        self._folder = given / RELEASE if (given / RELEASE).is_dir() else given
        self.subsets = [subset for subset in SUBSETS if (self._folder / subset).is_dir()]
        if not data or not self.subsets:
            raise ValueError(
                f"no folder {' or '.join(SUBSETS)} in {data!r}; give ALFWorld's {RELEASE}, or the folder that"
                " holds it"
            )
        self.tasks = functools.cache(self._tasks)
        self._idle: list[Any] = []
        self._planner = functools.cache(lambda: _environment(planning=True))

    def _tasks(self, subset: str) -> list[str]:
        from alfworld.agents.environment.alfred_tw_env import TASK_TYPES

        if subset not in self.subsets:
            raise ValueError(f"no subset {subset!r}; there are {', '.join(self.subsets)}")
        return find_games(self._folder / subset, list(TASK_TYPES.values()))

    def begin(self, subset: str, task: str) -> tuple[Any, Any]:
        """An environment at the first state of a task, and that state; to be given back by `end`."""
        environment = self._idle.pop() if self._idle else _environment(planning=False)
        environment.load(self._file(subset, task))
        return environment, environment.reset()

    def end(self, environment: Any) -> None:
        """Takes an environment back."""
        self._idle.append(environment)

    def gold_path(self, subset: str, task: str) -> list[str]:
        """Commands that do the task.

        Raises:
          ValueError: when the planner finds none.
        """
        planner = self._planner()
        planner.load(self._file(subset, task))
        path = planner.reset()["policy_commands"]
        if not path:
            raise ValueError(f"the package's planner finds no way to do {task}")
        return path

    def _file(self, subset: str, task: str) -> str:
        if task not in self.tasks(subset):
            raise ValueError(f"no task {task!r} in {subset}")
        return str(self._folder / subset / task / GAME)


def _environment(*, planning: bool) -> Any:
    """The package's environment, which names things as players know them."""
    import textworld
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler
    from textworld.envs import PddlEnv

    told = textworld.EnvInfos(won=True, admissible_commands=True, policy_commands=planning)
    return AlfredDemangler(PddlEnv(told))


class Session:
    """One attempt at a task."""

    def __init__(self, games: Games, subset: str, task: str) -> None:
        self._games, self._subset, self._task = games, subset, task
        self._environment, self._state = games.begin(subset, task)
        self._commands = 0
        self._given_up = False
        self._gold: list[str] = []

    def opening(self) -> dict[str, Any]:
        text = f"{RULES}\n\n{shown(self._state)}"
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
        self._gold = self._gold or self._games.gold_path(self._subset, self._task)
        return {"message": calling(self._gold[self._commands])}

    def score(self) -> dict[str, Any]:
        return {"score": float(self._state["won"]), "detail": {"commands": self._commands}}

    def close(self) -> dict[str, Any]:
        self._games.end(self._environment)
        return {}

    def _over(self) -> bool:
        return self._given_up or self._state["won"] or self._commands >= MAX_COMMANDS

    def _act(self, command: str | None) -> str:
        if self._over():
            return OVER
        self._commands += 1
        if command is None:
            return NO_COMMAND
        self._state, _, _ = self._environment.step(command)
        return shown(self._state)


class Worker:
    """Sessions by number."""

    def __init__(self) -> None:
        self._games: Games | None = None
        self._sessions: dict[int, Session] = {}

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        op = request["op"]
        if op == "hello":
            data = request.get("settings", {}).get("data", "")
            self._games = Games(data)
            os.environ["ALFWORLD_DATA"] = data  # else the package makes a folder for it
            facts = {"suite": SUITE, "package": PACKAGE, "version": importlib.metadata.version(PACKAGE)}
            return {**facts, "subsets": self._games.subsets, "single_turn": False}
        if self._games is None:
            raise ValueError("hello comes first")
        if op == "tasks":
            return {"tasks": self._games.tasks(request["subset"])}
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
            return self._sessions.pop(number).close()
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
