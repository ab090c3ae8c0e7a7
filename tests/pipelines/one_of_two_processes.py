"""A process of a run: warm-starts, trains, prints the hash of the parameters.

python -m tests.pipelines.one_of_two_processes SETTINGS FOLDER TASK_SET DEVICES [COORDINATOR RANK COUNT]
"""

import json
import pathlib
import sys

import jax

from codegym_jax import config
from codegym_jax.envs.artefact import default_cache_dir
from codegym_jax.pipelines.evaluate import run_evaluation
from codegym_jax.pipelines.processes import joined
from codegym_jax.pipelines.sft import run_sft
from codegym_jax.pipelines.train import run_train
from codegym_jax.pipelines.workbench import Workbench, open_run
from codegym_jax.trainer.state import params_hash


def main(arguments: list[str]) -> None:
    settings, folder, task_set = map(pathlib.Path, arguments[:3])
    jax.config.update("jax_num_cpu_devices", int(arguments[3]))
    coordinator, rank, count = arguments[4:] or ("", "-1", "0")
    run = config.from_dict(json.loads(settings.read_text()))
    with joined(coordinator, int(rank), int(count)) as processes:
        open_run(run, folder, processes)
        bench = Workbench(run, folder, default_cache_dir(), processes)
        bench.adopt_task_set(task_set)
        params = run_train(bench, run_sft(bench))
        run_evaluation(bench, params, "after", ["train"])
        print(f"PARAMETERS {params_hash(params)}")


if __name__ == "__main__":
    main(sys.argv[1:])
