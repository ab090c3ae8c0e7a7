"""A small environment to break in every way: an adder whose parts a test replaces.

The hidden number is added up by `Add`; the answer is the sum. `source(**parts)` swaps the code of a part.
"""

import textwrap
from typing import Any

from codegym_jax.envs.codegym_format import parse_source
from codegym_jax.records import EnvSpec

_SOURCE = '''
import json
import gymnasium
{imports}

class ToyEnv(gymnasium.Env):
    def __init__(self, env_str=None):
        self.func_mapping = {{"Observe": 0, "Add": 1, "Total": 2, "Act": 3, "Done": 4}}

    def reset(self, options={{}}):
        self.numbers = options.get("numbers", [1, 2, 3])
        self.total = 0
        self._done, self._reward = False, 0
{reset}

    @property
    def finished(self):
        return self._done

    @property
    def reward(self):
{reward}

    def step(self, action):
        try:
            call = json.loads(action)
            return True, getattr(self, call["name"])(**call["parameters"])
        except Exception as error:
            return True, f"Error: {{error}}"

    def Observe(self):
        """Tell how many numbers there are.

        Returns:
            str: the count.
        """
        return str(len(self.numbers))

    def Add(self, index, times=1):
        """Add a number to the total.

        Args:
            index (int): position from 0.
            times (int): how often.

        Returns:
            str: the total.
        """
        self.total += self.numbers[index] * times
        return str(self.total)

    def Total(self):
        """Tell the total.

        Returns:
            str: the total.
        """
        return str(self.total)

    def Act(self):
        """Do what a test wants.

        Returns:
            str: anything.

        Example Output:
            "done"
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

_PARTS = {
    "imports": "",
    "reset": "",
    "reward": "return float(self._reward)",
    "act": 'return "nothing"',
    "done": """
        self._done = True
        self._reward = 1 if answer == self.get_ref_answer() else 0
        return f"reference answer {self.get_ref_answer()}, reward={self._reward}"
        """,
    "answer": "return sum(self.numbers)",
    "solve": """
        for index in range(int(call("Observe"))):
            total = call("Add", index=index)
        return call("Done", answer=int(total))
        """,
}


def source(**parts: str) -> str:
    """The environment's source with some parts replaced."""
    code = {name: textwrap.dedent(text).strip() for name, text in {**_PARTS, **parts}.items()}
    indented = {
        name: text if name == "imports" else textwrap.indent(text, " " * 8) for name, text in code.items()
    }
    return _SOURCE.format(**indented)


def spec(**parts: Any) -> EnvSpec:
    """The environment with some parts replaced."""
    return parse_source(source(**parts), code_id="Toy")
