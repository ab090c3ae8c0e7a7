"""The rounds of a benchmark of engines, its command line, its lines, and the table of them.

Every engine is a process that is started and warmed up once. A round asks each variant for one repetition,
one after the other, in an order that rotates, so that only one computes at a time and all see the same noise.
The variant `machine` measures what the device gives at best, in the same rounds.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.engines.checkpoint import SHAPES, Shape, ensure_checkpoint, read_shape
from benchmarks.engines.processes import OWN, EngineFailed, Variant, Worker, interpreter
from benchmarks.engines.worker import Job
from benchmarks.engines.workload import FULL, SMALL, Workload

MACHINE = "machine"
_CEILINGS = Variant(MACHINE, OWN, "ceilings")
_BYTES = {"float32": 4, "bfloat16": 2}
_MORE_IS_BETTER = ("tokens/s", "GB/s", "GFLOP/s", "x")
_CHECKPOINTS = pathlib.Path(__file__).resolve().parents[2] / "build" / "checkpoints"

Values = dict[tuple[str, str], dict[int, float]]
"""(measure, variant) -> round -> value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is computed: work, shape, and bytes of a number."""

    workload: Any
    shape: Shape
    number_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """The least that the ratio of `measure` to a peer is to be."""

    measure: str
    variant: str
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One comparison.

    Attributes:
      variants: ours first.
      measured: a reply to the values of its measures.
      first: our first reply and another's to facts that must agree, "agrees" among them.
      units: of every measure.
      compared: measures of which ratios are taken.
      ceiling: (measure, the machine's measure that bounds it, name of the share).
    """

    name: str
    variants: tuple[Variant, ...]
    measured: Callable[[dict[str, Any], Load], dict[str, float]]
    first: Callable[[dict[str, Any], dict[str, Any], Load], dict[str, Any]]
    units: dict[str, str]
    compared: tuple[str, ...]
    ceiling: tuple[str, str, str] | None
    goals: tuple[Goal, ...]


COMMON_UNITS = {"cpu": "s of CPU", "peak_memory": "GB", "copy_bandwidth": "GB/s", "matmul_rate": "GFLOP/s"}


def run(benchmark: Benchmark, about: str | None, arguments: Sequence[str] | None) -> int:
    """The command line of a benchmark; returns the exit code: 1 when an engine failed or did not agree."""
    options = _parse(benchmark, about, arguments)
    if options.table is not None:
        lines = map(json.loads, options.table.read_text(encoding="utf-8").splitlines())
        print(table(benchmark, lines), end="")
        return 0
    folder = options.weights or ensure_checkpoint(options.checkpoints, options.shape)
    load = Load(
        workload=_workload(benchmark.name, options),
        shape=read_shape(folder),
        number_bytes=_BYTES[options.dtype],
    )

    def job(variant: str) -> Job:
        return Job(
            benchmark=benchmark.name,
            variant=variant,
            shape=options.shape,
            checkpoint=str(folder),
            workload=load.workload,
            threads=options.threads,
            device=options.device,
            dtype=options.dtype,
        )

    chosen = [variant for variant in benchmark.variants if variant.name in options.only]
    return _Run(benchmark, load, options.python).measure([*chosen, _CEILINGS], job, options)


