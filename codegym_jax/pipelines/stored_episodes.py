"""The episodes of a run folder, and of files that were taken out of one."""

import pathlib
from collections.abc import Iterator

from codegym_jax.config import ConfigError
from codegym_jax.records import Episode
from codegym_jax.rollout.episode_log import read_episodes


def episode_files(path: pathlib.Path) -> list[pathlib.Path]:
    """The files with the episodes of a run folder, in order; of a file, itself.

    Raises:
      ConfigError: when the folder holds none.
    """
    if path.is_file():
        return [path]
    found = sorted((path / "episodes").rglob("*.jsonl"))
    if not found:
        raise ConfigError(
            f"{path} holds no episodes (episodes/*/*.jsonl); run `codegym train` or `codegym eval` first"
        )
    return found


def stored_episodes(path: pathlib.Path) -> Iterator[Episode]:
    """The episodes of one file.

    Raises:
      ConfigError: on a line that is none; names file and line.
    """
    try:
        yield from read_episodes(path)
    except ValueError as error:
        raise ConfigError(str(error)) from error
