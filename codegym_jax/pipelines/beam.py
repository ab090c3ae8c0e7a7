"""The steps of synthesis as jobs of Apache Beam: the same functions, and results that are files by key.

Items and results lie in a folder that the workers reach: beside the journal for Beam in this process, under
`--temp_location` for Dataflow. A result that is there is not made again, so a job may be killed anywhere.
"""

import hashlib
import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from codegym_jax.config import ConfigError, SandboxConfig, SynthesisConfig
from codegym_jax.envs.pool import WorkerFailure
from codegym_jax.pipelines.workers import ON_WORKSHOP, pack
from codegym_jax.synthesis.environments import Workshop

# "DirectRunner" would look for a server program on the network first, and then take this one.
RUNNER_OF = {
    "direct": "apache_beam.runners.portability.fn_api_runner.FnApiRunner",
    "dataflow": "DataflowRunner",
}
_RESULT, _FAILURE = "result", "failure"
_READERS = 16  # threads that fetch results


class BeamWorkers:
    """Workers of a Beam runner."""

    def __init__(
        self, sandbox: SandboxConfig, synthesis: SynthesisConfig, runner: str, options: Sequence[str]
    ):
        """Settles what the jobs will need; starts nothing.

        Args:
          runner: a key of `RUNNER_OF`.
          options: of Beam, as its own programs take them on the command line.

        Raises:
          ConfigError: when the runner is Dataflow and an option that it needs is missing.
        """
        self._settings = (sandbox, synthesis, synthesis.seed)
        self._options = PipelineOptions([*options, f"--runner={RUNNER_OF[runner]}"])
        self._cloud = _cloud_folder(self._options) if runner == "dataflow" else ""

    def map(
        self, step: str, items: Mapping[str, Any], folder: Path
    ) -> Iterator[tuple[str, bytes | WorkerFailure]]:
        """As `Workers.map`, by key; one job for all of the items that lack a result."""
        base = FileSystems.join(self._cloud, folder.stem) if self._cloud else str(folder / "beam")
        results = FileSystems.join(base, step)
        for place in (base, results):
            if not FileSystems.exists(place):
                FileSystems.mkdirs(place)
        keys = sorted(items)
        there = _names(results, _RESULT)
        missing = [key for key in keys if key not in there]
        if missing:
            place = _put_items(base, step, {key: items[key] for key in missing})
            with beam.Pipeline(options=self._options) as pipeline:
                # The result of a pipeline is what its DoFns wrote.
                _ = (
                    pipeline
                    | beam.Create(missing)
                    | beam.Reshuffle()
                    | step.title() >> beam.ParDo(Take(step, place, results, self._settings))
                )
        there = _names(results, _RESULT)
        with ThreadPoolExecutor(_READERS) as pool:
            yield from pool.map(lambda key: (key, _fetch(results, key, key in there)), keys)


class Take(beam.DoFn):
    """Takes a step on the item of each key, and writes what it comes to under the key's name."""

    def __init__(self, step: str, place: str, folder: str, settings: tuple[Any, ...]):
        self._step, self._place, self._folder, self._settings = step, place, folder, settings

    def setup(self) -> None:
        """Reads the items and opens the sandboxes, once in the life of a worker."""
        with FileSystems.open(self._place) as file:
            self._items: dict[str, Any] = pickle.loads(file.read())
        self._workshop = Workshop(*self._settings, cache_dir=None)

    def process(self, key: str) -> Iterator[str]:
        """Gives the key; like any worker's, a failure is told and counted, and stops nothing else."""
        try:
            packed, kind = pack(ON_WORKSHOP[self._step](self._workshop, self._items[key])), _RESULT
        except Exception as error:
            packed, kind = f"{type(error).__name__}: {error}".encode(), _FAILURE
        _write(self._folder, f"{key}.{kind}", packed)
        yield key


def _cloud_folder(options: PipelineOptions) -> str:
    cloud = options.view_as(GoogleCloudOptions)
    needed = {"project": cloud.project, "region": cloud.region, "temp_location": cloud.temp_location}
    missing = [f"--{name}=..." for name, value in needed.items() if not value]
    if missing:
        raise ConfigError(f"--runner dataflow needs Beam's options; give after --: {' '.join(missing)}")
    return needed["temp_location"]


def _put_items(folder: str, step: str, items: Mapping[str, Any]) -> str:
    """Writes the items to a file named after them; returns its place."""
    data = pickle.dumps(dict(items))
    name = f"{step}-{hashlib.sha256(data).hexdigest()[:16]}.items"
    _write(folder, name, data)
    return FileSystems.join(folder, name)


def _write(folder: str, name: str, data: bytes) -> None:
    """Writes a file under a temporary name and renames it: two workers may write the same one."""
    partial, place = FileSystems.join(folder, f".{name}.{uuid.uuid4().hex}"), FileSystems.join(folder, name)
    with FileSystems.create(partial) as file:
        file.write(data)
    FileSystems.rename([partial], [place])


def _names(folder: str, kind: str) -> set[str]:
    """Keys that have a file of this kind."""
    [found] = FileSystems.match([FileSystems.join(folder, f"*.{kind}")])
    return {FileSystems.split(one.path)[1].removesuffix(f".{kind}") for one in found.metadata_list}


def _fetch(folder: str, key: str, is_there: bool) -> bytes | WorkerFailure:
    with FileSystems.open(FileSystems.join(folder, f"{key}.{_RESULT if is_there else _FAILURE}")) as file:
        data = file.read()
    return data if is_there else WorkerFailure(data.decode())
