"""Verification with a process per test: load the class, play its `solve`, look at the reward.

    python -m benchmarks.peers.verifier process_spawned|process_forked|process_forked_warm

Reads JSON lines [[source, class_name, config], ...] and answers each with {"seconds", "passed"}. Spawned is
what the published verifier does, its memory tracing on; forked is the same with cheaper processes, from a
parent that has not imported gymnasium, like the published one; forked warm has it imported and traces no
memory.
Source: CodeGym, arXiv 2509.17325, section 3.3, and its `gym/3_solve_fc_with_unit_test.py`.
"""

import contextlib
import io
import json
import multiprocessing
import sys
import time
import tracemalloc
from typing import Any

from benchmarks.peers.native_class import construct, load_class

_TIMEOUT_S = 30.0  # far above any test; the published one kills at 3 s


def main() -> None:
    way = sys.argv[1]
    if way == "process_forked_warm":
        import gymnasium  # noqa: F401
    context = multiprocessing.get_context("spawn" if way == "process_spawned" else "fork")
    for line in sys.stdin:
        tests = json.loads(line)
        start_s = time.perf_counter()
        passed = sum(_passes(context, test, traced=way != "process_forked_warm") for test in tests)
        seconds = time.perf_counter() - start_s
        print(json.dumps({"seconds": seconds, "passed": passed}), flush=True)


def _passes(context: Any, test: list[str], traced: bool) -> bool:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, *test, traced))
    process.start()
    process.join(_TIMEOUT_S)
    if process.is_alive():
        process.kill()
        process.join()
    passed = ours.poll() and ours.recv()
    for thing in (process, ours, theirs):
        thing.close()
    return bool(passed)


def _run(pipe: Any, source: str, class_name: str, config: str, traced: bool) -> None:
    if traced:
        tracemalloc.start()
    with contextlib.redirect_stdout(io.StringIO()):
        episode = construct(load_class(source, class_name), config)
        episode.solve()
    pipe.send(episode.reward == 1)


if __name__ == "__main__":
    main()
