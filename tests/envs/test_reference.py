"""The reference paths: what they share with the fast path, and what the in-process one leaves of the host."""

import json
import random
import sys
import types
import warnings

import gymnasium
import pytest
import toy_env

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.env import Env
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.envs.reference import ComponentRuntime, InProcessRuntime
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError

CONFIG = '{"numbers":[5,7]}'
SMALL = SandboxConfig(fuel_per_call=100_000_000)
MAX_FUEL_RATIO = 1.05  # the fast path's module is the component's code, optimized

BODIES = [
    "return a",
    "return '\\ud800' + a",
    "return 1 / 0",
    "return 5",
    "raise SystemExit(3)",
    "import numpy",
    "def g(n): return g(n + 1)\ng(0)",
    "while True: pass",
    "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
    "bytearray(1 << 30)",
    "d = {}\nwhile True: d[len(d)] = 'x' * 9999 + str(len(d))",
    "import json; json.loads('[' * 100000)",
    "import sys\nsys.setrecursionlimit(10**9)\nl = []\nfor _ in range(10**5): l = [l]\ndel l\nreturn ''",
    "open('x')",
    "import socket",
    "import queue; queue.Queue().get()",
]


@pytest.fixture(scope="module")
def fast() -> Sandbox:
    return Sandbox(SMALL)


@pytest.fixture(scope="module")
def component() -> Sandbox:
    return Sandbox(SMALL, runtime=ComponentRuntime(SMALL))


@pytest.fixture(scope="module")
def in_process() -> Sandbox:
    return Sandbox(SMALL, runtime=InProcessRuntime())


def outcome(sandbox: Sandbox, body: str, argument: str = "é\x00😀") -> tuple[str, str, int]:
    """(how it ended, text, fuel) of statements run as the body of a function of `a` on a fresh guest."""
    guest = sandbox.guest()
    lines = "\n    ".join(body.splitlines())
    try:
        return "ok", guest.run(f"def f(a):\n    {lines}", "f", argument), guest.fuel_used
    except GuestError as error:
        return "raised", str(error), guest.fuel_used
    except GuestTrap as trap:
        return trap.error, trap.detail, 0
    finally:
        guest.close()


@pytest.mark.parametrize("body", BODIES)
def test_the_component_ends_every_program_as_the_fast_path_does(fast, component, body):
    *expected, fuel = outcome(fast, body)
    *found, burned = outcome(component, body)
    assert found == expected
    assert fuel <= burned <= MAX_FUEL_RATIO * fuel


def test_a_component_that_trapped_answers_nothing_more(component):
    guest = component.guest()
    with pytest.raises(GuestTrap):
        guest.run("while True: pass", "f", "")
    with pytest.raises(RuntimeError, match="after it trapped"):
        guest.run("def f(a): return a", "f", "")


def test_a_component_does_not_tell_its_memory(component):
    guest = component.guest()
    assert guest.memory_bytes == 0
    guest.close()
    guest.close()


def test_components_share_nothing(component):
    outcome(component, "import json, random\njson.leak = 1\nrandom.seed(9)\nreturn ''")
    body = "import json, random\nreturn repr([hasattr(json, 'leak'), random.random(), hash('abc')])"
    assert outcome(component, body) == outcome(component, body)
    assert outcome(component, body)[1].startswith("[False, ")


def test_the_component_is_the_build_that_was_fused(fast, component):
    """Strings hash alike, so sets have the same order: it is no other build."""
    body = "return repr([hash('abc'), set('abcdef')])"
    assert outcome(component, body)[1] == outcome(fast, body)[1]


@pytest.mark.parametrize(
    "body", ["return a", "return '\\ud800' + a", "return 1 / 0", "return 5", "raise SystemExit(3)", "def"]
)
def test_a_trusted_program_in_process_ends_as_in_a_guest(fast, in_process, body):
    assert outcome(in_process, body) == (*outcome(fast, body)[:2], 0)


