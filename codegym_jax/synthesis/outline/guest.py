"""The two entry points that run inside the guest, JSON text in and out."""

import json
import random

from codegym_jax.synthesis.outline import features, inputs, values
from codegym_jax.synthesis.outline.access import hidden_parameters
from codegym_jax.synthesis.outline.emit import environment
from codegym_jax.synthesis.outline.normalize import functions
from codegym_jax.synthesis.outline.problem import Problem
from codegym_jax.synthesis.outline.trace import Sample, Strategy, Unusable, outline

STRATEGIES = (
    Strategy(),
    Strategy(everywhere=True),
    Strategy(helpers=False),
    Strategy(helpers=False, everywhere=True),
    Strategy(lazy=False, loops=False),
)  # of two equally good outlines, the earlier strategy's is kept
TRACED_SAMPLES = 16
DRAWN_SEEDS = 48
MIN_SAMPLES = 10


def synthesize(argument_json):
    """One problem to one environment.

    Takes `code_id`, `source`, `entry`, `statement`, `license`, `test` or `generator`, `seed`, `tasks`,
    `min_calls`, `max_calls`, `max_answer_chars`. Returns either `class_name`, `source`, `configs`,
    `statement`, or `reason` and `detail`.
    """
    about = json.loads(argument_json)
    try:
        return json.dumps(_synthesize(about))
    except Unusable as unusable:
        return json.dumps({"reason": str(unusable)})


def more_configs(argument_json):
    """More configs for an environment.

    Takes what `synthesize` takes and the environment's `class_name`, `environment` (source) and `count`.
    Returns `configs`, spread over the numbers of oracle calls and over the answers.
    """
    about = json.loads(argument_json)
    problem, samples = _samples(about, about["count"] * 5)
    oracle = _Oracle(about["environment"], about["class_name"])
    return json.dumps({"configs": _spread(oracle, samples, about, about["count"])})


def _synthesize(about):
    problem, samples = _samples(about, max(3 * about["tasks"], TRACED_SAMPLES))
    if len(samples) < MIN_SAMPLES:
        raise Unusable("few inputs with an answer")
    problem.hidden = hidden_parameters([sample.inputs for sample in samples])
    if not problem.hidden:
        raise Unusable("nothing to hide")
    chosen, reason = None, "no sound set of tools"
    tried = set()
    has_helpers = len(functions(problem.normalize(True))) > 1
    for strategy in STRATEGIES:
        if not (strategy.helpers or has_helpers) or (chosen is not None and chosen["rank"][:2] == [True, True]
                                                     and chosen["rank"][3] >= -1):
            continue
        try:
            candidate = _candidate(problem, strategy, samples, about, tried)
        except Unusable as unusable:
            reason = str(unusable)
            continue
        except (SyntaxError, ValueError) as error:
            reason = f"outline fails: {type(error).__name__}"
            continue
        if candidate is not None and (chosen is None or candidate["rank"] > chosen["rank"]):
            chosen = candidate
    if chosen is None:
        raise Unusable(reason)
    return chosen


def _samples(about, count):
    """The problem and up to `count` samples whose answers are short enough, its projection chosen."""
    problem = Problem(about["source"], about["entry"])
    source = random.Random(about["seed"])
    seen = set()
    if about.get("generator"):
        base = list(inputs.generated(problem, about["generator"], range(DRAWN_SEEDS if count < 100 else 2 * count)))
        more = inputs.shortened
    else:
        base = inputs.mined(problem, about["test"])
        more = inputs.varied
    if not base:
        raise Unusable("no inputs")
    base = _of_one_form(base)
    pairs = list(inputs.answered(problem, base[: 2 * count], seen))
    if not pairs:
        raise Unusable("the solution fails or is not deterministic")
    originals = [item for item, _ in pairs]
    pairs += _first(inputs.answered(problem, more(originals, source, 6 * count), seen), count)
    problem.projection = _projection([answer for _, answer in pairs], about["max_answer_chars"])
    samples = []
    for item, answer in pairs:
        answer = answer if problem.projection is None else answer[problem.projection]
        if len(values.to_json(answer)) <= about["max_answer_chars"]:
            samples.append(Sample(item, answer))
    if len(samples) < MIN_SAMPLES and len(pairs) >= MIN_SAMPLES:
        raise Unusable("long answers")
    return problem, samples


