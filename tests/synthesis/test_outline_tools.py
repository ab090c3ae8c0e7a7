"""Which expressions become tools, what the tools are called, and that their oracles are right."""

import ast
import json
import random
from typing import Any

import pytest
from small_problems import SmallProblem
from test_outline import load, play, synthesize

from codegym_jax.synthesis.outline import english, names
from codegym_jax.synthesis.outline.expressions import Extraction, is_plain, split, with_names
from codegym_jax.synthesis.outline.problem import Problem
from codegym_jax.synthesis.outline.trace import Sample, Strategy, outline


def expression(source: str) -> ast.expr:
    return ast.parse(source, mode="eval").body


def taken_apart(source: str) -> tuple[str, list[str]] | None:
    """(body, operands) of the tool that an expression becomes, or None."""
    extraction = Extraction(expression(source))
    if not extraction.worthwhile:
        return None
    operands = [ast.unparse(operand) for operand in extraction.operands]
    return with_names(extraction.body, list("abcd")), operands


@pytest.mark.parametrize(
    ("source", "body", "operands"),
    [
        ("x + y * 2", "a + b * 2", ["x", "y"]),
        ("sorted(x, reverse=True)", "sorted(a, reverse=True)", ["x"]),
        ("sorted(x, key=lambda v: (v[1], -v[0]))", "sorted(a, key=lambda v: (v[1], -v[0]))", ["x"]),
        ("max(x, key=lambda v: abs(v - y))", "max(a, key=lambda v: abs(v - b))", ["x", "y"]),
        ("sum(v * w for v, w in zip(x, y))", "sum((v * w for v, w in zip(a, b)))", ["x", "y"]),
        ("any(v > y for v in x if v != 3)", "any((v > b for v in a if v != 3))", ["x", "y"]),
        ("len(set(x)) == 2", "len(set(a)) == 2", ["x"]),
        ("set(x) <= set(y)", "set(a) <= set(b)", ["x", "y"]),
        ("x[i:i + 3]", "a[b:b + 3]", ["x", "i"]),
        ("x[::-1]", "a[::-1]", ["x"]),
        ("x.split(',')[0].strip()", "a.split(',')[0].strip()", ["x"]),
        ("'{}-{}'.format(x, y)", "'{}-{}'.format(a, b)", ["x", "y"]),
        ("'%d of %d' % (x, y)", "'%d of %d' % (a, b)", ["x", "y"]),
        ("', '.join(map(str, x))", "', '.join(map(str, a))", ["x"]),
        ("int(x, 2)", "int(a, 2)", ["x"]),
        ("2 * math.pi * r", "2 * math.pi * a", ["r"]),
        ("a < b <= c", "a < b <= c", ["a", "b", "c"]),
        ("x if x > y else y", "a if a > b else b", ["x", "y"]),
        ("call('GetXItem', index=i) > f(y)", "a > b", ["call('GetXItem', index=i)", "f(y)"]),
    ],
)
def test_the_largest_pure_part_is_a_tool(source: str, body: str, operands: list[str]):
    assert taken_apart(source) == (body, operands)


@pytest.mark.parametrize(
    "source",
    [
        "x",
        "x[i]",
        "len(x)",
        "x[:]",
        "2 * 3",
        "x is None",
        "a + b + c + d + e",
        "x > 0 and y[x] > 0",  # y[x] may be read only when x is positive
        "y[x] if x > 0 else 0",
        "sum(f(v) for v in x)",
        "sorted(x, key=lambda v: g(v))",
        "x + [y]",
        "sorted(*x)",
    ],
)
def test_what_is_no_tool(source: str):
    assert taken_apart(source) is None


def test_a_long_expression_is_split_into_tools():
    extraction = split(expression("(a * b + c * d) / (e * f + g)"))
    assert [ast.unparse(operand) for operand in extraction.operands] == ["a * b + c * d", "e", "f", "g"]
    assert extraction.worthwhile


@pytest.mark.parametrize("source", ["x", "x[i]", "x[i - 1]", "len(x) - 1", "i + 1", "1 + n", "call('A') - 1"])
def test_one_more_or_less_is_plain(source: str):
    assert is_plain(expression(source))


