"""Near-duplicates under other names are found, others are not, and no order of the environments matters."""

import ast
import json
import random
import re

import pytest
from made import LENGTH_AND_ITEM, environment, lists, verified

from codegym_jax.synthesis.filters.canonical import Canon
from codegym_jax.synthesis.filters.similar import diversity, duplicates, families, signature

SUM = {
    "module": """
    def total_of(numbers):
        '''Adds.'''
        total = 0
        for index in range(len(numbers)):
            total = total + numbers[index]
        return total if numbers else None
    """,
    "tools": LENGTH_AND_ITEM + "def Add(self, total, x):\n    return json.dumps(total + x)\n",
    "answer": "return total_of(self.inputs['xs'])",
    "solve": """
    total = 0
    for index in range(call("GetLength")):
        total = call("Add", total=total, x=call("GetItem", index=index))
    return call("Done", answer=total)
    """,
}
RENAMED = {
    "total_of": "Summe",
    "numbers": "zahlen",
    "GetLength": "CountRows",
    "GetItem": "ReadRow",
    "Add": "Plus",
    "total": "so_far",
    "xs": "rows",
    "index": "number",
    "x": "value",
    "Adds": "Zählt zusammen",
}


def renamed(parts: dict[str, str]) -> dict[str, str]:
    def new(match: re.Match[str]) -> str:
        return RENAMED.get(match[0], match[0])

    return {name: re.sub(r"\w+", new, text) for name, text in parts.items()}


def largest(tool: str, solution: str) -> dict[str, str]:
    """The largest of the numbers; `tool` compares two."""
    return {
        "module": solution,
        "tools": LENGTH_AND_ITEM + tool,
        "answer": "return biggest(self.inputs['xs'])",
        "solve": """
        best = call("GetItem", index=0)
        for index in range(1, call("GetLength")):
            x = call("GetItem", index=index)
            if call("IsGreater", x=x, y=best):
                best = x
        return call("Done", answer=best)
        """,
    }


GREATER = "def IsGreater(self, x, y):\n    return json.dumps(x > y)\n"
MAXIMUM = largest(GREATER, "def biggest(xs): return max(xs)\n")


@pytest.fixture(scope="session")
def signed(sandbox):
    """Signs environments made of parts, on configs that name their list `key`."""

    def sign(parts, configs=None, key="xs", **more):
        spec = environment(**parts, **more)
        configs = [{key: config["xs"]} for config in configs or lists(8)]
        return signature(spec, verified(sandbox, spec, configs))

    return sign


def test_names_and_docstrings_make_no_difference(signed):
    one = signed(SUM)
    other = signed(renamed(SUM), key="rows", name="AndereEnv", code_id="Other_1")
    assert other == one
    assert one["solution"]
    assert json.loads(json.dumps(one)) == one


def test_constants_and_operators_do(signed):
    minus = SUM | {"tools": SUM["tools"].replace("total + x", "x + total")}
    one, other = signed(SUM), signed(minus)
    assert len({*one["tools"]} & {*other["tools"]}) == 2  # length and item
    assert one["solution"] == other["solution"]


def test_two_tools_with_one_body_are_two(signed):
    twice = SUM | {"tools": SUM["tools"] + "def Plus(self, a, b):\n    return json.dumps(a + b)\n"}
    assert len(signed(SUM)["tools"]) == 3
    assert len(signed(twice)["tools"]) == 4


def test_a_renamed_environment_is_a_duplicate_and_another_is_not(signed):
    signatures = {
        "b": signed(SUM),
        "a": signed(renamed(SUM), key="rows"),
        "c": signed(SUM, lists(12)[4:]),  # other tasks
        "d": signed(MAXIMUM),
    }
    assert duplicates(signatures) == {"b": "a", "c": "a"}
    found = families(signatures)
    assert found == {"a": "a", "b": "a", "c": "a", "d": "d"}


def test_one_solution_makes_duplicates_whatever_the_tools(signed):
    """Only where it is long enough to be no common property."""
    long = "def biggest(xs):\n    best = xs[0]\n    for x in xs[1:]:\n"
    long += "        if x > best:\n            best = x\n    return best\n"
    other_tools = largest(GREATER.replace("x > y", "not x <= y"), long.replace("best", "top"))
    signatures = {"a": signed(largest(GREATER, long)), "b": signed(other_tools)}
    assert signatures["a"]["tools"] != signatures["b"]["tools"]
    assert signatures["a"]["solution"] == signatures["b"]["solution"]
    assert duplicates(signatures) == {"b": "a"}
    assert signed(MAXIMUM)["solution"] == ""


def drawn(number: int, shared: int) -> dict[str, object]:
    """A signature that shares `shared` tenths of its tools and of its workflow with those like it."""
    own = [f"{number}-{k}" for k in range(10 - shared)]
    steps = [[f"s{k}" for k in range(shared)] + own] * 4
    return {
        "tools": [f"t{k}" for k in range(shared)] + own,
        "workflow": [f"w{k}" for k in range(shared)] + own,
        "steps": steps,
        "solution": "",
    }


def test_similarity_is_the_geometric_mean_of_two_jaccard_similarities():
    """8 of 10 shared in both: 8 / 12 = 2/3. With equal tools and that workflow: sqrt(2/3) = 0.8165."""
    one, other = drawn(1, 8), drawn(2, 8)
    pair = {"a": one, "b": other}
    assert families(pair, threshold=0.666) == {"a": "a", "b": "a"}
    assert families(pair, threshold=0.667) == {"a": "a", "b": "b"}
    pair["b"] = other | {"tools": one["tools"]}
    assert duplicates(pair, threshold=0.816) == {"b": "a"}
    assert duplicates(pair, threshold=0.817) == {}


