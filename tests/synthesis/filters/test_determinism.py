"""What hangs on hash seeds, addresses or the order of a set is refused; what uses sets soundly is not."""

import base64
import json
import marshal
import textwrap
from pathlib import Path

import pytest
from made import environment, verified

from codegym_jax.config import SandboxConfig
from codegym_jax.synthesis.filters import shuffled_sets
from codegym_jax.synthesis.filters.determinism import Determinism, may_have_order

TOOLS = """
def GetLength(self):
    return json.dumps(len(self.inputs["xs"]))
def GetItem(self, index):
    return json.dumps(self.inputs["xs"][index])
"""
SOLVE = """
self_xs = [call("GetItem", index=index) for index in range(call("GetLength"))]
return call("Done", answer=result(self_xs))
"""
WORDS = [{"xs": ["pear", "fig", "plum", f"w{n}"][n % 2 :]} for n in range(4)]
NUMBERS = [{"xs": [n, 40 - n, 7 * n]} for n in range(6)]


@pytest.fixture(scope="session")
def determinism() -> Determinism:
    return Determinism(SandboxConfig())


def refusal(determinism, sandbox, function, configs, solve=SOLVE):
    """Of an environment whose answer is `result(xs)`, a function that its oracle has too."""
    module = textwrap.dedent(function)
    spec = environment(tools=TOOLS, module=module, answer="return result(self.inputs['xs'])", solve=solve)
    found = determinism.unstable(spec, verified(sandbox, spec, configs))
    return found and found.reason


UNSOUND = {
    "list of a set": "def result(xs): return list(set(xs))",
    "set display": "def result(xs): return [x for x in {*xs}]",
    "set comprehension": "def result(xs): return ' '.join({x.upper() for x in xs})",
    "frozen": "def result(xs): return list(frozenset(xs))",
    "union": "def result(xs): return list(set(xs) | {'more'})",
    "operator in place": "def result(xs):\n    kept = set()\n    kept |= set(xs)\n    return list(kept)",
    "method": "def result(xs): return list(set().union(xs, ['more']))",
    "reduce": "from functools import reduce\ndef result(xs): return [*reduce(set.union, map(set, [xs, xs]))]",
    "views of a dictionary": "def result(xs): return list(dict.fromkeys(xs).keys() - {'none'})",
    "views 2": "def result(xs):\n    kept = {}.fromkeys(xs).keys()\n    kept &= xs\n    return [*kept]",
    "default factory": (
        "import collections\ndef result(xs):\n    found = collections.defaultdict(set)\n"
        "    for x in xs: found[0].add(x)\n    return list(found[0])"
    ),
    "pop": "def result(xs):\n    kept = set(xs)\n    return [kept.pop() for _ in xs]",
    "text of a set": "def result(xs): return str(set(xs))",
    "first of a set": "def result(xs): return next(iter(set(xs)))",
    "unpacked": "def result(xs):\n    first, *_ = set(xs)\n    return first",
    "ties": "def result(xs): return sorted(set(xs), key=lambda x: 0)",
    "of tuples": "def result(xs): return [list(pair) for pair in {(x, 1) for x in xs}]",
    "evaluated": "def result(xs): return list(eval('set(xs)', {'xs': xs, 'set': set}))",
    "parsed": "import ast\ndef result(xs): return list(ast.literal_eval(repr(set(xs))))",
    "inside a class": (
        "class Bag:\n    def __init__(self, xs): self.__xs = set(xs)\n"
        "    def all(self): return list(self.__xs)\ndef result(xs): return Bag(xs).all()"
    ),
    "hash": "def result(xs): return sorted(xs, key=hash)",
    "hash itself": "def result(xs): return hash(xs[0]) % 1000",
    "address": "THING = object()\ndef result(xs): return id(THING) % 10007",
}


@pytest.mark.parametrize("name", UNSOUND)
def test_what_shows_the_order_of_a_set_is_refused(determinism, sandbox, name):
    assert may_have_order(UNSOUND[name])
    assert refusal(determinism, sandbox, UNSOUND[name], WORDS) == "depends_on_set_order"


