"""A machine's life of a run on a bucket: warm-starts, trains, evaluates, prints the hash of the parameters.

    python -m tests.pipelines.on_a_bucket SETTINGS TASK_SET RUN MACHINE [--of COORDINATOR RANK COUNT]
        [--die PLACE COUNT]

MACHINE is the folder that this machine keeps its working copies in. Told to die, the process kills itself
with SIGKILL as it comes there for the COUNT-th time: "push", when the files that a checkpoint refers to are
on the bucket; "commit", when all of it is but its manifest; "row", before a row of metrics of RL is written.
"""

import argparse
import json
import os
import pathlib
import signal
from typing import Any

from codegym_jax import config
from codegym_jax.data.splits import TEST_CONFIG
from codegym_jax.data.store import Store
from codegym_jax.data.working_copy import WorkingCopy, own_folder, run_path
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.metrics import MetricsWriter
from codegym_jax.pipelines.evaluate import run_evaluation
from codegym_jax.pipelines.processes import ALONE, Processes, joined
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.trainer.checkpoint import MANIFEST
from codegym_jax.trainer.state import params_hash

PLACES = {
    "push": (WorkingCopy, "require_own", lambda *_: True),
    "commit": (Store, "write", lambda _, name, *rest: name.endswith(MANIFEST) and name[0].isdigit()),
    "row": (MetricsWriter, "write", lambda _, stage, *rest: stage == "train"),
}


def die_at(place: str, count: int) -> None:
    """Wraps a method so that it kills this process before its `count`-th call."""
    owner, name, counts = PLACES[place]
    original, seen = getattr(owner, name), 0

    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal seen
        if counts(*args):
            seen += 1
            if seen == count:
                os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    setattr(owner, name, call)


def live(
    settings: pathlib.Path,
    task_set: pathlib.Path,
    run: str,
    machine: pathlib.Path,
    processes: Processes = ALONE,
) -> str:
    """The run, from where the bucket stands to its end; the hash of its parameters."""
    experiment = config.from_dict(json.loads(settings.read_text()))
    folder = own_folder(run_path(run, machine), processes.index)
    bench = Workbench(experiment, folder, default_cache_dir(), processes)
    bench.pull()
    open_run(experiment, folder, processes)
    bench.adopt_task_set(task_set)
    with bench.timed("sft"):
        params = run_sft(bench)
    with bench.timed("train"):
        params = run_train(bench, params)
    with bench.timed("eval"):
        run_evaluation(bench, params, "after", [TEST_CONFIG])
    return params_hash(params)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, kind in (("settings", pathlib.Path), ("task_set", pathlib.Path), ("run", str)):
        parser.add_argument(name, type=kind)
    parser.add_argument("machine", type=pathlib.Path)
    parser.add_argument("--of", nargs=3, default=["", "-1", "0"])
    parser.add_argument("--die", nargs=2)
    told = parser.parse_args()
    if told.die:
        die_at(told.die[0], int(told.die[1]))
    coordinator, rank, count = told.of
    with joined(coordinator, int(rank), int(count)) as processes:
        print(f"PARAMETERS {live(told.settings, told.task_set, told.run, told.machine, processes)}")


if __name__ == "__main__":
    main()
