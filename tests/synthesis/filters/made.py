"""Small environments in the published format, made from what makes them differ."""

import json
import textwrap
from collections.abc import Iterable
from typing import Any

from codegym_jax.envs.check import verify_task
from codegym_jax.envs.codegym_format import canonical_json, parse_source
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task

_CLASS = """
import json

import gymnasium

{module}


class {name}(gymnasium.Env):
    def __init__(self, env_str=None):
        self.func_mapping = {mapping}
        self.reset(json.loads(env_str.split("@", 1)[1]) if env_str else {{}})

    @staticmethod
    def from_env_str(env_str):
        return {name}(env_str) if env_str.startswith("{name}@") else None

    @property
    def finished(self):
        return self._done

    @property
    def reward(self):
        return float(self._reward)

    def reset(self, options={{}}):
        self.inputs = dict(options)
        self.step_count, self._reward, self._done = 0, 0, False
        {reset}
        return "reset"

    def step(self, action):
        self.step_count += 1
        try:
            call = json.loads(action)
            return True, getattr(self, call["name"])(**call["parameters"])
        except Exception as error:
            return True, f"Error: {{error}}"

    def get_ref_answer(self):
{answer}

    def Done(self, answer):
        self._done, self._reward = True, int(json.dumps(answer) == json.dumps(self.get_ref_answer()))
        return f"reward={{self._reward}}"

    def solve(self):
        def call(name, **parameters):
            text = self.step(json.dumps({{"name": name, "parameters": parameters}}))[1]
            try:
                return json.loads(text)
            except ValueError:
                return text

{solve}

{tools}
"""


def environment(
    *,
    tools: str,
    answer: str,
    solve: str,
    observe: str = "json.dumps({'hidden': list(self.inputs)})",
    module: str = "",
    reset: str = "pass",
    name: str = "MadeEnv",
    code_id: str = "Made_1",
) -> EnvSpec:
    """An environment.

    Args:
      tools: methods other than `Observe` and `Done`.
      answer: the body of `get_ref_answer`.
      solve: the body of `solve`, where `call(name, **parameters)` calls a tool and parses what comes back.
      observe: the expression that `Observe` returns.
      module: code before the class.
      reset: a further statement of `reset`.
    """
    tools = textwrap.dedent(tools) + f"\ndef Observe(self):\n    return {observe}\n"
    names = [
        line.split("(")[0].removeprefix("def ") for line in tools.splitlines() if line.startswith("def ")
    ]
    source = _CLASS.format(
        module=textwrap.dedent(module),
        name=name,
        mapping={tool: number for number, tool in enumerate([*names, "Done"])},
        reset=reset,
        answer=textwrap.indent(textwrap.dedent(answer).strip(), " " * 8),
        solve=textwrap.indent(textwrap.dedent(solve).strip(), " " * 8),
        tools=textwrap.indent(tools, " " * 4),
    )
    return parse_source(source, code_id=code_id, class_name=name)


def verified(sandbox: Sandbox, spec: EnvSpec, configs: Iterable[dict[str, Any]]) -> list[Task]:
    """The tasks of these configs, each of which must verify."""
    tasks = []
    for config in configs:
        task = verify_task(
            sandbox, spec, canonical_json(config), min_calls=1, max_calls=500, max_answer_chars=200
        )
        assert isinstance(task, Task), task
        tasks.append(task)
    return tasks


def lists(count: int = 12) -> list[dict[str, Any]]:
    """Configs with a list `xs` of distinct two- and three-digit numbers, none of them its last one."""
    found = []
    for n in range(count):
        xs = [10 + (37 * n + 101 * k) % 900 for k in range(3 + n % 4)]
        found.append({"xs": xs})
    assert len({json.dumps(one) for one in found}) == count
    return found


LENGTH_AND_ITEM = """
def GetLength(self):
    return json.dumps(len(self.inputs["xs"]))
def GetItem(self, index):
    return json.dumps(self.inputs["xs"][index])
"""
