"""Success on held-out tasks, greedy and sampled, one attempt a task."""

import itertools
import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.evals.in_domain import success_rate, to_json, told
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.preemption import keeping
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Task
from codegym_jax.rollout.agent import EpisodeRequest

REPORTED = (TEST_CONFIG, TEST_ENV)
TRANSCRIPTS = 20
"""Episodes of each split and mode that are also written for people to read."""


def spread(tasks: Sequence[Task], limit: int) -> list[Task]:
    """At most `limit` tasks, spread evenly over their environments, chosen by hash."""
    by_env: dict[str, list[Task]] = defaultdict(list)
    for task in sorted(tasks, key=lambda task: stable_hash("spread", task.task_id)):
        by_env[task.env_id].append(task)
    columns = itertools.zip_longest(*(by_env[env_id] for env_id in sorted(by_env)))
    return [task for column in columns for task in column if task is not None][:limit]


def run_evaluation(
    bench: Workbench, params: Any, name: str, splits: Sequence[str] = REPORTED
) -> dict[str, Any]:
    """Plays held-out tasks with these parameters, or reads the result of an earlier call.

    The first episodes are also written as text, to `transcripts/<name>/`.

    Args:
      bench: the run.
      params: of the policy.
      name: of this evaluation, such as `before`; its result is kept in `evaluations/<name>.json`.
      splits: of the task set.

    Returns:
      mode (`sampled`, `greedy`) -> split -> success rate as JSON (`evals.in_domain.to_json`), and
      `compiled_programs`, those of the sampler so far.

    Raises:
      Stopped: when the run is to stop; the evaluation begins again.
    """
    path = bench.folder / "evaluations" / f"{name}.json"
    if earlier := bench.processes.from_first(lambda: path.read_bytes() if path.exists() else b""):
        return json.loads(earlier)
    config = bench.config.evaluation
    result: dict[str, Any] = {}
    for mode, temperature in (("sampled", config.temperature), ("greedy", 0.0)):
        for split in splits:
            tasks = spread(bench.tasks(split), config.max_tasks)
            requests = [EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=0) for task in tasks]
            begins_again = keeping(f"eval {name} begins again")
            with begins_again, bar(f"eval {name} {split} {mode}", len(requests)) as progress:
                episodes = bench.play(
                    params, requests, temperature=temperature, on_episode=lambda _: progress.advance()
                )
            bench.save_episodes(f"eval_{name}/{split}_{mode}", episodes)
            bench.save_transcripts(f"{name}/{split}_{mode}", episodes[:TRANSCRIPTS])
            rate = to_json(success_rate(episodes))
            result.setdefault(mode, {})[split] = rate
            say(f"eval {name}: {split} {mode} {told(rate)}")
    result["compiled_programs"] = bench.sampler.compiled_programs
    if bench.processes.is_first:
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(result, indent=2) + "\n")
    return result
