"""The lines of a suite: one speaker's attempts at the tasks of a subset, many at once, kept and gone on with.

    FOLDER/SUITE/SUBSET/LINE.jsonl     every attempt, with what was said; first what they belong to
    FOLDER/SUITE/SUBSET/LINE.json      their figures
    FOLDER/SUITE/SUBSET/.LINE/         attempts so far, while the line is played

An attempt is made once: those that are there, of the same speaker at the same task under the same settings,
are not made again, whether the command was killed or asks for more runs or tasks. Attempts that the host
spoiled are: first at the end of the line, one by one, then by the next command.
"""

import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

from codegym_jax.config import digest
from codegym_jax.data.atomic import replacing, write_atomically
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.evals.suites.play import Attempt, SpeakerOf, play
from codegym_jax.evals.suites.suite import Suite
from codegym_jax.evals.suites.table import summary
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.console import bar
from codegym_jax.pipelines.journal import Journal

Key = tuple[str, int]
"""Task and run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinePlan:
    """What one line plays."""

    line: str
    """Its name: `oracle`, `no_op`, or the stage of a policy."""
    speaker_of: SpeakerOf
    identity: Mapping[str, Any]
    """All that its attempts depend on beside task and run; JSON-able."""
    runs: int
    max_turns: int
    slots: int
    """Attempts at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line that was played."""

    attempts: list[Attempt]
    """Those that were asked for, by task in the suite's order, then by run."""
    figures: dict[str, Any]
    """`table.summary`, with `suite`, `subset`, `line`, and `identity`."""


def chosen_tasks(suite: Suite, subset: str, limit: int) -> list[str]:
    """The tasks of a subset: all, or `limit` of them, chosen by hash. A larger choice holds a smaller one."""
    tasks = suite.tasks(subset)
    if not limit:
        return tasks
    name = suite.facts.suite
    first = set(sorted(tasks, key=lambda task: stable_hash("suite", name, subset, task))[:limit])
    return [task for task in tasks if task in first]


def play_line(folder: pathlib.Path, suite: Suite, subset: str, tasks: Sequence[str], plan: LinePlan) -> Line:
    """Plays what is not there yet of a line, and writes its files.

    Args:
      folder: of the results of all suites.
      suite: that is played.
      subset: of it.
      tasks: of the subset, in order.
      plan: who plays, and how often.

    Raises:
      Stopped: when the command is to stop; what was played is kept.
    """
    name = suite.facts.suite
    place = folder / name / subset
    place.mkdir(parents=True, exist_ok=True)
    identity = {"suite": name, "subset": subset, "line": plan.line, "max_turns": plan.max_turns}
    identity |= plan.identity
    stored = place / f"{plan.line}.jsonl"
    wanted = [(task, run) for task in tasks for run in range(plan.runs)]
    known = _read(stored, identity)
    with Journal(place / f".{plan.line}") as journal:
        prefix = digest(json.dumps(identity, sort_keys=True))
        for key, result in journal.results.items():
            if key.startswith(prefix):
                attempt = Attempt(**json.loads(result))
                known[attempt.task, attempt.run] = attempt

        def make(key: Key) -> Attempt:
            task, run = key
            return play(suite, subset, task, run, plan.speaker_of, plan.max_turns, preemption.check)

        def keep(key: Key, attempt: Attempt) -> None:
            known[key] = attempt
            if attempt.valid:
                task, run = key
                journal.put(f"{prefix}\0{task}\0{run}", json.dumps(attempt.to_json()).encode())

        missing = [key for key in wanted if key not in known]
        label = f"{name} {subset} {plan.line}"
        with preemption.keeping(f"{label}: finished attempts are kept"), bar(label, len(wanted)) as progress:
            progress.advance(len(wanted) - len(missing))
            _play_all(missing, make, keep, plan.slots, progress.advance)
            for key in missing:  # alone, so that no other attempt can take the suite down with it
                if not known[key].valid:
                    keep(key, make(key))
        attempts = [known[key] for key in wanted]
        _write(stored, identity, sorted(known.values(), key=_order(suite.tasks(subset))))
        figures = {**summary(attempts), **{key: identity[key] for key in ("suite", "subset", "line")}}
        figures["identity"] = identity
        write_atomically(place / f"{plan.line}.json", json.dumps(figures, indent=2) + "\n")
    journal.remove()
    return Line(attempts=attempts, figures=figures)


def read_figures(folder: pathlib.Path) -> list[dict[str, Any]]:
    """The figures of all lines under a folder of results."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/*/*.json"))]


def _play_all(
    keys: Sequence[Key],
    make: Callable[[Key], Attempt],
    keep: Callable[[Key, Attempt], None],
    slots: int,
    advance: Callable[[], None],
) -> None:
    """Makes attempts in threads; keeps each as it ends, in this one."""
    with ThreadPoolExecutor(max_workers=slots, thread_name_prefix="suite") as pool:
        futures = {pool.submit(make, key): key for key in keys}
        try:
            for future in as_completed(futures):
                keep(futures[future], future.result())
                advance()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _order(tasks: Sequence[str]) -> Callable[[Attempt], tuple[int, int]]:
    place_of = {task: place for place, task in enumerate(tasks)}
    return lambda attempt: (place_of.get(attempt.task, len(place_of)), attempt.run)


def _read(path: pathlib.Path, identity: Mapping[str, Any]) -> dict[Key, Attempt]:
    """The valid attempts of a file that belong to `identity`."""
    if not path.exists():
        return {}
    with path.open(encoding="utf-8") as file:
        if json.loads(file.readline()) != identity:
            return {}
        attempts = [Attempt(**json.loads(line)) for line in file]
    return {(attempt.task, attempt.run): attempt for attempt in attempts if attempt.valid}


def _write(path: pathlib.Path, identity: Mapping[str, Any], attempts: Iterable[Attempt]) -> None:
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as file:
        for row in (identity, *(attempt.to_json() for attempt in attempts)):
            file.write(json.dumps(row) + "\n")
