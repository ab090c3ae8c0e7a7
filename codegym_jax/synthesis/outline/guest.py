"""The two entry points that run inside the guest, JSON text in and out."""

import ast
import json
import operator
import random
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from codegym_jax.synthesis.outline import features, inputs, names, preconditions, values
from codegym_jax.synthesis.outline.access import hidden_parameters
from codegym_jax.synthesis.outline.emit import environment
from codegym_jax.synthesis.outline.problem import Inputs, Problem
from codegym_jax.synthesis.outline.scopes import functions
from codegym_jax.synthesis.outline.trace import Call, Outline, Sample, Strategy, Trace, Unusable, outline

_Item = TypeVar("_Item")
STRATEGIES = (
    Strategy(everywhere=True),
    Strategy(everywhere=True, state=True),
    Strategy(),
    Strategy(state=True),
    Strategy(helpers=False, everywhere=True),
    Strategy(helpers=False, everywhere=True, state=True),
    Strategy(helpers=False),
    Strategy(lazy=False, loops=False),
)  # of two equally good outlines, the earlier strategy's is kept
GOOD_ENOUGH = (True, False, True, True, -0.02, -3)  # parts of a rank at which no further strategy is tried
CHANGE_WEIGHT = 2  # of a change of something kept in mind, in operations worked out
TRACED_SAMPLES = 12
MIN_TOOLS = 4
CANDIDATES_PER_CONFIG = 4
ENOUGH_RUNS = 3  # good runs of an oracle, per config wanted, among which configs are chosen
MAX_ANSWER_SHARE = 0.55  # of the commonest answer among the tiny tasks
DRAWN_SEEDS = 48
MIN_SAMPLES = 10
MAX_NATIVE_OPERATIONS = 30  # that the oracle works out by itself; with more, the tools are not what solves
FEW_INPUTS = 4  # with fewer, those made from annotations join in
MAX_EXAMPLE_CHARS = 300
HANDY_EXAMPLE_CHARS = 100


def synthesize(argument_json: str) -> str:
    """One problem to one environment.

    Takes `code_id`, `source`, `entry`, `statement`, `license`, `test` or `generator`, `seed`, `tasks`,
    `min_calls`, `max_calls`, `max_answer_chars`, and perhaps `inputs`, JSON texts to fall back on. Returns
    either `class_name`, `source`, `tool_kinds`, `configs`, `statement` and `asked`, or `reason`.
    """
    about = json.loads(argument_json)
    try:
        return json.dumps(_synthesize(about))
    except Unusable as unusable:
        return json.dumps({"reason": str(unusable)})


def more_configs(argument_json: str) -> str:
    """Configs of tiny tasks (`features.is_tiny`) for an environment.

    Takes what `synthesize` takes, what it returned as `asked`, and the environment's `class_name`,
    `environment` (source) and `count`.
    Returns `configs`, spread over the numbers of oracle calls and over the answers.
    """
    about = json.loads(argument_json)
    problem, pairs = _drawn(about, about["count"] * CANDIDATES_PER_CONFIG)
    problem.projection = about["asked"]["projection"]
    problem.digits = about["asked"]["digits"]
    problem.position = about["asked"]["position"]
    samples = _samples(problem, pairs, about)
    oracle = _Oracle(about["environment"], about["class_name"])
    configs = _spread(
        oracle,
        samples,
        about,
        2 * about["count"],
        wanted=features.is_tiny,
        twice=features.SHORT_CALLS,
        shares=(1.0,),
    )
    return json.dumps({"configs": _balanced(configs, problem.answer)[: about["count"]]})


def _synthesize(about: dict[str, Any]) -> dict[str, Any]:
    problem, pairs = _drawn(about, max(3 * about["tasks"], TRACED_SAMPLES))
    problem.projection = _projection([answer for _, answer in pairs], about["max_answer_chars"])
    reason = "long answers"
    for digits in _precisions(problem, pairs):
        problem.digits, problem.position = digits, None
        samples = _samples(problem, pairs, about)
        try:
            return _outlined(problem, samples, about)
        except Unusable as unusable:
            reason = str(unusable)
    raise Unusable(reason)


