"""What a guest promises: nothing gets out, every limit fires, and every guest is the same."""

import json
import random
import subprocess
import sys
from contextlib import suppress

import pytest

from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.guest import GuestError, GuestTrap
from codegym_jax.records import CallError
from envs_wasm.python_guest.fuse import import_count

FORBIDDEN = [
    "open('/etc/passwd')",
    "__import__('_io').open('x')",
    "__import__('os').listdir('/')",
    "__import__('os').path.exists('/')",
    "__import__('os')._exit(0)",
    "__import__('socket')",
    "__import__('subprocess')",
    "__import__('ctypes')",
    "__import__('threading').Thread(target=print).start()",
    "__import__('_thread').start_new_thread(print, ())",
    "__import__('queue').Queue().get()",
    "input()",
]
UNSPEAKABLE = """class S(str):
  def __format__(self, form): raise ValueError
  def __len__(self): raise ValueError
"""


def call(sandbox, body, argument="null", function="f"):
    """Runs statements as the body of a function of `a` on a fresh guest; `return` gives the result."""
    guest = sandbox.guest()
    lines = "\n    ".join(body.splitlines())
    try:
        return guest.run(f"def f(a):\n    {lines}", function, argument)
    finally:
        guest.close()


def trap(sandbox, body):
    with pytest.raises(GuestTrap) as caught:
        call(sandbox, body)
    return caught.value.error


def test_a_program_gets_its_argument_and_returns_text(sandbox):
    assert call(sandbox, "return a[::-1]", '"é😀"') == '"😀é"'


def test_source_and_its_compiled_code_do_the_same(sandbox):
    program = "from random import Random\ndef f(a): return str(Random(int(a)).random())"
    code = sandbox.compile(program)
    assert sandbox.compile(program) is code
    assert sandbox.guest().run(code, "f", "7") == sandbox.guest().run(program, "f", "7")


def test_seeded_random_numbers_are_those_of_every_python(sandbox):
    assert call(sandbox, "import random\nreturn repr(random.Random(7).random())") == repr(
        random.Random(7).random()
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1 / 0 or ''", "ZeroDivisionError: division by zero"),
        ("return 5", "TypeError: f must return str, not int"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("def g(n): return g(n + 1)\ng(0)", "RecursionError: maximum recursion depth exceeded"),
        ("import numpy", "ModuleNotFoundError: No module named 'numpy' in the sandbox"),
        ("from json import *", "SyntaxError: import * only allowed at module level (<program>, line 2)"),
        ("class E(Exception):\n  def __str__(self): raise ValueError\nraise E()", "E"),
        (f"{UNSPEAKABLE}raise type(S('E'), (Exception,), {{'__str__': lambda self: S('x')}})", "E: x"),
    ],
)
def test_what_a_program_raises_is_told_and_the_guest_lives(sandbox, body, message):
    guest = sandbox.guest()
    lines = "\n    ".join(body.splitlines())
    with pytest.raises(GuestError) as caught:
        guest.run(f"def f(a):\n    {lines}", "f", "")
    assert str(caught.value) == message
    assert guest.run("def f(a): return a", "f", "alive") == "alive"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("while True: pass", CallError.OUT_OF_FUEL),
        ("9**9**9", CallError.OUT_OF_FUEL),
        ("import re; re.match('(a+)+$', 'a' * 60 + 'b')", CallError.OUT_OF_FUEL),
        ("b = bytearray(1 << 20)\nwhile True: c = b[:]", CallError.OUT_OF_FUEL),
        ("bytearray(1 << 30)", CallError.OUT_OF_MEMORY),
        ("d = {}\nwhile True: d[len(d)] = 'x' * 9999 + str(len(d))", CallError.OUT_OF_MEMORY),
        ("try:\n  bytearray(1 << 30)\nexcept MemoryError: pass\nreturn ''", CallError.OUT_OF_MEMORY),
        ("import json; json.loads('[' * 100000)", CallError.STACK_OVERFLOW),
        ("l = []\nfor _ in range(10**5): l = [l]\ndel l\nreturn ''", CallError.STACK_OVERFLOW),
    ],
)
def test_every_limit_fires(sandbox, body, error):
    assert trap(sandbox, body) is error


