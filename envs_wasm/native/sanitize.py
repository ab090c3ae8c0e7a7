"""Runs the C guest under the compiler's sanitizers: `python -m envs_wasm.native.sanitize`.

Compiles it for this machine with the C compiler named by `CC` (or `cc`), which must have those for addresses
and for undefined behavior, and plays the corpus, whole and with bytes broken. The first fault ends it with
the compiler's report.
"""

import os
import pathlib
import random
import subprocess
import sys

from envs_wasm.native import corpus
from envs_wasm.native.build import GUEST_FILES, NATIVE, WARNINGS, WORK

LOAD, STEP, STEP_MANY, SOLVE, ANSWER, REWARD = range(6)
Call = tuple[int, tuple[bytes, ...]]

_CLASS = b"WarehouseEnv"
_FRAME_BYTES = 4


def compile_sanitized() -> pathlib.Path:
    """The guest and `sanitized.c` as a program.

    Raises:
      FileNotFoundError, subprocess.CalledProcessError: when there is no such compiler.
    """
    WORK.mkdir(parents=True, exist_ok=True)
    program = WORK / "sanitized"
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    command = [os.environ.get("CC", "cc"), "-std=c17", "-O1", "-g", *WARNINGS, *sanitizers]
    subprocess.run([*command, "-o", program, *GUEST_FILES, "sanitized.c"], check=True, cwd=NATIVE)
    return program


def play(program: pathlib.Path, calls: list[Call]) -> list[bytes]:
    """The replies to calls, made one after the other.

    Raises:
      subprocess.CalledProcessError: when a sanitizer found a fault.
    """
    stream = b"".join(bytes((export,)) + b"".join(map(framed, arguments)) for export, arguments in calls)
    output = subprocess.run([program], input=stream, stdout=subprocess.PIPE, check=True).stdout
    replies, position = [], 0
    while position < len(output):
        start = position + _FRAME_BYTES
        position = start + int.from_bytes(output[position:start], "little")
        replies.append(output[start:position])
    return replies


def framed(data: bytes) -> bytes:
    """Data behind its length, a little-endian u32."""
    return len(data).to_bytes(_FRAME_BYTES, "little") + data


def episode_calls(config: str, actions: list[str]) -> list[Call]:
    """An episode taken step by step, again in one call, and by the oracle."""
    load = (LOAD, (b"", _CLASS, config.encode()))
    steps = [(STEP, (action.encode(),)) for action in actions]
    many = (STEP_MANY, (b"".join(framed(action.encode()) for action in actions),))
    ends = [(ANSWER, ()), (REWARD, ())]
    return [load, *steps, *ends, load, many, *ends, load, (SOLVE, (bytes(1000),)), *ends]


def broken_calls(seed: int) -> list[Call]:
    """An episode whose config and actions hold broken bytes, and whose last frame is shorter than it says."""
    rng = random.Random(seed)
    config, actions = corpus.episode(seed)
    broken = [corpus.broken(rng, action) for action in actions]
    many = b"".join(map(framed, broken))[: -rng.randrange(1, 20)]
    return [
        (LOAD, (b"code", _CLASS, corpus.broken(rng, config))),
        *((STEP, (action,)) for action in broken),
        (LOAD, (b"", corpus.broken(rng, "WarehouseEnv"), config.encode())),
        (LOAD, (b"", _CLASS, config.encode())),
        *((STEP, (action,)) for action in broken),
        (STEP_MANY, (many,)),
    ]


def large_calls() -> list[Call]:
    """Configs at the limits and beyond, the oracle on them, and more observations than memory holds."""
    observe = b'{"name": "Observe", "parameters": {}}'
    tries = ((SOLVE, (bytes(4000),)), (STEP, (observe,)), (STEP_MANY, (framed(observe) * 2000,)))
    return [
        call
        for config in corpus.limit_configs().values()
        for attempt in tries
        for call in ((LOAD, (b"", _CLASS, config.encode())), attempt)
    ]


def main(episodes: int) -> None:
    """Plays so many episodes of each kind."""
    program = compile_sanitized()
    kinds = {
        "whole": [call for seed in range(episodes) for call in episode_calls(*corpus.episode(seed))],
        "broken": [call for seed in range(episodes) for call in broken_calls(seed)],
        "large": large_calls(),
    }
    for kind, calls in kinds.items():
        play(program, calls)
        print(f"{kind}: {len(calls)} calls, no fault")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000)
