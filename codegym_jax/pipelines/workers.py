"""Who works on the items of a stage: the processes of this machine, or a job of Apache Beam.

Both open a `Workshop` once and call the same functions on one item after the other; an item's result does not
depend on who made it.
"""

import functools
import pickle
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rich.console import Console

from codegym_jax.config import SandboxConfig, SynthesisConfig
from codegym_jax.envs.pool import WorkerFailure, parallel_map
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.journal import Journal
from codegym_jax.pipelines.watch import watch
from codegym_jax.records import Rejection
from codegym_jax.synthesis import environments, funnel
from codegym_jax.synthesis.environments import Made, Workshop
from codegym_jax.synthesis.funnel import Refusal
from codegym_jax.synthesis.stages import Outcome, environments_of, signed

ITEM_DEADLINE_S = 300.0  # host backstop for one item; its fuel runs out long before
TRIES = 2
"""Times that an item is given to a worker before a failure of the worker is counted."""

MAKE = "make"
EXTEND = "extend"
IN_PROCESS: Mapping[str, Callable[[Any], Any]] = {MAKE: environments.make, EXTEND: environments.extend}
ON_WORKSHOP: Mapping[str, Callable[[Workshop, Any], Any]] = {MAKE: Workshop.make, EXTEND: Workshop.extend}


@runtime_checkable
class Workers(Protocol):
    """Makes outcomes of items."""

    def map(
        self, step: str, items: Mapping[str, Any], folder: Path
    ) -> Iterator[tuple[str, bytes | WorkerFailure]]:
        """Takes a step (`MAKE`, `EXTEND`) on every item.

        Args:
          items: key -> item; a key can name a file.
          folder: of this task set alone, for what the workers lay down on their way.

        Returns:
          The keys, each with its packed outcome, in any order.
        """
        ...


class LocalWorkers:
    """Processes of this machine."""

    def __init__(self, sandbox: SandboxConfig, synthesis: SynthesisConfig):
        self._count = synthesis.workers
        self._initargs = (sandbox, synthesis, synthesis.seed)

    def map(
        self, step: str, items: Mapping[str, Any], folder: Path
    ) -> Iterator[tuple[str, bytes | WorkerFailure]]:
        """As `Workers.map`, in the order of the items; one that takes too long fails."""
        del folder  # results come by pipes
        results = parallel_map(
            functools.partial(_take, step),
            items.values(),
            workers=self._count,
            initializer=environments.open_sandbox,
            initargs=self._initargs,
            deadline_s=ITEM_DEADLINE_S,
        )
        return zip(items, results, strict=True)


class Site:
    """Where items are worked on, and what is done is kept."""

    def __init__(self, workers: Workers, journal: Journal, console: Console):
        self._workers = workers
        self._journal = journal
        self._console = console

    def finish(self, step: str, items: Mapping[str, Any], title: str) -> dict[str, Outcome]:
        """Key -> outcome of every item, in their order; those in the journal are not worked on again.

        An item whose workers fail is refused, and not kept: a later command gives it to workers again.

        Raises:
          Stopped: between two items, when this process is to stop; what is done is in the journal.
        """
        kept = self._journal.results
        done = {key: unpack(kept[f"{step} {key}"]) for key in items if f"{step} {key}" in kept}
        accepted = sum(bool(environments_of(outcome)) for outcome in done.values())
        failures: dict[str, WorkerFailure] = {}
        with watch(title, len(items), self._console, done=len(done), accepted=accepted) as progress:
            for _ in range(TRIES):
                waiting = {key: item for key, item in items.items() if key not in done}
                if not waiting:
                    break
                for key, result in self._workers.map(step, waiting, self._journal.folder):
                    if isinstance(result, WorkerFailure):
                        failures[key] = result
                    else:
                        self._journal.put(f"{step} {key}", result)
                        done[key] = unpack(result)
                        progress.advance(bool(environments_of(done[key])))
                    preemption.check(f"{title}: {len(done)} of {len(items)} are kept")
        for key in [key for key in items if key not in done]:
            detail = failures[key].detail
            done[key] = (Refusal(reason="worker_failure", detail=detail, subject=key, stage=funnel.PROBLEMS),)
            self._console.print(f"{key}: {TRIES} workers failed: {detail}", markup=False, soft_wrap=True)
        return {key: done[key] for key in items}


def pack(result: Made | Rejection | tuple[Made | Rejection, ...]) -> bytes:
    """What a step returned as bytes, made once where it was made, then kept and sent as they are."""
    items = result if isinstance(result, tuple) else (result,)
    outcome = tuple(signed(one) if isinstance(one, Made) else one for one in items)
    return zlib.compress(pickle.dumps(outcome), level=1)


def unpack(packed: bytes) -> Outcome:
    """The outcome in what `pack` returned."""
    return pickle.loads(zlib.decompress(packed))


def _take(step: str, item: Any) -> bytes:
    return pack(IN_PROCESS[step](item))
