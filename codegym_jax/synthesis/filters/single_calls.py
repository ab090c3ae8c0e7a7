"""Does one call, made once, return the answer? What chance explains is held against nobody."""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.audit.leaks import trivial
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Task, ToolSpec
from codegym_jax.synthesis.filters.calls import Call, first_text, matches, oracle_calls, value_of
from codegym_jax.synthesis.filters.methods import Method, tool_methods

MAX_COINCIDENCE = 0.01
"""Matches with the answer count as coincidence while so many by chance have at least this probability."""


def answered_by_oracle(spec: EnvSpec, tasks: Sequence[Task], kinds: Mapping[str, str]) -> str:
    """A tool that the oracle calls once and that returns the answer, in more than half of the tasks.

    A last step that takes what repeated calls worked out is no shortcut.
    """
    methods = tool_methods(spec)
    texts: dict[str, dict[int, str]] = {}
    for index, task in enumerate(tasks):
        for call in _lone_answers(oracle_calls(task), json.loads(task.answer_json), methods, kinds):
            texts.setdefault(call.tool, {})[index] = call.text
    answers = [json.loads(task.answer_json) for task in tasks]
    for tool, by_task in sorted(texts.items()):
        if 2 * len(by_task) > len(tasks) and not _is_chance(by_task, answers, len(tasks)):
            return f"{tool}, called once, returns the answer in {len(by_task)} of {len(tasks)} tasks"
    return ""


def _lone_answers(
    calls: Sequence[Call], answer: Any, methods: Mapping[str, Method], kinds: Mapping[str, str]
) -> Iterator[Call]:
    counts = Counter(call.tool for call in calls)
    worked_out: set[str] = set()
    read: set[str] = set()
    repeated: set[str] = set()
    for call in calls:
        if call.tool in (OBSERVE, DONE):
            continue
        is_access = _reads_input(call.tool, methods, kinds)
        if counts[call.tool] == 1 and matches(call.text, answer):
            known = worked_out | read if is_access else worked_out
            if not (_takes(call, known) or _shares_state(call.tool, repeated, methods)):
                yield call
        if counts[call.tool] > 1:
            repeated.add(call.tool)
            if not isinstance(call.result, bool):
                (read if is_access else worked_out).add(canonical_json(call.result))


def _reads_input(tool: str, methods: Mapping[str, Method], kinds: Mapping[str, str]) -> bool:
    return kinds[tool] == "access" if tool in kinds else tool in methods and bool(methods[tool].reads)


def _takes(call: Call, known: set[str]) -> bool:
    """Whether a parameter is one of the known values, or a list of them."""
    for value in call.parameters.values():
        parts = value if isinstance(value, list) and value else [value]
        if canonical_json(value) in known or all(canonical_json(part) in known for part in parts):
            return True
    return False


def _shares_state(tool: str, repeated: set[str], methods: Mapping[str, Method]) -> bool:
    """Whether a tool reads what repeated calls have changed."""
    if tool not in methods:
        return False
    return any(methods[other].writes & methods[tool].reads for other in repeated if other in methods)


def answered_by_probe(sandbox: Sandbox, spec: EnvSpec, tasks: Sequence[Task], observed: Sequence[str]) -> str:
    """A tool that returns the answer when it is called first, with parameters that anybody may try."""
    answers = [json.loads(task.answer_json) for task in tasks]
    shown = [_shown_values(text) for text in observed]
    for key in sorted(set().union(*shown)):
        hits = {i: one[key] for i, one in enumerate(shown) if key in one and matches(one[key], answers[i])}
        if 2 * len(hits) > len(tasks) and not _is_chance(hits, answers, len(tasks)):
            return f"Observe shows the answer in {len(hits)} of {len(tasks)} tasks"
    for tool in spec.tools:
        if tool.name in (OBSERVE, DONE):
            continue
        for tries in _first_tries(tool, tasks, shown):
            hits = _hits(sandbox, spec, tool.name, tries, tasks, answers)
            if 2 * len(hits) > len(tasks) and not _is_chance(hits, answers, len(tasks)):
                return f"{tool.name}, called first, returns the answer in {len(hits)} of {len(tasks)} tasks"
    return ""


