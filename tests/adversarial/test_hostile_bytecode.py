"""Bytecode that no compiler would write breaks its own guest in every way, and nothing else.

CPython runs whatever bytes it is given. Most end in an exception or a trap, some in a guest that goes on with
a damaged interpreter. Whatever happens, the host goes on, and the next guest is a fresh one.
"""

import random

import pytest
import victim
from attack import QUICK, Attack, play

from codegym_jax.envs.env import Env

_RUN = """
def f(a, b=2): return [a + b, (a, b), str(a)]
f.__code__ = f.__code__.replace(co_code=bytes.fromhex(value), co_stacksize=50)
return repr(f(1))[:200]
"""
_TELLTALE = Attack(
    name="telltale",
    why="shows where things lie in a fresh guest, and what they hash to",
    parts={"act": "return str([object(), hash('a'), id(self)])"},
    actions=(victim.ADD, victim.ACT, victim.RIGHT),
)


def codes(seed, count):
    """Half of them any bytes, half of them made of instructions that exist, with small operands."""
    rng = random.Random(f"bytecode {seed}")
    for _ in range(count):
        length = rng.choice([4, 8, 20, 60])
        if rng.random() < 0.5:
            yield rng.randbytes(2 * length)
        else:
            operand = (0, 1, 2, 3, 255)
            yield bytes(x for _ in range(length) for x in (rng.randrange(1, 120), rng.choice(operand)))


def run(sandbox, code):
    """Everything that came back, from the code and from a call after it."""
    env = Env(sandbox, victim.spec(act=_RUN), victim.CONFIG)
    actions = [victim.ADD, victim.call("Act", value=code.hex()), victim.TOTAL, victim.WRONG]
    results = [env.step(action) for action in actions]
    env.close()
    assert env.finished
    assert 0.0 <= env.reward <= 1.0
    return results


def assert_harmless(sandbox, seed, count):
    telltale = play(sandbox, _TELLTALE)
    for code in codes(seed, count):
        assert run(sandbox, code) == run(sandbox, code), code.hex()
        assert play(sandbox, _TELLTALE) == telltale, code.hex()


@pytest.mark.parametrize("seed", range(4))
def test_random_bytecode_breaks_only_its_own_guest(sandbox_with, seed):
    assert_harmless(sandbox_with(QUICK), seed, 15)


@pytest.mark.slow
def test_much_random_bytecode_breaks_only_its_own_guest(sandbox_with):
    assert_harmless(sandbox_with(QUICK), "many", 3000)
