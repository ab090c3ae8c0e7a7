"""A stream of actions as a policy might write them: good calls, odd ones, and text that is no call."""

import json
import random
from collections.abc import Sequence

from codegym_jax.envs.action import DONE
from codegym_jax.records import ToolSpec

CALLS = 24  # before the first `Done`
CALLS_AFTER_DONE = 3
ODD_VALUES = (
    None,
    True,
    -1,
    0,
    3,
    0.5,
    -2.75,
    65_537,  # large enough to matter, small enough to count to
    10**30,  # beyond the integers of C, of 32 bits as of 64
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "7",
    "a",
    "é😀",
    "\x00",
    "\ud800",
    "x" * 3000,
    [],
    [1],
    [3, "a", None],
    [2.5, -1],
    [[1, 2], [3]],
    ["h", "e", "l", "l", "o"],
    {},
    {"k": [1]},
    {"1": 2, "2": 1},
)
NO_CALLS = ("", "null", "[]", "{", "Observe()", '{"name": "Observe"}', '{"name": 1, "parameters": {}}')
UNKNOWN_TOOLS = ("Nope", "solve", "get_ref_answer", "__init__", "")


def odd_calls(tools: Sequence[ToolSpec], oracle_actions: Sequence[str], key: str) -> list[str]:
    """Actions to take one after the other; the first `Done` is the last but `CALLS_AFTER_DONE`.

    Args:
      oracle_actions: of a solved episode; the last one is its `Done`.
      key: names the stream; the same key gives the same one.
    """
    chance = random.Random(f"odd calls/{key}")
    parameters = {tool.name: [one.name for one in tool.parameters] for tool in tools}
    done = parameters.pop(DONE)
    names = sorted(parameters)
    *good, right = oracle_actions

    def odd(name: str, given: Sequence[str]) -> str:
        return call(name, {parameter: chance.choice(ODD_VALUES) for parameter in given})

    def spoiled(action: str) -> str:
        """A good call with another value in some of its parameters."""
        given = json.loads(action)
        changed = {
            name: value if chance.random() < 0.5 else chance.choice(ODD_VALUES)
            for name, value in given["parameters"].items()
        }
        return call(given["name"], changed)

    def action() -> str:
        kind = chance.random()
        name = chance.choice(names)
        if kind < 0.55 and good:
            taken = chance.choice(good)
            return taken if kind < 0.35 else spoiled(taken)
        if kind < 0.8:
            return odd(name, parameters[name])
        if kind < 0.84:
            return odd(name, parameters[name][1:])
        if kind < 0.88:
            return odd(name, [*parameters[name], "extra"])
        if kind < 0.92:
            return call(chance.choice(UNKNOWN_TOOLS), {})
        return chance.choice((*NO_CALLS, right[:-1], right + right, right.replace('"', "'")))

    actions = [action() for _ in range(CALLS)]
    actions.append(right if chance.random() < 0.5 else odd(DONE, done))
    return actions + chance.sample(actions, CALLS_AFTER_DONE)


def call(name: str, parameters: dict[str, object]) -> str:
    """One action."""
    return json.dumps({"name": name, "parameters": parameters})
