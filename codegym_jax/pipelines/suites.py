"""Suites played: the oracle and the no-op first, then a policy; one table of all that a run has played.

The oracle's line must be 100%: it takes the same way as the policy's, so if it is not, the policy's score is
not what the suite would say.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from codegym_jax.config import digest
from codegym_jax.data.atomic import write_atomically
from codegym_jax.evals.suites.environments import worker_file
from codegym_jax.evals.suites.play import MAX_ORACLE_TURNS, NO_OP, ORACLE, Attempt, SpeakerOf, no_op, oracle
from codegym_jax.evals.suites.registry import SuiteChoice, SuiteEntry, SuiteOptions, open_suite
from codegym_jax.evals.suites.suite import Suite, SuiteError, SuiteFailure
from codegym_jax.evals.suites.table import build_table, markdown
from codegym_jax.evals.suites.transcript import transcripts
from codegym_jax.pipelines.console import say
from codegym_jax.pipelines.suite_lines import Line, LinePlan, chosen_tasks, play_line, read_figures

MAX_INVALID_FRACTION = 0.2
"""Of a line's attempts; a line with more says too little."""
TRANSCRIPTS = 20
"""Attempts of each line that are written for people to read."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteSettings:
    """How suites are played."""

    runs: int = 5
    """Attempts of the policy at each task; the oracle and the no-op have no chance in them."""
    limit: int = 0
    """Tasks of each subset at most; 0: all."""
    max_turns: int = 60
    """Messages of one attempt."""
    slots: int = 8
    """Attempts at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyLine:
    """A policy as a line."""

    line: str
    """The stage that made it."""
    identity: Mapping[str, Any]
    speaker_of: Callable[[str], SpeakerOf]
    """Instructions -> speakers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of it."""

    table: dict[str, Any]
    """`table.build_table` of everything under the folder."""
    wrong: list[str]
    """Why the scores are not to be trusted, a line each; empty when they are."""

    @property
    def text(self) -> str:
        """The table as Markdown."""
        return markdown(self.table)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subset:
    """What is played of one suite."""

    suite: Suite
    entry: SuiteEntry
    name: str
    tasks: Sequence[str]
    identity: Mapping[str, Any]


def play_suites(
    folder: pathlib.Path,
    choices: Sequence[SuiteChoice],
    options: SuiteOptions,
    settings: SuiteSettings,
    policy: Callable[[], PolicyLine] | None = None,
) -> Played:
    """Plays suites.

    Args:
      folder: a run's; results go to `suites/`, transcripts to `transcripts/suites/`.
      choices: the suites, checked (`registry.check_choice`).
      options: what they need.
      settings: how they are played.
      policy: opens the policy, when its turn comes; None: only the oracle and the no-op.

    Raises:
      SuiteError: when a suite cannot be opened.
      Stopped: when the command is to stop; what was played is kept.
    """
    results, wrong = folder / "suites", []
    with ExitStack() as stack:
        subsets = [part for choice in choices for part in _opened(stack, choice, options, settings)]
        for part in subsets:
            for line, speaker_of in ((ORACLE, oracle), (NO_OP, no_op)):
                plan = LinePlan(
                    line=line,
                    speaker_of=speaker_of,
                    identity=part.identity,
                    runs=1,
                    max_turns=MAX_ORACLE_TURNS if line == ORACLE else settings.max_turns,
                    slots=settings.slots,
                )
                wrong += _play(folder, part, plan)
        if policy is not None:
            speaking = policy()
            for part in subsets:
                instructions = part.entry.instructions
                plan = LinePlan(
                    line=speaking.line,
                    speaker_of=speaking.speaker_of(instructions),
                    identity={**part.identity, **speaking.identity, "instructions": instructions},
                    runs=settings.runs,
                    max_turns=settings.max_turns,
                    slots=settings.slots,
                )
                wrong += _play(folder, part, plan)
    table = build_table(read_figures(results))
    write_atomically(results / "table.json", json.dumps(table, indent=2) + "\n")
    return Played(table=table, wrong=wrong)


def _opened(
    stack: ExitStack, choice: SuiteChoice, options: SuiteOptions, settings: SuiteSettings
) -> Iterator[_Subset]:
    """The subsets of a suite, which stays open as long as the stack."""
    suite = stack.enter_context(closing(open_suite(choice.entry, options)))
    facts = suite.facts
    for name in choice.subsets(suite):
        try:
            tasks = chosen_tasks(suite, name, settings.limit)
        except SuiteFailure as failure:
            raise SuiteError(str(failure)) from failure
        identity = {
            "package": facts.package,
            "version": facts.version,
            "code": _code_digest(choice.entry),
            "user": digest(options.user_endpoint, options.user_model) if options.user_endpoint else "",
        }
        say(f"suite {facts.suite} {name}: {len(tasks)} tasks, {facts.package} {facts.version}")
        yield _Subset(suite=suite, entry=choice.entry, name=name, tasks=tasks, identity=identity)


def _code_digest(entry: SuiteEntry) -> str:
    """Of the worker's program: another one may ask and grade otherwise."""
    return hashlib.sha256(worker_file(entry.name).read_bytes()).hexdigest()[:16] if entry.own_process else ""


def _play(folder: pathlib.Path, part: _Subset, plan: LinePlan) -> list[str]:
    """Plays one line, writes its transcripts, tells its score; returns what is wrong with it."""
    line = play_line(folder / "suites", part.suite, part.name, part.tasks, plan)
    suite = part.suite.facts.suite
    shown = folder / "transcripts" / "suites" / suite / part.name / f"{plan.line}.txt"
    first = [attempt for attempt in line.attempts if attempt.run == 0][:TRANSCRIPTS]
    shown.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(shown, transcripts(first))
    figures = line.figures
    low, high = figures["ci95"]
    say(
        f"suite {suite} {part.name}: {plan.line} {100 * figures['mean']:.1f}%"
        f" [{100 * low:.1f}, {100 * high:.1f}] n={figures['tasks']}, runs {figures['runs']},"
        f" invalid {figures['invalid']}"
    )
    wrong = [f"{suite} {part.name}: {what}" for what in _faults(plan.line, line)]
    for what in wrong:
        say(f"WRONG: {what}")
    return wrong


def _faults(name: str, line: Line) -> Iterator[str]:
    """Why a line's score is not to be trusted."""
    attempts = line.attempts
    invalid = [attempt for attempt in attempts if not attempt.valid]
    if name == ORACLE and (failed := [attempt for attempt in attempts if attempt.score < 1.0]):
        yield (
            f"the oracle fails {len(failed)} of {len(attempts)} tasks ({_named(failed)}), so the scores of"
            " this suite here are not to be trusted"
        )
    elif len(invalid) > MAX_INVALID_FRACTION * len(attempts):
        yield f"the host spoiled {len(invalid)} of {len(attempts)} attempts of {name} ({_named(invalid)})"


def _named(attempts: Sequence[Attempt]) -> str:
    names = [
        f"{attempt.task[:100]}: {attempt.error.splitlines()[0][:200] if attempt.error else attempt.stop}"
        for attempt in attempts[:_SHOWN]
    ]
    return "; ".join([*names, *(["..."] if len(attempts) > _SHOWN else [])])
