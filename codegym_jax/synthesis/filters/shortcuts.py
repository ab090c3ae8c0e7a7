"""How few calls reach the answer: environments that give it, or the hidden data, away.

Three ways to skip the work: `Observe` shows what is said to be hidden (`reveals`); one call, made once,
returns the answer (`single_calls`); the answer is nearly always the same.
"""

import json
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence

from codegym_jax.envs.action import DONE, OBSERVE
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.records import EnvSpec, Rejection, Task
from codegym_jax.synthesis.filters.calls import first_text, matches, oracle_calls
from codegym_jax.synthesis.filters.reveals import revealed
from codegym_jax.synthesis.filters.single_calls import answered_by_oracle, answered_by_probe

MIN_ANSWERS = 2
"""Distinct ones; an environment with fewer asks for nothing."""
MAX_ANSWER_SHARE = 0.8
"""Of the commonest answer; a policy that always gives it must fail every fifth task at least."""
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
        observed = [first_text(sandbox, spec, task.config_json, OBSERVE, {}) for task in probed]
        found = revealed(sandbox, spec, probed, observed)
        if found is None:
            lone = answered_by_oracle(spec, tasks, kinds or {})
            lone = lone or answered_by_probe(sandbox, spec, probed, observed)
            found = ("single_call_answers", lone) if lone else None
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


def _constant(tasks: Sequence[Task]) -> tuple[str, str] | None:
    counts = Counter(task.answer_json for task in tasks)
    commonest, count = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if len(counts) < MIN_ANSWERS or count > MAX_ANSWER_SHARE * len(tasks):
        return "constant_answers", f"{commonest} answers {count} of {len(tasks)} tasks"
    return None


def _spread(tasks: Sequence[Task]) -> list[Task]:
    count = min(MAX_PROBED_TASKS, len(tasks))
    return [tasks[number * len(tasks) // count] for number in range(count)]
