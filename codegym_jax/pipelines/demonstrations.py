"""What a warm start learns from: oracle episodes, a policy's episodes that earned the reward, or given chats.

The first two are the baselines Oracle-SFT and Distill of CodeGym (arXiv 2509.17325, appendix E.2). The second
is rejection sampling, of any policy that has the same tokenizer; chats are text, so any policy's will do.
"""

import json
import pathlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np

from codegym_jax.config import ConfigError, SftConfig
from codegym_jax.data import messages
from codegym_jax.data.chat import Demonstration, Renderer
from codegym_jax.data.splits import TRAIN, hold_out
from codegym_jax.data.style import RenderError
from codegym_jax.pipelines.stored_episodes import episode_files, stored_episodes
from codegym_jax.pipelines.workbench import Workbench
from codegym_jax.records import EnvSpec, Episode, Task

ORACLE = "oracle"

Value = TypeVar("Value")


class NoneGood(ConfigError):
    """No episode of a source earned the reward."""


def demonstrations(bench: Workbench) -> list[Demonstration]:
    """Those of a run; see `find_demonstrations`."""
    config = bench.config
    return find_demonstrations(
        config.sft,
        bench.tasks(TRAIN),
        bench.task_set.specs,
        bench.renderer,
        seed=config.seed,
        max_tokens=config.rollout.max_tokens,
    )


def find_demonstrations(
    settings: SftConfig,
    tasks: Sequence[Task],
    specs: dict[str, EnvSpec],
    renderer: Renderer,
    *,
    seed: int,
    max_tokens: int,
) -> list[Demonstration]:
    """The demonstrations that the settings name, in an order that depends on the settings and the seed alone.

    Args:
      settings: where they are from, and how many.
      tasks: to train on; what was done on others is never learned from.
      specs: environment id -> environment, of the run's task set.
      renderer: of the policy.
      seed: of the run.
      max_tokens: longer ones than a policy could play are left out, but for the oracle's.

    Raises:
      NoneGood: when the source is episodes, and none of them earned the reward.
      ConfigError: when there is no such source, or nothing else in it to learn from.
    """
    if settings.source == ORACLE:
        return _of_oracle(settings, tasks, specs, renderer, seed)
    path = pathlib.Path(settings.source)
    if path.is_dir():
        found = _of_episodes(path, settings, tasks, specs, renderer, seed)
    elif not path.is_file():
        raise ConfigError(
            f"sft.source must be {ORACLE!r}, a run folder, or a file of episodes or messages,"
            f" got {settings.source!r}"
        )
    elif _holds_episodes(path):
        found = _of_episodes(path, settings, tasks, specs, renderer, seed)
    else:
        found = _of_messages(path, specs, renderer)
    short = [one for one in found if len(one.token_ids) <= max_tokens]
    if not short:
        raise ConfigError(
            f"sft.source: all {len(found)} demonstrations of {path} are longer than the"
            f" {max_tokens} tokens of rollout.max_tokens"
        )
    return short


def _of_oracle(
    settings: SftConfig,
    tasks: Sequence[Task],
    specs: dict[str, EnvSpec],
    renderer: Renderer,
    seed: int,
) -> list[Demonstration]:
    """Oracle episodes of short tasks: a fixed number per environment, chosen by hash."""
    short: dict[str, dict[str, Task]] = defaultdict(dict)
    for task in tasks:
        if len(task.oracle_actions) <= settings.max_demonstration_calls:
            short[task.env_id][task.task_id] = task
    if not short:
        raise ConfigError(
            "sft.max_demonstration_calls leaves no training task to demonstrate,"
            f" got {settings.max_demonstration_calls}"
        )
    return [
        renderer.render_demonstration(specs[env_id], task.oracle_actions, task.oracle_observations)
        for env_id, members in sorted(short.items())
        for _, task in sorted(_chosen(members, settings, seed, env_id).items())
    ]


def _of_episodes(
    path: pathlib.Path,
    settings: SftConfig,
    tasks: Iterable[Task],
    specs: dict[str, EnvSpec],
    renderer: Renderer,
    seed: int,
) -> list[Demonstration]:
    """Different episodes of training tasks that earned the reward, so many per environment, by hash."""
    known = {task.task_id for task in tasks}
    good: dict[str, dict[str, Demonstration]] = defaultdict(dict)
    count = 0
    for file in episode_files(path):
        for number, episode in enumerate(stored_episodes(file), 1):
            count += 1
            if not _is_good(episode, settings) or episode.task_id not in known:
                continue
            _check_tokens(episode, specs[episode.env_id], renderer, f"{file}:{number}")
            members = good[episode.env_id]
            key = f"{episode.task_id} {episode.token_ids.tobytes().hex()}"
            members[key] = Demonstration(token_ids=episode.token_ids, is_policy=episode.is_policy)
            if len(members) > 2 * settings.demonstrations_per_environment:  # a log may hold millions
                good[episode.env_id] = _chosen(members, settings, seed, episode.env_id)
    if not good:
        raise NoneGood(
            f"sft.source: none of the {count} episodes of {path} earned the reward of a training task of this"
            f" run within {settings.max_demonstration_calls} calls (sft.max_demonstration_calls)"
        )
    return [
        one
        for env_id, members in sorted(good.items())
        for _, one in sorted(_chosen(members, settings, seed, env_id).items())
    ]


def _of_messages(path: pathlib.Path, specs: dict[str, EnvSpec], renderer: Renderer) -> list[Demonstration]:
    """Every row of a file of chats."""
    found = []
    for number, chat in enumerate(messages.read_rows(path), 1):
        try:
            found.append(messages.demonstration(chat, renderer, specs.get(chat.env_id)))
        except RenderError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
    if not found:
        raise ConfigError(f"sft.source: {path} holds no rows")
    return found


def _holds_episodes(path: pathlib.Path) -> bool:
    """Whether the first row of a file is an episode's."""
    if path.suffix != ".jsonl":
        return False
    with path.open(encoding="utf-8") as file:
        try:
            row = json.loads(file.readline())
        except ValueError:
            return False
    return isinstance(row, dict) and "token_ids" in row


def _is_good(episode: Episode, settings: SftConfig) -> bool:
    return episode.valid and episode.reward == 1.0 and len(episode.turns) <= settings.max_demonstration_calls


def _chosen(members: dict[str, Value], settings: SftConfig, seed: int, env_id: str) -> dict[str, Value]:
    """So many of an environment's, by hash of their names."""
    count = settings.demonstrations_per_environment
    names = hold_out(members, count, seed=seed, purpose=f"demonstration {env_id}")
    return {name: members[name] for name in names}


def _check_tokens(episode: Episode, spec: EnvSpec, renderer: Renderer, where: str) -> None:
    """Refuses an episode whose ids another tokenizer or style made."""
    prompt = renderer.render_prompt(spec)
    start = int(np.argmax(episode.is_policy))
    said = episode.token_ids[episode.is_policy].tolist()
    texts = "".join(turn.message for turn in episode.turns)
    if episode.token_ids[:start].tolist() != prompt or renderer.decode(said) != texts:
        raise ConfigError(
            f"{where}: played with another tokenizer, style or environment than this run's; write its"
            " episodes as text by `codegym export RUN --format messages`, and name that file by sft.source"
        )