def test_random_numbers_in_process_are_those_of_a_guest(fast, in_process):
    body = "import random\nreturn repr([random.random(), random.randint(0, 99), random.gauss(0, 1)])"
    assert outcome(in_process, body)[:2] == outcome(fast, body)[:2]


def test_the_hosts_random_state_stays_the_hosts(in_process):
    """Its 624 words stay as they are for as many draws; the type checker of these tests makes some."""
    random.seed(3)
    random.random()
    *words, _ = random.getstate()[1]
    outcome(in_process, "import random\nrandom.seed(9)\nreturn str(random.gauss(0, 1))")
    assert random.getstate()[1][:-1] == tuple(words)
    assert random.getstate()[2] is None  # where `gauss` keeps a number


def test_each_instance_has_its_own_random_state(in_process):
    parts = {"imports": "import random", "act": "return str(random.random())"}
    alone, one, two = (Env(in_process, toy_env.spec(**parts), CONFIG) for _ in range(3))
    act = json.dumps({"name": "Act", "parameters": {}})
    expected = [alone.step(act).observation for _ in range(3)]
    found = [(one.step(act).observation, two.step(act).observation) for _ in range(3)]
    assert found == [(number, number) for number in expected]
    assert len(set(expected)) == 3


def test_each_instance_has_its_own_environment_module(in_process):
    """A class is pickled by the name of its module, which two live episodes share."""
    parts = {
        "imports": "import pickle\nclass Mark: pass",
        "act": "return str(type(pickle.loads(pickle.dumps(Mark()))) is Mark)",
    }
    before = set(sys.modules) | {"pickle"}
    envs = [Env(in_process, toy_env.spec(**parts), CONFIG) for _ in range(2)]
    for env in [*envs, *envs]:
        assert env.step(json.dumps({"name": "Act", "parameters": {}})).observation == "True"
    assert set(sys.modules) <= before
    for env in envs:
        env.close()
    assert set(sys.modules) <= before


def test_a_modules_name_that_the_host_uses_stays_the_hosts(in_process, monkeypatch):
    hosts = types.ModuleType("environment")
    monkeypatch.setitem(sys.modules, "environment", hosts)
    env = Env(in_process, toy_env.spec(act="import environment\nreturn environment.__name__"), CONFIG)
    assert env.step(json.dumps({"name": "Act", "parameters": {}})).observation == "environment"
    env.close()
    assert sys.modules["environment"] is hosts


def test_a_program_in_process_leaves_the_host_as_it_was(in_process, capfd):
    body = """import sys, warnings
print('x', file=sys.stderr)
print('y')
warnings.warn('w')
warnings.simplefilter('always')
sys.setrecursionlimit(5000)
return str(sys.stdout.isatty())"""
    before = sys.stdout, sys.stderr, warnings.filters[:], sys.getrecursionlimit()
    assert outcome(in_process, body) == ("ok", "False", 0)
    assert (sys.stdout, sys.stderr, warnings.filters[:], sys.getrecursionlimit()) == before
    assert capfd.readouterr() == ("", "")


def test_an_environment_in_process_has_the_real_gymnasium(in_process):
    act = 'return f"{gymnasium.__version__} {isinstance(self, gymnasium.Env)}"'
    env = Env(in_process, toy_env.spec(act=act), CONFIG)
    (result,) = env.step_many([json.dumps({"name": "Act", "parameters": {}})])
    assert result.observation == f"{gymnasium.__version__} True"


def test_paths_are_named_apart(fast, component, in_process):
    """Episodes replay only on the guest that they name."""
    assert len({fast.guest_hash, component.guest_hash, in_process.guest_hash}) == 3


def test_the_fuel_of_one_call_decides_alike_on_both():
    body = "return str(sum(i for i in range(100_000)))"
    fuel = outcome(Sandbox(), body)[2]
    for share, ending in ((0.8, CallError.OUT_OF_FUEL), (1.2, "ok")):
        limits = SandboxConfig(fuel_per_call=int(share * fuel))
        for sandbox in (Sandbox(limits), Sandbox(limits, runtime=ComponentRuntime(limits))):
            assert outcome(sandbox, body)[0] == ending
