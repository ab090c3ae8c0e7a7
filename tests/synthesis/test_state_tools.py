"""Locals that become state: the rewritten solver answers as the solution does, and nothing leaks.

The outliner is plain Python, so these tests run it on the host, on code written for them.
"""

import ast
import copy
import json
import random
import re
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegym_jax.synthesis.outline.access import hidden_parameters
from codegym_jax.synthesis.outline.emit import environment
from codegym_jax.synthesis.outline.normalize import normalize
from codegym_jax.synthesis.outline.problem import Problem
from codegym_jax.synthesis.outline.state import State
from codegym_jax.synthesis.outline.trace import Outline, Sample, Strategy, Unusable, outline

Inputs = dict[str, Any]


def items(seed: int, low: int = 0, high: int = 9, least: int = 1) -> Inputs:
    rng = random.Random(seed)
    return {"items": [rng.randint(low, high) for _ in range(rng.randint(least, 7))]}


def brackets(seed: int) -> Inputs:
    rng = random.Random(seed)
    text = ""
    for _ in range(rng.randint(2, 5)):
        text = rng.choice([f"({text})", f"{text}()", f"[{text}]", text + rng.choice("()[]")])
    return {"text": text}


def tokens(seed: int) -> Inputs:
    rng = random.Random(seed)
    found = [str(rng.randint(1, 9))]
    for _ in range(rng.randint(2, 5)):
        found += [str(rng.randint(1, 9)), rng.choice("+-")]
    return {"tokens": found}


def words(seed: int) -> Inputs:
    rng = random.Random(seed)
    return {"words": [rng.choice(["ax", "bee", "cat"]) for _ in range(rng.randint(3, 8))]}


def texts(seed: int) -> Inputs:
    rng = random.Random(seed)
    return {name: "".join(rng.choice("abc") for _ in range(rng.randint(1, 4))) for name in ("one", "other")}


def grid(seed: int) -> Inputs:
    rng = random.Random(seed)
    width = rng.randint(2, 3)
    return {"grid": [[int(rng.random() < 0.3) for _ in range(width)] for _ in range(rng.randint(2, 3))]}


