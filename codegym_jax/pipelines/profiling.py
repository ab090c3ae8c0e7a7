"""Traces of a few steps of a stage, by JAX's profiler, for TensorBoard or XProf.

A step of the loop is a step of the trace, named as its stage. What happens in it is named where it happens:
`rollout`, `score`, `update`, `checkpoint` by the stopwatch, `sample` and `tools` within `rollout` (or within
`sampling`, in a thread, where the next step is played meanwhile). Names cost nothing while nothing is traced.
"""

import pathlib
import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import jax

from codegym_jax.config import UserError
from codegym_jax.pipelines.console import say

FIRST = 3
"""A process compiles in its first step, and once more in its second where layouts settle."""
FOLDER = "profile"
"""In the run folder."""

_FORM = "--profile takes steps=N[,first=K], N and K at least 1, such as steps=3 or steps=3,first=10"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Which steps of each stage to trace, counted from the first one that this process makes."""

    steps: int
    first: int = FIRST


def parse_profile(text: str) -> Profile | None:
    """What `--profile` asks for; None for the empty text.

    Raises:
      UserError: when it is of another form.
    """
    if not text:
        return None
    fields = [re.fullmatch(r"(steps|first)=([1-9]\d{0,8})", part) for part in text.split(",")]
    values = {field[1]: int(field[2]) for field in fields if field}
    if len(values) != len(fields) or "steps" not in values:
        raise UserError(f"{_FORM}; got {text!r}")
    return Profile(**values)


def profiled(
    stage: str, steps: Sequence[int], profile: Profile | None, run: pathlib.Path
) -> Generator[int, None, None]:
    """Gives the steps of a stage one after the other, and traces those that the profile asks for.

    A trace holds what happened between giving out a step and being asked for the next one. Close the
    generator when the loop is left early, so that what was traced is written: `contextlib.closing`.

    A stage is traced once: a resumed run that finds its trace leaves it, and says so.

    Args:
      stage: names the trace and its steps.
      steps: to give.
      profile: None traces nothing.
      run: the run folder; the trace goes to `profile/plugins/profile/<stage>` in it.
    """
    if profile is None or not steps or _is_there(stage, run):
        yield from steps
        return
    before, traced = steps[: profile.first - 1], steps[profile.first - 1 :][: profile.steps]
    yield from before
    if not traced:
        say(
            f"{stage}: nothing profiled:"
            f" it makes {len(steps)} steps, and --profile begins at step {profile.first}"
        )
        return
    with _trace(stage, traced, run):
        yield from _named(stage, traced)
    yield from steps[len(before) + len(traced) :]


def _named(stage: str, steps: Iterable[int]) -> Iterator[int]:
    for step in steps:
        with jax.profiler.StepTraceAnnotation(stage, step_num=step):
            yield step


@contextmanager
def _trace(stage: str, steps: Sequence[int], run: pathlib.Path) -> Iterator[None]:
    """Traces a `with` block: devices and named parts of the host, not each Python call, which slows it."""
    options = jax.profiler.ProfileOptions()
    options.session_id = stage
    options.python_tracer_level = 0
    jax.profiler.start_trace(run / FOLDER, profiler_options=options)
    try:
        yield
    finally:
        jax.profiler.stop_trace()
        say(
            f"{stage}: steps {steps[0]} to {steps[-1]} are profiled; to look: pip install xprof;"
            f" xprof --logdir {run / FOLDER} (or TensorBoard with its profile plugin)"
        )


def _is_there(stage: str, run: pathlib.Path) -> bool:
    path = run / FOLDER / "plugins" / "profile" / stage
    if path.exists():
        say(f"{stage}: {path} holds a profile, which stays; remove it to profile again")
        return True
    return False
