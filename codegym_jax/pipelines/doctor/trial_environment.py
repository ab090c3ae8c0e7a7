"""A small environment in the published format, with an oracle, and with two tools that must not get away."""

CODE_ID = "Doctor_0"
CONFIG_JSON = '{"numbers":[20,19,3]}'
SOURCE = '''"""The sum of a few hidden numbers."""

import json
import gymnasium


class SumOfThreeEnv(gymnasium.Env):
    def __init__(self, env_str=None):
        self.func_mapping = {"Observe": 0, "Read": 1, "Spin": 2, "Hoard": 3, "Done": 4}
        self.reset(json.loads(env_str.split("@", 1)[1]) if env_str else {})

    @staticmethod
    def from_env_str(env_str):
        return SumOfThreeEnv(env_str) if env_str.startswith("SumOfThreeEnv@") else None

    @property
    def finished(self):
        return self._done

    @property
    def reward(self):
        return float(self._reward)

    def reset(self, options={}):
        self.numbers = options.get("numbers", [1, 2, 3])
        self.step_count, self._reward, self._done = 0, 0, False
        return "reset"

    def step(self, action):
        self.step_count += 1
        call = json.loads(action)
        return True, getattr(self, call["name"])(**call["parameters"])

    def Observe(self):
        r"""Tells how many numbers there are.

        Args:
            None

        Returns:
            str: the count.

        Example Output:
            "3"
        """
        return str(len(self.numbers))

    def Read(self, index):
        r"""Reads a number.

        Args:
            index (int): from 0.

        Returns:
            str: the number.

        Example Output:
            "7"
        """
        return str(self.numbers[index])

    def Spin(self):
        r"""Never returns.

        Args:
            None

        Returns:
            str: nothing.

        Example Output:
            ""
        """
        while True:
            pass

    def Hoard(self):
        r"""Takes all memory.

        Args:
            None

        Returns:
            str: nothing.

        Example Output:
            ""
        """
        kept = []
        while True:
            kept.append(bytearray(1 << 20))

    def Done(self, answer):
        r"""Submits the answer.

        Args:
            answer (int): the sum.

        Returns:
            str: the verdict.

        Example Output:
            "reward=1"
        """
        self._done, self._reward = True, int(answer == self.get_ref_answer())
        return f"reward={self._reward}"

    def get_ref_answer(self):
        return sum(self.numbers)

    def solve(self):
        def call(name, **parameters):
            return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

        total = 0
        for index in range(int(call("Observe"))):
            total += int(call("Read", index=index))
        return call("Done", answer=total)
'''