@pytest.mark.parametrize("source", ["i + 2", "i - j", "i * 2", "len(x) - 1 - i", "i + 1 + 1", "x[i + j]"])
def test_other_index_arithmetic_is_not(source: str):
    assert not is_plain(expression(source))


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("amount >= price", "Tells whether `amount` is at least `price`."),
        ("c in 'aeiou'", "Tells whether `c` is in `'aeiou'`."),
        ("a < b <= c", "Tells whether `a` is less than `b` and `b` is at most `c`."),
        ("a > 0 and len(x) == 3", "Tells whether `a` is greater than `0` and the length of `x` equals `3`."),
        ("not word.isdigit()", "Tells whether it is not true that `word` is made of digits."),
        ("total + price", "Computes `total` plus `price`."),
        ("max(best, n)", "Computes the larger of `best` and `n`."),
        ("sorted(x, reverse=True)", "Computes `x` in descending order."),
        ("text[2:]", "Computes `text` from position `2` on."),
        ("text[::-1].lower()", "Computes `text` reversed in lower case."),
        ("math.sqrt(a * a + b * b)", "Computes the square root of `a * a + b * b`."),
        ("sum((v for v in x))", "Computes `sum((v for v in x))`."),
    ],
)
def test_a_summary_says_it_in_words(source: str, sentence: str):
    assert english.summary(source) == sentence


@pytest.mark.parametrize(
    ("source", "hint", "name"),
    [
        ("char == '('", None, "IsCharEqualOpenParenthesis"),
        ("char == '{'", None, "IsCharEqualOpenBrace"),
        ("char == 'a'", None, "IsCharEqualLowerA"),
        ("char == 'A'", None, "IsCharEqualA"),
        ("n % 2 == 0", None, "IsNModulo2Equal0"),
        ("x in (1, 2)", None, "IsXIn1Or2"),
        ("best == 1e308", None, "IsBestEqualInfinity"),
        ("total + price", "total", "UpdateTotal"),
        ("count + 1", "count", "IncrementCount"),
        ("a * b", "area", "ComputeArea"),
        ("word[::-1]", None, "WordReversed"),
        ("word[:3]", None, "WordBefore3"),
    ],
)
def test_names_keep_constants_and_operators(source: str, hint: str | None, name: str):
    node = expression(source)
    operands = [names.of_expression(operand) for operand in Extraction(node).operands]
    assert names.of_tool(node, operands, hint) == name


def test_a_name_is_cut_between_words_and_begins_with_a_letter():
    assert (
        names.shortened("IsRootToVertexLengthGreaterThanCommonAncestor") == "IsRootToVertexLengthGreaterThan"
    )
    assert names.shortened("0bPlusText") == "Compute0bPlusText"


GENERATORS = {
    "items": "{'items': [rng.randint(0, 9) for _ in range(rng.randint(2, 8))], 'k': rng.randint(1, 4)}",
    "text": "{'text': ''.join(rng.choice('ab c') for _ in range(rng.randint(4, 12)))}",
    "sentence": "{'text': ' '.join(rng.choice(['to', 'be', 'not']) for _ in range(rng.randint(2, 7)))}",
    "pairs": "{'pairs': [[rng.randint(0, 9), rng.randint(0, 9)] for _ in range(rng.randint(2, 6))]}",
}


def problem(source: str, generator: str) -> SmallProblem:
    return SmallProblem("test", source, f"def generate_inputs(rng):\n    return {GENERATORS[generator]}\n")


def made(source: str, generator: str) -> dict[str, Any]:
    """The environment of a solution; its oracle is checked on inputs that it was not made from."""
    this = problem(source, generator)
    result = synthesize(this)
    assert "reason" not in result, result
    namespace: dict[str, Any] = {}
    exec(this.source + this.generator, namespace)
    for seed in range(1_000, 1_025):
        inputs = json.loads(json.dumps(namespace["generate_inputs"](random.Random(seed))))
        expected = json.loads(json.dumps(namespace["main_solution"](**json.loads(json.dumps(inputs)))))
        if isinstance(expected, dict):
            [expected] = expected.values()
        env, log = play(result, inputs)
        assert log[-1][1]["answer"] == expected and env.reward == 1.0
    return result


def bodies(result: dict[str, Any]) -> dict[str, str]:
    """Tool -> what its method returns, without `json.dumps`."""
    tree = ast.parse(result["source"])
    tools = load(result)().func_mapping
    return {
        node.name: ast.unparse(node.body[-1].value.args[0])
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and node.name in tools
        and isinstance(node.body[-1], ast.Return)
        and isinstance(node.body[-1].value, ast.Call)
    }


def test_index_arithmetic_is_a_tool_and_slices_are_short():
    source = """
def main_solution(text):
    found = 0
    for i in range(len(text)):
        if text[i:i + 2] in ('ab', 'ca', 'b '):
            found += 2 * i + 1
    return found
"""
    tools = bodies(made(source, "text"))
    assert tools["GetTextSlice"] == "self.inputs['text'][start:end][:16]"
    assert "i + 2" in tools.values()
    assert any(body.endswith("in ('ab', 'ca', 'b ')") for body in tools.values())


