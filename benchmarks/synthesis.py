"""How fast coding problems become verified tasks, and what each stage costs.

    python -m benchmarks.synthesis [--problems N] [--runs N] [--sources NAME...] [> results.jsonl]

Prints JSON lines: the machine, the load average before each round, then per measure the median over rounds
with the value of every round. A round makes the environments of all problems in this process, stage by stage,
then compares, splits and writes them, then makes the whole task set again with all cores (`pipeline`). Stages
are in CPU milliseconds for each problem that entered, so that they add up.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from benchmarks import machine
from codegym_jax.config import DataConfig, RunConfig, SandboxConfig, SynthesisConfig
from codegym_jax.data.splits import split_tasks
from codegym_jax.data.task_set import write_task_set
from codegym_jax.envs.codegym_format import task_row
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.synth import synthesize
from codegym_jax.synthesis.environments import Made, Workshop
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.problems import Problem, load_problems
from codegym_jax.synthesis.stages import near_duplicates, signatures_of, signed

_SEED = 0
STAGES = ("outline", "verify", "determinism", "shortcut", "features", "signature", "near_duplicate", "write")
UNITS = dict.fromkeys(STAGES, "ms of CPU per problem") | {
    "problems": "problems/s",
    "pipeline": "problems/s",
    "environments": "environments",
    "tasks": "tasks",
    "tasks_per_core": "tasks/s of one core",
}


class Clock:
    """CPU seconds by stage."""

    def __init__(self) -> None:
        self.spent_s: Counter[str] = Counter()

    @contextmanager
    def at(self, stage: str) -> Iterator[None]:
        """Adds what is spent inside to the stage's."""
        start_s = machine.cpu_s()
        yield
        self.spent_s[stage] += machine.cpu_s() - start_s

    def wrapped(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, its time on the clock."""

        def timed(*arguments: Any, **settings: Any) -> Any:
            with self.at(stage):
                return function(*arguments, **settings)

        return timed


class ObservedWorkshop(Workshop):
    """A workshop whose stages are on a clock; what they do is the workshop's own."""

    clock = Clock()

    def watch(self) -> Clock:
        """Starts a new clock."""
        self.clock = Clock()
        return self.clock

    def _run(self, *arguments: Any) -> Any:
        return self.clock.wrapped("outline", super()._run)(*arguments)

    def _verified(self, *arguments: Any) -> Any:
        return self.clock.wrapped("verify", super()._verified)(*arguments)

    def _filtered(self, *arguments: Any) -> Any:
        unstable = self._determinism.unstable
        self._determinism.unstable = self.clock.wrapped("determinism", unstable)
        try:
            return self.clock.wrapped("filters", super()._filtered)(*arguments)
        finally:
            del self._determinism.unstable  # the class's own again


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = _parse(arguments)
    synthesis = SynthesisConfig(
        seed=_SEED,
        sources=tuple(options.sources),
        problems_per_source=options.problems,
        learnable_environments=0,
    )
    config = RunConfig(synthesis=synthesis, data=DataConfig(heldout_environments=0))
    problems = load_problems(synthesis.sources, synthesis.problems_per_source, synthesis.seed)
    _print({"measure": "machine", **machine.describe(), "guest_hash": Sandbox(SandboxConfig()).guest_hash})
    _print({"measure": "problems_of", "sources": options.sources, "value": len(problems)})
    workshop = ObservedWorkshop(config.sandbox, synthesis, synthesis.seed, None)
    values: dict[str, list[float]] = {}
    for number in range(options.runs):
        _print({"measure": "load_average", "round": number, "value": machine.load_average()})
        for measure, value in _round(workshop, problems, config).items():
            values.setdefault(measure, []).append(float(f"{value:.5g}"))
    for measure, found in values.items():
        line = {
            "value": statistics.median(found),
            "unit": UNITS[measure],
            "runs": len(found),
            "values": found,
        }
        _print({"measure": measure, **line})
    return 0


def _round(workshop: ObservedWorkshop, problems: Sequence[Problem], config: RunConfig) -> dict[str, float]:
    clock = workshop.watch()
    started_s, start_s = machine.cpu_s(), perf_counter()
    results = [workshop.make(problem) for problem in problems]
    all_s, wall_s = machine.cpu_s() - started_s, perf_counter() - start_s
    spent = clock.spent_s
    spent["shortcut"] = spent["filters"] - spent["determinism"]
    spent["features"] = all_s - spent["outline"] - spent["verify"] - spent.pop("filters")
    made = {one.spec.env_id: one for one in results if isinstance(one, Made)}
    tasks = sum(len(one.tasks) for one in made.values())
    with clock.at("signature"):
        made = {env_id: signed(one) for env_id, one in made.items()}
    with clock.at("near_duplicate"):
        removed = near_duplicates(made)
        kept = {env_id: one for env_id, one in made.items() if env_id not in removed}
        families = similar.families(signatures_of(kept))
    with tempfile.TemporaryDirectory() as folder:
        with clock.at("write"):
            _write(Path(folder) / "task_set", kept, families)
        start_s = perf_counter()
        synthesize(config, Path(folder) / "cache", Console(quiet=True))
        pipeline_s = perf_counter() - start_s
    return {
        "problems": len(problems) / wall_s,
        "pipeline": len(problems) / pipeline_s,
        "environments": len(made),
        "tasks": tasks,
        "tasks_per_core": tasks / all_s,
        **{stage: 1000 * spent[stage] / len(problems) for stage in STAGES},
    }


def _write(folder: Path, made: dict[str, Made], families: dict[str, str]) -> None:
    tasks = [task for one in made.values() for task in one.tasks]
    split_of = split_tasks(
        {task.task_id: task.env_id for task in tasks},
        learnable_env_ids=(),
        seed=_SEED,
        heldout_environments=0,
        validation_configs=0,
        test_configs=0,
        families=families,
    )
    rows = (task_row(made[task.env_id].spec, task, index) for index, task in enumerate(tasks))
    write_task_set(folder, [one.spec for one in made.values()], tasks, {}, split_of, {}, rows=rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.synthesis",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--problems", type=int, default=40, help="of each source (40)")
    parser.add_argument("--runs", type=int, default=5, help="rounds (5)")
    parser.add_argument(
        "--sources", nargs="+", default=["humaneval", "codeio"], help="as in synthesis.sources"
    )
    return parser.parse_args(arguments)


def _print(line: dict[str, Any]) -> None:
    print(json.dumps({"benchmark": "synthesis", **line}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