class _Run:
    """One run: its workers, its values, and whether all went well."""

    def __init__(self, benchmark: Benchmark, load: Load, pythons: dict[str, str]) -> None:
        self._benchmark, self._load, self._pythons = benchmark, load, pythons
        self._workers: dict[str, Worker] = {}
        self._compiled: dict[str, dict[str, int]] = {}
        self._values: Values = {}
        self._well = True

    def measure(self, variants: list[Variant], job: Callable[[str], Job], options: argparse.Namespace) -> int:
        """Starts the engines, runs the rounds, prints the lines."""
        self._print({"measure": MACHINE, **machine.describe(("numpy",))})
        shape = {"shape": options.shape, "parameters": self._load.shape.parameters}
        workload = dataclasses.asdict(self._load.workload)
        chosen = {name: getattr(options, name) for name in ("threads", "device", "dtype", "runs")}
        self._print({"measure": "settings", **shape, **chosen, "workload": workload})
        try:
            for variant in variants:
                self._start(variant, job(variant.name))
            for number in range(options.runs):
                self._print({"measure": "load_average", "round": number, "value": machine.load_average()})
                names = list(self._workers)
                turn = number % max(len(names), 1)
                for name in names[turn:] + names[:turn]:
                    self._round(name, number)
        finally:
            for worker in self._workers.values():
                worker.close()
        for name, counts in self._compiled.items():
            self._print({"measure": "compiled", "variant": name, **counts})
        for line in report(self._benchmark, self._values):
            self._print(line)
        return 0 if self._well else 1

    def _start(self, variant: Variant, job: Job) -> None:
        python = interpreter(variant.python, self._pythons)
        if python is None:
            reason = f"build/peers/{variant.python} is not there; `make bench-peers` makes it"
            self._print({"measure": "absent", "variant": variant.name, "reason": reason})
            return
        try:
            worker = Worker(python, variant, job)
        except EngineFailed as failure:
            self._failed(variant.name, failure)
            return
        warm = worker.warm
        self._workers[variant.name] = worker
        line = {"versions": warm["versions"], "warm_up_s": warm["warm_up_s"]}
        self._print({"measure": "engine", "variant": variant.name, **line})
        if "compiled" in warm:
            self._compiled[variant.name] = {"warm_up": warm["compiled"], "rounds": 0}
        ours = self._workers.get(self._benchmark.variants[0].name)
        if ours not in (None, worker) and variant.name != MACHINE:
            facts = self._benchmark.first(ours.warm["first"], warm["first"], self._load)
            self._well &= bool(facts["agrees"])
            self._print({"measure": "agreement", "variant": variant.name, **facts})

    def _round(self, name: str, number: int) -> None:
        try:
            reply = self._workers[name].round(number)
        except EngineFailed as failure:
            del self._workers[name]
            self._failed(name, failure)
            return
        if "compiled" in reply:
            counts = self._compiled[name]
            counts["rounds"] = reply["compiled"] - counts["warm_up"]
            if "programs" in reply:
                counts["of_the_sampler"] = reply["programs"]
        values = {measure: reply[measure] for measure in ("cpu", "peak_memory")}
        if name == MACHINE:
            values = {measure: reply[measure] / 1e9 for measure in ("copy_bandwidth", "matmul_rate")}
        else:
            values |= self._benchmark.measured(reply, self._load)
        for measure, value in values.items():
            self._values.setdefault((measure, name), {})[number] = value

    def _failed(self, name: str, failure: EngineFailed) -> None:
        self._well = False
        self._print({"measure": "failed", "variant": name, "reason": str(failure)})

    def _print(self, line: dict[str, Any]) -> None:
        print(json.dumps({"benchmark": self._benchmark.name, **line}), flush=True)


def report(benchmark: Benchmark, values: Values) -> list[dict[str, Any]]:
    """A line for each measure of each variant, each share of a ceiling, and each ratio of ours to a peer.

    A ratio says how many times better ours is: the ratio of the medians, with that of every round beside it.
    """
    units = {**COMMON_UNITS, **benchmark.units}
    lines = [
        _line(benchmark, measure, variant, list(rounds.values()), units[measure])
        for (measure, variant), rounds in values.items()
    ]
    if benchmark.ceiling is not None:
        measure, bound, share = benchmark.ceiling
        best = values.get((bound, MACHINE), {})
        for (name, variant), rounds in values.items():
            both = [number for number in rounds if number in best]
            if name == measure and both:
                shares = [rounds[number] / best[number] for number in both]
                lines.append(_line(benchmark, share, variant, shares, "of the machine's best"))
    own = benchmark.variants[0].name
    for (measure, variant), rounds in values.items():
        ours = values.get((measure, own), {})
        both = [number for number in rounds if number in ours]
        if measure in benchmark.compared and variant != own and both:
            more = units[measure] in _MORE_IS_BETTER
            ratios = [
                ours[number] / rounds[number] if more else rounds[number] / ours[number] for number in both
            ]
            line = _line(benchmark, "ratio", variant, ratios, "x", of=measure)
            medians = [statistics.median(found[number] for number in both) for found in (ours, rounds)]
            line["value"] = _rounded(medians[0] / medians[1] if more else medians[1] / medians[0])
            for goal in benchmark.goals:
                if (goal.measure, goal.variant) == (measure, variant):
                    line |= {"goal": goal.bound, "met": line["value"] >= goal.bound}
            lines.append(line)
    return lines


