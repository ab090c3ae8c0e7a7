"""The rows of `metrics.jsonl` in other tools' forms: TensorBoard and Weights & Biases, each behind an extra.

`metrics.jsonl` stays the truth: a sink only shows it. A resumed run writes some rows a second time, with the
same steps and, the clock apart, the same values; what each sink makes of that is said there.
"""

import importlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

_HEAD = ("stage", "step", "wall_s")


class MissingExtra(ValueError):
    """A sink that does not exist, or whose package is not installed; the message says what to do."""


@runtime_checkable
class Sink(Protocol):
    """Is shown every row once it is on the disk."""

    def write(self, row: Mapping[str, Any]) -> None:
        """Shows one row, as `MetricsWriter.write` returns it; a value of None is left out."""
        ...

    def close(self) -> None:
        """Nothing is written afterwards; may be called twice."""
        ...


class TensorBoard:
    """Event files in `<folder>/<stage>`, which TensorBoard shows as one run a stage.

    A process begins a stage with a file of its own, which tells TensorBoard to forget what earlier files say
    of its first step and later ones: a resumed run draws one line.

    Args:
      folder: is made when the first row comes.

    Raises:
      MissingExtra: without the package tensorboardX, a writer of event files that needs no TensorFlow.
    """

    def __init__(self, folder: Path) -> None:
        self._writers = _package("tensorboardX.event_file_writer", "tensorboard")
        self._events = _package("tensorboardX.proto.event_pb2", "tensorboard")
        self._summary = _package("tensorboardX.proto.summary_pb2", "tensorboard").Summary
        self._folder = folder
        self._files: dict[str, Any] = {}

    def write(self, row: Mapping[str, Any]) -> None:
        """See `Sink`."""
        values = [self._summary.Value(tag=name, simple_value=value) for name, value in _numbers(row)]
        file = self._file(row["stage"], row["step"])
        file.write_event(
            self._events.Event(wall_time=time.time(), step=row["step"], summary=self._summary(value=values))
        )
        file.flush()

    def close(self) -> None:
        """See `Sink`."""
        for file in self._files.values():
            file.close()
        self._files.clear()

    def _file(self, stage: str, step: int) -> Any:
        if stage not in self._files:
            folder = self._folder / stage
            folder.mkdir(parents=True, exist_ok=True)
            # Named by seconds and host: the suffix keeps files apart that are begun within one second.
            file = self._writers.EventsWriter(
                str(folder / "events"), f".{os.getpid()}.{secrets.token_hex(4)}"
            )
            start = self._events.SessionLog(status=self._events.SessionLog.START)
            file.write_event(self._events.Event(wall_time=time.time(), step=step, session_log=start))
            self._files[stage] = file
        return self._files[stage]


class WeightsAndBiases:
    """One W&B run for the run folder, which every process that resumes it goes on with.

    Values are logged as `<stage>/<name>` over `<stage>/step`. A step that is written again falls onto its
    first point. Where the run goes, and whether it goes anywhere, W&B reads from its own variables:
    `WANDB_MODE=offline` keeps it in the folder, `WANDB_PROJECT` and `WANDB_ENTITY` name its place.

    Args:
      folder: W&B's own files, and the id of the run, go into `<folder>/wandb`.
      name: of the run, as W&B shows it.
      config: the run's settings.

    Raises:
      MissingExtra: without the package wandb.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any]) -> None:
        wandb = _package("wandb", "wandb")
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "codegym-jax"),
            dir=str(folder),
            id=_run_id(folder / "wandb" / "run_id.txt"),
            name=name,
            config=dict(config),
            resume="allow",
        )
        self._stages: set[str] = set()

    def write(self, row: Mapping[str, Any]) -> None:
        """See `Sink`."""
        stage = row["stage"]
        if stage not in self._stages:
            self._run.define_metric(f"{stage}/step")
            self._run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            self._stages.add(stage)
        values = {f"{stage}/{name}": value for name, value in _numbers(row)}
        self._run.log(values | {f"{stage}/step": row["step"]})

    def close(self) -> None:
        """See `Sink`."""
        self._run.finish()


SINKS: dict[str, Callable[[Path, Mapping[str, Any]], Sink]] = {
    "tensorboard": lambda folder, config: TensorBoard(folder / "tensorboard"),
    "wandb": lambda folder, config: WeightsAndBiases(folder, folder.resolve().name, config),
}
"""Sink by name: what makes it, of the run folder and the run's settings."""


@contextmanager
def open_sinks(names: Sequence[str], folder: Path, config: Mapping[str, Any]) -> Iterator[list[Sink]]:
    """The sinks called so, for the time of a `with` block.

    Args:
      names: keys of `SINKS`.
      folder: of the run.
      config: the run's settings, as a nested dict.

    Raises:
      MissingExtra: when there is no such sink, or its package is not installed.
    """
    unknown = [name for name in names if name not in SINKS]
    if unknown:
        raise MissingExtra(f"there is no sink {unknown[0]!r}; known: {', '.join(SINKS)}")
    with ExitStack() as stack:
        sinks = []
        for name in dict.fromkeys(names):
            sinks.append(SINKS[name](folder, config))
            stack.callback(sinks[-1].close)
        yield sinks


def _numbers(row: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The row's values; what was not finite is a gap."""
    return [(name, float(value)) for name, value in row.items() if name not in _HEAD and value is not None]


def _run_id(path: Path) -> str:
    """The id kept in a file, which is made where it is missing."""
    if path.is_file() and re.fullmatch(r"[0-9a-f]{16}", path.read_text().strip()):
        return path.read_text().strip()
    run_id = secrets.token_hex(8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(run_id + "\n")
    return run_id


def _package(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the sink {extra!r} needs the package {error.name}: pip install 'codegym-jax[{extra}]'"
        ) from error
