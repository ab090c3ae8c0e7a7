"""Private memory of many live environments: one JSON line {"bytes"}, from a process that does nothing else.

    python -m benchmarks.live_memory VARIANT COUNT

Where environments share this process, one more lives before the first look, so that what all of them share is
not counted. Where each has a process of its own, that process counts whole.
"""

import json
import sys
from contextlib import ExitStack

from benchmarks import machine
from benchmarks.variants import VARIANTS, Episode, Server, Subprocess, Variant
from benchmarks.warehouse import Workload, make_workload


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    workload = make_workload(0)
    with ExitStack() as stack:

        def start() -> Variant:
            variant = VARIANTS[name](workload)
            stack.callback(variant.close)
            return variant

        variant = start()
        if isinstance(variant, Server | Subprocess):
            variants = [variant, *(start() for _ in range(count - 1))]
            episodes = [_play(each, workload) for each in variants]
            children = [child for each in variants for child in each.children]
            private = sum(map(machine.private_bytes, children))
        else:
            episodes = [_play(variant, workload)]
            before = machine.private_bytes()
            episodes += [_play(variant, workload) for _ in range(count)]
            private = machine.private_bytes() - before
        for episode in episodes:
            episode.close()
    print(json.dumps({"bytes": private}))


def _play(variant: Variant, workload: Workload) -> Episode:
    """An episode after all its calls but `Done`."""
    episode = variant.open()
    for action in workload.actions[:-1]:
        episode.step(action)
    return episode


if __name__ == "__main__":
    main()
