"""Attacks on isolation: what an episode changes, no other sees, and what a trapped call changes, nobody sees.

Every row is played many times in one sandbox, so a state that survived would show in the later plays.
"""

import re

from attack import OUTSIDE, TOO_BIG, TOO_DEEP, TOO_LONG, episode
from victim import ACT, ADD, RIGHT, TOTAL, call

_TRAP = call("Act", value="trap")

# What holds a count, and the code that adds one to it and returns it.
_COUNTERS = {
    "an attribute": ("self.__dict__.setdefault('n', 0)", "self.n += 1\nn = self.n"),
    "a class attribute": ("", "type(self).n = getattr(type(self), 'n', 0) + 1\nn = self.n"),
    "a mutable class attribute": ("", "self.seen.append(1)\nn = len(self.seen)"),
    "a module global": ("", "global total_calls\ntotal_calls += 1\nn = total_calls"),
    "a mutable default": ("", "n = counted()"),
    "an attribute of json": ("", "json.n = getattr(json, 'n', 0) + 1\nn = json.n"),
    "a builtin": ("", "import builtins\nbuiltins.n = getattr(builtins, 'n', 0) + 1\nn = builtins.n"),
    "sys.modules": ("", "import sys\nn = sys.modules['n'] = sys.modules.get('n', 0) + 1"),
    "os.environ": ("", "import os\nn = int(os.environ.get('N', 0)) + 1\nos.environ['N'] = str(n)"),
    "the runtime": ("", "import exports\nexports.n = getattr(exports, 'n', 0) + 1\nn = exports.n"),
    "the recursion limit": (
        "",
        "import sys\nn = sys.getrecursionlimit() - 999\nsys.setrecursionlimit(n + 1000)",
    ),
    "the number context": (
        "",
        "import decimal\ncontext = decimal.getcontext()\ncontext.prec += 1\nn = context.prec - 28",
    ),
    "a generator": ("", "n = next(numbers)"),
    "the clock": ("", "import time\nn = time.time_ns() // 10**6 - 1_577_836_800_000"),
    "a cached function": ("", "cached(cached.cache_info().misses)\nn = cached.cache_info().misses"),
}
_MODULE = """
import functools, itertools
total_calls = 0
numbers = itertools.count(1)
def counted(seen=[]):
    seen.append(1)
    return len(seen)
@functools.cache
def cached(x): return x
"""
_ENDS = {
    TOO_LONG: "while True: pass",
    TOO_BIG: "bytearray(1 << 30)",
    TOO_DEEP: "json.loads('[' * 100_000)",
    OUTSIDE: "open('x')",
}

STATE = [
    episode(
        f"state in {where}",
        "every episode has a guest of its own, and a call that traps is undone by replaying the others",
        [
            (ACT, "1"),
            (ADD, "5"),
            (_TRAP, trap),
            (ACT, "2"),
            (_TRAP, trap),
            (TOTAL, "5"),
            (ACT, "3"),
            (RIGHT, ""),
        ],
        module=_MODULE,
        body="seen = []",
        init=before,
        act=f"{count}\nif value:\n    {end}\nreturn str(n)",
        ended=True,
        earned=1.0,
    )
    for (where, (before, count)), (trap, end) in zip(_COUNTERS.items(), 4 * list(_ENDS.items()), strict=False)
]

ATTACKS = [
    *STATE,
    episode(
        "random numbers around a trap",
        "the trapped call drew some, and nobody sees a gap",
        [(ACT, "844421851"), (_TRAP, TOO_LONG), (ACT, "757954402"), (_TRAP, TOO_LONG), (ACT, "420571580")],
        act="import random\nn = random.random()\nif value:\n    while True: pass\nreturn str(int(n * 10**9))",
    ),
    episode(
        "a trap before anything else",
        "nothing is replayed, the episode starts anew",
        [(_TRAP, OUTSIDE), (_TRAP, OUTSIDE), (TOTAL, "0"), (RIGHT, "")],
        act="self.total = 99\nif value: open('x')",
        ended=True,
        earned=1.0,
    ),
    episode(
        "failing calls around a trap",
        "what failed without a trap happened, and is replayed",
        [
            (call("Add", index="x"), "Error: list indices must be integers or slices, not str"),
            (call("Act", value="raise"), "Error: KeyboardInterrupt"),
            (_TRAP, OUTSIDE),
            (TOTAL, "7"),
        ],
        act="self.total += 7\nif value == 'raise': raise KeyboardInterrupt\nopen('x')",
    ),
    episode(
        "huge observations, then a trap",
        "all of them are replayed, though together they would not fit the guest",
        [*[(ACT, "x" * 8192 + "... [cut, 3000000 characters in all]")] * 10, (_TRAP, OUTSIDE), (ADD, "5")],
        act="if value: open('x')\nreturn 'x' * 3_000_000",
    ),
    episode(
        "heavy calls, then a trap",
        "all of them are replayed, though together they burn more than one call may",
        [*[(ACT, "10000")] * 10, (_TRAP, OUTSIDE), (ADD, "5")],
        act="if value: open('x')\nreturn str(sum(1 for _ in range(10_000)))",
    ),
    episode(
        "addresses, then a trap",
        "a replay lays the memory out alike",
        [*[(ACT, re.compile(r"<object object at 0x[0-9a-f]+>"))] * 3, (_TRAP, OUTSIDE), (ADD, "5")],
        act="if value: open('x')\nself.kept = object(), vars(self).get('kept')\nreturn str(self.kept[0])",
        travels=False,
    ),
    episode(
        "code that hangs once json is patched",
        "the patch goes with the guest",
        [(ACT, "patched"), (ADD, TOO_LONG), (TOTAL, TOO_LONG), (RIGHT, (TOO_LONG, ""))],
        module="def hang(*_):\n    while True: pass",
        act="json.loads = hang\nreturn 'patched'",
        ended=True,
    ),
]