def _outlined(problem: Problem, samples: list[Sample], about: dict[str, Any]) -> dict[str, Any]:
    """The best environment that a strategy gives on these samples.

    Raises:
      Unusable: with the reason, when none gives one worth having.
    """
    if len(samples) < MIN_SAMPLES:
        raise Unusable("long answers")
    if len({values.to_json(sample.answer) for sample in samples}) < 2:
        raise Unusable("few distinct answers")
    given = [problem.given(sample.inputs) for sample in samples]
    problem.hidden = hidden_parameters(given)
    if not problem.hidden:
        raise Unusable("nothing to hide")
    problem.readings.clear()
    candidates, reason = [], "no sound set of tools"
    has_helpers = len(functions(problem.normalize(True))) > 1
    for strategy in STRATEGIES:
        if not (strategy.helpers or has_helpers) or (candidates and not strategy.lazy):
            continue
        try:
            candidate = _candidate(problem, strategy, samples, about)
        except Unusable as unusable:
            reason = str(unusable)
            continue
        except (SyntaxError, ValueError) as error:
            reason = f"outline fails with {type(error).__name__}"
            continue
        candidates.append(candidate)
        if all(map(operator.ge, candidate["rank"], GOOD_ENOUGH)):
            break
    for candidate in sorted(candidates, key=lambda candidate: candidate["rank"], reverse=True):
        try:
            configs = _accepted_configs(candidate, samples, about)
        except Unusable as unusable:
            reason = str(unusable)
            continue
        return {
            "class_name": candidate["class_name"],
            "source": candidate["source"],
            "tool_kinds": candidate["tool_kinds"],
            "statement": _statement(problem, samples, configs, about),
            "configs": configs,
            "asked": {
                "projection": problem.projection,
                "position": problem.position,
                "digits": problem.digits,
            },
        }
    raise Unusable(reason)


