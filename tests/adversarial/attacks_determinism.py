"""Attacks on sameness: every source of time and chance gives the same in every guest, and never the host's.

Where the build of the guest decides the value, a pattern stands for it, and playing the row again must give
the same text.
"""

import re

from attack import OUTSIDE, TOO_BIG, episode, tool
from victim import ACT, TOTAL

_ANY = re.compile(r"[-\w .,:;()\[\]{}'<>=/]+")

CLOCK = [
    tool(
        "the clock",
        "starts in 2020 and goes on a millisecond a reading",
        "import time\nreturn str([time.time(), time.time_ns(), time.monotonic(), time.perf_counter_ns()])",
        "[1577836800.001, 1577836800002000000, 0.003, 4000000]",
    ),
    tool(
        "the date",
        "the same clock",
        """
        from datetime import UTC, date, datetime
        return str([str(datetime.now()), str(date.today()), str(datetime.now(UTC))])
        """,
        "['2020-01-01 00:00:00.001000', '2020-01-01', '2020-01-01 00:00:00.003000+00:00']",
    ),
    tool(
        "the local time",
        "the guest lives in UTC",
        """
        import time
        return str([time.ctime(), time.tzname, time.strftime("%Z %z"), time.localtime().tm_isdst])
        """,
        "['Wed Jan  1 00:00:00 2020', ('UTC', 'UTC'), 'UTC +0000', 0]",
    ),
    tool(
        "a nap",
        "takes as long as it says, on the guest's clock",
        "import time\nstart = time.time_ns()\ntime.sleep(60)\nreturn str(time.time_ns() - start)",
        "60001000000",
    ),
    tool(
        "waiting for the clock to strike",
        "it does, a millisecond a reading",
        "import time\nwhile time.time_ns() % 10**9: pass\nreturn str(time.time_ns())",
        "1577836801001000000",
    ),
    tool(
        "a nap into the past",
        "refused",
        "import time\ntime.sleep(-1)",
        "Error: sleep length must be non-negative",
    ),
    tool(
        "a nap beyond all time",
        "refused",
        "import time\ntime.sleep(float('inf'))",
        "Error: cannot convert float infinity to integer",
    ),
    tool(
        "a date beyond all dates",
        "an error like others",
        "import time, datetime\ntime.sleep(1e15)\nreturn str(datetime.datetime.now())",
        "Error: year must be in 1..9999, not 31690758",
    ),
    tool(
        "the clock's own data",
        "that of this clock",
        "import time\nreturn str(time.get_clock_info('time'))",
        "namespace(implementation='codegym', monotonic=True, adjustable=False, resolution=0.001)",
    ),
    episode(
        "the clock over an episode",
        "readings count, not calls or waiting between them",
        [(ACT, "1"), (ACT, "2"), (TOTAL, "0"), (ACT, "3")],
        act="import time\nreturn str(time.monotonic_ns() // 10**6)",
    ),
]

CHANCE = [
    tool(
        "random",
        "starts from seed 0 in every guest",
        "import random\nreturn str([random.random(), random.randrange(100)])",
        "[0.8444218515250481, 97]",
    ),
    tool(
        "random, seeded by nothing",
        "by the fixed stream then",
        "import random\nrandom.seed()\nreturn str(random.random() == random.Random().random())",
        "False",
    ),
    tool(
        "os.urandom",
        "a fixed stream",
        "import os\nreturn os.urandom(8).hex()",
        "affff127eca95e42",
    ),
    tool(
        "secrets",
        "the same stream",
        "import secrets\nreturn secrets.token_hex(8)",
        "affff127eca95e42",
    ),
    tool("uuid4", "the same stream", "import uuid\nreturn str(uuid.uuid4())", re.compile(r"[0-9a-f-]{36}")),
    tool("uuid1", "asks for the network card: a stub", "import uuid\nreturn str(uuid.uuid1())", OUTSIDE),
    tool(
        "SystemRandom",
        "the same stream",
        "import random\nreturn str(random.SystemRandom().random())",
        re.compile(r"0\.\d+"),
    ),
    tool(
        "the C class behind random",
        "asks the system: a stub",
        "import _random\nreturn str(_random.Random())",
        OUTSIDE,
    ),
    tool("1 GiB of chance", "is memory like other", "import os\nreturn str(len(os.urandom(10**9)))", TOO_BIG),
]

ADDRESSES = [
    tool("hashes", "the seed is the build's", "return str([hash('a'), hash(b'a'), hash(object)])", _ANY),
    tool("the order of a set", "follows the hashes", "return str({*'abcdefgh'})", _ANY),
    tool(
        "addresses",
        "memory is laid out alike",
        "return str([id(self), id(object()), object(), print])",
        _ANY,
        travels=False,
    ),
    tool("who is who", "there is one thread", "import threading\nreturn str(threading.get_ident())", _ANY),
    tool("the collector's count", "alike too", "import gc\nreturn str(gc.get_count())", _ANY, travels=False),
    tool(
        "the build",
        "is the guest's own",
        "import sys\nreturn sys.version",
        re.compile(r"3\.14\.\d+ \(main, .*"),
    ),
]

ATTACKS = CLOCK + CHANCE + ADDRESSES
