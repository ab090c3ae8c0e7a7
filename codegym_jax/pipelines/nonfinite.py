"""An update whose gradient is not finite ends the run. It is kept, with the state that it failed on, so that
it can be made again and looked at."""

import json
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from codegym_jax.config import CannotGoOn
from codegym_jax.data.atomic import replacing
from codegym_jax.data.working_copy import checkpoint_place, origin_of
from codegym_jax.pipelines.saves import Saves
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import PackedBatch, Update
from codegym_jax.trainer.checkpoint import Checkpointer
from codegym_jax.trainer.update import NotFinite

FILE = "nonfinite.npz"
_STATE = "nonfinite"
_COUNTS = ("batch_count", "token_count", "episode_count")


class Kept(NamedTuple):
    """An update that was not made, as a run folder keeps it."""

    update: Update
    stage: str
    step: int
    number: int
    """Among the updates of its step, from 1."""
    of: int
    """Updates of its step."""


@contextmanager
def kept_for_replay(
    bench: Workbench, stage: str, step: int, saves: Saves, state: Callable[[], Any]
) -> Iterator[None]:
    """Ends the run when the `with` block finds a gradient that is not finite (`NotFinite`).

    The checkpoints of the stage stay as they are; the newest is that of a step before.

    Args:
      bench: the run.
      stage: that learns.
      step: that is under way.
      saves: of the stage.
      state: gives the one that the update failed on.

    Raises:
      CannotGoOn: then, saying what was kept, and what to do.
    """
    try:
        yield
    except NotFinite as found:
        saves.finish()
        kept = Kept(found.update, stage, step, found.number, found.count)
        with Checkpointer(checkpoint_place(bench.folder, _STATE), keep=1) as checkpoints:
            checkpoints.save(step, state(), {"stage": stage, **bench.fingerprint})
        bench.once(lambda: write_kept(bench.folder / FILE, kept))
        run = origin_of(bench.folder) or bench.folder
        raise CannotGoOn(
            f"{stage} step {step}, {found}. The update was not made, and the checkpoints of the steps before"
            f" are as they were. `codegym replay {run}` makes it again and says what in it is not finite. The"
            " same command would end here again; what helps in a new run: a lower learning rate, a smaller"
            " train.max_grad_norm, policy.compute_dtype=float32"
        ) from None


def write_kept(path: pathlib.Path, kept: Kept) -> None:
    """Writes an update, whole or not at all."""
    arrays = {name: value for name, value in kept.update.batches._asdict().items() if value is not None}
    facts = {name: getattr(kept.update, name) for name in _COUNTS}
    facts |= {"stage": kept.stage, "step": kept.step, "number": kept.number, "of": kept.of}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, facts=np.array(json.dumps(facts)), **arrays)


def read_kept(path: pathlib.Path) -> Kept:
    """What `write_kept` wrote, to the bit."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    facts = json.loads(str(arrays.pop("facts")))
    counts = {name: facts.pop(name) for name in _COUNTS}
    return Kept(Update(PackedBatch(**arrays), **counts), **facts)


def restore_state(bench: Workbench, like: Any) -> Any:
    """The state that the kept update failed on, placed as `like` is.

    Raises:
      CannotGoOn: when it is gone, or damaged.
    """
    place = checkpoint_place(bench.folder, _STATE)
    restored = Checkpointer(place).restore(like)
    if restored is None:
        raise CannotGoOn(f"{place} holds no intact state; make the step again by the command of the run")
    return restored[0]
