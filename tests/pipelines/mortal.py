"""Lives of a small run, each a process that kills itself with SIGKILL where it is told to: a server.

    python -m tests.pipelines.mortal

What `lives.Server` is given is a `Life`, and what it answers is `died`, or the `Outcome` of a run that ended.
Every life runs the same stages on its run folder, so a second one resumes what the first left. Nothing in the
package knows of any of this: functions are wrapped here, in the child.
"""

import dataclasses
import json
import os
import pathlib
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from codegym_jax import config as config_module
from codegym_jax.data.curriculum import Curriculum
from codegym_jax.data.pipeline import Stream
from codegym_jax.data.splits import TEST_CONFIG
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.envs.env import Env
from codegym_jax.metrics import MetricsWriter
from codegym_jax.pipelines import sft, workbench
from codegym_jax.pipelines.evaluate import run_evaluation
from codegym_jax.pipelines.learner import Learner
from codegym_jax.pipelines.train import run_train
from codegym_jax.rollout.generate import Sampler
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.state import params_hash
from codegym_jax.trainer.update import UpdateProgram
from tests.pipelines.lives import serve

STAGES = ("open", "sft", "before", "train", "after")
"""The run and its two evaluations, in order; "open" copies the task set."""
BEFORE, AFTER, HALF = "before", "after", "half"
CHANGE = "change"
"""The place that is no function: any change to the files of the stage's checkpoints."""
SFT_CHECKPOINT_EVERY = 20
_CHANGES = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")


@dataclasses.dataclass(frozen=True)
class Fault:
    """Where to die."""

    stage: str
    """One of `STAGES`."""
    place: str
    """A key of `PLACES`, or `CHANGE`."""
    moment: str
    """`BEFORE` the call, `AFTER` it, or `HALF`: with half of what it writes on the disk."""
    call: int
    """Counted from 1 within the stage and this life."""


@dataclasses.dataclass(frozen=True)
class Life:
    """What one process is to do."""

    settings: str
    """A file with the config as JSON."""
    folder: str
    """Of the run; its log and its parameters go beside it."""
    task_set: str
    devices: int = 1
    fault: Fault | None = None


class Place(NamedTuple):
    """A function to die at."""

    owner: Any
    name: str
    moments: tuple[str, ...] = (BEFORE, AFTER)


PLACES = {
    "prompt": Place(Sampler, "append"),
    "decode": Place(Sampler, "decode"),
    "tool": Place(Env, "step"),
    "judge": Place(Learner, "judge"),
    "update": Place(UpdateProgram, "__call__"),  # after: while the device computes it
    "demonstrations": Place(Stream, "__next__"),
    "draw": Place(Curriculum, "draw"),
    "row": Place(MetricsWriter, "write", (BEFORE, HALF, AFTER)),
    "episodes": Place(workbench, "write_episodes"),
    "save": Place(Checkpointer, "save"),
    "replace": Place(pathlib.Path, "replace", (BEFORE, HALF, AFTER)),
    "rename": Place(pathlib.Path, "rename"),
}