KINDS = {
    "stack": (
        """
def main(text):
    stack = []
    closing = {")": "(", "]": "["}
    for mark in text:
        if mark in "([":
            stack.append(mark)
        elif not stack or stack[-1] != closing[mark]:
            return "bad at " + mark
        else:
            stack.pop()
    return len(stack) == 0
""",
        brackets,
        {"PushStack", "PopStack", "PeekStack", "IsStackEmpty"},
        {"stack": "[]"},
    ),
    "two pops in one expression": (
        """
def main(tokens):
    stack = []
    for token in tokens:
        if token == "+":
            stack.append(stack.pop() + stack.pop())
        elif token == "-":
            stack.append(stack.pop() - stack.pop())
        else:
            stack.append(int(token))
    return stack[0]
""",
        tokens,
        {"PushStack", "PopStack", "GetStackItem"},
        {"stack": "[]"},
    ),
    "queue": (
        """
from collections import deque

def main(items):
    line = deque([1, 2])
    total = 0
    for item in items:
        line.append(item)
        total += line.popleft() * item
    return total
""",
        items,
        {"EnqueueLine", "DequeueLine", "AddToTotal"},
        {"line": "[1, 2]", "total": "0"},
    ),
    "result list that is read again": (
        """
def main(items):
    merged = []
    for item in sorted(items):
        if merged and item - merged[-1] <= 1:
            merged[-1] = item
        else:
            merged.append(item)
    return merged
""",
        items,
        {"AppendToMerged", "GetMergedItem", "SetMergedItem", "GetMergedLength", "IsMergedEmpty"},
        {"merged": "[]"},
    ),
    "counts": (
        """
def main(words):
    counts = {}
    for word in words:
        counts[word] = counts.get(word, 0) + 1
    best = words[0]
    for word, count in counts.items():
        if count > counts[best]:
            best = word
    return best
""",
        words,
        {"IncrementCounts", "GetCountsKeys", "GetCounts"},
        {"counts": "{}"},
    ),
    "positions": (
        """
def main(items):
    last = {}
    gap = 0
    for place, item in enumerate(items):
        if item in last:
            gap = max(gap, place - last[item])
        last[item] = place
    return gap
""",
        lambda seed: items(seed, high=3, least=3),
        {"HasLast", "GetLast", "SetLast", "UpdateGap"},
        {"last": "{}", "gap": "0"},
    ),
    "lists by key": (
        """
from collections import defaultdict

def main(words):
    groups = defaultdict(list)
    for word in words:
        groups[len(word)].append(word)
    return len(groups[3]) * 10 + len(groups[2])
""",
        words,
        {"AppendToGroups", "GetGroups"},
        {"groups": "{}"},
    ),
    "set": (
        """
def main(items):
    seen = set()
    repeated = 0
    for item in items:
        if item in seen:
            repeated += item
        seen.add(item)
    return {"repeated": repeated, "different": len(seen)}
""",
        lambda seed: items(seed, high=4, least=3),
        {"AddToSeen", "IsInSeen", "GetSeenSize", "AddToRepeated"},
        {"seen": "set()", "repeated": "0"},
    ),
    "pairs in a set": (
        """
def main(grid):
    visited = {(0, 0)}
    queue = [(0, 0)]
    while queue:
        row, column = queue.pop(0)
        for down, right in ((0, 1), (1, 0)):
            y, x = row + down, column + right
            if y < len(grid) and x < len(grid[0]) and grid[y][x] == 0 and (y, x) not in visited:
                visited.add((y, x))
                queue.append((y, x))
    return len(visited)
""",
        grid,
        {"AddToVisited", "IsInVisited", "GetVisitedSize", "Enqueue", "Dequeue", "IsQueueEmpty"},
        {"visited": "{(0, 0)}", "queue": "[[0, 0]]"},
    ),
    "table": (
        """
def main(one, other):
    dp = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            if one[i - 1] == other[j - 1]:
                dp[i][j] = dp[i - 1][j - 1] + 1
            else:
                dp[i][j] = max(dp[i - 1][j], dp[i][j - 1])
    return dp[len(one)][len(other)]
""",
        texts,
        {"CreateDp", "GetDpCell", "SetDpCell"},
        {"dp": "[]"},
    ),
    "row of a table": (
        """
def main(items):
    ways = [0] * 10
    ways[0] = 1
    for item in items:
        for total in range(9, item - 1, -1):
            ways[total] += ways[total - item]
    return ways[9] + ways[5]
""",
        lambda seed: items(seed, low=1, high=4),
        {"AddToWaysItem", "GetWaysItem", "SetWaysItem"},
        {"ways": "[0] * 10"},
    ),
    "hidden list that is changed in place": (
        """
def main(items):
    swaps = 0
    for i in range(len(items)):
        for j in range(len(items) - 1 - i):
            if items[j] > items[j + 1]:
                items[j], items[j + 1] = items[j + 1], items[j]
                swaps += 1
    return swaps
""",
        lambda seed: items(seed, least=3),
        {"GetWorkingItemsLength", "GetWorkingItemsItem", "SwapWorkingItemsItems", "IncrementSwaps"},
        {"working_items": "list(self.inputs['items'])", "swaps": "0"},
    ),
    "made anew in a loop": (
        """
def main(items):
    longest = 0
    for start in range(len(items)):
        run = []
        for item in items[start:]:
            if run and item < run[-1]:
                break
            run.append(item)
        longest = max(longest, len(run))
    return longest
""",
        items,
        {"ClearRun", "AppendToRun", "GetRunItem", "GetRunLength", "IsRunEmpty", "UpdateLongest"},
        {"run": "[]", "longest": "0"},
    ),
    "heap": (
        """
import heapq

def main(items):
    heap = []
    cost = 0
    for item in items:
        heapq.heappush(heap, item)
    while len(heap) > 1:
        both = heapq.heappop(heap) + heapq.heappop(heap)
        cost += both
        heapq.heappush(heap, both)
    return cost
""",
        items,
        {"PushHeap", "PopHeap", "GetHeapLength", "AddToCost"},
        {"heap": "[]", "cost": "0"},
    ),
    "text put together": (
        """
def main(words):
    parts = []
    for word in words:
        if len(word) > 2:
            parts.append(word[0])
    return "-".join(parts)
""",
        words,
        {"AppendToParts", "JoinParts"},
        {"parts": "[]"},
    ),
}


