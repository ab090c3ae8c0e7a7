"""An instance that is used again is a fresh one, and an image is the whole of a guest's state."""

import dataclasses
import json
import os
import pickle
import random
import resource
import subprocess
import sys
import threading

import pytest

from codegym_jax.config import SandboxConfig
from codegym_jax.envs.artefact import find_artefact
from codegym_jax.envs.fused import ModuleRuntime
from codegym_jax.envs.guest import Guest, GuestError, GuestTrap
from codegym_jax.envs.memory_image import PAGE_BYTES
from codegym_jax.envs.recycling import MAX_IDLE
from codegym_jax.envs.sandbox import Sandbox

LIMITS = SandboxConfig(fuel_per_call=100_000_000)

PROGRAM = """
import json, random, time, uuid
class Env:
    finished, reward = False, 0.5
    def reset(self, options):
        self.kept, self.objects = {}, []
    def step(self, action):
        kind, size = json.loads(action)
        if kind == "keep":
            self.kept[len(self.kept)] = "x" * size
        elif kind == "drop":
            self.kept.clear()
        elif kind == "raise":
            raise KeyError(size)
        self.objects = [object() for _ in range(size % 100)]
        told = [id(o) for o in self.objects[:3]], hash(str(size)), len(self.kept), {*str(size)}
        return True, str((told, random.random(), time.time(), uuid.uuid4(), repr(object())))
"""

HOSTILE = {
    "writes_wide": "l = [bytearray(4096) for _ in range(250)]\nreturn str(len(l))",
    "grows": "l = bytearray(20 << 20)\nreturn str(len(l))",
    "patches": "import json, random, builtins, exports, sys\n"
    "json.loads = random.random = builtins.len = exports.step = sys.getrefcount\nreturn ''",
    "raises": "raise MemoryError",
    "forbidden": "open('x')",
    "spins": "while True: pass",
    "overflows": "import json\njson.loads('[' * 100000)",
    "fills": "d = {}\nwhile True: d[len(d)] = 'x' * 9999 + str(len(d))",
    "stays": "import sys, json\nsys.modules['mine'] = json.mine = [{}]\njson.mine *= 2\nreturn ''",
    "clock": "import time, os, random\ntime.sleep(9)\nos.urandom(9)\nrandom.seed(9)\nreturn str(time.time())",
}


@pytest.fixture(scope="module")
def runtime() -> ModuleRuntime:
    return ModuleRuntime(LIMITS, None, find_artefact())


@pytest.fixture(scope="module")
def sandbox(runtime) -> Sandbox:
    return Sandbox(LIMITS, runtime=runtime)


def play(sandbox: Sandbox, body: str) -> str:
    guest = sandbox.guest()
    lines = "\n    ".join(body.splitlines())
    try:
        return guest.run(f"def f(a):\n    {lines}", "f", "")
    except (GuestError, GuestTrap) as error:
        return str(error)
    finally:
        guest.close()


def stream(seed: int, count: int, largest: int = 3000) -> list[str]:
    rng = random.Random(seed)
    kinds = ("keep", "drop", "raise", "look", "look")
    return [json.dumps([rng.choice(kinds), rng.randrange(largest)]) for _ in range(count)]


def loaded(sandbox: Sandbox) -> Guest:
    guest = sandbox.guest()
    guest.load(sandbox.compile(PROGRAM), "Env", "{}")
    return guest


def said(guest: Guest, actions: list[str]) -> list[str]:
    return [str(outcome) for outcome in guest.step_many(actions)]


@pytest.mark.parametrize("what", HOSTILE)
def test_an_instance_used_again_is_a_fresh_one_byte_for_byte(what):
    runtime = ModuleRuntime(LIMITS, None, find_artefact())
    sandbox = Sandbox(LIMITS, runtime=runtime)
    untouched = runtime.recycler.take()
    expected = untouched.memory.tobytes(), untouched.stack_pointer
    for _ in range(2):
        play(sandbox, HOSTILE[what])
    for _ in range(MAX_IDLE + 1):  # all that wait, and a new one
        instance = runtime.recycler.take()
        assert (instance.memory.tobytes(), instance.stack_pointer) == expected
    assert play(sandbox, "return str([id(a), hash(a), __import__('time').time()])") == play(
        Sandbox(LIMITS), "return str([id(a), hash(a), __import__('time').time()])"
    )


