"""Attacks on the limits: whatever burns time, memory or stack ends by itself, and only the call is lost."""

import re

from attack import DEFAULT, ENDED, TOO_BIG, TOO_DEEP, TOO_LONG, episode, loading, tool, verification
from victim import ACT, ADD, RIGHT, TOTAL, call

_SPIN = "while True: pass"
_HUGE = "bytearray(1 << 30)"
_NESTED = "x = []\nfor _ in range(100_000): x = [x]\n"

LOOPS = [
    tool("endless loop", "fuel bounds every call", f"self.total = 99\n{_SPIN}", TOO_LONG),
    tool("endless loop at the default fuel", "the limit that runs use", _SPIN, TOO_LONG, limits=DEFAULT),
    tool(
        "endless loop that catches everything",
        "running out of fuel is a trap, no exception that a program could catch",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
        TOO_LONG,
    ),
    tool("endless iterator", "C loops over Python burn too", "return str(sum(iter(int, 1)))", TOO_LONG),
    tool(
        "endless loop in C alone",
        "fuel counts the interpreter's own instructions",
        "import itertools\nreturn str(sum(itertools.repeat(1)))",
        TOO_LONG,
    ),
    tool(
        "generator that ignores its end",
        "closing it raises, once",
        """
        def stubborn():
            while True:
                try: yield 1
                except GeneratorExit: pass
        generator = stubborn()
        next(generator)
        generator.close()
        """,
        "Error: generator ignored GeneratorExit",
    ),
    tool(
        "endless __str__ of the result",
        "the text of a result is made within the call",
        f"class X:\n    def __str__(self):\n        {_SPIN}\nreturn X()",
        TOO_LONG,
    ),
    tool(
        "endless __str__ of an exception",
        "so is the text of an error",
        f"class X(BaseException):\n    def __str__(self):\n        {_SPIN}\nraise X",
        TOO_LONG,
    ),
    tool(
        "endless __del__",
        "a finalizer runs within the call that drops the object",
        f"class X:\n    def __del__(self):\n        {_SPIN}\nX()\nreturn 'dropped'",
        TOO_LONG,
    ),
    tool(
        "endless __del__ left behind",
        "closing a guest frees its memory and runs nothing of it",
        f"class X:\n    def __del__(self):\n        {_SPIN}\nself.kept = X()\nreturn 'kept'",
        "kept",
    ),
    tool(
        "endless __eq__",
        "called by a set, deep within C",
        f"class X:\n    def __eq__(self, _):\n        {_SPIN}\n    __hash__ = lambda self: 1\n{{X(), X()}}",
        TOO_LONG,
    ),
    tool(
        "endless __lt__",
        "called by a sort",
        f"class X:\n    def __lt__(self, other):\n        {_SPIN}\nsorted([X(), X()])",
        TOO_LONG,
    ),
    tool(
        "__lt__ that fills the list being sorted",
        "CPython sorts a list that nobody else sees",
        """
        class X:
            def __lt__(self, other):
                items.append(self)
                return True
        items = [X(), X(), X()]
        items.sort()
        """,
        "Error: list modified during sort",
    ),
    tool(
        "endless trace function",
        "it may stay, but its calls pay",
        f"import sys\ndef trace(*_):\n    {_SPIN}\nsys.settrace(trace)\n(lambda: 0)()",
        TOO_LONG,
    ),
    tool("flood of prints", "output goes nowhere, and costs", "while True: print('x' * 1000)", TOO_LONG),
    tool("10 MB print", "output goes nowhere", "print('x' * 10**7)\nreturn 'printed'", "printed"),
    tool(
        "regular expression that backtracks for ever",
        "the matcher is Wasm like the rest",
        "import re\nreturn str(re.match('(a+)+$', 'a' * 60 + 'b'))",
        TOO_LONG,
    ),
    tool(
        "regular expression of many options",
        "the other classic",
        "import re\nreturn str(re.match('(?:a?){60}a{60}', 'a' * 60))",
        TOO_LONG,
    ),
    tool("9**9**9", "long multiplication burns fuel", "return str(9**9**9)", TOO_LONG),
    tool("factorial of a million", "the same", "import math\nreturn str(math.factorial(10**6))", TOO_LONG),
    tool(
        "text of an integer with 5,001 digits",
        "CPython's own limit stands in the guest",
        "return str(10**5000)",
        "Error: Exceeds the limit (4300 digits) for integer string conversion;"
        " use sys.set_int_max_str_digits() to increase the limit",
    ),
    tool(
        "text of an integer, that limit lifted",
        "then fuel is what is left",
        "import sys\nsys.set_int_max_str_digits(0)\nreturn str(9**9**8)",
        TOO_LONG,
    ),
    tool("sleep", "only advances the guest's own clock", "import time\ntime.sleep(1e9)\nreturn 'up'", "up"),
    episode(
        "one endless loop after another",
        "each is undone by itself, and the episode can still be won",
        [(ADD, "5"), (ACT, TOO_LONG), (ACT, TOO_LONG), (ACT, TOO_LONG), (TOTAL, "5"), (RIGHT, "")],
        act=f"self.total = 99\n{_SPIN}",
        ended=True,
        earned=1.0,
    ),
    episode(
        "endless `finished`",
        "read in the call that it belongs to, which is then undone",
        [(ADD, TOO_LONG), (TOTAL, TOO_LONG)],
        finished=_SPIN,
    ),
    episode(
        "endless verdict",
        "the first Done ends an episode even where it traps; without a verdict there is no reward",
        [(ADD, "5"), (RIGHT, (TOO_LONG, "")), (TOTAL, ENDED)],
        done=f"self._done, self._reward = True, 1\n{_SPIN}",
        ended=True,
    ),
    episode(
        "verdict of 10 MB",
        "what the host keeps is cut, shown or not",
        [(RIGHT, "")],
        done="self._done, self._reward = True, 1\nreturn 'x' * 10**7",
        limits=DEFAULT,
        ended=True,
        earned=1.0,
    ),
    episode(
        "endless reward",
        "a reward that cannot be read is none",
        [(RIGHT, "")],
        reward=_SPIN,
        ended=True,
    ),
]