def environment_of(source: str, inputs: list[Inputs], **strategy: bool) -> tuple[type, Outline, str]:
    """(class, outline, source) of the environment with state."""
    problem = Problem(source, "main")
    problem.hidden = hidden_parameters(inputs)
    samples = [Sample(one, problem.answer(one)) for one in inputs]
    result, traces = outline(problem, Strategy(state=True, **strategy), samples)
    about = {"code_id": "Test_1", "statement": "What is asked.", "license": "MIT"}
    name, text = environment(problem, result, traces, about)
    namespace: dict[str, Any] = {"__name__": "environment"}
    exec(compile(text, "<environment>", "exec"), namespace)
    return namespace[name], result, text


def play(env: Any) -> list[tuple[str, str]]:
    """(action, observation) of every call of the oracle."""
    log = []
    step = type(env).step

    def recorded(action: str) -> tuple[bool, str]:
        result = step(env, action)
        log.append((action, result[1]))
        return result

    env.step = recorded
    env.solve()
    del env.step
    return log


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request: pytest.FixtureRequest) -> Any:
    source, draw, tools, initial = KINDS[request.param]
    env, result, text = environment_of(source, [draw(seed) for seed in range(14)])
    return types.SimpleNamespace(
        source=source, draw=draw, tools=tools, initial=initial, env=env, outline=result, text=text
    )


def test_the_oracle_answers_as_the_solution_does(kind: Any):
    """On inputs it was not made from."""
    namespace: dict[str, Any] = {}
    exec(kind.source, namespace)
    for seed in range(1_000, 1_060):
        inputs = kind.draw(seed)
        env = kind.env()
        env.reset(copy.deepcopy(inputs))
        log = play(env)
        expected = json.loads(json.dumps(namespace["main"](**copy.deepcopy(inputs))))
        assert json.loads(log[-1][0])["parameters"]["answer"] == expected
        assert env.reward == 1.0
        assert env.inputs == inputs  # the config is nobody's state


def test_the_expected_tools_are_there(kind: Any):
    remembering = {name for name, tool in kind.outline.tools.items() if tool.kind == "state"}
    assert remembering == kind.tools
    assert kind.outline.initial == kind.initial
    assert remembering <= set(kind.env().func_mapping)


def test_a_transcript_replays(kind: Any):
    """In a new environment, and in the old one after a reset: nothing is left of the last episode."""
    first, second = kind.draw(1), kind.draw(2)
    env = kind.env()
    env.reset(first)
    log = play(env)
    for place, inputs in ((kind.env(), first), (env, first), (env, second), (env, first)):
        place.reset(copy.deepcopy(inputs))
        if inputs == first:
            assert [place.step(action)[1] for action, _ in log] == [said for _, said in log]
        else:
            play(place)
            assert place.reward == 1.0


def test_the_solver_keeps_no_container_of_its_own(kind: Any):
    solve = kind.text[kind.text.index("def solve(self)") :]
    for name in kind.initial:
        assert not re.search(rf"\b{name}(\.|\[)", solve)


def test_what_goes_wrong_is_told():
    source, draw, _, _ = KINDS["stack"]
    env = environment_of(source, [draw(seed) for seed in range(14)])[0]()
    assert env.step('{"name": "PopStack", "parameters": {}}')[1] == "Error: IndexError: pop from empty list"
    source, draw, _, _ = KINDS["counts"]
    env = environment_of(source, [draw(seed) for seed in range(14)])[0]()
    assert env.step('{"name": "GetCounts", "parameters": {"key": "new"}}')[1] == "0"
    source, draw, _, _ = KINDS["positions"]
    env = environment_of(source, [draw(seed) for seed in range(14)])[0]()
    assert env.step('{"name": "GetLast", "parameters": {"key": 5}}')[1] == "Error: KeyError: 5"


