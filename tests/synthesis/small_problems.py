"""Small problems written for the tests, each with a shape of code that the outliner must get right."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class SmallProblem:
    name: str
    source: str
    generator: str
    entry: str = "main_solution"
    tools: set[str] = field(default_factory=set)  # some that must be there
    lazy: bool = True  # whether reading is interleaved with deciding


def _lists(low: int, high: int, longest: int = 7, more: str = "") -> str:
    return f"""
def generate_inputs(rng):
    items = [rng.randint({low}, {high}) for _ in range(rng.randint(1, {longest}))]
    return {{"items": items{more}}}
"""


EARLY_EXIT = SmallProblem(
    name="early_exit",
    source="""
def main_solution(items, limit):
    total = 0
    for item in items:
        total += item
        if total > limit:
            return total
    return total
""",
    generator=_lists(1, 9, more=', "limit": rng.randint(5, 25)'),
    tools={"GetItemsLength", "GetItemsItem", "UpdateTotal", "IsTotalGreaterThanLimit"},
)

LAZY_AND = SmallProblem(
    name="lazy_and",
    source="""
def main_solution(items):
    i = 0
    while i < len(items) and items[i] > 0:
        i += 1
    return i
""",
    generator=_lists(-2, 9),
    tools={"IncrementI"},
)

NESTED_HELPER = SmallProblem(
    name="nested_helper",
    source="""
def main_solution(items):
    import math

    def is_square(n):
        return n >= 0 and math.isqrt(n) ** 2 == n

    return sum(item for item in items if is_square(item))
""",
    generator=_lists(0, 20, longest=12),
    tools={"IsSquare", "UpdateTotal"},
)

ACCUMULATORS = SmallProblem(
    name="accumulators",
    source="""
def main_solution(items):
    return {"low": min(items), "high": max(items), "odd": len([x for x in items if x % 2 == 1])}
""",
    generator=_lists(-9, 9),
    tools={"UpdateSmallest", "UpdateLargest", "IncrementCount", "IsXModulo2Equal1"},
)

WHILE_LOOP = SmallProblem(
    name="while_loop",
    source="""
def main_solution(items, wanted):
    low, high = 0, len(items) - 1
    while low <= high:
        middle = (low + high) // 2
        if items[middle] == wanted:
            return middle
        if items[middle] < wanted:
            low = middle + 1
        else:
            high = middle - 1
    return -1
""",
    generator="""
def generate_inputs(rng):
    items = sorted(rng.sample(range(30), rng.randint(1, 9)))
    return {"items": items, "wanted": rng.choice(items + [rng.randint(0, 30)])}
""",
    tools={"IsLowAtMostHigh", "ComputeMiddle"},
)

TEXTS = SmallProblem(
    name="texts",
    source="""
def main_solution(word):
    vowels = "aeiou"
    best = run = 0
    for letter in word:
        if letter in vowels:
            run += 1
        else:
            run = 0
        if run > best:
            best = run
    return {"longest_run": best}
""",
    generator="""
def generate_inputs(rng):
    return {"word": "".join(rng.choice("abeiost") for _ in range(rng.randint(4, 12)))}
""",
    tools={"GetWordLength", "GetWordChar", "IsLetterInAeiou", "IncrementRun"},
)

MATRIX = SmallProblem(
    name="matrix",
    source="""
def main_solution(grid):
    count = 0
    for i in range(len(grid)):
        for j in range(len(grid[i])):
            if grid[i][j] > i + j:
                count += 1
    return count
""",
    generator="""
def generate_inputs(rng):
    columns = rng.randint(1, 3)
    return {"grid": [[rng.randint(0, 5) for _ in range(columns)] for _ in range(rng.randint(1, 4))]}
""",
    tools={"GetGridRowCount", "GetGridRowLength", "GetGridCell", "IncrementCount"},
)

MAPPING = SmallProblem(
    name="mapping",
    source="""
def main_solution(stock, needed):
    missing = 0
    for name, amount in stock.items():
        if amount < needed:
            missing += needed - amount
    return missing
""",
    generator="""
def generate_inputs(rng):
    names = rng.sample(["ax", "box", "cup", "dish", "egg"], rng.randint(1, 5))
    return {"stock": {name: rng.randint(0, 9) for name in names}, "needed": rng.randint(1, 9)}
""",
    tools={"GetStockKeys", "GetStockValue", "IsAmountLessThanNeeded", "UpdateMissing"},
)

REBOUND = SmallProblem(
    name="rebound",
    source="""
def main_solution(items):
    items = sorted(items)
    gap = 0
    for i in range(1, len(items)):
        gap = max(gap, items[i] - items[i - 1])
    return gap
""",
    generator=_lists(0, 30),
    tools={"UpdateGap"},
    lazy=False,
)

ALIASED = SmallProblem(
    name="aliased",
    source="""
def count_above(values, bound):
    count = 0
    for value in values:
        if value > bound:
            count += 1
    return count

def main_solution(items, bound):
    return {"above": count_above(items, bound)}
""",
    generator=_lists(0, 9, more=', "bound": rng.randint(0, 9)'),
    tools={"IsValueGreaterThanBound", "IncrementCount"},
)

RECORDS = SmallProblem(
    name="records",
    source="""
class Basket:
    def __init__(self):
        self.__weight = 0
        self.names = []

    def add(self, name, weight):
        if self.__weight + weight <= 20:
            self.__weight += weight
            self.names.append(name)

    def result(self):
        return f"{len(self.names)}:{self.__weight}"

def main_solution(items):
    basket = Basket()
    for number, weight in enumerate(items):
        basket.add(number, weight)
    return basket.result()
""",
    generator=_lists(1, 12),
)

PROBLEMS = (
    EARLY_EXIT, LAZY_AND, NESTED_HELPER, ACCUMULATORS, WHILE_LOOP, TEXTS, MATRIX, MAPPING, REBOUND, ALIASED,
    RECORDS,
)  # fmt: skip
