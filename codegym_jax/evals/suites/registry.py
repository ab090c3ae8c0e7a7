"""The suites that there are, and how one is opened.

A suite is asked for as `NAME` (all subsets that it plays unless told otherwise) or `NAME:SUBSET`.
"""

import difflib
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from codegym_jax.config import SandboxConfig, UserError
from codegym_jax.evals.suites.environments import worker_command
from codegym_jax.evals.suites.suite import Suite, SuiteError
from codegym_jax.evals.suites.worker import WorkerSuite

REACT = (
    "Work step by step. In each message first say in a sentence or two what you know and what you need next,"
    " then call the function that brings you there, and wait for its result."
)
CHAIN_OF_THOUGHT = (
    "Think step by step before you answer. Give the final answer at the end, in the form asked for."
)
HELD_OUT, MMLU_PRO = "held_out", "mmlu_pro"


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteEntry:
    """A suite, before anything of it is opened."""

    name: str
    about: str
    """One line."""
    instructions: str
    """Given to the policy beside the suite's own; none where it was trained on the suite's form."""
    default_subsets: tuple[str, ...] = ()
    """That are played unless others are named; empty: all that it says it has."""
    user_subsets: tuple[str, ...] = ()
    """That need a user who is a language model."""
    data: str = ""
    """What it needs from the caller, by `--suite-data NAME=...`."""
    programs: tuple[str, ...] = ()
    """That must be on this machine, beside its packages."""
    own_process: bool = True


SUITES: Mapping[str, SuiteEntry] = {
    entry.name: entry
    for entry in (
        SuiteEntry(
            name=HELD_OUT,
            about="held-out splits of a CodeGym task set",
            instructions="",
            default_subsets=("test_config", "test_env"),
            data="the folder of a task set; `codegym eval` takes the run's own",
            own_process=False,
        ),
        SuiteEntry(
            name="bfcl",
            about="Berkeley Function Calling Leaderboard, multi-turn: APIs with scripted users",
            instructions=REACT,
        ),
        SuiteEntry(
            name="tau2",
            about="tau2-bench: customer service; telecom in solo mode, airline and retail with a user",
            instructions=REACT,
            default_subsets=("telecom_solo", "airline_scenario", "retail_scenario"),
            user_subsets=("airline", "retail"),
        ),
        SuiteEntry(
            name="alfworld",
            about="household tasks of ALFWorld, in text",
            instructions=REACT,
            data="ALFWorld's game files: the folder json_2.1.1, or the one that holds it",
        ),
        SuiteEntry(
            name="textworld",
            about="text games of TextWorldExpress: cooking, tidying up and searching in a house",
            instructions=REACT,
            default_subsets=("cookingworld", "coin", "twc", "mapreader"),
            programs=("java",),
        ),
        SuiteEntry(
            name="zebra",
            about="zebra puzzles of reasoning-gym, four houses",
            instructions=CHAIN_OF_THOUGHT,
        ),
        SuiteEntry(
            name=MMLU_PRO,
            about="MMLU-Pro: questions of many subjects with up to ten choices",
            instructions="",  # its questions say it already, and name the form of the answer
            default_subsets=("all",),
            data="its test questions: a .parquet or .jsonl file, or hub:TIGER-Lab/MMLU-Pro",
            own_process=False,
        ),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteOptions:
    """What the caller brings for suites."""

    cache: pathlib.Path
    data: Mapping[str, str] = field(default_factory=dict)
    """Suite -> where its data are."""
    user_endpoint: str = ""
    """Of an OpenAI-compatible interface: the simulated user."""
    user_model: str = ""
    """The name of the user's model there."""
    sandbox: SandboxConfig = field(default_factory=SandboxConfig)
    """Of our own environments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteChoice:
    """A suite that was asked for."""

    entry: SuiteEntry
    subset: str = ""
    """Empty: those that it plays unless told otherwise."""

    def subsets(self, suite: Suite) -> Sequence[str]:
        """What to play.

        Raises:
          SuiteError: when the suite has no such subset.
        """
        there = suite.facts.subsets
        usual = tuple(subset for subset in self.entry.default_subsets if subset in there) or there
        if self.subset and self.subset not in there:
            raise SuiteError(
                f"suite {self.entry.name} has no subset {self.subset!r}; it has {', '.join(there)}"
            )
        return (self.subset,) if self.subset else usual


def parse_suites(text: str) -> list[SuiteChoice]:
    """`NAME[:SUBSET][,...]`.

    Raises:
      UserError: on an unknown name; suggests the nearest.
    """
    choices = []
    for part in text.split(","):
        name, _, subset = part.strip().partition(":")
        if name not in SUITES:
            near = difflib.get_close_matches(name, SUITES, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(SUITES)}"
            raise UserError(f"--suite: there is no suite {name!r}; {hint}")
        choices.append(SuiteChoice(entry=SUITES[name], subset=subset))
    return list(dict.fromkeys(choices))


def check_choice(choice: SuiteChoice, options: SuiteOptions) -> None:
    """Checks, before any work, that a suite can be opened and graded.

    Raises:
      SuiteError: names what is missing and how to get it.
    """
    entry = choice.entry
    subsets = (choice.subset,) if choice.subset else entry.default_subsets
    needing = [subset for subset in subsets if subset in entry.user_subsets]
    if needing and not (options.user_endpoint and options.user_model):
        raise SuiteError(
            f"suite {entry.name}, {needing[0]}: its tasks need a user who is a language model; give one by"
            " --user-endpoint URL --user-model NAME (any OpenAI-compatible interface)"
        )
    if entry.data and entry.name not in options.data:
        raise SuiteError(f"suite {entry.name} needs --suite-data {entry.name}=...: {entry.data}")
    for program in entry.programs:
        if shutil.which(program) is None:
            raise SuiteError(
                f"suite {entry.name} needs the program `{program}`, which is not on this machine;"
                " install it so that it is found by PATH"
            )
    if entry.own_process:
        worker_command(options.cache, entry.name)


def open_suite(entry: SuiteEntry, options: SuiteOptions) -> Suite:
    """Opens a suite; close it after use.

    Raises:
      SuiteError: when it cannot be opened.
    """
    data = options.data.get(entry.name, "")
    if entry.name == HELD_OUT:
        from codegym_jax.evals.suites.held_out import HeldOut

        return HeldOut(pathlib.Path(data), options.cache, options.sandbox)
    if entry.name == MMLU_PRO:
        from codegym_jax.evals.suites.mmlu_pro import open_mmlu_pro

        return open_mmlu_pro(data)
    settings = {"data": data, "user_endpoint": options.user_endpoint, "user_model": options.user_model}
    given = {key: value for key, value in settings.items() if value}
    return WorkerSuite(worker_command(options.cache, entry.name), name=entry.name, settings=given)