REFUSED = {
    "recursion": """
def main(items):
    found = []
    if len(items) > 1:
        found.append(main(items[1:]))
    return len(found) + items[0]
""",
    "closure": """
def main(items):
    found = []
    def keep(item):
        found.append(item)
        return found[-1]
    return sum(keep(item) for item in items)
""",
    "generator": """
def steps(items):
    found = []
    for item in items:
        found.append(item)
        yield len(found) + found[0]

def main(items):
    return sum(steps(items))
""",
    "alias": """
def main(items):
    found = []
    other = found
    for item in items:
        other.append(item)
    return len(found) + found[0]
""",
    "stored elsewhere": """
def main(items):
    rows = []
    for item in items:
        row = []
        rows.append(row)
        row.append(item)
        row[0] += 1
    return sum(row[0] for row in rows)
""",
    "passed on": """
def grow(found, item):
    found.append(item)

def main(items):
    found = []
    for item in items:
        grow(found, item)
    return found[0]
""",
    "slice assigned": """
def main(items):
    found = [0, 0]
    for item in items:
        found[0:1] = [item]
    return found[0]
""",
    "changed while iterated": """
def main(items):
    found = [1]
    for value in found:
        if len(found) <= len(items):
            found.append(value + 1)
    return len(found)
""",
    "only handed back": """
def main(items):
    found = []
    for item in items:
        found.append(item + 1)
    return found
""",
}


def rewritten(source: str, hidden: dict[str, str]) -> State:
    return State(normalize(source, "main", list(hidden)), "main", hidden, (), set())


def run_with_tools(state: State, inputs: Inputs) -> Any:
    """What the rewritten solver returns when its tools work on JSON, as the environment's do."""
    holder = types.SimpleNamespace(inputs=copy.deepcopy(inputs))
    for attribute, source in state.initial.items():
        setattr(holder, attribute, eval(source, {"self": holder, "json": json}))
    tools = {name: tool.compiled({}) for name, tool in state.tools.items()}

    def call(name: str, **arguments: Any) -> Any:
        return json.loads(json.dumps(tools[name](holder, **json.loads(json.dumps(arguments)))))

    namespace: dict[str, Any] = {"call": call}
    exec(ast.unparse(state.tree), namespace)
    return namespace["main"](**copy.deepcopy(inputs))


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_covered_stays_with_the_solver(name: str):
    state = rewritten(REFUSED[name], {"items": "list"})
    assert not {"found", "row", "rows"} & set(state.initial)
    namespace: dict[str, Any] = {}
    exec(REFUSED[name], namespace)
    for seed in range(20):
        assert run_with_tools(state, items(seed)) == namespace["main"](**items(seed))


def test_a_refused_local_does_not_keep_others_from_being_state():
    source = """
def main(items):
    stack = []
    other = alias = []
    for item in items:
        stack.append(item)
        if len(stack) > 2:
            other.append(stack.pop())
    return [stack[-1], len(alias)]
"""
    state = rewritten(source, {"items": "list"})
    assert set(state.initial) == {"stack"}


def test_a_local_that_got_tuples_is_given_up_alone():
    """A dict key that went through the stack is a list afterwards, so the stack stays with the solver."""
    source = """
def main(items):
    stack = []
    seen = {}
    total = 0
    for place, item in enumerate(items):
        stack.append((item, place % 2))
        top = stack[-1]
        seen[str(item)] = 1 + {top: 1}[top]
        if len(stack) > 2:
            stack.pop()
        total += seen[str(item)]
    return total + items[0]
"""
    inputs = [items(seed, least=2) for seed in range(14)]
    env, result, _ = environment_of(source, inputs)
    assert "stack" not in result.initial and "seen" in result.initial
    for one in inputs:
        place = env()
        place.reset(one)
        play(place)
        assert place.reward == 1.0