@pytest.mark.parametrize(
    ("body", "is_used_again"),
    [
        ("return ''", True),
        ("raise ValueError", True),
        ("open('x')", True),  # the guest answered; only what it said ends the episode
        ("while True: pass", False),
        ("import json\njson.loads('[' * 100000)", False),
        ("return str(len(bytearray(20 << 20)))", False),  # its memory grew, which cannot be undone
        ("return str(len([bytearray(4096) for _ in range(600)]))", False),
    ],
)
def test_what_trapped_or_grew_is_never_used_again(body, is_used_again):
    runtime = ModuleRuntime(LIMITS, None, find_artefact())
    sandbox = Sandbox(LIMITS, runtime=runtime)
    sandbox.compile("def f(a):\n    " + "\n    ".join(body.splitlines()))
    first = runtime.recycler.take()
    runtime.recycler.give_back(first)
    play(sandbox, body)
    assert (runtime.recycler.take() is first) == is_used_again


def test_a_closed_guest_reaches_nobody_elses(sandbox):
    first = sandbox.guest()
    instance = first._instance
    first.close()
    second = loaded(sandbox)
    first.close()
    with pytest.raises(RuntimeError):
        first.reward()
    with pytest.raises(RuntimeError):
        instance.call("reward", (), LIMITS.fuel_per_call)
    assert (instance.memory_bytes, second.reward()) == (0, 0.5)


def test_threads_share_a_runtime(sandbox):
    actions = stream(0, 5)
    expected = said(loaded(sandbox), actions)
    heard: list[list[str]] = []

    def episodes():
        for _ in range(10):
            guest = loaded(sandbox)
            heard.append(said(guest, actions))
            guest.close()

    threads = [threading.Thread(target=episodes) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert heard == [expected] * 40


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["restore", "restore_over", "fork"])
def test_a_guest_goes_on_as_the_one_it_was_taken_from(sandbox, seed, way):
    """Addresses, hashes, sets, random numbers and clock included, whatever the memory's size was."""
    before, after = stream(seed, 30, 2_000_000 if seed % 2 else 3000), stream(~seed, 30)
    guest = loaded(sandbox)
    said(guest, before)
    assert (guest.memory_bytes > sandbox.guest().memory_bytes) == bool(seed % 2)
    if way == "fork":
        other = guest.fork()
    else:
        other = sandbox.guest()
        if way == "restore_over":
            other.load(sandbox.compile(PROGRAM), "Env", "{}")
            said(other, stream(99, 20, 3_000_000 if seed < 2 else 300))
        other.restore(guest.snapshot())
    assert other.memory_bytes == guest.memory_bytes
    assert other.snapshot() == guest.snapshot()
    assert said(other, after) == said(guest, after)
    assert other.snapshot() == guest.snapshot()
    guest.close()
    assert said(other, before[:5])
    other.close()


def test_a_restored_guest_lives_again(sandbox):
    guest = loaded(sandbox)
    image = guest.snapshot()
    expected = said(guest, stream(1, 5))
    with pytest.raises(GuestTrap):
        guest.run("def f(a):\n  while True: pass", "f", "")
    guest.restore(image)
    assert said(guest, stream(1, 5)) == expected


def test_equal_states_give_equal_images_whatever_the_instance_did_before(sandbox):
    play(sandbox, HOSTILE["writes_wide"])
    first = loaded(sandbox)
    play(sandbox, HOSTILE["stays"])
    second = loaded(Sandbox(LIMITS))
    assert first.snapshot() == second.snapshot()
    assert sandbox.guest().snapshot().content == b""


