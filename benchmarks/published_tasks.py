"""The tasks of `tests/fixtures/published`, verified, as the benchmarks play them."""

import pathlib

from codegym_jax.envs.check import verify_task
from codegym_jax.envs.codegym_format import load_environment, read_rows
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task

FOLDER = pathlib.Path(__file__).parents[1] / "tests" / "fixtures" / "published"


def published_tasks(sandbox: Sandbox) -> list[tuple[EnvSpec, Task]]:
    """Every task that verifies, with its oracle's calls; in the order of the rows."""
    specs = {path.stem: load_environment(path) for path in sorted(FOLDER.glob("*.py"))}
    found = []
    for row in read_rows(FOLDER / "rows.jsonl"):
        if isinstance(row, Rejection):
            continue
        spec = specs[row[1].env_id]
        task = verify_task(
            sandbox, spec, row[1].config_json, min_calls=2, max_calls=512, max_answer_chars=100
        )
        if isinstance(task, Task):
            found.append((spec, task))
    return found