@pytest.mark.parametrize("expression", FORBIDDEN)
def test_the_outside_world_is_not_there(sandbox, expression):
    assert trap(sandbox, expression) is CallError.FORBIDDEN


def test_time_passes_only_by_being_read(sandbox):
    body = """import datetime, time
first, started = time.time(), time.perf_counter()
time.sleep(2.5)
elapsed = time.perf_counter() - started
now, today = datetime.datetime.now(), datetime.date.today()
return repr((first, round(elapsed, 6), now, today, time.strftime("%Y")))"""
    expected = "(1577836800.001, 2.501, datetime.datetime(2020, 1, 1, 0, 0, 2, 504000), "
    assert call(sandbox, body) == expected + "datetime.date(2020, 1, 1), '2020')"


def test_modules_that_keep_a_clock_keep_this_one(sandbox):
    body = """import time, timeit
assert time.get_clock_info("monotonic").resolution == time.clock_getres(time.CLOCK_MONOTONIC) == 0.001
return repr(timeit.timeit("pass", number=9))"""
    assert call(sandbox, body) == "0.001"


@pytest.mark.parametrize(
    "expression",
    ["os.urandom(8)", "uuid.uuid4()", "secrets.token_hex(8)", "random.random()", "random.Random().random()"],
)
def test_randomness_is_the_same_in_every_guest_and_yet_varies(sandbox, expression):
    body = f"import os, random, secrets, uuid\nreturn repr([{expression} for _ in range(2)])"
    numbers = call(sandbox, body)
    assert numbers == call(sandbox, body)
    first, second = numbers.removeprefix("[").removesuffix("]").split(", ", 1)
    assert first != second


def test_a_swallowed_reach_for_a_file_is_noticed(sandbox):
    assert trap(sandbox, "try:\n  open('x')\nexcept Exception: pass\nreturn ''") is CallError.FORBIDDEN


def test_a_guest_that_trapped_answers_nothing_more(sandbox):
    guest = sandbox.guest()
    with pytest.raises(GuestTrap):
        guest.run("while True: pass", "f", "")
    with pytest.raises(RuntimeError, match="after it trapped"):
        guest.run("def f(a): return a", "f", "")


@pytest.mark.parametrize("name", ["guest", "second"])
def test_the_module_imports_nothing(name):
    """The empty import list is the security boundary."""
    assert import_count(find_artefact(name).wasm()) == 0


def test_every_guest_starts_from_the_same_bytes(sandbox):
    body = "import random\nreturn repr([hash('abc'), id(object()), set('abcdef'), random.random(), object()])"
    assert call(sandbox, body) == call(sandbox, body)


def test_a_programs_objects_lie_together(sandbox):
    """Strewn over the image's heap they would make most of its pages the guest's own."""
    guest = sandbox.guest()
    guest.run("kept = []\ndef f(a): kept.extend(str(n) for n in range(5000)); return ''", "f", "")
    image = guest.snapshot()
    assert image is not None
    assert len(image.content) < 1 << 20


def test_replies_leave_nothing_behind(sandbox):
    guest, program = sandbox.guest(), "def f(a): return 'x' * 10**6"
    before = guest.memory_bytes
    for _ in range(20):
        guest.run(program, "f", "")
    assert guest.memory_bytes < before + 5 * 10**6


@pytest.mark.parametrize(
    "body", ["return a", "raise ValueError", "import json\nreturn json.dumps([a] * 9999)"]
)
def test_a_call_leaves_the_stack_as_it_found_it(sandbox, body):
    """So a guest's state between two calls is its memory."""
    guest = sandbox.guest()
    before = guest.snapshot().stack_pointer
    with suppress(GuestError):
        guest.run(f"def f(a): {body}", "f", "x" * 100)
    assert guest.snapshot().stack_pointer == before


