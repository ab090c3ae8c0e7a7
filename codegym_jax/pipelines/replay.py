"""Re-executes stored episodes on fresh guests and compares every observation and reward, byte for byte."""

import functools
import itertools
import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codegym_jax.config import ConfigError, SandboxConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.env import Env
from codegym_jax.envs.pool import parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.console import Bar, bar
from codegym_jax.records import EnvSpec, StopReason
from codegym_jax.rollout.episode_log import read_episodes

EPISODE_DEADLINE_S = 300.0  # host backstop for one episode; its fuel runs out long before


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What a replay found."""

    replayed: int = 0
    different: int = 0
    skipped_invalid: int = 0
    """Episodes in which the host failed: there is nothing to compare."""
    differences: list[str] = field(default_factory=list)
    """The first of each episode, in words."""

    @property
    def identical(self) -> bool:
        """True when something was replayed and nothing differed."""
        return self.replayed > 0 and self.different == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Script:
    """One stored episode, as a worker process needs it."""

    name: str
    spec: EnvSpec
    config_json: str
    actions: tuple[str, ...]
    observations: tuple[str, ...]
    reward: float
    finished: bool


@functools.cache
def _sandbox(limits: SandboxConfig, cache: pathlib.Path | None) -> Sandbox:
    """One per worker process."""
    return Sandbox(limits, cache)


def _compare(limits: SandboxConfig, cache: pathlib.Path | None, script: _Script) -> str | None:
    """The first difference between a stored episode and its replay in words, or None.

    Many calls at a time first. Single calls, as in the episode, decide whether a difference is one: what a
    guest shows of its memory's addresses may depend on how its calls arrive.
    """
    sandbox = _sandbox(limits, cache)
    if _difference(sandbox, script, in_batches=True) is None:
        return None
    return _difference(sandbox, script, in_batches=False)


def _difference(sandbox: Sandbox, script: _Script, *, in_batches: bool) -> str | None:
    env = Env(sandbox, script.spec, script.config_json)
    try:
        if in_batches:
            env.step_many(script.actions)
        else:
            for action in script.actions:
                env.step(action)
    finally:
        env.close()
    for index, (now, then) in enumerate(zip(env.observations, script.observations, strict=True)):
        if now != then:
            return f"{script.name}: call {index + 1} returned {now!r}, stored {then!r}"
    reward = env.reward if script.finished else 0.0
    return None if reward == script.reward else f"{script.name}: reward {reward}, stored {script.reward}"


def run_replay(
    folder: pathlib.Path, limits: SandboxConfig, cache: pathlib.Path | None, *, workers: int = 0
) -> ReplayReport:
    """Replays all episodes under `folder/episodes`.

    Args:
      folder: of the run.
      limits: the run's sandbox settings; other limits may trap elsewhere.
      cache: of compiled guests; None is the default of `Sandbox`.
      workers: processes; 0 means one per core.

    Raises:
      ConfigError: when the folder holds no episodes.
    """
    paths = sorted((folder / "episodes").rglob("*.jsonl"))
    if not paths:
        raise ConfigError(
            f"{folder} holds no episodes (episodes/*/*.jsonl); run `codegym train` or `codegym eval` first"
        )
    specs = TaskSet.open(folder / "task_set").specs
    report = ReplayReport()
    compare = functools.partial(_compare, limits, cache)
    with bar("replay", sum(map(_count_lines, paths))) as progress:
        named, scripts = itertools.tee(_scripts(paths, folder, specs, report, progress))
        outcomes = parallel_map(compare, scripts, workers=workers, deadline_s=EPISODE_DEADLINE_S)
        for script, outcome in zip(named, outcomes, strict=True):
            report.replayed += 1
            progress.advance()
            if outcome is not None:
                report.different += 1
                text = outcome if isinstance(outcome, str) else f"{script.name}: {outcome.detail}"
                report.differences.append(text)
    return report


def _count_lines(path: pathlib.Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _scripts(
    paths: Sequence[pathlib.Path],
    folder: pathlib.Path,
    specs: dict[str, EnvSpec],
    report: ReplayReport,
    progress: Bar,
) -> Iterator[_Script]:
    for path in paths:
        for number, episode in enumerate(read_episodes(path), 1):
            if not episode.valid:
                report.skipped_invalid += 1
                progress.advance()
                continue
            _, env_id, config_json = episode.task_id.split("@", 2)
            yield _Script(
                name=f"{path.relative_to(folder)}:{number}",
                spec=specs[env_id],
                config_json=config_json,
                actions=tuple(turn.action for turn in episode.turns),
                observations=tuple(turn.observation for turn in episode.turns),
                reward=episode.reward,
                finished=episode.stop_reason is StopReason.DONE,
            )
