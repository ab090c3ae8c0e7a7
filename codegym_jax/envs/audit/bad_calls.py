"""Calls that a policy gets wrong: does every tool answer them, and leave the state as it was?

They go to the guest directly, since an `Env` answers for the environment where a parameter is missing, and
other servers do not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from codegym_jax.envs.action import DONE
from codegym_jax.envs.audit.evidence import WEIGHTY, shows, weight
from codegym_jax.envs.audit.finding import Finding, count, excerpt, listed, passed, warned
from codegym_jax.envs.audit.leaks import MOST_OF_CONFIG, share, trivial
from codegym_jax.envs.audit.plays import Play, action_of, call_text, first_call
from codegym_jax.envs.check import TaskBounds
from codegym_jax.envs.env import SOLVE_FUEL_FACTOR
from codegym_jax.envs.guest import Guest, GuestError, GuestTrap
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import CallError, EnvSpec

BAD_VALUES: tuple[Any, ...] = (
    None,
    -1,
    10**8,
    10**30,
    "",
    "x" * 10_000,
    [[[[[[[[[[]]]]]]]]]],
    {"": None},
)
"""Given for each parameter in turn, the others staying as the oracle gives them."""
_MAX_CULPRITS = 64
"""So many failed calls are tried one by one when the oracle loses after all of them."""
_REPAIRS = {
    CallError.OUT_OF_FUEL: "check sizes before the loop: each such call costs its whole fuel, and a replay",
    CallError.OUT_OF_MEMORY: "check sizes before the work; each such call costs a fresh guest and a replay",
    CallError.STACK_OVERFLOW: "bound the depth; each such call costs a fresh guest and a replay",
    CallError.FORBIDDEN: "no tool may reach for files, sockets or modules outside the guest's library",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    tool: str
    parameters: dict[str, Any]
    text: str
    """What it said, or what was raised."""
    raised: bool = False
    """`step` raised, which the published format forbids."""
    ended: bool = False
    trap: CallError | None = None

    @property
    def failed(self) -> bool:
        """The call was answered with an error, so that it should have changed nothing."""
        return self.trap is None and (self.raised or self.text.startswith("Error"))

    def __str__(self) -> str:
        return call_text(self.tool, self.parameters)


def check_bad_calls(
    sandbox: Sandbox, spec: EnvSpec, plays: Sequence[Play], bounds: TaskBounds
) -> list[Finding]:
    """Findings of the check `bad calls`, each call on a guest of its own, with the first config."""
    play = plays[0]
    outcomes = [_outcome(sandbox, spec, play, *call) for call in _bad_calls(spec, plays)]
    found = []
    for error, hint in _REPAIRS.items():
        trapped = [outcome for outcome in outcomes if outcome.trap is error]
        if trapped:
            found.append(warned("bad calls", f"{error.value} after {_one_each(trapped)}", hint))
    raised = [outcome for outcome in outcomes if outcome.raised]
    if raised:
        what = f"step raises for {_one_each(raised)}: {excerpt(raised[0].text, 80)}"
        found.append(warned("bad calls", what, "catch it in step and return `Error: ...`"))
    ended = [outcome for outcome in outcomes if outcome.ended and outcome.tool != DONE]
    if ended:
        hint = "only Done should end an episode"
        found.append(warned("bad calls", f"the episode ends after {_one_each(ended)}", hint))
    found += _open_ends(outcomes) + _telling_errors(play, outcomes)
    found += _changed_state(sandbox, spec, play, bounds, outcomes)
    errors = sum(outcome.failed for outcome in outcomes)
    told = f"{count(len(outcomes), 'wrong call')} answered, {errors} with an error"
    return found or [passed("bad calls", f"{told}; the oracle still wins after those")]


def _bad_calls(spec: EnvSpec, plays: Sequence[Play]) -> Iterator[tuple[str, dict[str, Any]]]:
    for tool in spec.tools:
        usual = {p.name: trivial(p.type_name) for p in tool.parameters if p.required}
        usual |= first_call(plays, tool.name) or {}
        if not tool.parameters:
            yield tool.name, {}
        for parameter in tool.parameters:
            if parameter.required:
                yield tool.name, {name: usual[name] for name in usual if name != parameter.name}
            for value in BAD_VALUES:
                yield tool.name, usual | {parameter.name: value}


def _outcome(sandbox: Sandbox, spec: EnvSpec, play: Play, tool: str, parameters: dict[str, Any]) -> _Outcome:
    guest = _loaded(sandbox, spec, play)
    try:
        ended, text = guest.step(action_of(tool, parameters))
        text = text[: sandbox.limits.max_observation_chars]
        return _Outcome(tool=tool, parameters=parameters, text=text, ended=ended)
    except GuestError as error:
        return _Outcome(tool=tool, parameters=parameters, text=str(error), raised=True)
    except GuestTrap as trap:
        return _Outcome(tool=tool, parameters=parameters, text=trap.detail, trap=trap.error)
    finally:
        guest.close()


def _loaded(sandbox: Sandbox, spec: EnvSpec, play: Play) -> Guest:
    guest = sandbox.guest()
    guest.load(sandbox.compile(spec.source), spec.class_name, play.task.config_json)
    return guest


def _open_ends(outcomes: Sequence[_Outcome]) -> list[Finding]:
    """Answers of another type after which `Done` has not ended the episode."""
    stuck = [outcome for outcome in outcomes if outcome.tool == DONE and outcome.failed and not outcome.ended]
    stuck = [outcome for outcome in stuck if outcome.parameters]  # an answer was given
    if not stuck:
        return []
    hint = "set the episode's end first, then compare, without assuming the answer's type"
    return [
        warned("bad calls", f"Done fails instead of judging: {stuck[0]}: {excerpt(stuck[0].text, 80)}", hint)
    ]


def _telling_errors(play: Play, outcomes: Sequence[_Outcome]) -> list[Finding]:
    """Error messages that show most of the hidden config."""
    for outcome in outcomes:
        if not outcome.failed or outcome.tool == DONE:
            continue
        keys = [
            key
            for key, value in play.hidden.items()
            if weight(value) >= WEIGHTY and shows(outcome.text, value)
        ]
        if share(play.hidden, keys) >= MOST_OF_CONFIG:
            what = f"the error after {outcome} shows {listed(keys)}: {excerpt(outcome.text)!r}"
            return [warned("leaks", what, "write error messages yourself, without the hidden data")]
    return []


def _changed_state(
    sandbox: Sandbox, spec: EnvSpec, play: Play, bounds: TaskBounds, outcomes: Sequence[_Outcome]
) -> list[Finding]:
    """Failed calls after which the oracle no longer wins."""
    failed = [
        outcome for outcome in outcomes if outcome.failed and not outcome.ended and outcome.tool != DONE
    ]
    if _oracle_wins(sandbox, spec, play, bounds, failed):
        return []
    culprits = [
        outcome
        for outcome in failed[:_MAX_CULPRITS]
        if not _oracle_wins(sandbox, spec, play, bounds, [outcome])
    ]
    if not culprits:
        return []  # only all of them together: a budget of calls, say, which may be meant
    hint = "check the parameters before anything is changed"
    return [warned("bad calls", f"the oracle loses after the failed call {_one_each(culprits)}", hint)]


def _oracle_wins(
    sandbox: Sandbox, spec: EnvSpec, play: Play, bounds: TaskBounds, before: Sequence[_Outcome]
) -> bool:
    guest = _loaded(sandbox, spec, play)
    try:
        for outcome in before:
            try:
                guest.step(action_of(outcome.tool, outcome.parameters))
            except GuestError:
                continue
        guest.solve(bounds.max_calls, SOLVE_FUEL_FACTOR * sandbox.limits.fuel_per_call)
        return guest.reward() == 1.0
    except (GuestError, GuestTrap):
        return False
    finally:
        guest.close()


def _one_each(outcomes: Sequence[_Outcome]) -> str:
    """The first call of each tool among some outcomes."""
    first = {outcome.tool: str(outcome) for outcome in reversed(outcomes)}
    return listed([first[tool] for tool in dict.fromkeys(outcome.tool for outcome in outcomes)], 3)
