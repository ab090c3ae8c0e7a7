"""Derives every stored episode again, on fresh guests, from the token ids of its policy's messages.

Ids are read as calls, calls are made, what comes back is rendered to ids; every token, call, observation,
stop reason and reward must be the stored one.
"""

import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codegym_jax.config import RunConfig, SandboxConfig
from codegym_jax.data.chat import Renderer
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.env import Env, EnvError, HostFailure
from codegym_jax.envs.pool import parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines import preemption
from codegym_jax.pipelines.console import Bar, bar
from codegym_jax.pipelines.episode_rules import episode_limits, run_renderer
from codegym_jax.pipelines.stored_episodes import episode_files, stored_episodes
from codegym_jax.records import EnvSpec, Episode
from codegym_jax.rollout.agent import EpisodeLimits
from codegym_jax.rollout.rederive import difference, rederive

EPISODE_DEADLINE_S = 300.0  # host backstop for one episode; its fuel runs out long before


@dataclass(slots=True, kw_only=True)
class ReverifyReport:
    """What was derived again, and what of it was not as stored."""

    episodes: int = 0
    calls: int = 0
    tokens: int = 0
    """The three as stored."""
    different: int = 0
    """Episodes in which something differs."""
    skipped_invalid: int = 0
    """Episodes in which the host failed: there is nothing to compare."""
    differences: list[str] = field(default_factory=list)
    """The first of each episode, in words."""

    @property
    def identical(self) -> bool:
        """True when something was derived and nothing differed."""
        return self.episodes > 0 and self.different == 0

    def summary(self) -> str:
        """One line for people."""
        same = "all identical" if self.identical else f"{self.different} differ"
        skipped = f" ({self.skipped_invalid} invalid ones skipped)" if self.skipped_invalid else ""
        return f"reverified {self.episodes} episodes: {same}{skipped}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """What a run played all its episodes by."""

    style: str
    folder: pathlib.Path
    limits: EpisodeLimits
    sandbox: SandboxConfig
    cache: pathlib.Path | None
    """Of compiled guests; None is the default of `Sandbox`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """One episode of a log, as a worker process needs it."""

    name: str
    spec: EnvSpec | None
    episode: Episode


class _NotOpened(Exception):
    """An environment that cannot be opened, which says more here than that the attempt is invalid."""


def run_reverify(
    folder: pathlib.Path, config: RunConfig, cache: pathlib.Path | None, *, workers: int = 0
) -> ReverifyReport:
    """Derives all episodes under `folder/episodes` again.

    Args:
      folder: of the run.
      config: of the run; other limits may end an episode elsewhere.
      cache: of compiled guests; None is the default of `Sandbox`.
      workers: processes; 0 means one per core.

    Raises:
      ConfigError: when the folder holds no episodes, or a line of them is none.
      Stopped: between two episodes, when this process is to stop; nothing is kept.
    """
    paths = episode_files(folder)
    rules = _Rules(
        style=config.style,
        folder=folder,
        limits=episode_limits(config.rollout),
        sandbox=config.sandbox,
        cache=cache,
    )
    specs = TaskSet.open(folder / "task_set").specs
    run_renderer(
        config.style, folder
    )  # what is wrong with it is the user's to mend, not a worker's to report
    report = ReverifyReport()
    with bar("reverify", sum(map(_count_lines, paths))) as progress:
        named, given = itertools.tee(_stored(paths, folder, specs, report, progress))
        check = functools.partial(_check, rules)
        outcomes = parallel_map(check, given, workers=workers, deadline_s=EPISODE_DEADLINE_S)
        for stored, outcome in zip(named, outcomes, strict=True):
            preemption.check("nothing of the verification is kept")
            report.episodes += 1
            report.calls += len(stored.episode.turns)
            report.tokens += len(stored.episode.token_ids)
            progress.advance()
            if outcome is not None:
                report.different += 1
                found = outcome if isinstance(outcome, str) else outcome.detail
                report.differences.append(f"{stored.name}: {found}")
    return report


def _check(rules: _Rules, stored: _Stored) -> str | None:
    """The first difference between a stored episode and the derived one, in words, or None."""
    if stored.spec is None:
        return f"the task set has no environment of the task {stored.episode.task_id[:200]!r}"
    sandbox = _sandbox(rules.sandbox, rules.cache)

    def open_env(spec: EnvSpec, config_json: str) -> Env:
        try:
            return Env(sandbox, spec, config_json)
        except (EnvError, HostFailure) as error:
            raise _NotOpened(f"{type(error).__name__}: {error}") from error

    renderer = _renderer(rules.style, rules.folder)
    try:
        derived = rederive(stored.episode, stored.spec, renderer, open_env, rules.limits)
    except _NotOpened as error:
        return str(error)
    return difference(derived, stored.episode)


@functools.cache
def _sandbox(limits: SandboxConfig, cache: pathlib.Path | None) -> Sandbox:
    """One per worker process."""
    return Sandbox(limits, cache)


@functools.cache
def _renderer(style: str, folder: pathlib.Path) -> Renderer:
    """One per worker process."""
    return run_renderer(style, folder)


def _count_lines(path: pathlib.Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _stored(
    paths: Sequence[pathlib.Path],
    folder: pathlib.Path,
    specs: dict[str, EnvSpec],
    report: ReverifyReport,
    progress: Bar,
) -> Iterator[_Stored]:
    for path in paths:
        for number, episode in enumerate(stored_episodes(path), 1):
            if not episode.valid:
                report.skipped_invalid += 1
                progress.advance()
                continue
            parts = episode.task_id.split("@", 2)
            spec = specs.get(parts[1]) if len(parts) == 3 else None
            yield _Stored(name=f"{path.relative_to(folder)}:{number}", spec=spec, episode=episode)