def _hits(
    sandbox: Sandbox,
    spec: EnvSpec,
    tool: str,
    tries: Sequence[dict[str, Any]],
    tasks: Sequence[Task],
    answers: Sequence[Any],
) -> dict[int, str]:
    """The tasks in which a first call returns the answer; gives up when they cannot be most any more."""
    hits: dict[int, str] = {}
    for index, (task, parameters) in enumerate(zip(tasks, tries, strict=True)):
        if 2 * (index - len(hits)) >= len(tasks):
            break
        text = first_text(sandbox, spec, task.config_json, tool, parameters)
        if matches(text, answers[index]):
            hits[index] = text
    return hits


def _shown_values(text: str) -> dict[str, str]:
    """What `Observe` lists, name -> JSON; its whole text under no name where it lists nothing."""
    listed = value_of(text)
    if isinstance(listed, dict):
        return {str(key): json.dumps(value) for key, value in listed.items()}
    return {"": text}


def _first_tries(
    tool: ToolSpec, tasks: Sequence[Task], shown: Sequence[Mapping[str, str]]
) -> list[list[dict[str, Any]]]:
    """Ways to call a tool first, each as the parameters in every task.

    They are trivial values, and what the oracle's own first calls have in common: a parameter that is the
    same in all tasks, or always the visible input of one name.
    """
    plain = {one.name: trivial(one.type_name) for one in tool.parameters if one.required}
    ways = [[plain] * len(tasks)]
    calls = [next((c for c in oracle_calls(task) if c.tool == tool.name), None) for task in tasks]
    given = [(call.parameters, seen) for call, seen in zip(calls, shown, strict=True) if call]
    names = list(given[0][0]) if given else []
    sources = [source for name in names if (source := _source(name, given)) is not None]
    if names and len(sources) == len(names):
        ways.append(
            [
                {name: value_of(source(seen)) for name, source in zip(names, sources, strict=True)}
                for seen in shown
            ]
        )
    return [way for number, way in enumerate(ways) if way not in ways[:number]]


def _source(
    name: str, given: Sequence[tuple[Mapping[str, Any], Mapping[str, str]]]
) -> Callable[[Mapping[str, str]], str] | None:
    """How to read a parameter's JSON off what `Observe` lists; None where the calls show no such way."""
    texts = [json.dumps(parameters.get(name)) for parameters, _ in given]
    for key in sorted(set.intersection(*(set(seen) for _, seen in given))):
        if all(text == seen[key] for text, (_, seen) in zip(texts, given, strict=True)):
            return lambda seen: seen.get(key, "null")
    return (lambda seen: texts[0]) if len(set(texts)) == 1 else None


def _is_chance(hits: Mapping[int, str], answers: Sequence[Any], tries: int) -> bool:
    """Whether so many matches may be coincidence: how often do these results match other tasks' answers?

    The probability of at least `len(hits)` matches in `tries`, each with the rate at which a result matches
    the answer of a task drawn at random, is a binomial tail.
    """
    counts = Counter(map(canonical_json, answers))
    matched = sum(
        count * matches(text, json.loads(answer))
        for text in hits.values()
        for answer, count in counts.items()
    )
    rate = matched / (len(hits) * len(answers))
    return _binomial_tail(len(hits), tries, rate) > MAX_COINCIDENCE


def _binomial_tail(least: int, tries: int, rate: float) -> float:
    """The probability of at least so many successes, for a rate in (0, 1]."""
    if rate == 1:
        return 1.0
    return sum(
        math.exp(
            math.lgamma(tries + 1)
            - math.lgamma(count + 1)
            - math.lgamma(tries - count + 1)
            + count * math.log(rate)
            + (tries - count) * math.log1p(-rate)
        )
        for count in range(least, tries + 1)
    )