_GO_ON = """
import pickle, sys
from codegym_jax.config import SandboxConfig
from codegym_jax.envs.sandbox import Sandbox
image, actions = pickle.load(sys.stdin.buffer)
guest = Sandbox(SandboxConfig(fuel_per_call=100_000_000)).guest()
guest.restore(image)
print(ascii([str(outcome) for outcome in guest.step_many(actions)]))
"""


def test_an_image_travels_to_another_process(sandbox):
    guest = loaded(sandbox)
    said(guest, stream(5, 10, 2_000_000))
    sent = pickle.dumps((guest.snapshot(), stream(6, 10)))
    done = subprocess.run([sys.executable, "-c", _GO_ON], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().strip() == ascii(said(guest, stream(6, 10)))


def test_an_image_that_cannot_be_one_changes_nothing(sandbox):
    guest = loaded(sandbox)
    image = guest.snapshot()
    count = len(image.pages) // 4
    last = image.memory_bytes // PAGE_BYTES

    def numbered(*numbers: int) -> dict:
        pages = b"".join(number.to_bytes(4, "little") for number in numbers)
        return {"pages": pages, "content": bytes(len(numbers) * PAGE_BYTES)}

    bad = [
        {"guest_hash": "another"},
        {"memory_bytes": image.memory_bytes + 1},
        {"memory_bytes": 0},
        {"memory_bytes": -65_536},
        {"memory_bytes": image.memory_bytes - 65_536},
        {"memory_bytes": LIMITS.memory_bytes + 65_536},
        {"memory_bytes": 1 << 40},
        {"stack_pointer": -1},
        {"stack_pointer": 1 << 32},
        {"pages": image.pages[:-1]},
        {"pages": image.pages[:-4]},
        {"pages": image.pages * 2},
        {"content": image.content[:-1]},
        {"content": b""},
        numbered(last),
        numbered(0, 0),
        numbered(2, 1),
        numbered(0xFFFF_FFFF),
        numbered(*range(count), last + 5),
    ]
    for changes in bad:
        with pytest.raises(ValueError, match="the image"):
            guest.restore(dataclasses.replace(image, **changes))
        assert guest.snapshot() == image


def test_an_image_beyond_the_limits_is_refused(sandbox):
    """A guest of a smaller sandbox cannot hold it."""
    guest = loaded(sandbox)
    said(guest, [json.dumps(["keep", 20 << 20])])
    image = guest.snapshot()
    small = Sandbox(dataclasses.replace(LIMITS, memory_bytes=32 << 20)).guest()
    with pytest.raises(ValueError, match="bytes of memory"):
        small.restore(image)
    assert small.snapshot().content == b""


def test_where_the_system_tells_nothing_every_page_counts_as_written(runtime, monkeypatch):
    """Slower, and otherwise the same; nothing is used again."""
    sandbox = Sandbox(LIMITS, runtime=runtime)
    monkeypatch.setattr(runtime.recycler.fresh, "tells_written", False)
    first = sandbox.guest()
    instance = first._instance._instance
    first.close()
    guest = loaded(sandbox)
    assert guest._instance._instance is not instance
    said(guest, stream(7, 10, 2_000_000))
    other = sandbox.guest()
    other.restore(guest.snapshot())
    third = guest.fork()
    expected = said(guest, stream(8, 10))
    assert said(other, stream(8, 10)) == said(third, stream(8, 10)) == expected


@pytest.mark.skipif(not os.path.exists("/proc/self/pagemap"), reason="nothing to read, so nothing to fail")
def test_no_room_for_an_open_file_costs_time_only(sandbox):
    guest = loaded(sandbox)
    said(guest, stream(7, 10))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_file = os.open(os.devnull, os.O_RDONLY)
    os.close(next_file)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_file, limits[1]))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            os.open("/proc/self/pagemap", os.O_RDONLY)
        image, other = guest.snapshot(), guest.fork()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert image == guest.snapshot() == other.snapshot()
