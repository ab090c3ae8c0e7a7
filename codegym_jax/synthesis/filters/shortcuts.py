"""How few calls reach the answer: environments that give it, or the hidden data, away.

Three ways to skip the work: `Observe` shows what is said to be hidden; one call, made once, returns the
answer; the answer is nearly always the same. What chance explains is never held against an environment: a
boolean equals another one half of the time.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.audit.evidence import shows
from codegym_jax.envs.audit.leaks import trivial
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.env import Env, EnvError
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task, ToolSpec
from codegym_jax.synthesis.filters.calls import Call, oracle_calls, value_of
from codegym_jax.synthesis.filters.methods import Method, tool_methods

MIN_ANSWERS = 2
"""Distinct ones; an environment with fewer asks for nothing."""
MAX_ANSWER_SHARE = 0.8
"""Of the commonest answer; a policy that always gives it must fail every fifth task at least."""
MAX_COINCIDENCE = 0.01
"""Matches with the answer count as coincidence while so many by chance have at least this probability."""
MAX_PROBED_TASKS = 16
"""Of an environment, spread over all; a guest costs half a millisecond for each tool and task."""


def shortcut(
    sandbox: Sandbox, spec: EnvSpec, tasks: Sequence[Task], kinds: Mapping[str, str] | None = None
) -> Rejection | None:
    """Why an environment's tasks can be solved without solving them, or None.

    Args:
      sandbox: as it verified the tasks.
      spec: the environment.
      tasks: its verified tasks, at least one.
      kinds: tool name -> `access`, `operation`, `helper`, `state` or `frame`, as the outliner says; read off
        the source where it does not.

    Returns:
      A rejection with one of the reasons `constant_answers`, `nothing_hidden`, `observe_reveals_hidden`,
      `single_call_answers`.

    Raises:
      HostFailure: when the host failed.
    """
    found = _constant(tasks)
    if found is None:
        probed = _spread(tasks)
        observed = [_first_text(sandbox, spec, task.config_json, OBSERVE, {}) for task in probed]
        found = (
            _revealed(sandbox, spec, probed, observed)
            or _answered_by_oracle(spec, tasks, kinds or {})
            or _answered_by_probe(sandbox, spec, probed, observed)
        )
    return found and Rejection(reason=found[0], detail=found[1], subject=spec.env_id)


def fewest_calls(tasks: Sequence[Task]) -> float:
    """The median of how many calls, `Done` included, the oracles need until they have seen the answer.

    An oracle that never sees it, because it works it out or because it is true or false, needs all its calls.
    """
    return float(statistics.median(map(_calls_to_answer, tasks)))


def _calls_to_answer(task: Task) -> int:
    answer = json.loads(task.answer_json)
    for number, call in enumerate(oracle_calls(task), start=1):
        if call.tool not in (OBSERVE, DONE) and not isinstance(answer, bool) and matches(call.text, answer):
            return number + 1
    return len(task.oracle_actions)


def matches(text: str, answer: Any) -> bool:
    """Whether a result is the answer: equal as JSON, one-element containers apart, or named in plain text."""
    if text.startswith("Error:"):
        return False
    result = value_of(text)
    if result is text:
        return shows(text, _unwrapped(answer))
    return _same(_unwrapped(result), _unwrapped(answer))


def _same(one: Any, other: Any) -> bool:
    """Equality of JSON values as `Done` sees it: 1 is 1.0, but not true."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _unwrapped(value: Any) -> Any:
    while isinstance(value, list | dict) and len(value) == 1:
        [value] = value.values() if isinstance(value, dict) else value
    return value


_Found = tuple[str, str] | None
"""(reason, detail), or nothing."""


def _constant(tasks: Sequence[Task]) -> _Found:
    counts = Counter(task.answer_json for task in tasks)
    commonest, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(counts) < MIN_ANSWERS or count > MAX_ANSWER_SHARE * len(tasks):
        return "constant_answers", f"{commonest} answers {count} of {len(tasks)} tasks"
    return None


