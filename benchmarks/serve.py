"""How fast answers are served: `codegym serve` beside the server of llama-cpp-python, on one GGUF file.

    python -m benchmarks.serve [--shape tiny] [--runs N] [--concurrency 1 8 32] [> results.jsonl]
    python -m benchmarks.serve --table results.jsonl

Clients stream answers of 128 tokens to prompts of 128 letters (a token each), 1, 8 and 32 of them at once,
two answers each. `tokens_per_s` is all answers' tokens over the time until the last of them; `first_token` is
the median time to the first text, `first_token_p90` that of the slowest tenth. Weights are float32. Both
servers are there all the time, on the same number of cores, and a round asks one after the other, in rotating
order.
"""

import argparse
import contextlib
import json
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import machine
from benchmarks.engines import chat_load
from benchmarks.engines.checkpoint import SHAPES, ensure_checkpoint
from benchmarks.engines.gguf_file import ensure_gguf
from benchmarks.engines.processes import OWN, interpreter

_CHECKPOINTS = pathlib.Path(__file__).resolve().parents[1] / "build" / "checkpoints"
_UNITS = {"tokens_per_s": "tokens/s", "first_token": "s", "first_token_p90": "s"}
_PATIENCE_S = 900.0  # for a server to load and compile


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What every server is told."""

    model: pathlib.Path
    port: int
    slots: int
    context: int
    threads: int


def _codegym(python: str, given: Settings) -> list[str]:
    return [
        *(python, "-m", "codegym_jax.cli", "serve", str(given.model), "--port", str(given.port)),
        *("--slots", str(given.slots), "--context", str(given.context), "--dtype", "float32"),
    ]


def _llama_cpp(python: str, given: Settings) -> list[str]:
    """One request at a time is all that it does; others wait, as it is told not to interrupt."""
    threads = str(given.threads)
    return [
        *(python, "-m", "llama_cpp.server", "--model", str(given.model), "--port", str(given.port)),
        *("--n_ctx", str(given.context), "--n_threads", threads, "--n_threads_batch", threads),
        *("--interrupt_requests", "False", "--verbose", "False"),
    ]


SERVERS: dict[str, tuple[str, Callable[[str, Settings], list[str]]]] = {
    "codegym": (OWN, _codegym),
    "llama_cpp": ("llama", _llama_cpp),
}
"""Whose Python runs it, and its command line; ours first."""


class _Server:
    """A server that answers, until it is closed."""

    def __init__(self, command: list[str], port: int, threads: int) -> None:
        self.port = port
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed in `close`)
        pools = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"), str(threads))
        environment = {**os.environ, **pools, "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=self._errors
        )
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, sorted(os.sched_getaffinity(0))[:threads])
        give_up_s = time.monotonic() + _PATIENCE_S
        while not chat_load.is_ready(port):
            if self._process.poll() is not None or time.monotonic() > give_up_s:
                raise RuntimeError(f"{command[2]} is not ready: {self.last_words()}")
            time.sleep(0.5)

    @property
    def cpu_s(self) -> float:
        """That it has used."""
        return machine.cpu_s([self._process.pid]) - machine.cpu_s()

    def last_words(self) -> str:
        """The end of what it told."""
        self._errors.seek(0)
        return self._errors.read()[-1000:]

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._errors.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code: 1 when a server failed."""
    options = _parse(arguments)
    if options.table is not None:
        print(_table(map(json.loads, options.table.read_text(encoding="utf-8").splitlines())), end="")
        return 0
    return _measure(options)


def _measure(options: argparse.Namespace) -> int:
    model = ensure_gguf(ensure_checkpoint(_CHECKPOINTS, options.shape))
    print_line(measure="machine", **machine.describe(("jax", "uvicorn")))
    chosen = ("shape", "threads", "runs", "prompt", "tokens", "answers", "slots", "concurrency")
    print_line(measure="settings", **{name: getattr(options, name) for name in chosen})
    values: dict[tuple[str, str, int], list[float]] = {}
    well = True
    with contextlib.ExitStack() as stack:
        servers: dict[str, _Server] = {}
        for name in options.only:
            try:
                server = _start(name, model, options)
            except RuntimeError as error:
                well = False
                print_line(measure="failed", variant=name, reason=str(error))
                continue
            if server is None:
                reason = f"build/peers/{SERVERS[name][0]} is not there; `make bench-peers` makes it"
                print_line(measure="absent", variant=name, reason=reason)
                continue
            stack.callback(server.close)
            servers[name] = server
        for round in range(-1, options.runs):  # the first does not count
            print_line(measure="load_average", round=round, value=machine.load_average())
            turn = round % max(len(servers), 1)
            for name in [*list(servers)[turn:], *list(servers)[:turn]]:
                for clients in options.concurrency:
                    for measure, value in _round(servers[name], clients, round, options).items():
                        if round >= 0:
                            values.setdefault((measure, name, clients), []).append(value)
    for line in report(values):
        print_line(**line)
    return 0 if well else 1