def test_families_are_chains_and_duplicates_are_not():
    """a-b and b-c are alike, a-c are not: one family. b is removed, for a and c are richer; both stay."""

    def between(*groups: str) -> dict[str, object]:
        members = [f"{group}{k}" for group in groups for k in range(5)]
        return {"tools": members, "workflow": members, "steps": [members] * 4, "solution": ""}

    signatures = {
        "a": between("p", "q", "u"),
        "b": between("q", "r"),
        "c": between("r", "s", "v"),
    }  # 5 of 20 shared by a and b, and by b and c; none by a and c
    assert families(signatures, threshold=0.25) == {"a": "a", "b": "a", "c": "a"}
    assert duplicates(signatures, threshold=0.25) == {"b": "a"}
    assert families(signatures, threshold=0.26) == {"a": "a", "b": "b", "c": "c"}


def test_the_order_of_the_environments_makes_no_difference():
    source = random.Random(0)
    signatures = {f"e{n:03d}": drawn(n % 90, source.randrange(3, 10)) for n in range(120)}
    shuffled = list(signatures.items())
    source.shuffle(shuffled)
    for function in (families, duplicates, diversity):
        assert function(dict(shuffled)) == function(signatures)
    removed = duplicates(signatures)
    assert removed
    assert not removed.keys() & set(removed.values())
    assert duplicates({env_id: one for env_id, one in signatures.items() if env_id not in removed}) == {}


def test_many_environments_are_compared_in_blocks():
    """600 pairs of equal ones, which are more than one block holds."""
    signatures = {f"{n % 600:03d}{n // 600}": drawn(n % 600, 2) for n in range(1200)}
    assert duplicates(signatures) == {f"{n:03d}1": f"{n:03d}0" for n in range(600)}
    assert diversity(signatures)["similarity"]["nearest"] == {"0.5": 1.0, "0.7": 1.0, "0.85": 1.0}


def test_diversity_counts_by_hand():
    """Three signatures of 10: 5 shared by all, 5 each of their own; any two share 5 of 15."""
    found = diversity({str(n): drawn(n, 5) for n in range(3)})
    assert found["environments"] == 3
    assert found["steps"]["2"] == {"distinct": 20, "per_environment": 10.0}
    assert found["workflow"] == {"mean": 0.3333, "nearest": {"0.5": 0.0, "0.7": 0.0, "0.85": 0.0}}
    assert found["similarity"] == found["workflow"]
    assert diversity({}) == {
        "environments": 0,
        "steps": {str(n): {"distinct": 0, "per_environment": 0.0} for n in (1, 2, 3, 4)},
        "workflow": {"mean": 0.0, "nearest": {"0.5": 0.0, "0.7": 0.0, "0.85": 0.0}},
        "similarity": {"mean": 0.0, "nearest": {"0.5": 0.0, "0.7": 0.0, "0.85": 0.0}},
    }


def digest_of(source: str, name: str) -> str:
    tree = ast.parse(source)
    return Canon({node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}).digest_of(name)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("def f(n): return f(n - 1)", "def g(m): return g(m - 1)", True),
        ("def f(n): return f(n - 1)", "def g(m): return g(m - 2)", False),
        ("def f(b=1): 0\ndef g(): return f(b=2)", "def p(d=1): 0\ndef q(): return p(d=2)", True),
        ("def f(x): return x[1:]", "def f(x): return x[:1]", False),
        ("def f(a): return a\ndef g(x): return f(x)", "def f(a): return -a\ndef g(x): return f(x)", False),
        ("def f(x: int) -> int: return x", "def f(x): return x", True),
        ("def f(x): return [y for y in x]", "def f(a): return [b for b in a]", True),
        ("def f(x): return [y for y in x]", "def f(x): return [x for y in x]", False),
        ("def f(x): return 'a'", "def f(x): return a", False),
        ("def f(x):\n import math\n return math.pi", "def f(x):\n import cmath\n return cmath.pi", False),
        ("def f(x):\n match x:\n  case [a]: return a", "def f(x):\n match x:\n  case [c]: return c", True),
        ("def f():\n try: 0\n except E as e: return e", "def f():\n try: 0\n except E as z: return z", True),
    ],
)  # fmt: skip
def test_canonical_code(one, other, same):
    last = [source.rpartition("def ")[2].partition("(")[0] for source in (one, other)]
    assert (digest_of(one, last[0]) == digest_of(other, last[1])) is same


def test_functions_that_call_one_another_have_one_digest_wherever_one_begins():
    """Also where they are many, each of which calls the next two, and where code is very deep."""
    even = "def even(n): return n == 0 or odd(n - 1)\ndef odd(n): return n != 0 and even(n - 1)\n"
    swapped = "def o(n): return n != 0 and e(n - 1)\ndef e(n): return n == 0 or o(n - 1)\n"
    assert digest_of(even, "even") == digest_of(swapped, "e")
    many = "".join(f"def f{n}(x): return f{n + 1}(x) + f{n + 2}(x)\n" for n in range(60))
    assert digest_of(many, "f0") == digest_of(many.replace("f", "g").replace("deg", "def"), "g0")
    deep = f"def f(x): return {'+'.join('x' * 2000)}"
    assert digest_of(deep, "f") == digest_of(deep.replace("x", "y"), "f") != digest_of("def f(x): x", "f")
