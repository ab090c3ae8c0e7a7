"""The oracle and the answer: what was refused and why, which answers win, which tools the oracle uses."""

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.audit.finding import Finding, count, excerpt, failed, listed, passed, warned
from codegym_jax.envs.audit.plays import Play, action_of, call_text
from codegym_jax.envs.check import replay
from codegym_jax.envs.codegym_format import canonical_json
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection

MIN_CALLS_TO_JUDGE = 8
"""A parameter that had one value in fewer calls may have had it by chance."""
_MAX_CONFIGS = 4
_REPAIR = "run solve by hand on that config, or take the config out of the task set"
_REFUSALS = {
    "does_not_compile": ("format", "the guest runs CPython 3.14; keep to the standard library"),
    "does_not_load": ("oracle", "the constructor and reset(config) must not raise; the config is a dict"),
    "oracle_raised": ("oracle", "solve must get along with every text that its tools return"),
    "too_many_oracle_calls": ("oracle", "make the config smaller, or give the tools more to do in one call"),
    "too_few_oracle_calls": ("oracle", "make the config larger, or the tools more atomic"),
    "oracle_fails": ("oracle", "solve must hand in what get_ref_answer returns, of the same type"),
    "answer_raised": ("answer", "get_ref_answer must return plain JSON: numbers, texts, lists, dicts"),
    "answer_too_long": ("answer", "ask for less than the whole result: a count, a sum, the k-th of it"),
    "any_answer_wins": ("answer", "Done must set the reward only when the answer equals the reference"),
    "not_deterministic": ("determinism", "keep no state in solve: its calls alone must do what it does"),
    "observation_too_long": ("cost", "return it in pieces; what the agent reads is cut"),
    "out_of_fuel": ("cost", "the work is too much for one call: use a faster algorithm or smaller configs"),
    "out_of_memory": ("cost", "hold less at once"),
    "stack_overflow": ("cost", "replace the recursion by a loop"),
    "forbidden": ("oracle", "files, sockets, threads and imports outside the guest's library do not exist"),
}  # fmt: skip


def refusals(rejections: Sequence[Rejection], tried: int) -> list[Finding]:
    """One failed finding for each reason for which `verify_task` refused a config."""
    by_reason = defaultdict(list)
    for rejection in rejections:
        by_reason[rejection.reason].append(rejection)
    found = []
    for reason, group in by_reason.items():
        check, hint = _REFUSALS.get(reason, ("oracle", _REPAIR))
        config = group[0].subject.split("@", 2)[2]
        where = f"{len(group)} of {count(tried, 'config')}, first {excerpt(config, 60)}"
        found.append(failed(check, f"{reason}: {excerpt(group[0].detail)} (in {where})", hint))
    return found


def check_oracle(plays: Sequence[Play]) -> list[Finding]:
    """What passed of the check `oracle`."""
    lengths = [len(play.calls) for play in plays]
    span = f"{min(lengths)} to {max(lengths)}" if min(lengths) < max(lengths) else f"{lengths[0]}"
    what = f"reward 1 in {span} calls, only through tools, in {count(len(plays), 'config')}"
    return [passed("oracle", what)]


def check_answers(sandbox: Sandbox, spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `answer`: one that never varies, and others than the reference that win."""
    found = []
    answers = Counter(canonical_json(play.answer) for play in plays)
    commonest, times = answers.most_common(1)[0]
    if len(plays) >= 3 and len(answers) == 1:
        what = f"the answer is {excerpt(commonest, 60)} in all {len(plays)} configs"
        found.append(warned("answer", what, "vary the configs: a constant answer teaches guessing"))
    others = _other_winners(sandbox, spec, plays)
    if others:
        hint = "fine where several answers are right; otherwise compare with == and nothing else"
        found.append(warned("answer", f"also earns the reward: {listed(others, 3)}", hint))
    at_once = sum(_wins(sandbox, spec, play, play.answer) for play in plays[:_MAX_CONFIGS])
    when = "counts at any time" if at_once else "counts only after other calls"
    told = f"{count(len(answers), 'answer')} in {count(len(plays), 'config')}"
    if times > 1:
        told += f", {excerpt(commonest, 40)} in {times} of them"
    return found or [passed("answer", f"{told}; the right one {when}, a wrong one earns nothing")]


def _other_winners(sandbox: Sandbox, spec: EnvSpec, plays: Sequence[Play]) -> list[str]:
    """Answers that differ from the reference, of the kinds that a careless comparison lets through."""
    winners = []
    for play in plays[:_MAX_CONFIGS]:
        for wrong in [*_near(play.answer), None, "", 0, -1, [], {}, True, False]:
            # Python's own equality: published classes take 1, 1.0 and True for one.
            if wrong != play.answer and _wins(sandbox, spec, play, wrong):
                winners.append(excerpt(f"{canonical_json(wrong)} for {canonical_json(play.answer)}", 60))
                break
    return winners


def _near(answer: Any) -> list[Any]:
    match answer:
        case bool() | None:
            return []
        case int() | float():
            return [answer + 1, -answer, str(answer)]
        case str():
            return [answer + "x", answer.upper(), answer.lower(), answer[::-1], f" {answer}"]
        case list():
            return [[*answer, 0], answer[:-1], answer[::-1]]
        case dict():
            return [{**answer, "x": 0}, dict(list(answer.items())[1:])]
    return []


def _wins(sandbox: Sandbox, spec: EnvSpec, play: Play, answer: Any) -> bool:
    done = next(tool for tool in spec.tools if tool.name == DONE)
    parameters = {parameter.name: answer for parameter in done.parameters}
    return replay(sandbox, spec, play.task.config_json, [action_of(DONE, parameters)])[1] > 0.0


def check_tools(spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `tools`: never used, never working, never varied."""
    calls, errors = Counter(), Counter()
    values: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for play in plays:
        for (tool, parameters), result in zip(play.calls, play.results, strict=True):
            calls[tool] += 1
            errors[tool] += result.error is not None
            for name, value in parameters.items():
                values[tool, name][canonical_json(value)] += 1
    names = [tool.name for tool in spec.tools]
    found = []
    unused = [name for name in names if not calls[name] and name != OBSERVE]
    if unused:
        hint = "fine for a tool that is meant to distract; otherwise use it or drop it"
        found.append(warned("tools", f"the oracle never calls {listed(unused)}", hint))
    broken = [name for name in names if calls[name] and errors[name] == calls[name]]
    if broken:
        hint = "let the oracle call it rightly, or repair the tool"
        found.append(warned("tools", f"every call by the oracle fails: {listed(broken)}", hint))
    constant = [
        call_text(tool, {name: json.loads(next(iter(seen)))})
        for (tool, name), seen in values.items()
        if tool != DONE and len(seen) == 1 and seen.total() >= MIN_CALLS_TO_JUDGE
    ]
    if constant:
        hint = "fine where agents may want other values; otherwise drop the parameter"
        found.append(warned("tools", f"the oracle always calls {listed(constant)}", hint))
    told = ", ".join(f"{name} {calls[name]}" for name in names if calls[name])
    return found or [passed("tools", f"calls by the oracle: {told}")]