def _of_one_form(inputs_list):
    """The inputs whose parameters have the commonest types."""

    def form(item):
        return [(name, "number" if type(v) in (int, float) else type(v).__name__) for name, v in item.items()]

    forms = [form(item) for item in inputs_list]
    commonest = max(forms, key=forms.count)
    return [item for item in inputs_list if form(item) == commonest]


def _first(items, count):
    for _, item in zip(range(count), items, strict=False):
        yield item


def _projection(answers, max_chars):
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


def _candidate(problem, strategy, samples, about, tried):
    """The environment that a strategy gives, with its rank; None when an equal one was tried."""
    traced = samples[:: max(len(samples) // TRACED_SAMPLES, 1)][:TRACED_SAMPLES]
    result, traces = outline(problem, strategy, traced)
    class_name, source = environment(problem, result, traces, about)
    if source in tried:
        return None
    tried.add(source)
    if not any(call.tool for _, log in traces for call in log if result.tools[call.tool].kind != "access"):
        raise Unusable("no operation left for a tool")
    operations = sorted(
        sum(result.tools[call.tool].kind != "access" for call in log) for _, log in traces
    )
    if operations[len(operations) // 2] < 1:
        raise Unusable("operations are rarely used")
    oracle = _Oracle(source, class_name)
    configs = _spread(oracle, samples, about, about["tasks"])
    if len(configs) < MIN_SAMPLES:
        raise Unusable(oracle.reason or "few tasks within bounds")
    measured = features.of_source(source) | features.measure([oracle.episodes[values.to_json(config)] for config in configs])
    if measured["answers"] < (2 if measured["answer_kind"] == "boolean" else 3):
        raise Unusable("few distinct answers")
    if measured["tools"] < 4:
        raise Unusable("fewer than 4 tools")
    if measured["sequences"] == 1:
        raise Unusable("one fixed sequence of calls")
    rank = [
        features.is_learnable(measured),
        measured["answer_kind"] != "computed",
        -round(measured["computed_share"], 2),
        -measured["native_operations"],
    ]
    return {
        "class_name": class_name,
        "source": source,
        "statement": _statement(problem, about),
        "configs": configs,
        "rank": rank,
    }


def _statement(problem, about):
    """The task text: what is asked, what is hidden, what to submit; never how."""
    hidden = ", ".join(f"`{name}`" for name in problem.hidden)
    wanted = "the answer" if problem.projection is None else f"the value of `{problem.projection}`"
    told = f"The input {hidden} is hidden; tools read it. Submit {wanted} with Done."
    return f"{about['statement']}\n\n{told}".strip()


class _Oracle:
    """Runs an environment's `solve` and keeps the steps."""

    def __init__(self, source, class_name):
        namespace = {"__name__": "environment"}
        exec(compile(source, "<environment>", "exec"), namespace)
        self._class = namespace[class_name]
        self.episodes = {}
        self.reason = None

    def run(self, config, max_calls):
        """The steps of the oracle on a config, or None when it does not earn the reward."""
        steps = []

        class Recorder(self._class):
            def step(self, action):
                if len(steps) > max_calls:
                    raise OverflowError
                result = super().step(action)
                call = json.loads(action)
                done = call["name"] == "Done"
                steps.append((call["name"], call["parameters"], None if done else json.loads(result[1])))
                return result

        env = Recorder()
        env.reset(config)
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


def _spread(oracle, samples, about, count):
    """Up to `count` configs on which the oracle succeeds, spread over call counts and answers."""
    groups = {}
    for sample in samples:
        steps = oracle.run(sample.inputs, about["max_calls"])
        if steps is not None and about["min_calls"] <= len(steps) <= about["max_calls"]:
            key = (len(steps), values.to_json(sample.answer))
            groups.setdefault(key[0], {}).setdefault(key[1], []).append(sample.inputs)
    queues = []
    for calls in sorted(groups):
        by_answer = [list(group) for group in groups[calls].values()]
        queues.append([item for turn in _zip_longest(by_answer) for item in turn])
    chosen = [item for turn in _zip_longest(queues) for item in turn]
    return chosen[:count]


def _zip_longest(lists):
    for number in range(max(map(len, lists), default=0)):
        yield [items[number] for items in lists if number < len(items)]
