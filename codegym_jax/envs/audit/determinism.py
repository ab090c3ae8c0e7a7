"""Do the same calls give the same observations: in one batch, and on another guest build?

Within one build nothing in a guest varies. Another build has other string hashes and addresses, so what
differs there depends on the order of a set, on `hash` or on `id`, and will differ after the next rebuild.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from codegym_jax.envs.audit.finding import Finding, count, excerpt, failed, passed, warned
from codegym_jax.envs.audit.plays import Play
from codegym_jax.envs.env import Env, EnvError, StepResult
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec

_ADDRESS = re.compile(r"\b0x[0-9a-f]{4,}")
_HASHING = re.compile(r"\b(hash|id)\(")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Difference:
    call: int
    """From 1."""
    action: str
    first: str
    second: str

    def __str__(self) -> str:
        return (
            f"call {self.call} {excerpt(self.action, 80)} gave"
            f" {excerpt(self.first, 80)!r} and then {excerpt(self.second, 80)!r}"
        )


def check_batches(sandbox: Sandbox, spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `determinism`: the oracle's calls again, on a second guest, in one batch."""
    for play in plays:
        env = Env(sandbox, spec, play.task.config_json)
        try:
            results = env.step_many(play.task.oracle_actions)
        finally:
            env.close()
        difference = _difference(play, results, env.verdict)
        if difference or env.reward != 1.0:
            hint = "step must not depend on anything but the calls so far"
            return [
                failed("determinism", f"in one batch, {difference or f'the reward is {env.reward}'}", hint)
            ]
    calls = sum(len(play.calls) for play in plays)
    return [
        passed("determinism", f"{count(calls, 'call')} the same on fresh guests, one by one and in a batch")
    ]


def check_builds(second: Sandbox, spec: EnvSpec, plays: Sequence[Play]) -> list[Finding]:
    """Findings of the check `guest builds`.

    Args:
      second: makes guests of another build of the same sources.
    """
    found, differences = [], []
    for play in plays:
        broken = _oracle_elsewhere(second, spec, play)
        if broken:
            hint = "make no decision that depends on the order of a set, on hash() or on id()"
            return [failed("guest builds", f"on another build {broken}", hint)]
        difference = _replayed_elsewhere(second, spec, play)
        if difference:
            differences.append(difference)
    if differences:
        where = f"(in {len(differences)} of {count(len(plays), 'config')})"
        found.append(warned("guest builds", f"{differences[0]} {where}", _hint(differences[0], spec.source)))
    return found or [passed("guest builds", f"the same on another build, in {count(len(plays), 'config')}")]


def _oracle_elsewhere(second: Sandbox, spec: EnvSpec, play: Play) -> str:
    """What goes wrong when the oracle itself plays on another build; "" when nothing does."""
    try:
        env = Env(second, spec, play.task.config_json)
        try:
            env.run_oracle()
            answer_json = env.reference_answer_json()
        finally:
            env.close()
    except EnvError as error:
        return f"the oracle fails: {error.reason}: {excerpt(error.detail)}"
    if answer_json != play.task.answer_json:
        return f"the reference answer is {excerpt(answer_json, 60)}, not {excerpt(play.task.answer_json, 60)}"
    return "" if env.reward == 1.0 else f"the oracle earns {env.reward}"


def _replayed_elsewhere(second: Sandbox, spec: EnvSpec, play: Play) -> _Difference | None:
    env = Env(second, spec, play.task.config_json)
    try:
        return _difference(play, [env.step(action) for action in play.task.oracle_actions], env.verdict)
    finally:
        env.close()


def _difference(play: Play, results: Sequence[StepResult], verdict: str) -> _Difference | None:
    """Where other results depart from a play's; the verdict, which the policy never reads, counts too."""
    first = [result.observation for result in play.results[:-1]] + [play.verdict]
    second = [result.observation for result in results[:-1]] + [verdict]
    for number, pair in enumerate(zip(first, second, strict=True), start=1):
        if pair[0] != pair[1]:
            action = play.task.oracle_actions[number - 1]
            return _Difference(call=number, action=action, first=pair[0], second=pair[1])
    return None


def _hint(difference: _Difference, source: str) -> str:
    texts = (difference.first, difference.second)
    if any(map(_ADDRESS.search, texts)):
        return "this is an object's default text, which holds its address: return its fields"
    parts = [sorted(re.findall(r"\w+", text)) for text in texts]
    if parts[0] == parts[1]:
        return "the same parts in another order: sort a set before it is returned or iterated"
    if _HASHING.search(source):
        return "hash() of a text and id() differ between builds: use an index, or zlib.crc32"
    return "something depends on the order of a set, on hash() or on id(): sort, or use an index"