LOADING = [
    loading(
        "1 MB said while loading",
        "what the host keeps of it is cut",
        "does_not_load",
        reset="raise ValueError('x' * 10**6)",
    ),
    loading("endless module", "importing is a call too", TOO_LONG, module=_SPIN),
    loading("endless class body", "the same", TOO_LONG, body=_SPIN),
    loading("endless constructor", "the same", TOO_LONG, init=_SPIN),
    loading("endless reset", "the same", TOO_LONG, reset=_SPIN),
    loading(
        "endless metaclass",
        "making the class runs code of its own",
        TOO_LONG,
        module=f"class Meta(type):\n    def __init__(cls, *_):\n        {_SPIN}\nMeta('X', (), {{}})",
    ),
    loading(
        "huge class attribute", "the image and all that follows fit 64 MiB", TOO_BIG, body=f"x = {_HUGE}"
    ),
    loading(
        "recursion in reset", "loading raises what a tool would", "does_not_load", reset="self.reset(options)"
    ),
]

VERIFICATION = [
    verification("endless oracle", "solve has fuel for eight calls", TOO_LONG, solve=_SPIN),
    verification(
        "oracle that never stops calling",
        "its calls are counted",
        "too_many_oracle_calls",
        solve='while True: call("Total")',
    ),
    verification(
        "oracle that catches being stopped",
        "what stops it is no Exception",
        "too_many_oracle_calls",
        solve='while True:\n    try: call("Total")\n    except Exception: pass',
    ),
    verification("endless reward of the oracle", "it has earned nothing", "oracle_fails", reward=_SPIN),
    verification(
        "endless answer",
        "the oracle earns nothing without it",
        TOO_LONG,
        done="self._done, self._reward = True, 1",
        answer=_SPIN,
    ),
    verification("huge oracle", "memory bounds every call", TOO_BIG, solve=_HUGE),
    verification(
        "endless answer, later",
        "the oracle earns its reward before the answer is asked for",
        TOO_LONG,
        reset="self.asked = 0",
        answer=f"self.asked += 1\nif self.asked > 2:\n    {_SPIN}\nreturn sum(self.numbers)",
    ),
]