def _start(name: str, model: pathlib.Path, options: argparse.Namespace) -> _Server | None:
    python = interpreter(SERVERS[name][0], {})
    if python is None:
        return None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = options.prompt + options.tokens + 64
    settings = Settings(model=model, port=port, slots=options.slots, context=context, threads=options.threads)
    return _Server(SERVERS[name][1](python, settings), port, options.threads)


def _round(server: _Server, clients: int, round: int, options: argparse.Namespace) -> dict[str, float]:
    cpu_s = server.cpu_s
    seconds, heard = chat_load.load(
        server.port,
        clients=clients,
        answers=options.answers,
        prompt=options.prompt,
        tokens=options.tokens,
        seed=f"{round} {clients}",
    )
    waits = [one.first_token_s for one in heard]
    return {
        "tokens_per_s": sum(one.tokens for one in heard) / seconds,
        "first_token": statistics.median(waits),
        "first_token_p90": chat_load.percentile(waits, 0.9),
        "cpu": server.cpu_s - cpu_s,
    }


def report(values: dict[tuple[str, str, int], list[float]]) -> Iterator[dict[str, Any]]:
    """A line for every measure of every server and concurrency, and how many times better ours is."""
    own = next(iter(SERVERS))
    for (measure, name, clients), rounds in values.items():
        line = {"measure": measure, "variant": name, "concurrency": clients}
        unit = _UNITS.get(measure, "s of CPU")
        yield {
            **line,
            "value": _rounded(statistics.median(rounds)),
            "unit": unit,
            "rounds": [*map(_rounded, rounds)],
        }
        ours = values.get((measure, own, clients))
        if name != own and ours and measure in _UNITS:
            one, other = statistics.median(ours), statistics.median(rounds)
            ratio = one / other if unit == "tokens/s" else other / one
            yield {**line, "measure": "ratio", "of": measure, "value": _rounded(ratio), "unit": "x"}


def print_line(**line: Any) -> None:
    """Prints a line of JSON."""
    print(json.dumps({"benchmark": "serve", **line}), flush=True)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _table(lines: Iterator[dict[str, Any]]) -> str:
    """Medians as Markdown: a row for each measure and concurrency, a column for each server."""
    cells: dict[tuple[str, int], dict[str, str]] = {}
    for line in lines:
        if line["measure"] in _UNITS:
            row = cells.setdefault((f"{line['measure']} ({line['unit']})", line["concurrency"]), {})
            row[line["variant"]] = f"{line['value']:.3g}"
    head = "".join(f" {name} |" for name in SERVERS)
    text = f"| measure | clients |{head}\n|---|---|{'---|' * len(SERVERS)}\n"
    for (measure, clients), row in cells.items():
        text += f"| {measure} | {clients} |" + "".join(f" {row.get(name, '')} |" for name in SERVERS) + "\n"
    return text


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="smollm2-135m")
    parser.add_argument("--only", nargs="+", choices=SERVERS, default=list(SERVERS), metavar="SERVER")
    parser.add_argument("--concurrency", nargs="+", type=int, default=[1, 8, 32], metavar="CLIENTS")
    parser.add_argument("--runs", type=int, default=5, help="rounds that count")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=32, help="of codegym serve")
    parser.add_argument("--prompt", type=int, default=128, help="letters")
    parser.add_argument("--tokens", type=int, default=128, help="of an answer")
    parser.add_argument("--answers", type=int, default=2, help="of each client")
    parser.add_argument("--table", type=pathlib.Path, metavar="RESULTS", help="only print results as a table")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
