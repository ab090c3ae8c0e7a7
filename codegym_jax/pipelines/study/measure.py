"""What a policy of a study can do: on unseen configs, on unseen environments, and on suites."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from codegym_jax.config import CannotGoOn
from codegym_jax.config.study import SuitesConfig
from codegym_jax.data.atomic import write_atomically
from codegym_jax.data.splits import TEST_CONFIG, TEST_ENV
from codegym_jax.evals.suites.statistics import mean_score
from codegym_jax.pipelines.console import bar, say
from codegym_jax.pipelines.evaluate import TRANSCRIPTS, spread
from codegym_jax.pipelines.preemption import keeping
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import Task
from codegym_jax.rollout.agent import EpisodeRequest

TRAINED, FIRST, UNSEEN = SETS = ("trained", "first", "unseen")
TITLES: Mapping[str, str] = {
    TRAINED: "unseen configs of the environments trained on",
    FIRST: "unseen configs of the environments that every arm trained on",
    UNSEEN: "unseen environments",
}
"""Of sets of tasks: the first two, all environments that the arm was trained on, and those of them that every
arm of the seed was trained on; the third, environments that none was trained on."""
SAMPLED, GREEDY = MODES = ("sampled", "greedy")
NAME = "study"
MAX_ATTEMPTS = 4
"""At each task of a small set, sampled: as many as `evaluation.max_tasks` lets."""


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
      Mode -> set -> `success`, the mean over tasks, its 95% interval `ci95`, `n` tasks of so many `attempts`;
      by task, too, in the run's `evaluations/study.json`.
    """
    path = bench.folder / "evaluations" / f"{NAME}.json"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps(_played(bench, params, tasks_of), indent=2) + "\n")
    return {
        mode: {name: _rate(scores) for name, scores in sets.items()}
        for mode, sets in json.loads(path.read_text()).items()
    }


def _rate(scores_of: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    success, interval = mean_score(scores_of)
    attempts = max(map(len, scores_of.values()), default=0)
    return {"success": success, "ci95": list(interval), "n": len(scores_of), "attempts": attempts}


def _played(
    bench: Workbench, params: Any, tasks_of: Mapping[str, Sequence[Task]]
) -> dict[str, dict[str, dict[str, list[float]]]]:
    """Mode -> set -> task -> the rewards of its valid attempts, each 0 or 1."""
    settings = bench.config.evaluation
    result: dict[str, Any] = {mode: {} for mode in MODES}
    for mode, temperature in ((SAMPLED, settings.temperature), (GREEDY, 0.0)):
        for name, tasks in tasks_of.items():
            played = spread(tasks, settings.max_tasks)
            most = MAX_ATTEMPTS if mode == SAMPLED else 1
            attempts = max(1, min(most, settings.max_tasks // max(len(played), 1)))
            requests = [
                EpisodeRequest(spec=bench.spec_of(task), task=task, attempt=attempt)
                for task in played
                for attempt in range(attempts)
            ]
            label = f"{name} {mode}"
            with keeping("the evaluation begins again"), bar(label, len(requests)) as progress:
                episodes = bench.play(
                    params, requests, temperature=temperature, on_episode=lambda _: progress.advance()
                )
            bench.save_transcripts(f"{NAME}/{name}_{mode}", episodes[:TRANSCRIPTS])
            scores: dict[str, list[float]] = defaultdict(list)
            for episode in episodes:
                if episode.valid:
                    scores[episode.task_id].append(float(episode.reward >= 1.0))
            result[mode][name] = scores
            rate = _rate(scores)
            say(f"{label}: {rate['success']:.3f} of {rate['n']} tasks, {attempts} attempts each")
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
