"""Numbers are pushed onto a ledger. Hand in their sum. One tool ruins the ledger, then runs into a limit."""

import json
import random
import sys
import time
import uuid

import gymnasium


class LedgerEnv(gymnasium.Env):
    def __init__(self, env_str=None):
        self.func_mapping = {"Observe": 0, "Push": 1, "Draw": 2, "Audit": 3, "Exhaust": 4, "Done": 5}
        self.reset(json.loads(env_str.split("@", 1)[1]) if env_str else {})

    @staticmethod
    def from_env_str(env_str):
        return LedgerEnv(env_str) if env_str.startswith("LedgerEnv@") else None

    @property
    def finished(self):
        return self._done

    @property
    def reward(self):
        return float(self._reward)

    def reset(self, options):
        self.numbers = list(options.get("numbers", []))
        self._reward, self._done = 0, False
        return "reset"

    def step(self, action):
        call = json.loads(action)
        return True, getattr(self, call["name"])(**call["parameters"])

    def Observe(self):
        r"""
        Tell what lies on the ledger.

        Returns:
            str: the numbers as JSON.
        """
        return json.dumps(self.numbers)

    def Push(self, number):
        r"""
        Put a number onto the ledger.

        Args:
            number (int): any.

        Returns:
            str: how many there are now.
        """
        self.numbers.append(int(number))
        return str(len(self.numbers))

    def Draw(self):
        r"""
        Tell all that only looks like chance: it depends on the calls that made the state, and no others.

        Returns:
            str: a random number, the time, and a random id.
        """
        return f"{random.random()} {time.time()} {uuid.uuid4()} {hash('ledger')} {list({'a', 'b', 'c'})}"

    def Audit(self):
        r"""
        Add up everything many times over, which takes long but is allowed.

        Returns:
            str: the sum of many sums.
        """
        return str(sum(number * i for i in range(1_500) for number in self.numbers[-3:]))

    def Exhaust(self, what):
        r"""
        Ruin the ledger, then run into a limit.

        Args:
            what (str): fuel, memory, stack, file or socket.

        Returns:
            str: nothing, ever.
        """
        self.numbers.append(10**9)
        random.seed(self.numbers[0])
        LedgerEnv.Push = LedgerEnv.Observe
        if what == "fuel":
            while True:
                time.time()
        if what == "memory":
            while True:
                self.numbers.append(bytearray(2**20))
        if what == "stack":
            sys.setrecursionlimit(10**9)
            return str(json.loads("[" * 10**5))
        if what == "file":
            return open("/etc/passwd").read()
        if what == "socket":
            import socket

            return str(socket.socket())
        raise ValueError(what)

    def Done(self, answer):
        r"""
        Hand in the sum.

        Args:
            answer (int): the sum.

        Returns:
            str: the verdict.
        """
        self._done, self._reward = True, int(answer == self.get_ref_answer())
        return f"sum {self.get_ref_answer()}, reward={self._reward}"

    def get_ref_answer(self):
        return sum(self.numbers)

    def solve(self):
        def call(name, **parameters):
            return self.step(json.dumps({"name": name, "parameters": parameters}))[1]

        return call("Done", answer=sum(json.loads(call("Observe"))))