MEMORY = [
    tool("1 GiB at once", "the guest's memory ends at 64 MiB", f"return str({_HUGE})", TOO_BIG),
    tool(
        "1 GiB, the MemoryError swallowed",
        "the guest's runtime sees every MemoryError: a state that lacks something must not go on",
        f"self.total = 99\ntry: {_HUGE}\nexcept MemoryError: pass\nreturn 'swallowed'",
        TOO_BIG,
    ),
    tool("a list of 10**9", "the same, by repetition", "return str(len([0] * 10**9))", TOO_BIG),
    tool(
        "a text of 10**10",
        "the guest is a 32-bit machine: no such length exists",
        "return 'x' * 10**10",
        "Error: cannot fit 'int' into an index-sized integer",
    ),
    tool("a format 10**9 wide", "the same, by printf", "return '%1000000000d' % 1", TOO_BIG),
    tool("an f-string 10**9 wide", "the same, by format", "return f'{1:1000000000}'", TOO_BIG),
    tool(
        "a dict that grows for ever",
        "what is kept counts, not what is asked for at once",
        "d = {}\nwhile True: d[len(d)] = bytearray(10**6)",
        TOO_BIG,
        limits=DEFAULT,
    ),
    tool(
        "memory kept from call to call",
        "a call that does not fit beside what earlier calls kept is undone, they are not",
        "self.kept = [bytearray(10**7) for _ in range(9)]",
        TOO_BIG,
        limits=DEFAULT,
    ),
    episode(
        "60 MB in observations of 1 MB",
        "the guest forgets what it has said",
        [*[(ACT, "x" * 8192 + "... [cut, 1000000 characters in all]")] * 60, (TOTAL, "0")],
        act="return 'x' * 10**6",
    ),
    episode(
        "10 MB in actions of 64 KB",
        "the guest forgets what it was told",
        [*[(call("Act", value="x" * 60_000), "60000")] * 160, (TOTAL, "0")],
        act="return str(len(value))",
    ),
    tool(
        "all of memory, once and again",
        "catching the error of every attempt burns the fuel",
        "while True:\n    try: self.kept = [self.__dict__.get('kept')] * 10**6\n    except MemoryError: pass",
        TOO_LONG,
    ),
    tool(
        "a deep copy of 2**40 leaves",
        "copying remembers what it has seen",
        "import copy\nx = []\nfor _ in range(40): x = [x, x]\nreturn str(len(copy.deepcopy(x)))",
        "2",
    ),
    tool(
        "the text of 2**40 leaves",
        "repr does not remember",
        "x = []\nfor _ in range(40): x = [x, x]\nreturn str(x)",
        TOO_LONG,
    ),
    tool(
        "marshal data that announces 2 GiB",
        "the announced size is asked for and refused",
        "import marshal\nreturn str(marshal.loads(b'[\\xff\\xff\\xff\\x7f'))",
        TOO_BIG,
    ),
    tool(
        "pickle data that announces 2**63 bytes",
        "beyond a 32-bit machine",
        "import pickle\nreturn pickle.loads(b'\\x80\\x04\\x8e' + b'\\xff' * 7 + b'\\x7f.')",
        "Error: BINBYTES exceeds system's maximum size of 2147483647 bytes",
    ),
    tool(
        "a bomb of zipped zeros",
        "unpacking is a call like others",
        """
        import zlib
        packer = zlib.compressobj()
        packed = b"".join(packer.compress(bytes(10**6)) for _ in range(100)) + packer.flush()
        return str(len(zlib.decompress(packed)))
        """,
        TOO_LONG,
    ),
]

STACK = [
    tool(
        "recursion",
        "CPython's limit stands in the guest",
        "def f(): return f()\nreturn f()",
        "Error: maximum recursion depth exceeded",
    ),
    tool(
        "recursion with the limit lifted",
        "the guest caps the limit where the stack still holds",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef f(): return f()\nreturn f()",
        "Error: maximum recursion depth exceeded",
        limits=DEFAULT,
    ),
    tool(
        "recursion through C with the limit lifted",
        "the guest's own measure of its stack",
        """
        import sys
        sys.setrecursionlimit(2**31 - 1)
        class X:
            def __repr__(self): return repr([self])
        return repr(X())
        """,
        re.compile(r"Error: Stack overflow \(used \d+ kB\).*"),
        limits=DEFAULT,
    ),
    tool(
        "a text nested 100,000 deep",
        "repr looks for itself, level by level",
        f"{_NESTED}return str(x)",
        TOO_LONG,
    ),
    tool("dropping lists nested 100,000 deep", "the same", f"{_NESTED}del x", TOO_DEEP, limits=DEFAULT),
    tool(
        "JSON nested 100,000 deep, made inside",
        "the bound on an action's depth is not what protects the guest",
        "return str(json.loads('[' * 100_000 + ']' * 100_000))",
        TOO_DEEP,
    ),
    tool(
        "JSON that contains itself",
        "found by json itself",
        "x = []\nx.append(x)\nreturn json.dumps(x)",
        "Error: Circular reference detected",
    ),
    tool(
        "marshal data nested 5,000 deep",
        "marshal counts",
        "import marshal\nreturn str(marshal.loads(b'[\\x01\\x00\\x00\\x00' * 5000))",
        "Error: recursion limit exceeded",
    ),
    tool("300 parentheses", "the parser's own limit is a MemoryError", f"eval('{'(' * 300}')", TOO_BIG),
    tool(
        "a regular expression of 5,000 groups",
        "compiling one recurses in Python",
        "import re\nre.compile('(' * 5000 + ')' * 5000)",
        "Error: maximum recursion depth exceeded",
    ),
    tool(
        "a sum of 100,000 terms",
        "compiling it recurses or burns",
        "return str(eval('+'.join(['1'] * 100_000)))",
        TOO_LONG,
    ),
]

ATTACKS = LOOPS + LOADING + VERIFICATION + MEMORY + STACK