def test_a_solver_without_containers_makes_no_environment_with_state():
    source = (
        "def main(items):\n    total = 0\n    for item in items:\n        total += item\n    return total\n"
    )
    with pytest.raises(Unusable, match="no container"):
        environment_of(source, [items(seed) for seed in range(12)])


def test_a_helper_that_runs_again_starts_with_a_clean_slate():
    source = """
def longest(text):
    stack = []
    best = 0
    for mark in text:
        if stack and stack[-1] == mark:
            stack.pop()
        else:
            stack.append(mark)
            best = max(best, len(stack))
    return best

def main(words):
    return [longest(word) for word in words]
"""
    state = rewritten(source, {"words": "list"})
    assert "ClearStack" in state.tools and set(state.initial) == {"stack"}
    inputs = {"words": ["abba", "xyyz", "aa"]}
    assert run_with_tools(state, inputs) == [2, 2, 1]


IN_LOOP = (
    "stack.append(x)",
    "if stack: total += stack.pop()",
    "while stack and stack[-1] > x: stack.pop()",
    "if len(stack) > 1: stack[0], stack[1] = stack[1], stack[0]",
    "if len(stack) >= 1: stack[-1] += x",
    "if x in stack: stack.remove(x)",
    "stack.insert(0, total)",
    "stack.extend([x, total])",
    "stack += [x]",
    "if len(stack) > 2: stack = []",
    "if len(stack) > 1: stack.append(stack.pop() - stack.pop())",
    "stack.sort()",
    "for i, y in enumerate(stack): total += i * y",
    "total += sum(stack[1:])",
    "counts[x] = counts.get(x, 0) + 1",
    "counts[x] = total",
    "if x in counts: counts[x] -= total",
    "if x not in counts.keys(): total += 3",
    "buckets[x].append(total)",
    "for y in buckets[x - 1]: total += y",
    "if x in counts and len(counts) > 1: del counts[x]",
    "counts.setdefault(x, total)",
    "for k, v in counts.items(): total += k * v",
    "if not counts: total += 1",
    "counts.pop(x, None)",
    "seen.add(x)",
    "seen.discard(x + 1)",
    "if x not in seen: total += len(seen)",
    "if len(seen) == 0: total -= 1",
    "for y in sorted(seen): total = total * 2 + y",
    "pairs.add((x, total % 3))",
    "if (x, 1) in pairs: total += 100",
    "table[x][total % 3] += 1",
    "table[x][0] = max(table[x - 1][1], table[x][2])",
    "total += sum(table[x])",
    "total = max(total, x)",
    "total %= 97",
    "row = [x]; rows.append(row)",
    "row = [x]; rows.append(row); row.append(total)",
    "if rows: rows[-1] = [total]",
    "row.append(total); rows.append(row)",
    "if rows: total += rows[-1][0]",
    "other = rows; other.append([x])",
)
RETURNS = (
    "total",
    "stack",
    "counts",
    "len(seen)",
    "sorted(seen)",
    "table",
    "len(pairs)",
    "max(stack + [0])",
    "rows",
)


@given(
    body=st.lists(st.sampled_from(IN_LOOP), min_size=1, max_size=6),
    returned=st.lists(st.sampled_from(RETURNS), min_size=1, max_size=3),
    given_items=st.lists(st.integers(0, 3), max_size=6),
)
def test_any_program_of_these_answers_as_before(body: list[str], returned: list[str], given_items: list[int]):
    """What is rewritten and what is refused alike: with the tools, the answer is that of the program."""
    lines = ["stack = []", "counts, total = {}, 0", "seen = set()", "pairs = set()"]
    lines += [
        "row, rows = [0], []",
        "buckets = [[] for _ in range(4)]",
        "table = [[0] * 3 for _ in range(4)]",
        "for x in items:",
        *(f"    {line}" for line in body),
    ]
    lines.append(f"return [{', '.join(returned)}]")
    source = "def main(items):\n" + "\n".join(f"    {line}" for line in lines)
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    expected = namespace["main"](list(given_items))
    state = rewritten(source, {"items": "list"})
    assert run_with_tools(state, {"items": list(given_items)}) == expected