SOUND = {
    "sorted": "def result(xs): return sorted(set(xs))",
    "size": "def result(xs): return len({x[0] for x in xs})",
    "member": "def result(xs):\n    found = set()\n    return [x for x in xs if x in found or found.add(x)]",
    "compared": "def result(xs): return set(xs) == set(reversed(xs)) and set(xs) <= {*xs, 'more'}",
    "counted": "def result(xs): return sum(len(x) for x in set(xs))",
    "extremes": "def result(xs): return [min(set(xs)), max(frozenset(xs))]",
    "keys of sets": "def result(xs):\n    kept = {frozenset(xs): 1}\n    return kept[frozenset(xs[::-1])]",
    "types": (
        "def result(xs):\n    found = set(xs)\n    is_set = isinstance(found, set) and type(found) is set\n"
        "    return [is_set, isinstance({1} | {2}, (set, frozenset)), type(found).__name__, repr(set())]"
    ),
    "patterns": (
        "def result(xs):\n    match xs:\n        case set(): return 0\n"
        "        case [x, *_] if {x} & {x}: return x\n"
    ),
    "used up": "def result(xs):\n    kept = set(xs)\n    while kept: kept.pop()\n    return len(kept)",
    "hash as a key": "def result(xs): return len({hash(x) % 2**61 for x in xs})",
    "equal hashes": "def result(xs): return hash(xs[0]) == hash('' + xs[0]) and hash(1) == hash(1.0) == 1",
    "a name of its own": "def set_of(xs): return sorted(xs)\ndef result(xs): return set_of(xs)",
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_use_of_sets_is_kept(determinism, sandbox, name):
    assert refusal(determinism, sandbox, SOUND[name], WORDS) is None


def test_small_whole_numbers_have_one_order_everywhere(determinism, sandbox):
    """And large ones do not: a guest's hashes have 32 bits, other Pythons' 64."""
    function = "def result(xs): return list(set(xs))"
    assert refusal(determinism, sandbox, function, NUMBERS) is None
    pops = "def result(xs):\n    kept = set(xs)\n    return [kept.pop() for _ in set(xs)]"
    assert refusal(determinism, sandbox, pops, NUMBERS) is None
    large = [{"xs": [x * 10**12 for x in config["xs"]]} for config in NUMBERS]
    assert refusal(determinism, sandbox, function, large) == "depends_on_set_order"


def test_only_the_oracle_s_way_depends_on_the_order(determinism, sandbox):
    """The answer is sorted, but the oracle reads the words in the order of a set."""
    solve = """
    order = {f"{index}" for index in range(call("GetLength"))}
    xs = [call("GetItem", index=int(index)) for index in order]
    return call("Done", answer=result(xs))
    """
    function = "def result(xs): return sorted(xs)"
    assert refusal(determinism, sandbox, function, WORDS, solve) == "depends_on_set_order"


def test_an_address_that_is_shown_differs_on_the_second_build(determinism, sandbox):
    function = "class Thing: pass\nTHING = Thing()\ndef result(xs): return repr(THING)"
    assert not may_have_order(function)
    assert refusal(determinism, sandbox, function, WORDS) == "differs_on_second_build"


def test_what_cannot_be_shuffled_is_not_trusted(determinism, sandbox):
    """A metaclass that clashes with that of the stand-in for `set`."""
    function = "import abc\nclass Bag(set, metaclass=abc.ABCMeta): pass\ndef result(xs): return len(Bag(xs))"
    assert refusal(determinism, sandbox, function, WORDS) == "set_order_unchecked"


@pytest.mark.parametrize("order", shuffled_sets.ORDERS)
def test_every_order_moves_every_element_of_a_pair(order):
    """The rewriter itself, on code of ours."""
    shim = Path(shuffled_sets.__file__).read_text(encoding="utf-8")
    source = (
        "'''doc'''\nfrom __future__ import annotations\nfound = [*{'a', 'b'}]\nkind = type({'a'}).__name__\n"
    )
    about = json.dumps({"source": source, "shim": shim, "order": order})
    namespace: dict[str, object] = {}
    exec(marshal.loads(base64.b64decode(shuffled_sets.rewrite(about))), namespace)
    assert namespace["found"] == [*reversed([*{"a", "b"}])]
    assert (namespace["__doc__"], namespace["kind"]) == ("doc", "set")
