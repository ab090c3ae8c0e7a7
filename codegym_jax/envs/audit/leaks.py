"""Does one call, or the tools' documentation, already show what an episode is meant to find out?

A false alarm costs more trust than it saves, so every warning rests on `evidence` over all configs tried.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.audit.evidence import WEIGHTY, Evidence, evidence, shows, weight
from codegym_jax.envs.audit.finding import Finding, count, excerpt, listed, passed, warned
from codegym_jax.envs.audit.plays import Play, action_of, call_text
from codegym_jax.envs.env import Env
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, ToolSpec

MAX_CONFIGS = 16
"""So many configs are probed; each costs a guest per tool."""
MOST_OF_CONFIG = 0.5
"""A tool that shows at least this share of a config's characters leaves little to find out."""
_TRIVIAL = {"str": "", "string": "", "list": [], "dict": {}, "bool": False, "float": 0.0}


def check_leaks(sandbox: Sandbox, spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `leaks`: `Observe`, every other tool called once at the start, the docstrings.

    Other tools are there to show data, in pieces; in a tiny config one piece is everything. So they are only
    blamed for values that no tiny config has.
    """
    plays = plays[:MAX_CONFIGS]
    found, seen = [], ""
    for tool in spec.tools:
        if tool.name == DONE:
            continue
        parameters = {p.name: trivial(p.type_name) for p in tool.parameters if p.required}
        texts = [_first_call(sandbox, spec, play, tool, parameters) for play in plays]
        label, is_observe = call_text(tool.name, parameters), tool.name == OBSERVE
        keys = shown_keys(plays, texts, light=is_observe)
        found += _hidden_data(label, keys, plays, texts)
        found += _answer(label, plays, texts, spec, light=is_observe)
        if is_observe:
            seen = f"Observe shows {listed(list(keys))}" if keys else "Observe shows nothing of the config"
            found += _stale_defaults(plays, texts)
    found += _documentation(spec, plays)
    return found or [passed("leaks", f"no call shows too much, in {count(len(plays), 'config')}; {seen}")]


def shown_keys(plays: Sequence[Play], texts: Sequence[str], *, light: bool) -> dict[str, Evidence]:
    """The keys that all configs have and whose values the texts show."""
    shown = {}
    for key in sorted(set.intersection(*(set(play.hidden) for play in plays))):
        found = evidence([play.hidden[key] for play in plays], texts, light=light)
        if found is not None:
            shown[key] = found
    return shown


def _hidden_data(
    label: str, keys: dict[str, Evidence], plays: Sequence[Play], texts: Sequence[str]
) -> list[Finding]:
    mean = sum(share(play.hidden, keys) for play in plays) / len(plays)
    if not keys or mean < MOST_OF_CONFIG:
        return []
    example = next(iter(keys.values())).example
    what = f"{label} shows {listed(list(keys))}, {mean:.0%} of the hidden config: {excerpt(texts[example])!r}"
    hint = "tell sizes and what is asked, and let tools give the data in small pieces"
    return [warned("leaks", what, hint)]


def share(hidden: dict[str, Any], keys: Iterable[str]) -> float:
    """The share of a config's characters that the values of some keys have."""
    sizes = {key: len(json.dumps(value, ensure_ascii=False)) for key, value in hidden.items()}
    return sum(sizes.get(key, 0) for key in keys) / max(1, sum(sizes.values()))


def _answer(
    label: str, plays: Sequence[Play], texts: Sequence[str], spec: EnvSpec, *, light: bool
) -> list[Finding]:
    answers = [play.answer for play in plays]
    found = evidence(answers, texts, light=light)
    if found is None:
        return []
    answer, text = answers[found.example], texts[found.example]
    constant = all(other == answer for other in answers)
    if constant and isinstance(answer, str) and answer in spec.source:
        return []  # a word of the environment's own vocabulary, such as "balanced"
    where = f"{found.shown} of {count(found.texts, 'config')}"
    told = excerpt(json.dumps(answer, ensure_ascii=False), 40)
    what = f"{label} shows the reference answer in {where}, such as {told} in {excerpt(text)!r}"
    hint = "one call then solves the task: move the last step of the solution out of this tool"
    return [warned("leaks", what, hint)]


def _stale_defaults(plays: Sequence[Play], texts: Sequence[str]) -> list[Finding]:
    """What `Observe` shows of the class's default config though the task sets another value."""
    for play, text in zip(plays, texts, strict=True):
        config = json.loads(play.task.config_json)
        for key, default in play.defaults.items():
            if key not in config or config[key] == default or weight(default) < WEIGHTY:
                continue
            if shows(text, default) and not shows(json.dumps(config, ensure_ascii=False), default):
                told = excerpt(json.dumps(default, ensure_ascii=False), 40)
                what = f"Observe shows {told}, the class's default for {key}, though the config sets another"
                return [warned("leaks", what, "let reset replace everything that the constructor made")]
    return []


def _documentation(spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    text = "\n".join([spec.statement, *(tool.doc for tool in spec.tools)])
    keys = shown_keys(plays, [text] * len(plays), light=False)
    if all(share(play.hidden, keys) < MOST_OF_CONFIG for play in plays):
        return []
    hint = "use an example in the docstrings that is no task"
    return [warned("leaks", f"the tools' docstrings show {listed(list(keys))} of the hidden config", hint)]


def _first_call(
    sandbox: Sandbox, spec: EnvSpec, play: Play, tool: ToolSpec, parameters: dict[str, Any]
) -> str:
    """What a tool says when it is called first; "" where that is an error."""
    env = Env(sandbox, spec, play.task.config_json)
    try:
        result = env.step(action_of(tool.name, parameters))
        return "" if result.error else result.observation
    finally:
        env.close()


def trivial(type_name: str) -> Any:
    """A value that nobody has to think about; `list[int]` and `list of int` are lists."""
    first = type_name.lower().replace("[", " ").split()
    return _TRIVIAL.get(first[0], 0) if first else 0
