"""What a task set's card tells, as plain numbers: read off its tasks, its features and its manifest.

Features that a synthesizer did not note are left out; nothing here needs them.
"""

import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from codegym_jax.data.splits import SPLITS, TEST_ENV
from codegym_jax.data.stable_hash import stable_hash
from codegym_jax.data.task_set import TaskSet
from codegym_jax.records import EnvSpec, Task

BANDS = (("easy", 3, 9), ("medium", 10, 40), ("hard", 41, 256))
"""Difficulty by the oracle's calls, both ends included."""
LONG = (10, 256)
"""The calls of a task that takes a while; the means that are compared between task sets are over these."""
DUPLICATE = 0.85
"""Environments whose workflows share more than this are near duplicates in all but names."""

_CALL_STARTS = (1, 3, 5, 7, 10, 15, 21, 29, 41, 65, 101, 161, 257)
_MOST_TOOLS = 16
_SIMILARITY_BINS = 10
_ROWS_AT_ONCE = 1024
_EXAMPLE_CALLS = range(6, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bin:
    """One column of a histogram."""

    label: str
    count: int
    band: str = ""
    """The difficulty band it lies in; "" outside of all and where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many environments and tasks have this name."""

    name: str
    environments: int
    tasks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Diversity:
    """How much the environments differ in workflow, names apart."""

    distinct: int
    """Different sets of steps."""
    median: float
    """Similarity of an environment to the one most like it, in [0, 1]: the median over environments."""
    duplicates: int
    """Environments with a similarity above `DUPLICATE`."""
    histogram: tuple[Bin, ...]
    """Of that similarity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSetFacts:
    """What a card is made of; every sequence is in the order in which it is shown."""

    environments: int
    tasks: int
    splits: tuple[Share, ...]
    licenses: tuple[Share, ...]
    origins: tuple[Share, ...]
    tools: tuple[Bin, ...]
    """Environments by their number of tools, `Observe` and `Done` included."""
    mean_tools: float
    calls: tuple[Bin, ...]
    """Tasks by their oracle's calls, `Done` included."""
    bands: tuple[Share, ...]
    median_calls: float
    mean_long_calls: float | None
    """Over tasks of `LONG` calls; None when there are none."""
    answers: tuple[Share, ...]
    """By JSON type; an environment counts at each type that one of its answers has."""
    tool_kinds: tuple[tuple[str, int], ...]
    """Tools by kind, where the synthesizer noted it."""
    good: int | None
    """Environments that met every quality criterion; None when nobody judged them."""
    hidden: int | None
    """Environments with at least one hidden input; None when nobody noted it."""
    families: int | None
    """Families of near duplicates, those of one included; None when nobody looked."""
    crossing: int
    """Families with tasks both in `test_env` and in another split; environments, when nobody looked."""
    diversity: Diversity
    example: tuple[EnvSpec, Task] | None


def facts_of(task_set: TaskSet) -> TaskSetFacts:
    """Counts what is in a task set. The same tasks give the same facts."""
    by_split = {split: list(task_set.source(split)) for split in SPLITS}
    tasks = [task for members in by_split.values() for task in members]
    specs, features = task_set.specs, task_set.features.values()
    calls = sorted(len(task.oracle_actions) for task in tasks)
    long = [count for count in calls if LONG[0] <= count <= LONG[1]]
    kinds = Counter(kind for one in features for kind in one.get("tool_kinds", {}).values())
    return TaskSetFacts(
        environments=len(specs),
        tasks=len(tasks),
        splits=tuple(_share(split, members) for split, members in by_split.items() if members),
        licenses=_shares(tasks, {env_id: spec.license for env_id, spec in specs.items()}),
        origins=_shares(tasks, {env_id: spec.origin for env_id, spec in specs.items()}),
        tools=_tool_bins([len(spec.tools) for spec in specs.values()]),
        mean_tools=statistics.fmean(len(spec.tools) for spec in specs.values()) if specs else 0.0,
        calls=_call_bins(calls),
        bands=tuple(_band(name, low, high, tasks) for name, low, high in BANDS),
        median_calls=float(statistics.median(calls)) if calls else 0.0,
        mean_long_calls=statistics.fmean(long) if long else None,
        answers=_answers(tasks),
        tool_kinds=tuple(kinds.most_common()) if kinds else (),
        good=_count(features, "quality", lambda quality: bool(quality.get("good"))),
        hidden=_hidden(features),
        families=_families(task_set.features),
        crossing=_crossing(task_set.features, by_split),
        diversity=diversity(workflows(tasks)),
        example=_example(specs, tasks),
    )


def workflows(tasks: Iterable[Task]) -> dict[str, frozenset[str]]:
    """Environment id -> the distinct trigrams of its oracle's calls, without names.

    A call is written as the place of its tool in the order of first use, and its number of parameters;
    `Observe` and `Done` keep their names. So two environments that differ in names only have the same set.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        places: dict[str, int] = {}
        steps = ["^"]
        for action in task.oracle_actions:
            name, parameters = read_call(action)
            place = name if name in ("Observe", "Done") else places.setdefault(name, len(places))
            steps.append(f"{place}/{len(parameters)}")
        found[task.env_id] |= {" ".join(steps[index : index + 3]) for index in range(max(len(steps) - 2, 1))}
    return {env_id: frozenset(trigrams) for env_id, trigrams in found.items()}


def read_call(action: str) -> tuple[str, dict[str, Any]]:
    """Tool and parameters of an oracle's action; the text itself where it is no call, which it may try."""
    try:
        match json.loads(action):
            case {"name": str(name), "parameters": dict(parameters)}:
                return name, parameters
    except (ValueError, RecursionError):
        pass
    return action, {}


def diversity(workflow_of: Mapping[str, frozenset[str]]) -> Diversity:
    """How alike the most alike workflows are, by the shared part of their trigrams (Jaccard)."""
    nearest = _nearest([workflow_of[env_id] for env_id in sorted(workflow_of)])
    counts, _ = np.histogram(nearest, bins=_SIMILARITY_BINS, range=(0.0, 1.0))
    step = 100 // _SIMILARITY_BINS
    return Diversity(
        distinct=len(set(workflow_of.values())),
        median=round(float(np.median(nearest)), 4) if len(nearest) else 0.0,
        duplicates=int(np.count_nonzero(nearest > DUPLICATE)),
        histogram=tuple(
            Bin(label=f"{index * step}–{(index + 1) * step}%", count=int(count))
            for index, count in enumerate(counts)
        ),
    )


def _nearest(sets: Sequence[frozenset[str]]) -> np.ndarray:
    """The similarity of each set to the other one most like it; 0 for a lone one."""
    if len(sets) < 2:
        return np.zeros(len(sets))
    column = {trigram: index for index, trigram in enumerate(sorted(set().union(*sets)))}
    has = np.zeros((len(sets), len(column)), np.float32)
    for row, trigrams in enumerate(sets):
        has[row, [column[trigram] for trigram in trigrams]] = 1.0
    sizes = has.sum(axis=1)
    nearest = np.empty(len(sets))
    for start in range(0, len(sets), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        shared = has[rows] @ has.T  # whole numbers, hence exact
        similarity = shared / np.maximum(sizes[rows, None] + sizes[None, :] - shared, 1.0)
        similarity[np.arange(len(similarity)), np.arange(start, start + len(similarity))] = 0.0
        nearest[rows] = similarity.max(axis=1)
    return nearest


def _share(name: str, tasks: Sequence[Task]) -> Share:
    return Share(name=name, environments=len({task.env_id for task in tasks}), tasks=len(tasks))


def _shares(tasks: Sequence[Task], name_of: Mapping[str, str]) -> tuple[Share, ...]:
    """By a property of the environments, the commonest first."""
    environments = Counter(name_of.values())
    counts = Counter(name_of[task.env_id] for task in tasks)
    names = sorted(environments, key=lambda name: (-counts[name], name))
    return tuple(Share(name=name, environments=environments[name], tasks=counts[name]) for name in names)


def _band(name: str, low: int, high: int, tasks: Sequence[Task]) -> Share:
    return _share(name, [task for task in tasks if low <= len(task.oracle_actions) <= high])


def _answers(tasks: Sequence[Task]) -> tuple[Share, ...]:
    of_type: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        of_type[_json_type(task.answer_json)].append(task)
    return tuple(_share(name, of_type[name]) for name in sorted(of_type, key=lambda n: (-len(of_type[n]), n)))


def _json_type(text: str) -> str:
    if not text:
        return "unknown"
    value = json.loads(text)
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "list", dict: "object"}
    return names.get(type(value), "null")


def _tool_bins(counts: Sequence[int]) -> tuple[Bin, ...]:
    counted = Counter(min(count, _MOST_TOOLS) for count in counts)
    if not counted:
        return ()
    return tuple(
        Bin(label=f"{_MOST_TOOLS}+" if count == _MOST_TOOLS else str(count), count=counted[count])
        for count in range(min(counted), max(counted) + 1)
    )


def _call_bins(calls: Sequence[int]) -> tuple[Bin, ...]:
    """No bin crosses the border of a band; the first and the last, outside of all, only where they count."""
    bins = []
    for index, low in enumerate(_CALL_STARTS):
        last = index + 1 == len(_CALL_STARTS)
        high = max([low, *calls]) if last else _CALL_STARTS[index + 1] - 1
        count = sum(low <= number <= high for number in calls)
        band = next((name for name, start, end in BANDS if start <= low <= end), "")
        if count or band:
            bins.append(Bin(label=f"{low}+" if last else f"{low}–{high}", count=count, band=band))
    return tuple(bins)


def _count(features: Iterable[Mapping[str, Any]], key: str, holds: Any) -> int | None:
    noted = [one[key] for one in features if key in one]
    return sum(map(holds, noted)) if noted else None


def _hidden(features: Iterable[Mapping[str, Any]]) -> int | None:
    noted = [one for one in features if "hidden_inputs" in one or "hidden_input" in one]
    return sum(bool(one.get("hidden_inputs", one.get("hidden_input"))) for one in noted) if noted else None


def _families(features: Mapping[str, Mapping[str, Any]]) -> int | None:
    if not any("family" in one for one in features.values()):
        return None
    return len({one.get("family", env_id) for env_id, one in features.items()})


def _crossing(features: Mapping[str, Mapping[str, Any]], by_split: Mapping[str, Sequence[Task]]) -> int:
    held, others = set(), set()
    for split, tasks in by_split.items():
        found = {features[task.env_id].get("family", task.env_id) for task in tasks}
        (held if split == TEST_ENV else others).update(found)
    return len(held & others)


def _example(specs: Mapping[str, EnvSpec], tasks: Sequence[Task]) -> tuple[EnvSpec, Task] | None:
    """A task of a length that is pleasant to read, drawn by hash."""
    fit = [task for task in tasks if len(task.oracle_actions) in _EXAMPLE_CALLS] or tasks
    if not fit:
        return None
    task = min(fit, key=lambda one: (stable_hash(0, "card", one.task_id), one.task_id))
    return specs[task.env_id], task
