"""Sampling and learning apart: steps that are played and recorded without an update, and updates on a record.

A record is a folder of `step_000001.jsonl` and so on; the episodes of any training run are one.
"""

import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from codegym_jax.config import ConfigError
from codegym_jax.data.atomic import write_atomically
from codegym_jax.pipelines.episode_source import EpisodeSource, require_kind
from codegym_jax.pipelines.rollouts import StepEpisodes, StepRules, step_episodes
from codegym_jax.records import Episode
from codegym_jax.rollout.episode_log import logged_steps, read_episodes, step_path

POSITION = "recording.json"
"""Beside the recorded steps: how far the recording is, and what it belongs to."""


class RecordedEpisodes:
    """Episodes that were played before, by this policy or another one: an `EpisodeSource` without a sampler.

    Groups are dropped by the same rule as when they were played, so a run that learns from the record of
    another with the same settings learns the same.

    Args:
      folder: of the record.
      rules: of the learner; `attempts_per_task` must be those of the record.
      save: writes a step's episodes to the log of this run.
      last_step: of the learner.

    Raises:
      ConfigError: when a step up to the last one is not in the record.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        rules: StepRules,
        *,
        save: Callable[[int, Sequence[Episode]], None],
        last_step: int,
    ) -> None:
        missing = sorted(set(range(1, last_step + 1)) - set(logged_steps(folder)))
        if missing:
            raise ConfigError(
                f"train.steps is {last_step}, but {folder} holds no episodes of step {missing[0]}"
                f" ({step_path(folder, missing[0]).name})"
            )
        self._folder, self._rules, self._save = folder, rules, save

    def next(self, step: int, params: Any, policy_version: int) -> StepEpisodes:
        """See `EpisodeSource`; looks at the step alone.

        Raises:
          ValueError: when the file is not one of whole groups of G attempts, naming file and line.
        """
        path = step_path(self._folder, step)
        played = list(read_episodes(path))
        _require_groups(path, played, self._rules.attempts_per_task)
        self._save(step, played)
        return step_episodes(played, self._rules)

    def settle(self) -> None:
        """See `EpisodeSource`; nothing ever is."""

    def get_state(self) -> dict[str, Any]:
        """See `EpisodeSource`."""
        return {"source": "recorded"}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `EpisodeSource`.

        Raises:
          ValueError: when the state is of another kind of source.
        """
        require_kind(state, "recorded")

    def close(self) -> None:
        """See `EpisodeSource`."""


def find_record(given: pathlib.Path) -> pathlib.Path:
    """The folder of the recorded steps: `given`, or `episodes/train` of a run folder.

    Raises:
      ConfigError: when neither holds any.
    """
    for folder in (given, given / "episodes" / "train"):
        if logged_steps(folder):
            return folder
    raise ConfigError(
        f"{given} holds no recorded episodes: neither it nor its episodes/train has a step_*.jsonl"
    )


def record_steps(
    source: EpisodeSource,
    params: Any,
    *,
    steps: int,
    folder: pathlib.Path,
    belongs_to: Mapping[str, Any],
    policy_version: int = 0,
    writes: bool = True,
) -> Iterator[tuple[int, StepEpisodes]]:
    """Plays the steps that the record still lacks, all with the same parameters, and learns nothing.

    A killed recording goes on where it was, and ends with the files of an uninterrupted one.

    Args:
      source: of the episodes; what it saves is the record.
      params: of the policy.
      steps: how many the record has in the end.
      folder: where the position is kept, as `POSITION`.
      belongs_to: what the record is of, JSON-able: the policy's hash and the settings.
      policy_version: of `params`.
      writes: False on all processes of a run but one.

    Yields:
      Each step that was played now, with its episodes, for lines and metrics.

    Raises:
      ConfigError: when `folder` holds a recording of something else, naming what differs.
    """
    path = folder / POSITION
    first = 0
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        _require_same(path, saved["belongs_to"], json.loads(json.dumps(belongs_to)))
        source.set_state(saved["state"])
        first = saved["step"]
    for step in range(first + 1, steps + 1):
        episodes = source.next(step, params, policy_version)
        position = {"step": step, "belongs_to": dict(belongs_to), "state": source.get_state()}
        if writes:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps(position) + "\n")
        yield step, episodes


def _require_groups(path: pathlib.Path, played: Sequence[Episode], count: int) -> None:
    """Each group is `count` attempts at one task, numbered from a multiple of `count`."""
    for index, episode in enumerate(played):
        place = index % count
        first = played[index - place]
        if episode.task_id != first.task_id or episode.attempt != first.attempt + place:
            break
        if first.attempt % count:
            break
    else:
        if len(played) % count == 0:
            return
        index = len(played) - 1
    raise ValueError(
        f"{path}:{index + 1}: this breaks the groups of rollout.attempts_per_task={count} attempts at a task"
    )


def _require_same(path: pathlib.Path, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    different = [
        f"{name}: {saved.get(name)!r} there, {given.get(name)!r} given"
        for name in sorted(saved.keys() | given.keys())
        if saved.get(name) != given.get(name)
    ]
    if different:
        raise ConfigError(
            f"{path} belongs to another recording ({', '.join(different)}); give another folder"
        )
