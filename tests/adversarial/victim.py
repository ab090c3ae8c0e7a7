"""The environment under attack: an adder, every part of which an attack may replace.

`Add` adds a hidden number to the total, and the answer is their sum. `spec(**parts)` swaps the code of a part
and leaves the rest healthy, so that what an attack did to the episode shows in `Total`.
"""

import functools
import json
import textwrap

from codegym_jax.envs.codegym_format import parse_source
from codegym_jax.records import EnvSpec

CONFIG = '{"numbers":[5,7]}'

_PARTS = {
    "module": "",
    "body": "",
    "init": "",
    "reset": "",
    "act": 'return "nothing"',
    "done": """
        self._done = True
        self._reward = 1 if answer == self.get_ref_answer() else 0
        return f"the answer is {self.get_ref_answer()}, reward={self._reward}"
        """,
    "finished": "return self._done",
    "reward": "return float(self._reward)",
    "step": """
        try:
            call = json.loads(action)
            return True, getattr(self, call["name"])(**call["parameters"])
        except Exception as error:
            return True, f"Error: {error}"
        """,
    "answer": "return sum(self.numbers)",
    "solve": """
        for index in range(int(call("Observe"))):
            total = call("Add", index=index)
        return call("Done", answer=int(total))
        """,
}

_SOURCE = '''
import json
import gymnasium
{module}

class VictimEnv(gymnasium.Env):
{body}

    def __init__(self, env_str=None):
        self.func_mapping = {{"Observe": 0, "Add": 1, "Total": 2, "Act": 3, "Done": 4}}
        self._done, self._reward = False, 0
{init}

    def reset(self, options={{}}):
        self.numbers, self.total = options["numbers"], 0
{reset}

    @property
    def finished(self):
{finished}

    @property
    def reward(self):
{reward}

    def step(self, action):
{step}

    def Observe(self):
        """Tell how many numbers there are.

        Returns:
            str: the count.
        """
        return str(len(self.numbers))

    def Add(self, index):
        """Add a number to the total.

        Args:
            index (int): its position, from 0.

        Returns:
            str: the new total.
        """
        self.total += self.numbers[index]
        return str(self.total)

    def Total(self):
        """Tell the total.

        Returns:
            str: the total.
        """
        return str(self.total)

    def Act(self, value=None):
        """Do what an attack wants.

        Args:
            value (object): anything.

        Returns:
            str: anything.
        """
{act}

    def Done(self, answer):
        """Hand in the answer.

        Args:
            answer (int): the sum.

        Returns:
            str: the verdict.
        """
{done}

    def get_ref_answer(self):
{answer}

    def solve(self):
        def call(name, **parameters):
            return self.step(json.dumps({{"name": name, "parameters": parameters}}))[1]
{solve}
'''


@functools.cache
def spec(**parts: str) -> EnvSpec:
    """The environment with some of its parts replaced."""
    unknown = parts.keys() - _PARTS.keys()
    if unknown:
        raise ValueError(
            f"the victim has no part {', '.join(sorted(unknown))}; its parts: {', '.join(_PARTS)}"
        )
    code = {name: textwrap.dedent(text).strip("\n") for name, text in {**_PARTS, **parts}.items()}
    indent = {"module": 0, "body": 4}
    indented = {name: textwrap.indent(text, " " * indent.get(name, 8)) for name, text in code.items()}
    return parse_source(_SOURCE.format(**indented), code_id="Victim", class_name="VictimEnv")


def call(name: str, **parameters: object) -> str:
    """An action."""
    return json.dumps({"name": name, "parameters": parameters})


OBSERVE = call("Observe")
ADD = call("Add", index=0)
TOTAL = call("Total")
ACT = call("Act")
RIGHT = call("Done", answer=12)
WRONG = call("Done", answer=-1)