def test_a_text_that_is_split_is_read_by_words():
    source = """
def main_solution(text):
    longest = ''
    words = text.split()
    for word in words:
        if len(word) > len(longest):
            longest = word + str(len(words))
    return longest
"""
    result = made(source, "sentence")
    tools = bodies(result)
    assert tools["GetTextWord"] == "self.inputs['text'].split()[index]"
    assert tools["GetTextWordCount"] == "len(self.inputs['text'].split())"
    assert "GetTextChar" not in tools


def test_a_hidden_text_changes_case_letter_by_letter():
    source = """
def main_solution(text):
    changed = text.upper()
    return changed + '!' * (len(changed) // 3)
"""
    result = made(source, "text")
    _, log = play(result, {"text": "ab c"})
    assert [arguments for name, arguments, _ in log if name == "UpperOfTextChar"] == [
        {"text_char": letter} for letter in "ab c"
    ]


def test_values_of_a_dict_are_added_to_by_a_tool():
    source = """
def main_solution(items, k):
    counts = [0] * 10
    for item in items:
        counts[item] += item * k
    return max(counts)
"""
    result = made(source, "items")
    assert any("+ item * k" in body or "+ amount" in body for body in bodies(result).values())


def test_a_tuple_that_a_helper_returns_may_be_unpacked():
    source = """
def ends(low, high, n):
    return min(low, n), max(high, n)
def main_solution(items, k):
    low, high = 1, 0
    for item in items:
        low, high = ends(low, high, item)
    return high - low * k
"""
    reference = Problem(source, "main_solution")
    reference.hidden = ["items"]
    inputs = [{"items": list(range(n, 2 * n)), "k": n % 3} for n in range(1, 9)]
    samples = [Sample(item, reference.answer(item)) for item in inputs]
    result, traces = outline(reference, Strategy(), samples)
    assert result.tools["Ends"].kind == "helper" and len(traces) == len(samples)
    assert [call.result for call in traces[2][1] if call.tool == "Ends"] == [[1, 3], [1, 4], [1, 5]]


def test_a_tuple_that_is_needed_as_such_is_no_result():
    """In a set a list is no member, so `key` is outlined itself."""
    source = """
def key(a, b):
    return min(a, b), max(a, b)
def main_solution(pairs):
    seen, repeated = set(), 0
    for a, b in pairs:
        if key(a % 3, b % 3) in seen:
            repeated += a + b
        seen.add(key(a % 3, b % 3))
    return repeated
"""
    assert "Key" not in bodies(made(source, "pairs"))


def test_the_length_is_passed_where_the_list_is_too_long():
    source = """
def main_solution(items, k):
    copies = []
    for item in items:
        for _ in range(40):
            copies.append(item)
        if len(copies) % (k + 1) == 0:
            copies.append(item)
    return len(copies) * k
"""
    tools = bodies(made(source, "items"))
    assert any("copies_length % (k + 1)" in body or "GetCopiesLength" in name for name, body in tools.items())


def test_equal_work_on_other_things_has_another_name():
    source = """
def main_solution(items, k):
    total, last = 0, 0
    for item in items:
        total = total + item
        last = last * 2 + k
        if total > last:
            total = total - k
    return total + last * 2
"""
    result = made(source, "items")
    tools = bodies(result)
    assert len(set(tools.values())) == len(tools)
    assert not any(name[-1] in "23456789" for name in tools if name[:-1] in tools)


def test_tools_are_sixteen_at_most():
    lines = [f"        if item % {n} == {n - 1}:\n            total += item * {n}" for n in range(2, 14)]
    source = (
        "def main_solution(items, k):\n    total = 0\n    for item in items:\n"
        + "\n".join(lines)
        + "\n    return total\n"
    )
    result = made(source, "items")
    assert len(load(result)().func_mapping) <= 16


def test_parameters_say_where_they_come_from():
    source = """
def main_solution(items, k):
    total = 0
    for item in items:
        total = total + item * k
    return total
"""
    result = made(source, "items")
    assert "item (int): an item of `items`." in result["source"]
    assert "total (int): `total` so far." in result["source"]


def test_the_docstring_of_a_helper_is_its_summary():
    source = '''
def weight(n, k):
    """Weighs one number.

    With care."""
    return n * k + 1
def main_solution(items, k):
    total = 0
    for item in items:
        total = total + weight(item, k)
    return total
'''
    assert "Weighs one number." in load(made(source, "items")).Weight.__doc__


def test_a_solution_with_scalar_numpy_needs_no_numpy():
    source = """
import numpy as np
import sympy
def main_solution(items, k):
    total = 0.0
    for item in items:
        total += np.sqrt(item) * np.power(k, 2)
    return np.round(total, 1)
"""
    result = synthesize(problem(source, "items"))
    assert "reason" not in result
    env, _ = play(result, {"items": [4, 9], "k": 2})
    assert env.get_ref_answer() == 20.0 and env.reward == 1.0
    assert "numpy" not in result["source"] and "sympy" not in result["source"]