def table(benchmark: Benchmark, lines: Iterable[dict[str, Any]]) -> str:
    """A Markdown table of the lines of a run: variants down, measures across, ratios in brackets."""
    found = {(line["measure"], line["variant"], line.get("of", "")): line for line in lines if "unit" in line}
    measures = list(dict.fromkeys(measure for measure, _, of in found if not of))
    rows = [
        ["", *(f"{measure} ({found_unit(found, measure)})" for measure in measures)],
        ["---"] * (len(measures) + 1),
    ]
    for variant in dict.fromkeys(variant for _, variant, _ in found):
        cells = []
        for measure in measures:
            line, ratio = found.get((measure, variant, "")), found.get(("ratio", variant, measure))
            cell = "" if line is None else _shown(line["value"])
            cells.append(cell if ratio is None else f"{cell} ({_shown(ratio['value'])}x)")
        rows.append([f"`{variant}`", *cells])
    goals = [
        f"`{line['variant']}`, {line['of']}: {_shown(line['value'])}x over {line['runs']} runs, "
        f"goal {line['goal']}x, {'met' if line['met'] else 'missed'}\n"
        for line in found.values()
        if "goal" in line
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows) + ("\n" if goals else "") + "".join(goals)


def found_unit(found: dict[tuple[str, str, str], dict[str, Any]], measure: str) -> str:
    """The unit that the lines of a measure name."""
    return next(line["unit"] for (name, _, of), line in found.items() if name == measure and not of)


def _line(
    benchmark: Benchmark, measure: str, variant: str, values: list[float], unit: str, **more: str
) -> dict[str, Any]:
    values = [_rounded(value) for value in values]
    return {
        "benchmark": benchmark.name,
        "measure": measure,
        "variant": variant,
        **more,
        "value": _rounded(statistics.median(values)),
        "unit": unit,
        "runs": len(values),
        "values": values,
    }


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")


def _shown(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _workload(name: str, options: argparse.Namespace) -> Workload:
    workload = (SMALL if options.shape == "tiny" else FULL)[name]
    known = {field.name for field in dataclasses.fields(workload)}
    unknown = sorted(set(options.set) - known)
    if unknown:
        raise SystemExit(f"--set: no size {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return dataclasses.replace(workload, **options.set)


def _parse(benchmark: Benchmark, about: str | None, arguments: Sequence[str] | None) -> argparse.Namespace:
    names = [variant.name for variant in benchmark.variants]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{benchmark.name}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--shape",
        choices=SHAPES,
        default="smollm2-135m",
        help="of the random weights (%(default)s); tiny: seconds, too small for figures",
    )
    parser.add_argument("--runs", type=int, default=0, help="rounds (5; 2 with --shape tiny)")
    parser.add_argument("--threads", type=int, default=cores, help="of every engine (all cores)")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="(%(default)s)")
    parser.add_argument("--dtype", choices=_BYTES, default="float32", help="(%(default)s)")
    parser.add_argument(
        "--only",
        type=lambda text: text.split(","),
        default=names,
        metavar="NAME,...",
        help=f"variants: {', '.join(names)}",
    )
    parser.add_argument(
        "--set",
        action=_Pairs,
        convert=int,
        default={},
        metavar="SIZE=N",
        help="another size of the workload, such as rows=64; may be repeated",
    )
    parser.add_argument(
        "--python",
        action=_Pairs,
        convert=str,
        default={},
        metavar="NAME=PATH",
        help="the interpreter of torch, tunix or trl, where it is not in build/peers; may be repeated",
    )
    parser.add_argument(
        "--weights", type=pathlib.Path, metavar="FOLDER", help="a Hugging Face folder of the Llama family"
    )
    parser.add_argument(
        "--checkpoints",
        type=pathlib.Path,
        default=_CHECKPOINTS,
        metavar="FOLDER",
        help="where random weights are kept (build/checkpoints)",
    )
    parser.add_argument(
        "--table", type=pathlib.Path, metavar="FILE", help="render the lines of a file as Markdown"
    )
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.only) - set(names))
    if unknown:
        parser.error(f"--only: no variant {', '.join(unknown)}; there are {', '.join(names)}")
    options.runs = options.runs or (2 if options.shape == "tiny" else 5)
    return options


class _Pairs(argparse.Action):
    """Collects NAME=VALUE into a dict."""

    def __init__(self, *arguments: Any, convert: Callable[[str], Any], **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._convert = convert

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        name, equals, text = str(values).partition("=")
        try:
            if not (name and equals):
                raise ValueError
            pair = {name: self._convert(text)}
        except ValueError:
            parser.error(f"{option_string} takes {self.metavar}, got {values!r}")
        setattr(namespace, self.dest, {**getattr(namespace, self.dest), **pair})