class Fate:
    """Counts calls by stage and place, and calls `end` at the one that `fault` names."""

    def __init__(self, fault: Fault | None, end: Callable[[], None]) -> None:
        self._fault, self._end, self._lock = fault, end, threading.Lock()
        self.stage = STAGES[0]
        self.calls: Counter[tuple[str, str]] = Counter()

    def moment(self, place: str) -> str | None:
        """Counts a call; how to die at it, if at all."""
        with self._lock:
            self.calls[self.stage, place] += 1
            here = (self.stage, place, self.calls[self.stage, place])
        fault = self._fault
        return fault.moment if fault and here == (fault.stage, fault.place, fault.call) else None

    def await_at_all_places(self, folder: pathlib.Path) -> None:
        """Wraps the functions of `PLACES`, and listens for changes below `folder`."""
        for name, place in PLACES.items():
            original = getattr(place.owner, place.name)
            setattr(place.owner, place.name, self._wrapped(name, original))

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            writes = event == "open" and bool((arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR))
            changes = (event in _CHANGES or writes) and str(folder) in str(arguments[0])
            if changes and self.moment(CHANGE):
                self._end()

        sys.addaudithook(hook)

    def _wrapped(self, place: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            moment = self.moment(place)
            if moment is None:
                return original(*args, **kwargs)
            if moment == HALF:
                leave_half(place, original, args, kwargs)
            result = original(*args, **kwargs) if moment == AFTER else None
            self._end()
            return result if moment == AFTER else original(*args, **kwargs)

        return call


def die() -> None:
    """As when the machine is lost: nothing is flushed, nothing is closed."""
    os.kill(os.getpid(), signal.SIGKILL)


def leave_half(place: str, original: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """What a kill in the middle of writing leaves: half of a row, or half of a file not yet renamed."""
    if place == "row":
        file = args[0]._file
        begin = file.tell()
        original(*args, **kwargs)
        os.truncate(file.name, (begin + file.tell()) // 2)
    else:
        os.truncate(args[0], args[0].stat().st_size // 2)


class Witness:
    """Remembers what was last saved or restored of each stage."""

    def __init__(self) -> None:
        self.seen: dict[str, Any] = {}
        save, restore = Checkpointer.save, Checkpointer.restore

        def saving(checkpoints: Checkpointer, step: int, state: Any, extra: dict[str, Any]) -> pathlib.Path:
            path = save(checkpoints, step, state, extra)
            self._note(checkpoints, state, extra)
            return path

        def restoring(checkpoints: Checkpointer, like: Any) -> Any:
            found = restore(checkpoints, like)
            if found is not None:
                self._note(checkpoints, *found)
            return found

        Checkpointer.save, Checkpointer.restore = saving, restoring

    def _note(self, checkpoints: Checkpointer, state: Any, extra: dict[str, Any]) -> None:
        """The cursor is in bytes, and rows hold the clock, so it is left out."""
        kept = {name: value for name, value in extra.items() if name != "metrics_cursor"}
        self.seen[checkpoints.folder.name] = {"state": params_hash(state), "extra": kept}


class Outcome(NamedTuple):
    """Of a run that ended."""

    params: str
    """Hash of the parameters."""
    checkpoints: dict[str, Any]
    """Stage -> what its newest checkpoint holds: the state's hash, the position of the source or stream."""
    calls: list[tuple[str, str, int]]
    """Stage, place, and how often it was called there in this life."""


def live(life: Life) -> Outcome:
    """The run, from wherever it stands to its end."""
    jax.config.update("jax_num_cpu_devices", life.devices)
    vars(sft)["_CHECKPOINT_EVERY"] = SFT_CHECKPOINT_EVERY  # a hundred, more than the run has
    folder = pathlib.Path(life.folder)
    witness, fate = Witness(), Fate(life.fault, die)
    fate.await_at_all_places(folder / "checkpoints")
    settings = json.loads(pathlib.Path(life.settings).read_text())
    run = config_module.from_dict(settings)
    workbench.open_run(run, folder)
    bench = workbench.Workbench(run, folder, default_cache_dir())
    bench.adopt_task_set(pathlib.Path(life.task_set))
    fate.stage = "sft"
    params = sft.run_sft(bench)
    fate.stage = "before"
    run_evaluation(bench, params, "before", [TEST_CONFIG])
    fate.stage = "train"
    params = run_train(bench, params)
    fate.stage = "after"
    run_evaluation(bench, params, "after", [TEST_CONFIG])
    leaves = jax.tree_util.tree_leaves_with_path(params)
    np.savez(params_path(folder), **{jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves})
    calls = [(stage, place, count) for (stage, place), count in sorted(fate.calls.items())]
    return Outcome(params_hash(params), witness.seen, calls)


def params_path(folder: pathlib.Path) -> pathlib.Path:
    """The parameters that a run ended with."""
    return folder.with_name(f"{folder.name}.npz")


def main() -> None:
    serve(lambda values: live(Life(**values | {"fault": fault_of(values)}))._asdict())


def fault_of(values: dict[str, Any]) -> Fault | None:
    """The fault in a life that came as JSON."""
    return Fault(**values["fault"]) if values["fault"] else None


if __name__ == "__main__":
    main()