def _drawn(about: dict[str, Any], count: int) -> tuple[Problem, list[tuple[Inputs, Any]]]:
    """The problem, and some `count` or more (inputs, returned value) pairs, its own inputs among them."""
    problem = Problem(about["source"], about["entry"])
    source = random.Random(about["seed"])
    seen = set()
    if about.get("generator"):
        base = list(
            inputs.generated(problem, about["generator"], range(DRAWN_SEEDS if count < 100 else 2 * count))
        )
        more = inputs.shortened
    else:
        base = inputs.mined(problem, about["test"]) if about["test"] else []
        more = inputs.varied
    if len(base) < FEW_INPUTS:
        base += [json.loads(text) for text in about.get("inputs", ())]
    if not base:
        raise Unusable("no inputs")
    base = [values.rounded(item, values.DIGITS) for item in _of_one_form(base)]
    pairs = list(inputs.answered(problem, base[: 2 * count], seen))
    if not pairs:
        raise Unusable("the solution fails or is not deterministic")
    originals = [item for item, _ in pairs]
    demanded = preconditions.common(originals)
    changed = preconditions.keeping(demanded, more(originals, source, 12 * count))
    altered = list(_first(inputs.answered(problem, changed, seen), count))
    longer = preconditions.keeping(
        demanded, inputs.grown(originals, hidden_parameters(originals), source, 2 * count)
    )
    joined = list(_first(inputs.answered(problem, longer, seen), count // 3))
    pairs = _taking_turns([pairs[::2], pairs[1::2], altered, joined])
    if len(pairs) < MIN_SAMPLES:
        raise Unusable("few inputs with an answer")
    return problem, pairs


def _precisions(problem: Problem, pairs: list[tuple[Inputs, Any]]) -> tuple[int | None, ...]:
    """The roundings to try, the better one first."""
    floats = any(isinstance(s, float) for pair in pairs for s in values.scalars(list(pair)))
    floats = floats or any(isinstance(node, ast.Div) for node in ast.walk(problem.normalize(False)))
    return (values.DIGITS, None) if floats else (None,)


def _samples(problem: Problem, pairs: list[tuple[Inputs, Any]], about: dict[str, Any]) -> list[Sample]:
    """The pairs whose answer is short enough; where most are long lists, one element each is asked for."""
    samples = _short_enough(problem, pairs, about)
    returned = [answer if problem.projection is None else answer[problem.projection] for _, answer in pairs]
    if len(samples) >= len(pairs) / 2 or not all(isinstance(answer, list) and answer for answer in returned):
        return samples
    problem.position = names.unique("position", problem.parameters)
    source = random.Random(about["seed"])
    placed = [
        (item | {problem.position: source.randrange(len(whole))}, answer)
        for (item, answer), whole in zip(pairs, returned, strict=True)
    ]
    return _short_enough(problem, placed, about)


def _short_enough(problem: Problem, pairs: list[tuple[Inputs, Any]], about: dict[str, Any]) -> list[Sample]:
    samples = [Sample(item, problem.answer_of(answer, item)) for item, answer in pairs]
    return [s for s in samples if len(values.to_json(s.answer)) <= about["max_answer_chars"]]


def _of_one_form(inputs_list: list[Inputs]) -> list[Inputs]:
    """The inputs whose parameters have the commonest types."""

    def form(item: Inputs) -> list[tuple[str, str]]:
        return [(name, "number" if type(v) in (int, float) else type(v).__name__) for name, v in item.items()]

    forms = [form(item) for item in inputs_list]
    commonest = max(forms, key=forms.count)
    return [item for item in inputs_list if form(item) == commonest]


def _first(items: Iterable[_Item], count: int) -> Iterator[_Item]:
    for _, item in zip(range(count), items, strict=False):
        yield item


def _projection(answers: list[Any], max_chars: int) -> str | None:
    """The key to ask for when answers are dicts with one key, or too long; None to ask for everything."""
    if not all(isinstance(answer, dict) and answer for answer in answers):
        return None
    keys = [key for key in answers[0] if all(key in answer for answer in answers)]
    if all(len(answer) == 1 for answer in answers) and keys:
        return keys[0]
    long = sum(len(values.to_json(answer)) > max_chars for answer in answers)
    if long < len(answers) / 4 or not keys:
        return None
    return max(keys, key=lambda key: len({values.to_json(answer[key]) for answer in answers}))


def _candidate(
    problem: Problem, strategy: Strategy, samples: list[Sample], about: dict[str, Any]
) -> dict[str, Any]:
    """The environment that a strategy gives, with its rank; the higher the better.

    Raises:
      Unusable: with the reason, when it gives none worth having.
    """
    traced = samples[:: max(len(samples) // TRACED_SAMPLES, 1)][:TRACED_SAMPLES]
    result, traces = outline(problem, strategy, traced)
    operations = sorted(sum(result.tools[call.tool].kind != "access" for call in log) for _, log in traces)
    if not operations[-1]:
        raise Unusable("no operation left for a tool")
    if operations[len(operations) // 2] < 1:
        raise Unusable("operations are rarely used")
    class_name, source = environment(problem, result, traces, about)
    left = features.of_source(source)
    if left["native_operations"] > MAX_NATIVE_OPERATIONS:
        raise Unusable("much is left to work out")
    measured = left | features.measure([_steps(problem, *trace) for trace in traces])
    rank = (
        _is_good(result, traces),
        features.is_learnable(measured),
        measured["answer_kind"] != "computed",
        strategy.lazy,
        -round(measured["computed_share"], 2),
        -measured["native_operations"] - CHANGE_WEIGHT * measured["native_changes"],
    )
    kinds = {name: tool.kind for name, tool in result.tools.items()}
    return {"class_name": class_name, "source": source, "rank": rank, "tool_kinds": kinds}


def _is_good(result: Outline, traces: list[Trace]) -> bool:
    """Whether there is real work for tools: the traced form of `features.is_good`."""
    worked = [[c.tool for c in log if result.tools[c.tool].kind != "access"] for _, log in traces]
    answers = {values.to_json(sample.answer) for sample, _ in traces}
    return (
        len(set().union(*worked)) >= features.GOOD_TOOLS
        and statistics.median(map(len, worked)) >= features.GOOD_CALLS
        and sum(len(log) + 2 >= features.MEDIUM_CALLS for _, log in traces) >= len(traces) / 2
        and len(answers) >= features.GOOD_ANSWERS
    )


def _steps(problem: Problem, sample: Sample, log: list[Call]) -> features.Steps:
    """The steps of a traced run, as the environment's oracle will make them."""
    shown = {name: value for name, value in sample.inputs.items() if name not in problem.hidden}
    steps = [("Observe", {}, shown)] + [(call.tool, call.arguments, call.result) for call in log]
    return [*steps, ("Done", {"answer": sample.answer}, None)]


def _accepted_configs(
    candidate: dict[str, Any], samples: list[Sample], about: dict[str, Any]
) -> list[Inputs]:
    """Configs of a candidate on which its oracle succeeds.

    Raises:
      Unusable: with the reason, when they are too few or too alike.
    """
    oracle = _Oracle(candidate["source"], candidate["class_name"])
    configs = _spread(oracle, samples, about, about["tasks"])
    if len(configs) < MIN_SAMPLES:
        raise Unusable(oracle.reason or "few tasks within bounds")
    measured = features.measure([oracle.episodes[values.to_json(config)] for config in configs])
    if measured["answers"] < (2 if measured["answer_kind"] == "boolean" else 3):
        raise Unusable("few distinct answers")
    if measured["tools"] < MIN_TOOLS:
        raise Unusable("few tools")
    if measured["sequences"] == 1:
        raise Unusable("one fixed sequence of calls")
    return configs


def _statement(problem: Problem, samples: list[Sample], configs: list[Inputs], about: dict[str, Any]) -> str:
    """The task text: what is asked, one example, what is hidden, what to submit; never how."""
    *others, last = [f"`{name}`" for name in problem.hidden]
    hidden = f"inputs {', '.join(others)} and {last} are" if others else f"input {last} is"
    wanted = "the answer" if problem.projection is None else f"the value of `{problem.projection}`"
    if problem.position is not None:
        wanted = f"element `{problem.position}`, counted from 0, of {wanted}"
    told = f"The {hidden} hidden; tools read {'them' if others else 'it'}. Submit {wanted} with Done."
    if problem.digits is not None:
        told += (
            f" Tools round to {problem.digits} decimals; an answer within {values.TOLERANCE:.1%} is right."
        )
    return "\n\n".join(filter(None, (about["statement"].strip(), _example(samples, configs), told)))


def _example(samples: list[Sample], configs: list[Inputs]) -> str:
    """A sample that is no task, as text; "" when all are long.

    The longest of the short ones, because an empty list explains nothing; else the shortest.
    """
    tasks = {values.to_json(config) for config in configs}
    texts = [
        ", ".join(f"`{name}` = {values.to_json(value)}" for name, value in sample.inputs.items())
        + f" the answer is {values.to_json(sample.answer)}."
        for sample in samples
        if values.to_json(sample.inputs) not in tasks
    ]
    handy = [text for text in texts if len(text) <= HANDY_EXAMPLE_CHARS]
    chosen = max(handy, key=len) if handy else min(texts, key=len, default="")
    return f"For example, with {chosen}" if 0 < len(chosen) <= MAX_EXAMPLE_CHARS else ""


class _Oracle:
    """Runs an environment's `solve` and keeps the steps."""

    def __init__(self, source: str, class_name: str):
        namespace: dict[str, Any] = {"__name__": "environment"}
        exec(compile(source, "<environment>", "exec"), namespace)
        self._class = namespace[class_name]
        self.episodes = {}
        self.reason = None

    def run(self, config: Inputs, max_calls: int) -> features.Steps | None:
        """The steps of the oracle on a config, or None when it does not earn the reward."""
        steps = []

        env = self._class()
        env.reset(config)
        take = env.step

        def step(action: str) -> tuple[bool, str]:
            if len(steps) > max_calls:
                raise OverflowError
            result = take(action)
            call = json.loads(action)
            done = call["name"] == "Done"
            steps.append((call["name"], call["parameters"], None if done else json.loads(result[1])))
            return result

        env.step = step
        try:
            env.solve()
        except OverflowError:
            self.reason = "too many calls"
            return None
        except Exception as error:  # generated code may fail in any way
            self.reason = f"oracle raises {type(error).__name__}"
            return None
        if env.reward != 1.0:
            self.reason = "oracle answers wrong"
            return None
        self.episodes[values.to_json(config)] = steps
        return steps


def _spread(
    oracle: _Oracle,
    samples: list[Sample],
    about: dict[str, Any],
    count: int,
    wanted: Callable[[features.Steps], bool] = lambda steps: True,
    twice: int = 0,
    shares: Sequence[float] = features.BAND_SHARES,
) -> list[Inputs]:
    """Configs on which the oracle succeeds, spread over bands of difficulty, call counts and answers.

    Args:
      count: at most so many.
      wanted: whether an episode will do.
      twice: call counts up to this one get two turns where others get one.
      shares: of the count, by band; the last one's band has no end.
    """
    bands: list[dict[int, dict[str, list[Inputs]]]] = [{} for _ in shares]
    found = 0
    for sample in samples:
        if found == ENOUGH_RUNS * count:
            break
        steps = oracle.run(sample.inputs, about["max_calls"])
        if steps is not None and about["min_calls"] <= len(steps) <= about["max_calls"] and wanted(steps):
            found += 1
            band = min(features.band(len(steps)), len(shares) - 1)
            answers = bands[band].setdefault(len(steps), {})
            answers.setdefault(values.to_json(sample.answer), []).append(sample.inputs)
    queues = [_varied_first(groups, twice) for groups in bands]
    taken = _shares(queues, count, shares)
    return _taking_turns([queue[:n] for queue, n in zip(queues, taken, strict=True)])


def _varied_first(groups: dict[int, dict[str, list[Inputs]]], twice: int) -> list[Inputs]:
    """The configs of one band, call counts and answers taking turns."""
    queues = []
    for calls in sorted(groups):
        queue = _taking_turns(list(groups[calls].values()))
        queues += [queue[::2], queue[1::2]] if calls <= twice else [queue]
    return _taking_turns(queues)


def _shares(queues: list[list[Inputs]], count: int, shares: Sequence[float]) -> list[int]:
    """How many configs each band gives: its share of `count`, and what other bands cannot fill."""
    taken = [min(len(queue), int(count * share)) for queue, share in zip(queues, shares, strict=True)]
    for number in sorted(range(len(queues)), key=lambda number: -shares[number]):
        taken[number] += min(len(queues[number]) - taken[number], count - sum(taken))
    return taken


def _taking_turns(queues: list[list[_Item]]) -> list[_Item]:
    """The items of all queues: the first of each, the second of each, and so on."""
    longest = max(map(len, queues), default=0)
    return [queue[number] for number in range(longest) for queue in queues if number < len(queue)]


def _balanced(configs: list[Inputs], answer_of: Callable[[Inputs], Any]) -> list[Inputs]:
    """The configs without those, last first, that give one answer more than `MAX_ANSWER_SHARE` of them."""
    answers = [values.to_json(answer_of(config)) for config in configs]
    commonest = max(answers, key=answers.count, default="")
    others = len(answers) - answers.count(commonest)
    allowed = max(int(others * MAX_ANSWER_SHARE / (1 - MAX_ANSWER_SHARE)), 1)
    kept = []
    for config, answer in zip(configs, answers, strict=True):
        if answer == commonest:
            allowed -= 1
        if answer != commonest or allowed >= 0:
            kept.append(config)
    return kept
