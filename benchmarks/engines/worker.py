"""The worker's side: one engine in one process, told over pipes when to compute.

The command line is `python -m benchmarks.engines.<module> JOB` with a job as JSON. The worker answers once
when it is warm, then once for each number of a round that it reads, and ends with its input. What libraries
print goes to standard error.
"""

import json
import os
import resource
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.engines.workload import Decode, MultiTurn, RlStep, TrainStep, Workload

_KINDS: dict[str, type[Workload]] = {
    "decode": Decode,
    "multi_turn": MultiTurn,
    "rl_step": RlStep,
    "train_step": TrainStep,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker is to do; `parse` and `text` carry it over the command line."""

    benchmark: str
    variant: str
    shape: str
    checkpoint: str
    workload: Workload
    threads: int
    device: str
    dtype: str

    def text(self) -> str:
        """The job as JSON."""
        return json.dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> "Job":
        """The job that `text` gave."""
        fields = json.loads(text)
        return Job(**{**fields, "workload": _KINDS[fields["benchmark"]](**fields["workload"])})


class Engine(Protocol):
    """One variant of one benchmark, loaded."""

    def round(self, number: int) -> dict[str, Any]:
        """One repetition: seconds, counts and tokens by name, of which the benchmark makes its measures."""
        ...

    def versions(self) -> dict[str, str]:
        """The packages that matter, and the device."""
        ...


def serve(engines: Mapping[str, Callable[[Job], Engine]], warm_up_rounds: int = 2) -> None:
    """Runs the worker until its input ends.

    Args:
      engines: by benchmark.
      warm_up_rounds: rounds before the first that counts; a second finds what compiles again for arrays
        that come out of the first.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    job = Job.parse(sys.argv[1])

    def answer(reply: dict[str, Any]) -> None:
        answers.write(json.dumps(reply) + "\n")
        answers.flush()

    try:
        start_s = time.perf_counter()
        engine = engines[job.benchmark](job)
        first, *others = [engine.round(-1 - number) for number in range(warm_up_rounds)]
        warm_up_s = round(time.perf_counter() - start_s, 1)
        counts = {name: value for name, value in [first, *others][-1].items() if name == "compiled"}
        answer({"versions": engine.versions(), "warm_up_s": warm_up_s, "first": first, **counts})
        for line in sys.stdin:
            cpu_s = time.process_time()
            values = engine.round(int(line))
            values["cpu"] = time.process_time() - cpu_s
            values["peak_memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
            answer(values)
    except Exception:  # the worker's boundary: the parent reports it and goes on with the others
        answer({"error": traceback.format_exc()})
    answers.close()
    sys.stderr.flush()
    os._exit(0)  # some engines leave threads that never end
