"""The stages of LLM synthesis: environments -> tests -> solvers -> filters -> hard tests, wave by wave."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.pipelines.llm_site import Site
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.synthesis.filters import similar
from codegym_jax.synthesis.llm import answers, drafts, trials
from codegym_jax.synthesis.llm.answers import Tested
from codegym_jax.synthesis.llm.client import Unanswered
from codegym_jax.synthesis.llm.settings import LlmConfig
from codegym_jax.synthesis.llm.store import Completion
from codegym_jax.synthesis.llm.trials import Solved
from codegym_jax.synthesis.problems import Problem

_STAGES = (
    ("environments", "problems"),
    ("test batches", "completions"),
    ("tests", "configs"),
    ("tested environments", "environments"),
    ("solvers", "completions"),
    ("tasks", "configs"),
    ("solved environments", "environments"),
    ("determinism", "environments"),
    ("shortcut", "environments"),
)
_HARD_STAGES = (("hard test batches", "completions"), ("hard tasks", "configs"))
_LAST_STAGES = (("near duplicate", "environments"), ("task set", "tasks"))


def stages_of(config: LlmConfig) -> tuple[tuple[str, str], ...]:
    """(name, what is counted there) of each stage, in order."""
    return (*_STAGES, *(_HARD_STAGES if config.hard_tests else ()), *_LAST_STAGES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """An environment with its tasks that passed all filters but the comparison with others."""

    spec: EnvSpec
    tasks: tuple[Task, ...]
    hard_tasks: tuple[Task, ...]
    features: dict[str, Any]
    signature: similar.Signature

    @property
    def all_tasks(self) -> tuple[Task, ...]:
        """The hard ones last."""
        return (*self.tasks, *self.hard_tasks)


class Stages:
    """Takes problems through the stages."""

    def __init__(self, config: LlmConfig, site: Site):
        self._config = config
        self._site = site

    def accepted(self, problems: Sequence[Problem]) -> list[Accepted]:
        """The environments that these problems give."""
        found = self._filtered(self._solvers(self._tests(self._environments(problems))))
        hard = self._hard_tests(found) if self._config.hard_tests else [()] * len(found)
        return [
            _accepted(self._config, tested, solved, tasks)
            for (tested, solved), tasks in zip(found, hard, strict=True)
        ]

    def distinct(self, accepted: Sequence[Accepted]) -> list[Accepted]:
        """Those that stand for all, sorted by id, without the near-duplicates among them."""
        duplicate_of = similar.duplicates({one.spec.env_id: one.signature for one in accepted})
        refused = [
            Rejection(reason="near_duplicate", detail=f"of {kept}", subject=env_id)
            for env_id, kept in duplicate_of.items()
        ]
        self._site.count("near duplicate", len(accepted), refused)
        kept = [one for one in accepted if one.spec.env_id not in duplicate_of]
        self._count_tasks(
            sum(len(one.all_tasks) for one in accepted), sum(len(one.all_tasks) for one in kept)
        )
        return sorted(kept, key=lambda one: one.spec.env_id)

    def _environments(self, problems: Sequence[Problem]) -> list[drafts.Draft]:
        requests = [drafts.environment_request(self._config, problem) for problem in problems]
        completions = self._site.ask("environments", requests)
        results: list[drafts.Draft | Rejection] = []
        for problem, completion in zip(problems, completions, strict=True):
            if isinstance(completion, Unanswered):
                self._site.note_unfinished([completion])
                results.append(drafts.refusal(completion, problem.code_id))
            else:
                results.append(drafts.read_environment(problem, completion))
        kept = [draft for draft in results if isinstance(draft, drafts.Draft)]
        refused = [draft for draft in results if isinstance(draft, Rejection)]
        names = [draft.spec.env_id for draft in kept]
        loaded = self._site.judge("environments load", trials.load, kept, names)
        refused += [one for one in loaded if isinstance(one, Rejection)]
        self._site.count("environments", len(problems), refused)
        return [one for one in loaded if isinstance(one, drafts.Draft)]

    def _tests(self, written: list[drafts.Draft]) -> list[Tested]:
        requests = [drafts.tests_requests(self._config, draft) for draft in written]
        refused: list[Rejection] = []
        items, lines_of = [], []
        for draft, completions in zip(written, self._site.ask_groups("tests", requests), strict=True):
            configs, lines, lost = drafts.read_tests(draft, completions)
            self._site.count("test batches", len(completions), lost)
            if self._site.note_unfinished(completions):
                refused.append(lost[0])
            else:
                items.append((draft, configs))
                lines_of.append(lines)
        names = [draft.spec.env_id for draft, _ in items]
        tested = []
        for (_, configs), lines, result in zip(
            items, lines_of, self._site.judge("answers", answers.answer, items, names), strict=True
        ):
            judged = result if isinstance(result, Rejection) else self._fit(result, len(configs), lines)
            if isinstance(judged, Rejection):
                refused.append(judged)
            else:
                tested.append(judged)
        self._site.count("tested environments", len(written), refused)
        return tested

    def _fit(self, tested: Tested, configs: int, lines: list[Rejection]) -> Tested | Rejection:
        """The environment when enough of its tests survive.

        Args:
          tested: the configs that survived.
          configs: how many there were.
          lines: what was no config.
        """
        self._site.count("tests", configs + len(lines), [*lines, *tested.rejections])
        repeated = sum(line.reason == "duplicate" for line in lines)
        fault = answers.fault_of_tests(self._config, tested, configs + len(lines) - repeated)
        return fault or tested

    def _solvers(self, tested: list[Tested]) -> list[tuple[Tested, Solved]]:
        requests = [drafts.candidate_requests(self._config, one.draft) for one in tested]
        refused: list[Rejection] = []
        items = []
        for one, completions in zip(tested, self._site.ask_groups("solvers", requests), strict=True):
            candidates = [drafts.read_candidate(one.draft, completion) for completion in completions]
            if self._site.note_unfinished(completions):
                lost = [candidate for candidate in candidates if isinstance(candidate, Rejection)]
                self._site.count("solvers", len(lost), lost)
                refused.append(_first_unanswered(completions, one.draft.spec.env_id))
            else:
                items.append((one, candidates))
        names = [one.draft.spec.env_id for one, _ in items]
        solved = []
        for (one, candidates), result in zip(
            items, self._site.judge("solvers play", trials.solve, items, names), strict=True
        ):
            fault = result if isinstance(result, Rejection) else self._fault(one, len(candidates), result)
            if fault:
                refused.append(fault)
            else:
                solved.append((one, result))
        self._site.count("solved environments", len(tested), refused)
        return solved

    def _fault(self, tested: Tested, candidates: int, solved: Solved) -> Rejection | None:
        """Why an environment's solvers are good for nothing."""
        subject = tested.draft.spec.env_id
        self._site.count("solvers", candidates, solved.rejections)
        if solved.spec is None:
            return Rejection(reason="no_solver_passes", detail=_causes(solved.rejections), subject=subject)
        refused = solved.verified.rejections
        self._site.count("tasks", len(tested.tests), refused)
        if not solved.verified.tasks:
            return Rejection(reason="no_tasks", detail=_causes(refused), subject=subject)
        return None

    def _filtered(self, solved: list[tuple[Tested, Solved]]) -> list[tuple[Tested, Solved]]:
        """Those whose tasks are the same everywhere and want solving."""
        unstable = [one.unstable for _, one in solved if one.unstable]
        self._site.count("determinism", len(solved), unstable)
        short = [one.short for _, one in solved if one.short]
        self._site.count("shortcut", len(solved) - len(unstable), short)
        return [(tested, one) for tested, one in solved if not (one.unstable or one.short)]

    def _hard_tests(self, found: list[tuple[Tested, Solved]]) -> list[tuple[Task, ...]]:
        """The hard tasks of each; none where the model gave none."""
        known = [[test.config.config_json for test in tested.tests] for tested, _ in found]
        requests = [
            drafts.hard_request(self._config, tested.draft, lines)
            for (tested, _), lines in zip(found, known, strict=True)
        ]
        items, tasks = {}, {}
        for index, completion in enumerate(self._site.ask("hard tests", requests)):
            tested, solved = found[index]
            configs, bad, lost = drafts.read_tests(tested.draft, [completion], set(known[index]))
            self._site.note_unfinished([completion])
            self._site.count("hard test batches", 1, lost)
            self._site.count("hard tasks", len(bad), bad)
            if configs:
                items[index] = (tested.draft, solved.spec, configs)
        names = [spec.env_id for _, spec, _ in items.values()]
        results = self._site.judge("hard tasks", trials.harden, list(items.values()), names)
        for (index, (_, _, configs)), result in zip(items.items(), results, strict=True):
            if isinstance(result, trials.Verified):
                self._site.count("hard tasks", len(configs), result.rejections)
                tasks[index] = result.tasks
        return [tasks.get(index, ()) for index in range(len(found))]

    def _count_tasks(self, accepted: int, kept: int) -> None:
        """Counts the tasks that went with their environments, which are on record for all of theirs."""
        funnel = self._site.funnel
        verified = funnel["tasks"].passed + (funnel["hard tasks"].passed if self._config.hard_tests else 0)
        funnel["task set"].entered = verified
        lost = {"environment_refused": verified - accepted, "near_duplicate": accepted - kept}
        funnel["task set"].reasons.update({reason: count for reason, count in lost.items() if count})


def _accepted(config: LlmConfig, tested: Tested, solved: Solved, hard: tuple[Task, ...]) -> Accepted:
    assert solved.spec is not None
    levels = Counter(test.config.level for test in tested.tests)
    disagreements = sum(rejection.reason == "disagrees_with_solution" for rejection in tested.rejections)
    return Accepted(
        spec=solved.spec,
        tasks=solved.verified.tasks,
        hard_tasks=hard,
        features={
            "solvers": config.candidates,
            "solvers_passed": solved.passed,
            "tests": dict(sorted(levels.items())),
            "tests_refused": len(tested.rejections),
            "answers_unchecked": tested.unchecked,
            "answers_disagreeing": disagreements,
            "oracle_calls": [len(task.oracle_actions) for task in solved.verified.tasks],
        },
        signature=solved.signature,
    )


def _first_unanswered(completions: Sequence[Completion | Unanswered], subject: str) -> Rejection:
    first = next(completion for completion in completions if isinstance(completion, Unanswered))
    return drafts.refusal(first, subject)


def _causes(rejections: Sequence[Rejection]) -> str:
    """The two commonest."""
    causes = Counter(rejection.reason for rejection in rejections).most_common(2)
    return ", ".join(f"{count} {reason}" for reason, count in causes)