def test_what_one_guest_changes_no_other_guest_sees(sandbox):
    call(sandbox, "import json, builtins, random\njson.leak = builtins.leak = 1\nrandom.seed(9)\nreturn ''")
    body = "import builtins, json\nreturn repr([hasattr(json, 'leak'), hasattr(builtins, 'leak')])"
    assert call(sandbox, body) == "[False, False]"


def test_one_guests_random_state_is_its_own(sandbox):
    body = "import random\nreturn repr(random.random())"
    before = call(sandbox, body)
    call(sandbox, "import random\nrandom.seed(9)\nreturn ''")
    assert call(sandbox, body) == before


def test_printing_goes_nowhere(sandbox, capfd):
    assert call(sandbox, "import sys\nprint('x', file=sys.stderr)\nprint('y')\nreturn 'ok'") == "ok"
    assert capfd.readouterr() == ("", "")


def test_a_lone_surrogate_travels_as_its_escape(sandbox):
    assert call(sandbox, "return chr(0xD800) + 'é'") == "\\ud800é"


def test_a_wide_standard_library_works(sandbox):
    body = """
import ast, base64, bisect, collections, copy, dataclasses, datetime, decimal, enum, fractions, functools
import hashlib, heapq, inspect, itertools, json, math, numbers, operator, queue, re, statistics, string
import textwrap, time, traceback, typing, unicodedata, zlib
tree = ast.parse('x = [i*2 for i in range(3)]')
scope = {}
exec(compile(tree, 'f', 'exec'), scope)
q = queue.PriorityQueue()
q.put(2), q.put(1)
try:
    1 / 0
except ZeroDivisionError:
    trace = traceback.format_exc()
return json.dumps([
    ast.unparse(tree), scope['x'], q.get(), trace.splitlines()[-1],
    str(datetime.datetime.strptime('2024-02-29', '%Y-%m-%d').date() + datetime.timedelta(days=1)),
    datetime.datetime.fromtimestamp(86400).strftime('%A'), time.strftime('%Y', time.gmtime(0)),
    str(decimal.Decimal(1) / 3)[:6], str(fractions.Fraction(1, 3) + 1), str(inspect.signature(bisect.insort)),
    hashlib.sha256(b'a').hexdigest()[:4], unicodedata.name('é'), zlib.crc32(b'a'),
    typing.get_args(typing.List[int]) == (int,),
])"""
    assert json.loads(call(sandbox, body)) == [
        "x = [i * 2 for i in range(3)]",
        [0, 2, 4],
        1,
        "ZeroDivisionError: division by zero",
        "2024-03-01",
        "Friday",
        "1970",
        "0.3333",
        "4/3",
        "(a, x, lo=0, hi=None, *, key=None)",
        "ca97",
        "LATIN SMALL LETTER E WITH ACUTE",
        3904355907,
        True,
    ]


@pytest.mark.parametrize(
    "body",
    [
        "def g(n): return 0 if n == 0 else 1 + g(n - 1)\ng(15000)",
        "import functools\n@functools.cache\ndef g(n): return 0 if n == 0 else 1 + g(n - 1)\ng(2000)",
        "import json\njson.loads('[' * 5000 + ']' * 5000)",
    ],
    ids=["python", "through C", "json"],
)
def test_honest_recursion_fits(sandbox, body):
    assert call(sandbox, f"import sys\nsys.setrecursionlimit(10**9)\n{body}\nreturn 'fits'") == "fits"


def test_a_stack_that_the_process_does_not_have_is_refused():
    """Where it were not, a guest that recurses deeply would take the process with it."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_STACK, (4 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
from codegym_jax.envs.sandbox import Sandbox
Sandbox()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert (
        "the process has a stack of 4194304 bytes, and sandbox.stack_bytes = 4194304 needs" in result.stderr
    )
