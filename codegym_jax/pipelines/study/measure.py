"""What a policy of a study can do: on unseen configs, on unseen environments, and on suites."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import CannotGoOn
from codegym_jax.config.study import SuitesConfig
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV
from codegym_jax.evals.in_domain import success_rate, to_json
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.evaluate import TRANSCRIPTS, spread
from codegym_jax.pipelines.preemption import keeping
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Task
from codegym_jax.rollout.agent import EpisodeRequest

TRAINED, FIRST, UNSEEN = SETS = ("trained", "first", "unseen")
"""Unseen configs of all environments that the arm was trained on; of those that every arm of the seed was
trained on; and environments that none was trained on."""
SAMPLED, GREEDY = MODES = ("sampled", "greedy")
NAME = "study"


def task_sets(bench: Workbench, first: frozenset[str]) -> dict[str, list[Task]]:
    """What every policy of a study plays.

    Args:
      bench: of the run.
      first: the environments that every arm of this seed was trained on.
    """
    configs = bench.tasks(TEST_CONFIG)
    return {
        TRAINED: configs,
        FIRST: [task for task in configs if task.env_id in first],
        UNSEEN: bench.tasks(TEST_ENV),
    }


def measure(bench: Workbench, params: Any, tasks_of: Mapping[str, Sequence[Task]]) -> dict[str, Any]:
    """Plays the tasks once sampled and once greedy, or reads what came of it.

    Returns:
      Mode -> set -> success rate; by environment, too, in the run's `evaluations/study.json`.
    """
    path = bench.folder / "evaluations" / f"{NAME}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(_played(bench, params, tasks_of), indent=2) + "\n")
    found = json.loads(path.read_text())
    return {
        mode: {name: {key: rate[key] for key in ("success", "ci95", "n")} for name, rate in rates.items()}
        for mode, rates in found.items()
    }


def _played(bench: Workbench, params: Any, tasks_of: Mapping[str, Sequence[Task]]) -> dict[str, Any]:
    settings = bench.config.evaluation
    result: dict[str, Any] = {mode: {} for mode in MODES}
    for mode, temperature in ((SAMPLED, settings.temperature), (GREEDY, 0.0)):
        for name, tasks in tasks_of.items():
            played = spread(tasks, settings.max_tasks)
            requests = [EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=0) for task in played]
            label = f"{name} {mode}"
            with keeping("the evaluation begins again"), bar(label, len(requests)) as progress:
                episodes = bench.play(
                    params, requests, temperature=temperature, on_episode=lambda _: progress.advance()
                )
            bench.save_transcripts(f"{NAME}/{name}_{mode}", episodes[:TRANSCRIPTS])
            rate = success_rate(episodes)
            result[mode][name] = to_json(rate)
            say(f"{label}: {rate.success:.3f} of {rate.n}")
    return result


def measure_suites(
    bench: Workbench, params: Any, settings: SuitesConfig, cache: Path
) -> dict[str, dict[str, Any]]:
    """Plays the suites of a study.

    Returns:
      Suite and subset -> the figures of the policy.

    Raises:
      SuiteError: when a suite cannot be opened.
      CannotGoOn: when the scores of one are not to be trusted.
    """
    if not settings.names:
        return {}
    from codegym_jax.evals.suites.registry import HELD_OUT, SuiteOptions, parse_suites
    from codegym_jax.evals.suites.table import title
    from codegym_jax.pipelines.suite_policy import Manner, opened_policy, policy_identity
    from codegym_jax.pipelines.suites import PolicyLine, SuiteSettings, play_suites

    manner = Manner(max_message_tokens=settings.message_tokens, context_tokens=settings.context_tokens)
    options = SuiteOptions(
        cache=cache, data={HELD_OUT: str(bench.folder / "task_set")}, sandbox=bench.config.sandbox
    )
    rules = SuiteSettings(
        runs=settings.runs, limit=settings.limit, max_turns=settings.max_turns, slots=settings.slots
    )
    with opened_policy(bench, params, manner, settings.slots) as policy:
        identity = policy_identity(bench, params, manner)
        line = PolicyLine(line=NAME, identity=identity, speaker_of=policy.speaker_of)
        played = play_suites(bench.folder, parse_suites(settings.names), options, rules, lambda: line)
    if played.wrong:
        raise CannotGoOn("; ".join(played.wrong))
    [row] = [row for row in played.table["rows"] if row["line"] == NAME]
    return {
        title(column): {key: cell[key] for key in ("mean", "ci95", "tasks", "runs")}
        for column, cell in zip(played.table["columns"], row["cells"], strict=True)
    }
