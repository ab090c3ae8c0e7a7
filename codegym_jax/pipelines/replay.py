"""Re-executes stored episodes on fresh guests and compares every observation and reward, byte for byte."""

import pathlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from codegym_jax.config import ConfigError, SandboxConfig
from codegym_jax.data.task_set import TaskSet
from codegym_jax.envs.check import replay
from codegym_jax.envs.pool import parallel_map
from codegym_jax.envs.sandbox import Sandbox
from codegym_jax.pipelines.console import bar
from codegym_jax.records import EnvSpec, Rejection, StopReason
from codegym_jax.rollout.episode_log import read_episodes


@dataclass(slots=True, kw_only=True)
class ReplayReport:
    """What a replay found; the first few differences in words."""

    replayed: int = 0
    different: int = 0
    skipped_invalid: int = 0
    """Episodes in which the host failed: there is nothing to compare."""
    differences: list[str] = field(default_factory=list)

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


class _Replayer:
    """Compares scripts in a worker process, on a sandbox of its own."""

    def __init__(self, limits: SandboxConfig, cache: pathlib.Path) -> None:
        self._sandbox = Sandbox(limits, cache)

    def __call__(self, script: _Script) -> str | None:
        """The first difference in words, or None."""
        observations, reward = replay(self._sandbox, script.spec, script.config_json, script.actions)
        for index, (now, then) in enumerate(zip(observations, script.observations, strict=True)):
            if now != then:
                return f"{script.name}: call {index + 1} returned {now!r}, stored {then!r}"
        reward = reward if script.finished else 0.0
        return None if reward == script.reward else f"{script.name}: reward {reward}, stored {script.reward}"


def run_replay(
    folder: pathlib.Path, limits: SandboxConfig, cache: pathlib.Path, *, workers: int = 0
) -> ReplayReport:
    """Replays all episodes under `folder/episodes`.

    Args:
      folder: of the run.
      limits: the run's sandbox settings; other limits may trap elsewhere.
      cache: of compiled guests.
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
    scripts = list(_scripts(paths, folder, specs, report))
    with bar("replay", len(scripts)) as progress:
        for script, outcome in zip(
            scripts, parallel_map(_Replayer, (limits, cache), scripts, workers=workers), strict=True
        ):
            report.replayed += 1
            progress.advance()
            if outcome is not None:
                report.different += 1
                text = (
                    f"{script.name}: {outcome.reason} {outcome.detail}"
                    if isinstance(outcome, Rejection)
                    else outcome
                )
                if len(report.differences) < 10:
                    report.differences.append(str(text))
    return report


def _scripts(
    paths: Sequence[pathlib.Path], folder: pathlib.Path, specs: dict[str, EnvSpec], report: ReplayReport
) -> Iterator[_Script]:
    for path in paths:
        for number, episode in enumerate(read_episodes(path), 1):
            if not episode.valid:
                report.skipped_invalid += 1
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