def _spread(tasks: Sequence[Task]) -> list[Task]:
    count = min(MAX_PROBED_TASKS, len(tasks))
    return [tasks[number * len(tasks) // count] for number in range(count)]


def _first_text(
    sandbox: Sandbox, spec: EnvSpec, config_json: str, tool: str, parameters: Mapping[str, Any]
) -> str:
    """What a tool says as the first call of an episode.

    Raises:
      EnvError: when the environment does not load with this config.
    """
    env = Env(sandbox, spec, config_json)
    try:
        return env.step(json.dumps({"name": tool, "parameters": parameters})).observation
    finally:
        env.close()


# What `Observe` shows.


def _revealed(sandbox: Sandbox, spec: EnvSpec, tasks: Sequence[Task], observed: Sequence[str]) -> _Found:
    """Whether `Observe` shows more of the hidden values than their sizes: does it notice when they change?

    An `Observe` that returns a JSON object hides every input that it does not list with its value. Plain text
    says sizes and settings, so it hides lists and objects; where there are none, it must hide something.
    """
    for task, text in zip(tasks, observed, strict=True):
        config = json.loads(task.config_json)
        listed = value_of(text)
        if isinstance(listed, dict):
            hidden = _hidden(config, listed)
        else:
            hidden = [key for key, value in config.items() if isinstance(value, list | dict)]
            if not hidden:
                hidden = [key for key in config if not _notices(sandbox, spec, task, text, [key])]
        if config and not hidden:
            return "nothing_hidden", f"Observe shows all of {', '.join(config)}: {text[:100]!r}"
        if _notices(sandbox, spec, task, text, hidden):
            keys = [key for key in hidden if _notices(sandbox, spec, task, text, [key])] or hidden
            return "observe_reveals_hidden", f"Observe shows {', '.join(keys)}: {text[:100]!r}"
    return None


def _hidden(config: Mapping[str, Any], listed: Mapping[str, Any]) -> list[str]:
    """The inputs that `Observe` names as hidden or does not list; it may round a number that it lists."""
    named = [
        key
        for value in listed.values()
        if isinstance(value, list) and all(isinstance(key, str) and key in config for key in value)
        for key in value
    ]
    return [
        key
        for key, value in config.items()
        if key in named or key not in listed or (listed[key] != value and isinstance(value, list | dict))
    ]


def _notices(sandbox: Sandbox, spec: EnvSpec, task: Task, text: str, keys: Sequence[str]) -> bool:
    """Whether `Observe` says something else when other values of the same shape stand in some inputs."""
    config = json.loads(task.config_json)
    other = config | {key: altered(config[key]) for key in keys}
    if other == config:
        return False
    try:
        return _first_text(sandbox, spec, canonical_json(other), OBSERVE, {}) != text
    except EnvError:  # it takes no such values; then their appearance has to do
        return any(_is_telling(config[key]) and shows(text, config[key]) for key in keys)


def altered(value: Any) -> Any:
    """Another value of the same shape: as many elements and characters, other numbers and letters."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return math.nextafter(value + 1.0, math.inf)
        case str():
            return "".join(map(_other_character, value))
        case list():
            return [altered(item) for item in value]
        case dict():
            return {key: altered(item) for key, item in value.items()}
    return value


def _other_character(character: str) -> str:
    for alphabet in ("0123456789", "abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"):
        if character in alphabet:
            return alphabet[(alphabet.index(character) + 1) % len(alphabet)]
    return character


def _is_telling(value: Any) -> bool:
    """Whether a value does not turn up by chance: three characters at least."""
    return len(value if isinstance(value, str) else json.dumps(value)) >= 3


# Single calls.


def _answered_by_oracle(spec: EnvSpec, tasks: Sequence[Task], kinds: Mapping[str, str]) -> _Found:
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
            detail = f"{tool}, called once, returns the answer in {len(by_task)} of {len(tasks)} tasks"
            return "single_call_answers", detail
    return None


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


def _answered_by_probe(
    sandbox: Sandbox, spec: EnvSpec, tasks: Sequence[Task], observed: Sequence[str]
) -> _Found:
    """A tool that returns the answer when it is called first, with parameters that anybody may try."""
    answers = [json.loads(task.answer_json) for task in tasks]
    shown = [_shown_values(text) for text in observed]
    for key in sorted(set().union(*shown)):
        hits = {i: one[key] for i, one in enumerate(shown) if key in one and matches(one[key], answers[i])}
        if 2 * len(hits) > len(tasks) and not _is_chance(hits, answers, len(tasks)):
            return "single_call_answers", f"Observe shows the answer in {len(hits)} of {len(tasks)} tasks"
    for tool in spec.tools:
        if tool.name in (OBSERVE, DONE):
            continue
        for tries in _first_tries(tool, tasks, shown):
            hits = _hits(sandbox, spec, tool.name, tries, tasks, answers)
            if 2 * len(hits) > len(tasks) and not _is_chance(hits, answers, len(tasks)):
                detail = f"{tool.name}, called first, returns the answer in {len(hits)} of {len(tasks)} tasks"
                return "single_call_answers", detail
    return None


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
        text = _first_text(sandbox, spec, task.config_json, tool, parameters)
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
                {name: json.loads(source(seen)) for name, source in zip(names, sources, strict=True)}
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
    rate = sum(matches(text, answer) for text in hits.values() for answer in answers) / (
        len(hits) * len(answers)
    )
    tail = sum(
        math.comb(tries, count) * rate**count * (1 - rate) ** (tries - count)
        for count in range(len(hits), tries + 1)
    )
    return tail > MAX_COINCIDENCE
